#!/usr/bin/env bats
# A larger disk full of small files, as full.bats: whoever needs space is told so, nothing that was answered is lost, and deleting gives
# space to whoever is next.

load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/small" 64M
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

@test "eight writers at once fill each kind, with and without the writeback cache" {
	for options in commit=1 commit=1,nowriteback; do
		remount -o $options
		for k in $KINDS; do
			D=$MNT/$k/d-$options
			mkdir "$D"
			for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of="$D/big$i" bs=1M count=20 conv=fsync 2>/dev/null & done
			wait
			rm "$D"/big*
			noise 2000000 "$D/after"
			sync "$D/after"
			remount
			eq "$(stat -c %s "$D/after")" 2000000
			rm -r "$D"
			"$SPILLCTL" compact "$MNT" >"$WORK/out"
		done
	done
}

@test "buckets of many extents are cut, deleted and replaced" {
	umount_store
	mount_store -o commit=0,nowriteback # the kernel would make pages of the extents
	guarded 200 "$PYTHON" "$LIB/full.py" cut "$MNT/buckets/d" 320000
	umount_store
	"$SPILLCTL" check "$STORE"
}
