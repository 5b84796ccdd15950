#!/usr/bin/env bats
# 200 or 80 commits of random edits over 50 arrays, read back at every number. See tests/lib/history.py.

load ../lib/common

setup() {
	spill_only
	setup_work
	mkdir "$WORK/model"
	export HISTORY_MTIME=no # the kernel's business, and it tells later
}

history() { guarded 900 "$PYTHON" "$LIB/history.py" "$1" "${M:-$MNT}" "$WORK/model" "${@:2}"; }

# A second daemon that follows, at $WORK/ro.
follow() {
	local pid
	mkdir -p "$WORK/ro"
	"$SPILLFS" -o "ro${1:+,$1}" "$STORE" "$WORK/ro" 3>&- </dev/null
	pid=$(daemon_pid "$WORK/ro")
	echo "$pid" >>"$WORK/.pids"
	M=$WORK/ro history check
	M=$WORK/ro history live
	"$SPILLCTL" umount "$WORK/ro"
	wait_gone "$pid"
	# teardown takes the last for the writer's
	echo "$PID" >>"$WORK/.pids"
}

# all COMMITS SEED OPTIONS: the whole history with these options.
all() {
	mount_store -o "keep=300,$3"
	history edit "$1" "$2"
	history check
	history live
	drop_caches
	history check
	follow
	"$SPILLCTL" compact "$MNT"
	eq "$(stat_value spillfs_chain)" 1
	drop_caches
	history check
	history live
	remount
	history check
	history live
	follow "$3"
	kill9
	mount_again
	history check
	history live
}

@test "200 commits, 50 arrays: before and after compaction, a remount, a crash; a follower" {
	all 200 1 commit=5
}

@test "80 commits with one thread, 1 MiB of cache and of dirty blocks, commits in between" {
	all 80 2 threads=1,cache=1M,dirty=1M,commit=1
}

@test "80 commits while layers are small and compaction has no bound" {
	all 80 3 layer=256K,compact=0,leases=1,backing=direct
}

@test "80 commits with -o nowriteback" {
	unset HISTORY_MTIME
	all 80 4 nowriteback,dirty=8M
}
