#!/usr/bin/env bats
# A store made by an enemy has links, FIFOs, devices, sockets or directories in place of its files: what opens it ends, says what
# is wrong or goes on without, and nothing outside of the store is read or changed. All cells: foreign-long.bats.
load ../lib/common

setup() {
	spill_only
	require_root # mounts by force, device nodes
	setup_work
}
teardown() { teardown_work; }

@test "files of a store that are something else: some of each" {
	[ "$(findmnt -no OPTIONS -T "$WORK" | grep -c noatime)" = 0 ] || echo "# noatime: reads outside are not seen" >&3
	py foreign "$WORK" "$SPILLFS" "$SPILLCTL" 23 4
}

@test "a column whose file is a link: EIO, and a line in the log that says so" {
	STORE_DAMAGED=1
	mount_logged
	py proc numbers 100000 1 >"$MNT/columns/c"
	sync "$MNT/columns/c"
	umount_store
	mv "$STORE/columns/1" "$WORK/outside"
	ln -s ../../outside "$STORE/columns/1"
	mount_logged
	run cat "$MNT/columns/c"
	[ "$status" != 0 ]
	[ "$output" = "cat: $MNT/columns/c: Input/output error" ]
	grep -F "columns/1 at byte 0: it is a symbolic link, not a regular file" "$DAEMON_LOG"
	umount_store
	[ "$(stat -c %s "$WORK/outside")" = 800000 ]
}
