#!/usr/bin/env bats
# What a daemon inherits from whoever starts it: small limits, closed descriptors, blocked signals, a umask. None of it is
# the end of the store.

load ../lib/common

setup() {
	setup_work
	spill_only
}

# under CMD...: mounts with the daemon started by that command.
under() {
	printf '#!/bin/bash\n%s "%s" "$@"\n' "$*" "$SPILLFS" >"$WORK/run"
	chmod 755 "$WORK/run"
	SPILLFS=$WORK/run mount_store -o commit=1
}

# In each kind, files with and without a file of their own in the store, more than there are descriptors.
many() {
	py limits many "$1" "$MNT" "$2"
	for k in $KINDS; do touch "$MNT/$k/last"; done
	umount_store
	mount_store
	py limits same "$1" "$MNT"
}

@test "few descriptors: files of all kinds are open, written, kept and deleted" {
	under prlimit --nofile=80:80
	many 150 40
}

@test "few descriptors, direct I/O" {
	under prlimit --nofile=80:80
	remount -o backing=direct || missing "no direct I/O here"
	many 60 20
}

@test "a small file size limit that may be raised" {
	under "ulimit -Sf 64;"
	many 40 20
}

@test "a file size limit that may not be raised: EFBIG for who writes, and on it goes" {
	require_root
	under prlimit --fsize=3000000:3000000 setpriv --bounding-set=-sys_resource
	for k in $KINDS; do
		echo kept >"$MNT/$k/kept"
		noise 5000000 "$WORK/long"
		if [ "$k" = layers ]; then continue; fi
		fails_with "File too large" dd if="$WORK/long" of="$MNT/$k/long" bs=1M conv=fsync
		rm "$MNT/$k/long"
		"$SPILLCTL" sync "$MNT"
		echo more >>"$MNT/$k/kept"
	done
	remount -o commit=1
	for k in buckets columns; do [ "$(cat "$MNT/$k/kept")" = "kept
more" ]; done
}

@test "a file size limit that is too small for a store is named" {
	require_root
	mkdir "$WORK/small"
	run prlimit --fsize=102400:102400 setpriv --bounding-set=-sys_resource "$SPILLFS" "$WORK/small" "$MNT" 3>&-
	eq "$status" 6
	[[ $output == *"ulimit -f"* ]]
	[ -z "$(ls "$WORK/small")" ]
}

@test "closed standard descriptors, a working directory that goes, a umask" {
	mkdir "$WORK/cwd"
	under "cd $WORK/cwd; umask 777; exec 0<&- 1>&- 2>&-;"
	rmdir "$WORK/cwd"
	for fd in 0 1 2; do [ "$(readlink "/proc/$PID/fd/$fd")" = /dev/null ]; done
	[ "$(readlink "/proc/$PID/cwd")" = / ]
	for k in $KINDS; do echo x >"$MNT/$k/f"; done
	"$SPILLCTL" sync "$MNT"
	[ "$(stat -c %a "$MNT/columns/f")" = 644 ]
	[ -z "$(find "$STORE" ! -perm -u+rw -print)" ]
}

@test "blocked and ignored signals: the daemon ends when it is told to" {
	under "$PYTHON" "$LIB/limits.py" deaf
	for k in $KINDS; do echo x >"$MNT/$k/f"; done
	kill -TERM "$PID"
	timeout 20 "$PYTHON" "$LIB/proc.py" wait "$PID"
	refute mounted
	mount_store
	for k in $KINDS; do [ "$(cat "$MNT/$k/f")" = x ]; done
}

@test "a tiny or a huge stack" {
	under prlimit --stack=131072:unlimited
	for k in $KINDS; do echo x >"$MNT/$k/f"; done
	ls -lR "$MNT/views" >/dev/null
}

@test "when memory is out, the daemon is not the first to go" {
	mount_store
	# where it may
	if choom -n -1 -- true 2>/dev/null; then [ "$(cat "/proc/$PID/oom_score_adj")" = -200 ]; fi
	umount_store
	under choom -n 100 --
	[ "$(cat "/proc/$PID/oom_score_adj")" = 100 ]
}
