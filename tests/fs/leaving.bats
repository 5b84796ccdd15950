#!/usr/bin/env bats
# The space of a file that was deleted is there for the next operation, though the kernel tells later that it has let go of it.

load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/small" 24M
	mount_store -o commit=1
}

leaving() { guarded 100 "$PYTHON" "$LIB/leaving.py" "$@"; }

@test "the last close comes after the deletion" { leaving release "$MNT/buckets/d"; }
@test "the kernel forgets the file after the deletion" { leaving forget "$MNT/columns/d"; }
@test "a rename over it" { leaving replaced "$MNT/layers/d"; }
@test "a truncation to nothing" { leaving cut "$MNT/columns/d"; }
@test "of two files the one that has the room goes last" { leaving several "$MNT/layers/d"; }
@test "a deleted file with long attributes does not wait for itself" { leaving noted "$MNT/layers/d"; }
@test "a file that a program keeps open makes nobody wait, though a child has closed it" { leaving kept "$MNT/buckets/d"; }

@test "the same with -o nowriteback, of the other kinds" {
	remount -o commit=1,nowriteback
	leaving release "$MNT/layers/d"
	rm -r "$MNT/layers/d"
	leaving forget "$MNT/buckets/d"
	rm -r "$MNT/buckets/d"
	leaving kept "$MNT/columns/d"
}

@test "as many wait as leave threads to serve what they wait for" {
	remount -o commit=1,nowriteback
	leaving crowd "$MNT/buckets/d"
}

@test "with -s nobody waits, and the space comes" {
	remount -o commit=1 -s
	leaving single "$MNT/layers/d"
}
