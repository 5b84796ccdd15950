#!/usr/bin/env bats
# The kernel gathers small writes, and what programs write reaches the daemon late: views, snapshots and syncs have it
# all the same. The tests of this file share one mount, the last ones have their own.

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
}
teardown() { :; }

unwritten() { guarded 100 "$PYTHON" "$LIB/unwritten.py" "$@"; }

# Requests to write that 400 writes of 1000 bytes to a file of kind $1 become.
requests() {
	local before
	before=$(stat_value spillfs_write_ops "kind=\"$1\"")
	dd if=/dev/zero of="$MNT/$2/requests" bs=1000 count=400 status=none
	echo $(($(stat_value spillfs_write_ops "kind=\"$1\"") - before))
	rm "$MNT/$2/requests"
}

@test "small writes are gathered" {
	local n
	for n in $(requests bucket buckets) $(requests column columns) $(requests layered layers); do
		[ "$n" -gt 0 ] && [ "$n" -lt 100 ]
	done
}

@test "cp of a view that was just written, is read by others, or grows" { unwritten copies "$MNT"; }
@test "views show what was written to files that are still open" { unwritten looks "$MNT"; }
@test "a view has one inode number, whatever becomes of its array" { unwritten numbers "$MNT"; }

@test "snapshots and commits have what was written and mapped and is not closed" {
	unwritten held "$MNT" mkdir "$MNT/snapshots/s"
	unwritten check "$MNT/snapshots/s"
	rm "$MNT"/*/{written,mapped}.f64
	unwritten held "$MNT" "$SPILLCTL" commit "$MNT"
	unwritten check "$MNT/snapshots/@$("$SPILLCTL" info "$MNT" | awk '/newest layer/ { print $3 }')"
	rm "$MNT"/*/{written,mapped}.f64
}

@test "so has spillctl sync, through a crash" {
	unwritten held "$MNT" bash -c '"$SPILLCTL" sync "$1" && kill -9 "$2"' - "$MNT" "$PID"
	wait_gone "$PID"
	detach "$MNT"
	mount_again
	unwritten check "$MNT"
	rm "$MNT"/*/{written,mapped}.f64
}

@test "so has a daemon that two signals end, with these files open" {
	unwritten held "$MNT" bash -c 'kill "$2" && while mountpoint -q "$1"; do :; done && kill "$2" && "$PYTHON" "$LIB/proc.py" wait "$2"' \
		- "$MNT" "$PID"
	mount_again
	unwritten check "$MNT"
	rm "$MNT"/*/{written,mapped}.f64
}

@test "the same with -o nowriteback" {
	remount -o nowriteback
	[ "$(requests column columns)" -eq 400 ]
	unwritten copies "$MNT"
	unwritten numbers "$MNT"
	unwritten held "$MNT" mkdir "$MNT/snapshots/t"
	unwritten check "$MNT/snapshots/t"
}
