#!/usr/bin/env bats
# The kernel's cache: no reader sees what a write, by whatever descriptor, has replaced.

load ../lib/common

stale() { py stale "$1" "$D"; }
stale_view() { py stale "$1" "$D" "$MNT/views/npy/$K${D#"$MNT/$K"}"; }

@test "a direct write beside cached readers and a mapping leaves no stale page" { each_kind stale direct_write; }
@test "a write while nobody has the file open leaves no stale page" { each_kind stale reopened; }
@test "sizes: appends and truncations show in every descriptor at once" { each_kind stale sizes; }
@test "copy_file_range, fallocate and O_TRUNC are seen by cached readers" { each_kind stale other_changes; }
@test "readers that race with a direct writer end up with its last write" { each_kind stale racing; }

@test "bytes that a mapping wrote behind the end are not there when the file grows" { each_kind stale grown; }

@test "a reader of what is appended sees no zeros" { each_kind stale appended; }

@test "writers around the cache, renames and unlinks of one directory do not wait for each other for ever" {
	spill_only
	stale() { guarded 100 "$PYTHON" -S "$LIB/stale.py" "$1" "$D"; }
	KINDS="buckets columns layers scratch" each_kind stale beside_names
}

@test "a long write with O_DIRECT does not wait for ever beside dirty pages" {
	spill_only
	stale() { guarded 100 "$PYTHON" -S "$LIB/stale.py" "$1" "$D"; }
	KINDS="buckets columns" each_kind stale beside_dirty
	KINDS="buckets columns layers scratch" each_kind stale mapped_direct
}

@test "an asynchronous direct write leaves no stale page" { each_kind stale aio; }

@test "an asynchronous direct write to a view leaves no stale page" {
	spill_only
	each_kind stale_view aio
}

@test "an asynchronous direct write with direct I/O below leaves no stale page" {
	spill_only
	remount -o backing=direct
	each_kind stale aio
}

@test "the same with -o nowriteback" {
	spill_only
	remount -o nowriteback
	for check in direct_write reopened sizes other_changes grown grown_uncached aio; do
		each_kind stale $check
		for k in $KINDS; do rm -r "$MNT/$k/t$BATS_TEST_NUMBER"; done
	done
}

@test "times set after a write stay, sizes and contents come through a remount" {
	spill_only
	for check in times_and_writes times_ascend read_write append space_comes_back; do
		py posix $check "$MNT"/buckets "$MNT"/columns "$MNT"/layers
	done
	for k in $KINDS; do
		for i in $(seq 200); do printf '%05000d' "$i"; done >"$MNT/$k/f"
		touch -d '2001-02-03 04:05:06.789 UTC' "$MNT/$k/f"
	done
	sum=$(sha "$MNT/columns/f")
	remount
	for k in $KINDS; do
		eq "$(sha "$MNT/$k/f")" "$sum"
		eq "$(stat -c %.Y "$MNT/$k/f" | cut -c1-13)" 981173106.789
	done
}
