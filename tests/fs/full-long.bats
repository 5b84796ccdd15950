#!/usr/bin/env bats
# A larger disk full of small files, as full.bats: whoever needs space is told so, nothing that was answered is lost, and deleting gives
# space to whoever is next.

load ../lib/common

setup() {
	setup_work
	spill_only
	require_root
	small_ext4 "$WORK/small" 64M
	STORE=$WORK/small/store
	mkdir "$STORE"
	mount_store
}

# filled KIND BYTES
filled() {
	guarded 200 "$PYTHON" "$LIB/full.py" "$MNT/$1/d" "$2"
	remount
	guarded 100 "$PYTHON" "$LIB/full.py" check "$MNT/$1/d" "$2"
	rm -r "$MNT/$1/d"
	"$SPILLCTL" sync "$MNT"
	touch "$MNT/$1/x"
}

@test "columns of 4,000 bytes" { filled columns 4000; }
@test "columns of 60,000 bytes" { filled columns 60000; }
@test "buckets of 4,000 bytes" { filled buckets 4000; }
@test "layers of 4,000 bytes" { filled layers 4000; }
