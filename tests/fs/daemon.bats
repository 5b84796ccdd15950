#!/usr/bin/env bats
# A daemon that is stopped, frozen, or killed for want of memory (one that gets none: daemon-long.bats); clients that are stopped or killed; many
# clients at once; and the guard of the tests, which must see what hangs.

load ../lib/common
setup() {
	setup_work
	spill_only
}

teardown() {
	kill -CONT "${PID:-$$}" 2>/dev/null || true
	case ${CONTROL:-} in *free*) thaw ;; esac
	teardown_work
	remove_group
}

@test "the guard shows where processes hang, and ends them" {
	mount_store
	DAEMON_LOST=expected
	kill -STOP "$PID"
	run guarded 60:1 bash -c 'stat "$MNT/buckets/none"'
	echo "$output"
	eq "$status" 124
	grep -q "nothing has moved for 1 s" <<<"$output"
	grep -q "request_wait_answer" <<<"$output" # the client's
	grep -qE "thread [0-9]+ \(spillfs\) T" <<<"$output"
	wait_gone "$PID"
	detach "$MNT"
}

@test "clients wait for a stopped daemon, and go on" {
	mount_store
	kill -STOP "$PID"
	local k n=0
	for k in $KINDS; do
		noise 3000000 "$MNT/$k/a" 7 &
		pids[n++]=$!
		bash -c 'mkdir "$0/d" && echo x >"$0/d/f" && mv "$0/d/f" "$0/d/g" && sync "$0/d/g"' "$MNT/$k" &
		pids[n++]=$!
	done
	for k in "${pids[@]}"; do wait_in_kernel "$k"; done
	kill -CONT "$PID"
	ends "${pids[@]}"
	wait_all
	for k in $KINDS; do
		cmp "$MNT/$k/a" <(noise 3000000 - 7)
		eq "$(cat "$MNT/$k/d/g")" x
	done
}

@test "clients of a daemon that a control group has frozen can be killed; the others wait, and go on" {
	require_root
	mount_store
	for k in $KINDS; do mkdir "$MNT/$k/d"; done
	freezer "$PID"
	freeze
	local k n=0 killed=() pids=()
	for k in $KINDS; do
		noise 3000000 "$MNT/$k/d/a" 7 &
		pids[n]=$!
		stat "$MNT/$k/none" & # not where a file is made: the kernel would have it wait for that, whatever signal comes
		killed[n++]=$!
	done
	for k in "${pids[@]}" "${killed[@]}"; do wait_in_kernel "$k"; done
	kill -9 "${killed[@]}"
	ends "${killed[@]}"
	for k in "${pids[@]}"; do alive "$k"; done
	thaw
	ends "${pids[@]}"
	for k in "${pids[@]}"; do wait "$k"; done
	for k in $KINDS; do cmp "$MNT/$k/d/a" <(noise 3000000 - 7); done
}

@test "a daemon that is frozen again and again does what ext4 does" {
	require_root
	need_prog FSOPS tests/fs/fsops.c tests/fs/{fscompare,fsmany,fsways,fsways_ops}.c
	model_dir
	mount_store -o commit=1
	freezer "$PID"
	for k in $KINDS; do mkdir "$MNT/$k/d"; done
	guarded 100:60 "$PYTHON" -S "$LIB/daemon.py" blink "$CONTROL" \
		"$FSOPS" -j 2 -p "$MNT/columns/d" -s 71 -n 150 -i 50 "$MODEL" "$MNT"/{buckets,columns,layers}/d
}

# holds FILE PID: until the process has made the file and has stopped.
holds() {
	guarded 20 bash -c 'until [ -e "$0" ] && grep -q "^State:[[:space:]]*T" "/proc/$1/status"; do sleep 0.02; done' "$@"
}

# Until the process, or a child of it, waits for the daemon.
wait_in_kernel() { guarded 20 "$PYTHON" -S "$LIB/daemon.py" wait-for "$1"; }

@test "clients that are stopped with locks, mappings and files hold up nobody" {
	mount_store
	for k in $KINDS; do
		"$PYTHON" -S "$LIB/daemon.py" hold "$MNT/$k" "$WORK/$k" &
		local client=$!
		holds "$WORK/$k.held" "$client"
		guarded 60:20 "$PYTHON" -S "$LIB/daemon.py" beside "$MNT/$k"
		guarded 60:20 mkdir "$MNT/snapshots/$k"
		guarded 60:20 "$SPILLCTL" compact "$MNT" >/dev/null
		kill -CONT "$client"
		ends "$client"
		wait "$client"
	done
}

@test "a client that is stopped keeps the mount, and its files, locks and mappings go on with it" {
	mount_store
	"$PYTHON" -S "$LIB/daemon.py" hold "$MNT/layers" "$WORK/mark" &
	local client=$!
	holds "$WORK/mark.held" "$client"
	ctl_fails 3 "is in use" umount "$MNT"
	grep -q "process $client" "$WORK/err"
	guarded 20:10 "$PYTHON" -S "$LIB/daemon.py" beside "$MNT/layers"
	kill -CONT "$client"
	ends "$client"
	wait "$client"
	umount_store
}

@test "processes on shared files that are stopped at any moment" {
	need_prog FSSHARED tests/fs/fsshared.c tests/fs/fsways.c
	mount_store
	for k in $KINDS; do mkdir "$MNT/$k/d"; done
	guarded 100:60 "$PYTHON" -S "$LIB/daemon.py" stops "$FSSHARED" -j 6 -t 3 "$MNT"/{buckets,columns,layers}/d
}

@test "a client that is killed while it is stopped leaves no lock" {
	mount_store
	"$PYTHON" -S "$LIB/daemon.py" hold "$MNT/columns" "$WORK/mark" &
	local client=$!
	holds "$WORK/mark.held" "$client"
	kill -9 "$client"
	ends "$client"
	guarded 20:10 flock "$MNT/columns/flock" true
	rm "$MNT/columns"/*
}

@test "killed for want of memory: the mount is dead, the next one detaches it, and what was synced is there" {
	require_root
	sanitized && skip "a sanitizer's memory is not bounded"
	group $((40 << 20))
	in_group "$SPILLFS" -o dirty=1G,cache=1G "$STORE" "$MNT"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	DAEMON_LOST=expected
	for k in $KINDS; do noise 3000000 "$MNT/$k/kept" 5 && sync "$MNT/$k/kept"; done
	# Blocks that are dirty in their last byte alone: none is flushed before the budget is used up.
	guarded 100:60 "$PYTHON" -S -c '
import os, sys
fd = os.open(sys.argv[1] + "/layers/hog", os.O_CREAT | os.O_WRONLY)
try:
    for i in range(1, 4000):
        os.pwrite(fd, b"x", i * 131072 - 1)
        if i % 64 == 0:
            os.sync_file_range(fd, 0, 0, 7) if hasattr(os, "sync_file_range") else os.stat(sys.argv[1])
except OSError as e:
    print(e)' "$MNT" || true
	ends "$PID"
	grep -q "^oom_kill [1-9]" "$GROUP/memory.oom_control" "$GROUP/memory.events" 2>/dev/null
	fails_with "not connected" stat "$MNT/layers"
	run "$SPILLFS" "$STORE" "$MNT" 3>&-
	eq "$status" 0
	grep -q "detached the mount of a dead daemon" <<<"$output"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	for k in $KINDS; do cmp "$MNT/$k/kept" <(noise 3000000 - 5); done
	umount_store
	"$SPILLCTL" check "$STORE"
}

@test "64 processes at once" {
	need_prog FSSHARED tests/fs/fsshared.c tests/fs/fsways.c
	mount_store
	for k in $KINDS; do mkdir "$MNT/$k/d"; done
	guarded 100:60 "$FSSHARED" -j 64 -t 2 "$MNT"/{buckets,columns,layers}/d
}

@test "5,000 files are made and deleted: descriptors, memory, inodes and arrays are as before" {
	mount_store
	guarded 100:60 "$PYTHON" -S "$LIB/cycles.py" "$MNT" "$PID" 5000
}
