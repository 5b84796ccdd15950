#!/usr/bin/env bats
# Small arrays: packed into common frames of the layers.

load ../lib/common
load packs

@test "1,000 small arrays in one commit take little more than zstd makes of them at once (10,000 in packs-long)" {
	spill_only
	many 1000
}

@test "small arrays under a small budget: it holds, and they are packed all the same" {
	spill_only
	remount -o commit=1000,dirty=1M
	mkdir "$MNT/layers/many" "$WORK/many"
	records "$WORK/many" 1 0 1000
	records "$MNT/layers/many" 1 0 1000 &
	while alive $!; do
		[ "$(stat_value spillfs_dirty_bytes)" -le $((1 << 20)) ]
	done
	wait_all
	[ "$(stat_value spillfs_dirty_bytes)" -le $((1 << 20)) ]
	"$SPILLCTL" commit "$MNT"
	live=$(stat_value spillfs_layer_live_bytes)
	at_once=$(cat "$WORK"/many/* | zstd -3 -c | wc -c)
	echo "frames $live, zstd -3 of all at once $at_once"
	[ "$live" -le $((at_once * 16 / 10)) ]
	diff -r "$WORK/many" "$MNT/layers/many"
	remount
	diff -r "$WORK/many" "$MNT/layers/many"
}

@test "small arrays of several codecs and types, zeros among them" {
	spill_only
	remount -o commit=1000
	for c in none zstd:3 zstd:9; do
		mkdir "$MNT/layers/$c" "$WORK/$c"
		set_xattr "$MNT/layers/$c" codec $c
	done
	noise 3000 "$WORK/noise"
	for i in $(seq 40); do
		for t in u8 f64 i16; do
			for c in none zstd:3 zstd:9; do tail -c $((i * 73)) "$WORK/noise" >"$WORK/$c/$i.$t"; done
			[ $((i % 7)) != 0 ] || head -c $((i * 100)) /dev/zero >"$WORK/zstd:3/$i.$t"
		done
	done
	truncate -s 0 "$WORK/none/7.u8"
	truncate -s 10000 "$WORK/none/7.u8"
	for c in none zstd:3 zstd:9; do cp "$WORK/$c"/* "$MNT/layers/$c"; done
	"$SPILLCTL" commit "$MNT"
	eq "$(xattr "$MNT/layers/none/7.u8" stored_bytes)" 0
	[ "$(xattr "$MNT/layers/none/40.f64" stored_bytes)" -ge 2920 ]
	[ "$(xattr "$MNT/layers/none/40.f64" stored_bytes)" -lt 2960 ]
	zstd -tq "$MNT/deltas/00000001.zst"
	drop_caches
	for c in none zstd:3 zstd:9; do diff -r "$WORK/$c" "$MNT/layers/$c"; done
	remount
	for c in none zstd:3 zstd:9; do diff -r "$WORK/$c" "$MNT/layers/$c"; done
}

@test "compaction packs anew what is live of packs" {
	spill_only
	remount -o commit=1000
	mkdir "$MNT/layers/c" "$WORK/c"
	noise 10000000 "$WORK/noise"
	split -a 3 -d -b 20000 "$WORK/noise" "$WORK/c/f"
	cp "$WORK"/c/* "$MNT/layers/c/"
	"$SPILLCTL" commit "$MNT"
	rm "$WORK"/c/*[1-46-9] "$MNT"/layers/c/*[1-46-9] # four of five
	"$SPILLCTL" compact "$MNT"
	[ ! -e "$STORE/layers/00000001.zst" ]
	live=$(stat_value spillfs_layer_live_bytes)
	echo "live $live"
	[ "$live" -ge 2000000 ] && [ "$live" -lt 2100000 ]
	drop_caches
	diff -r "$WORK/c" "$MNT/layers/c"
	remount
	diff -r "$WORK/c" "$MNT/layers/c"
}
