#!/usr/bin/env bats
# As perms.bats, with all callers, kinds and formats, with the writeback cache and without it.

load ../lib/common

setup() {
	require_root
	spill_only
	setup_work
	model_dir
}

perms() { guarded 500 "$PYTHON" -S "$LIB/perms.py" "$@"; }

all() {
	mount_store -o "suid,$1"
	perms live "$MODEL" "$MNT"/{buckets,columns,layers}
	perms views "$MODEL" "$MNT" npy buckets columns layers
	perms views "$MODEL" "$MNT" parquet layers
	perms views "$MODEL" "$MNT" arrow columns
	perms views "$MODEL" "$MNT" zst layers
	perms make "$MNT/layers/perms"
	mkdir "$MNT/snapshots/kept"
	perms fixed past "$MODEL" "$MNT/snapshots/kept/layers/perms"
	perms fixed control "$MODEL" "$MNT"/{deltas,.spillfs}
}

@test "all callers, with the writeback cache" { all writeback; }
@test "all callers, without the writeback cache" { NOWRITEBACK=1 all nowriteback; }
