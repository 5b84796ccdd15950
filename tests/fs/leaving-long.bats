#!/usr/bin/env bats
# A file that has most of the room of a full store is deleted and written again, many times. See leaving.bats.

load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/small" 24M
	mount_store -o commit=1
}

rounds() { guarded 200 "$PYTHON" "$LIB/leaving.py" rounds "$MNT/$1/d"; }

@test "buckets" { rounds buckets; }
@test "columns" { rounds columns; }
@test "layers: what a write has stored before it waits takes no space again" { rounds layers; }
