#!/usr/bin/env bats
# A write that a full store has room for in part: what is in is told, and is what everybody reads, with a new time.

load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/small" 24M
}

partial() { guarded 60 "$PYTHON" "$LIB/partial.py" "$MNT" "$@"; }

@test "buckets" { mount_store -o commit=1; partial buckets; }
@test "columns" { mount_store -o commit=1; partial columns; }
@test "layers" { mount_store -o commit=1; partial layers; }
@test "buckets with -o nowriteback" { mount_store -o commit=1,nowriteback; partial buckets direct; }
@test "columns with -o nowriteback" { mount_store -o commit=1,nowriteback; partial columns direct; }
@test "layers with -o nowriteback" { mount_store -o commit=1,nowriteback; partial layers direct; }
