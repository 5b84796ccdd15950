#!/usr/bin/env bats
# What is done to a view is done to its array: attributes, names, writes in place, and files that are being written.
# The tests of this file share one mount, those without the writeback cache another.

load ../lib/common

setup_file() {
	if [ -n "$NATIVE" ]; then return; fi
	setup_work
	mount_store
}
teardown_file() { [ -n "$NATIVE" ] || teardown_work; }
setup() {
	spill_only
	revive
	rm -rf "$MNT"/{buckets,columns,layers,scratch}/*
}
teardown() { :; }

edit() { guarded 100 "$PYTHON" "$LIB/views_edit.py" "$1" "$MNT" "${@:2}"; }

@test "cp, install, mv, tar, rsync, shutil" {
	require_tool rsync
	edit tools "$WORK"
}
@test "rsync --inplace: with the same header; another one is refused, and the log says what to do" {
	require_tool rsync
	umount_store
	mount_logged
	"$PYTHON" -c 'import struct, sys
def npy(name, n, byte):
    head = ("{\"descr\": \"<f8\", \"fortran_order\": False, \"shape\": (%d,), }" % n).replace(chr(34), chr(39)).ljust(4085) + "\n"
    open(name, "wb").write(b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + bytes([byte]) * 8 * n)
for k, (n, byte) in enumerate([(9, 0), (9, 1), (5, 2)]): npy(sys.argv[1] + "/%d.npy" % k, n, byte)' "$WORK"
	for kind in $KINDS; do
		cp "$WORK/0.npy" "$MNT/views/npy/$kind/a.npy"
		rsync -I --inplace "$WORK/1.npy" "$MNT/views/npy/$kind/a.npy"
		eq "$(od -v -An -tx1 -w1 "$MNT/$kind/a" | sort -u)" " 01"
		refute rsync -I --inplace "$WORK/2.npy" "$MNT/views/npy/$kind/a.npy"
		eq "$(od -v -An -tx1 -w1 "$MNT/$kind/a" | sort -u)" " 01"
		rsync -I "$WORK/2.npy" "$MNT/views/npy/$kind/a.npy"
		eq "$(stat -c %s "$MNT/$kind/a")" 40
	done
	grep -q 'a: what is written in place has another header; write a new file' "$WORK/log"
}
@test "attributes of a view are the array's" { edit attrs; }
@test "rename, link, unlink, mkdir, rmdir" { edit names; }
@test "files that are being written have names and attributes" { edit uploads; }
@test "written in place, mapped or not" { edit place; }
@test "what is not one array is refused" {
	edit refused
	rmdir "$MNT/snapshots/s"
}
@test "access is that of the array" {
	require_root
	edit users
}
@test "between worlds and folders views are not moved, and nothing is lost" {
	edit worlds
	umount_store
	guarded 100 "$SPILLCTL" check -n "$STORE"
	mount_store
}
@test "many at once" { edit storm; }
@test "views that change while others try to move them to their arrays do not wait for ever" { edit across; }

@test "what waits for its name at the unmount is said to be lost, and takes no space" {
	cp /dev/null "$WORK/log"
	umount_store
	mount_logged
	"$PYTHON" -c 'import numpy, sys; numpy.save(open(sys.argv[1], "wb"), numpy.zeros(1000))' "$MNT/views/npy/layers/x.npy.tmp"
	eq "$(ls "$MNT/views/npy/layers" "$MNT/layers")" "$MNT/layers:

$MNT/views/npy/layers:
x.npy.tmp"
	umount_store
	grep -q 'x.npy.tmp: it waited for another name' "$WORK/log"
	DAEMON_LOG=
	mount_store
	eq "$(ls "$MNT/views/npy/layers")" ""
}

@test "without the writeback cache" {
	remount -o nowriteback
	edit tools "$WORK"
	edit uploads
	edit place
	edit cuts
	edit storm
}
