#!/usr/bin/env bats
# The spill pattern at full size: 8,192 buckets at once.

load ../lib/common
setup() { setup_work; need_prog SPILLLOAD tests/fs/spillload.c; }

bounded() {
	spill_only
	eq "$(find "$STORE/pool" -type f | wc -l)" "$1"
	n=$(ls "/proc/$PID/fd" | wc -l)
	echo "descriptors of the daemon: $n"
	[ "$n" -le 128 ]
}

@test "8,192 buckets, 4 processes, 32 KiB appends, kept open, read back whole" {
	mount_store -o pool=2
	"$SPILLLOAD" "$MNT/buckets" 8192 4 32768 4 write
	bounded 2
	"$SPILLLOAD" "$MNT/buckets" 8192 4 32768 4 verify
	remount
	"$SPILLLOAD" "$MNT/buckets" 8192 2 32768 4 verify
	bounded 2
	rm -r "$MNT"/buckets/*
	# The kernel tells a moment later that it has forgotten a deleted file.
	for i in 1 2 3 4 5 6 7 8 9 10; do
		"$SPILLCTL" sync "$MNT"
		[ "$(du -sk "$STORE/pool" | cut -f1)" -ge 65536 ] || return 0
		sleep 0.2
	done
	fail "the pool has $(du -sk "$STORE/pool" | cut -f1) KiB"
}

@test "8,192 buckets, open-append-close, processes sharing every bucket" {
	mount_store -o pool=4
	"$SPILLLOAD" -a -o "$MNT/buckets" 8192 2 32768 1
	bounded 4
}

@test "the default number of physical files is that of the CPUs" {
	spill_only
	mount_store
	"$SPILLLOAD" "$MNT/buckets" 500 4 32768 4
	bounded "$(nproc)"
}
