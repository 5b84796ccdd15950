#!/usr/bin/env bats
# user.spillfs.compress=cold: spills that are compressed when they leave memory.

load ../lib/common

setup() {
	spill_only
	setup_work
	S=$MNT/scratch
}

written() { awk '/^spillfs_backing_write_bytes_total{kind="spill"/ { n += $2 } END { printf "%d", n }' "$MNT/.spillfs/stats"; }
cold() { setfattr -n user.spillfs.compress -v cold "$1"; }
left_of() { df -k --output=avail "$1" | tail -n 1 | tr -d ' '; }

@test "GNU sort spills less than half of the bytes to the disk, with the same answer" {
	local plain
	mount_store -o spill=2M
	seq 400000 | awk '{ print ($1 * 7919) % 3000017, "a line", $1 }' >"$WORK/in"
	LC_ALL=C sort -n -S 1M -T "$S" "$WORK/in" >"$WORK/want"
	plain=$(written)
	[ "$plain" -gt $((6 << 20)) ]
	eq "$(stat_value spillfs_spill_cold_raw_bytes)" 0
	mkdir "$S/d" && cold "$S/d"
	LC_ALL=C sort -n -S 1M -T "$S/d" "$WORK/in" | cmp - "$WORK/want"
	[ $((($(written) - plain) * 2)) -lt "$plain" ] || fail "$plain bytes, then $(($(written) - plain))"
	[ "$(stat_value spillfs_spill_cold_raw_bytes)" -gt $((3 * $(stat_value spillfs_spill_cold_stored_bytes))) ]
	"$SPILLCTL" stat "$MNT" | grep -q '^spills .*, cold [0-9.]*x: [0-9.]* MiB became '
	eq "$(ls -A "$S/d")" ""
}

@test "what fits into memory is not compressed" {
	mount_store -o spill=64M
	cold "$S"
	seq 2000000 >"$S/f" && sync "$S/f"
	eq "$(written)" 0
	eq "$(stat_value spillfs_spill_cold_raw_bytes)" 0
}

@test "noise is not compressed" {
	mount_store -o spill=8M
	cold "$S"
	noise $((32 << 20)) "$S/noise" && sync "$S/noise"
	[ "$(written)" -ge $((24 << 20)) ]
	noise $((32 << 20)) - | cmp - "$S/noise"
	eq "$(stat_value spillfs_spill_cold_raw_bytes)" 0
}

@test "du, df, quotas and user.spillfs.stored_bytes count what is stored" {
	local kind raw
	mount_store -o spill=8M
	cold "$S"
	seq 9000000 >"$WORK/in"
	raw=$(stat -c %s "$WORK/in")
	for kind in bucket column; do
		mkdir "$S/$kind"
		set_xattr "$S/$kind" kind $kind
		set_xattr "$S/$kind" quota 32M
		# Twice what the quota lets in uncompressed.
		cp "$WORK/in" "$S/$kind/f"
		cmp "$WORK/in" "$S/$kind/f"
		eq "$(stat -c %s "$S/$kind/f")" "$raw"
		[ $(($(blocks "$S/$kind/f") * 512)) -lt $((24 << 20)) ]
		[ "$(xattr "$S/$kind/f" stored_bytes)" -lt $((24 << 20)) ]
		is_counted() { [ "$(left_of "$S/$kind")" -gt $((8 << 10)) ]; }
		soon is_counted
		# Noise in its place is stored as it is: the quota bounds that.
		noise $((64 << 20)) "$WORK/noise"
		run dd if="$WORK/noise" of="$S/$kind/f" bs=1M conv=notrunc
		[ "$status" != 0 ]
		[[ $output == *"error writing"*"quota exceeded"* ]]
		[ $(($(blocks "$S/$kind/f") * 512)) -le $((32 << 20)) ]
		rm "$S/$kind/f"
	done
}

@test "what goes to the disk at once, or is written over there, is compressed once it is left alone" {
	local kind
	mount_store -o spill=0,commit=1
	cold "$S"
	seq -f %063.0f $((8 << 14)) >"$WORK/in"
	for kind in bucket column; do
		mkdir "$S/$kind"
		set_xattr "$S/$kind" kind $kind
		set_xattr "$S/$kind" quota 16M
		dd if="$WORK/in" of="$S/$kind/f" bs=64k oflag=direct status=none
	done
	is_packed() { [ "$(xattr "$S/$1/f" stored_bytes)" -lt $((2 << 20)) ] && [ $(($(blocks "$S/$1/f") * 512)) -lt $((2 << 20)) ]; }
	has_room() { [ "$(left_of "$S/$1")" -gt $((14 << 10)) ]; }
	for kind in bucket column; do
		soon is_packed $kind || soon is_packed $kind
		soon has_room $kind
		cmp "$WORK/in" "$S/$kind/f"
	done
	loose_is_packed() { [ $(($(stat_value spillfs_spill_cold_raw_bytes) - raw)) -ge $((2 << 18)) ]; }
	raw=$(stat_value spillfs_spill_cold_raw_bytes)
	printf overwritten | dd of="$WORK/in" bs=1 seek=3000000 conv=notrunc status=none
	for kind in bucket column; do
		printf overwritten | dd of="$S/$kind/f" bs=16 seek=3000000 oflag=seek_bytes conv=notrunc,fsync status=none
	done
	# Pieces rest for five seconds.
	soon loose_is_packed || soon loose_is_packed
	for kind in bucket column; do
		cmp "$WORK/in" "$S/$kind/f"
		# Noise in its place is stored as it is, and the quota bounds it.
		noise $((32 << 20)) "$WORK/noise"
		run dd if="$WORK/noise" of="$S/$kind/f" bs=1M conv=notrunc
		[[ $output == *"error writing"*"quota exceeded"* ]]
		[ $(($(blocks "$S/$kind/f") * 512)) -le $((16 << 20)) ]
	done
}

@test "-o size counts what is stored" {
	mount_store -o spill=8M,size=32M
	seq 9000000 >"$WORK/in"
	run cp "$WORK/in" "$S/raw"
	[[ $output == *"No space left"* ]]
	rm "$S/raw"
	cold "$S"
	cp "$WORK/in" "$S/f"
	cmp "$WORK/in" "$S/f"
}

@test "the setting is inherited, and is one of scratch/" {
	mount_store
	mkdir "$S/d" && cold "$S/d"
	mkdir "$S/d/e" && touch "$S/d/e/f" "$S/g"
	eq "$(xattr "$S/d/e/f" compress)" cold
	eq "$(getfattr "$S/d/e/f")" ""
	refute xattr "$S/g" compress
	set_xattr "$S/d/e/f" compress none
	eq "$(xattr "$S/d/e/f" compress)" none
	fails_with "nvalid" setfattr -n user.spillfs.compress -v always "$S/g"
	fails_with "not supported" setfattr -n user.spillfs.compress -v cold "$MNT/buckets"
}

@test "random operations on compressed files, compared with ext4" {
	mount_store -o spill=512K,commit=1,encrypt=no
	need_prog FSOPS tests/fs/fsops.c tests/fs/{fscompare,fsmany,fsways,fsways_ops}.c
	model_dir
	mkdir "$S/b" "$S/c"
	set_xattr "$S/c" kind column
	cold "$S/b" && cold "$S/c"
	mkdir "$S/b/x" "$S/c/x"
	for seed in 61 62; do
		guarded 100 "$FSOPS" -s $seed -n 400 -i 200 "$MODEL" "$S/b/x" "$S/c/x"
	done
	[ "$(stat_value spillfs_spill_cold_raw_bytes)" -gt 0 ]
}
