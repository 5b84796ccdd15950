#!/usr/bin/env bats
# Bytes that nobody here made, through the common tools and back out of each kind.

load ../lib/common

@test "a soundfont's samples, .i16" { each_kind through pcm 2; }
@test "the EGM96 geoid, .f32" { each_kind through grid 4; }
@test "a word list, text" { each_kind through words 1; }

CORPUS="pcm grid shifts offsets lengths transitions zones words declinations ascensions magnitudes numbers coasts areas segments codes"

# Each array as its type says, and as bytes that nobody has said anything about.
@test "in layers/ real data takes at most 1.02 of what zstd -3 makes of its blocks" {
	spill_only
	local name plain file stored limit suffix
	for name in $CORPUS; do
		real_data $name
		plain=0
		rm -f "$WORK"/part-*
		split -b 131072 "$DATA" "$WORK/part-"
		for part in "$WORK"/part-*; do plain=$((plain + $(zstd -3 -qc --check "$part" | wc -c))); done
		for suffix in ".${DATA##*.}" ""; do
			file=$MNT/layers/$name$suffix
			cp "$DATA" "$file"
			"$SPILLCTL" sync "$MNT"
			stored=$(xattr "$file" stored_bytes)
			limit=$((plain * 102 / 100))
			tell "$name${suffix:- without a type}: $stored bytes, $(awk -v a="$stored" -v b="$plain" 'BEGIN { printf "%.3f", a / b }') of zstd -3 by blocks"
			[ "$stored" -le "$limit" ] || fail "$file takes $stored bytes, zstd $plain"
			same "$DATA" "$file"
		done
	done
	remount
	for name in $CORPUS; do
		real_data $name
		same "$DATA" "$MNT/layers/$name.${DATA##*.}"
		same "$DATA" "$MNT/layers/$name"
	done
}

# through NAME ELEMENT-BYTES: cp, cat >>, dd at odd offsets; then remount, then crash.
through() {
	real_data "$1"
	local name want size f
	name=$(basename "$DATA")
	want=$(sha "$DATA")
	size=$(stat -c %s "$DATA")
	f=$D/$name
	cp "$DATA" "$f"
	eq "$(sha "$f")" "$want"
	split -b 300007 "$DATA" "$WORK/part-"
	for part in "$WORK"/part-*; do cat "$part" >>"$D/cat-$name"; done
	rm "$WORK"/part-*
	eq "$(sha "$D/cat-$name")" "$want"
	# pieces of 77,777 bytes, the odd ones first: every write leaves or fills a hole
	for parity in 1 0; do
		for i in $(seq $parity 2 $((size / 77777))); do
			dd if="$DATA" of="$D/dd-$name" bs=77777 skip="$i" seek="$i" count=1 conv=notrunc status=none
		done
	done
	eq "$(sha "$D/dd-$name")" "$want"
	eq "$(dd if="$f" bs=12345 skip=7 count=3 status=none | sha256sum)" \
		"$(dd if="$DATA" bs=12345 skip=7 count=3 status=none | sha256sum)"
	cp "$f" "$WORK/out"
	eq "$(sha "$WORK/out")" "$want"
	[ -n "$NATIVE" ] || eq "$(xattr "$f" length)" $((size / $2))
	remount
	for g in "$f" "$D/cat-$name" "$D/dd-$name"; do eq "$(sha "$g")" "$want"; done
	cp "$DATA" "$D/late-$name"
	sync "$D/late-$name"
	kill9
	remount
	for g in "$f" "$D/cat-$name" "$D/dd-$name" "$D/late-$name"; do eq "$(sha "$g")" "$want"; done
	rm -r "$D"
}

@test "sort -T with 8 MiB of memory equals the sort without, of a file 20 times as large" {
	real_data words
	for i in 1 2 3; do # each word, turned by i, and the eight before it
		awk -v n="$i" '{ print substr($0, n % (length($0) + 1)) n, a, b, c, d, e, f, g, h
			h = g; g = f; f = e; e = d; d = c; c = b; b = a; a = $0 }' "$DATA"
	done >"$WORK/text"
	[ "$(stat -c %s "$WORK/text")" -ge $((20 * 8 << 20)) ]
	LC_ALL=C sort --parallel=2 "$WORK/text" | sha256sum >"$WORK/want"
	LC_ALL=C sort -T "$MNT/buckets" -S 8M "$WORK/text" | sha256sum >"$WORK/got"
	same "$WORK/want" "$WORK/got"
	eq "$(ls -A "$MNT/buckets")" ""
}
