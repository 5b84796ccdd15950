# Small arrays, and what packs.bats and packs-long.bats do with many of them.

# records DIR SEED FIRST LAST: an array of 1 KiB of records for each number, alike as log lines are.
records() {
	"$PYTHON" - "$@" <<'PY'
import os, random, sys
d, seed, first, last = sys.argv[1], *map(int, sys.argv[2:])
lines = ["temperature=%.1f status=%s\n" % (t / 10, status) for t in range(150, 300)
         for status in ("ok", "warming up", "out of range")]
for i in range(first, last):
    rng, sensor = random.Random(seed * 1000000 + i), "sensor-%03d " % (i % 100)
    data = "".join(sensor + line for line in rng.choices(lines, k=40))[:1024]
    fd = os.open("%s/%05d" % (d, i), os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    assert os.write(fd, data.encode()) == 1024
    os.close(fd)
PY
}

# many N: that many arrays in one commit, changed, and read back each time.
many() {
	local n=$1 d i
	remount -o commit=1000,dirty=64M
	mkdir "$MNT/layers/many" "$WORK/many"
	records "$WORK/many" 1 0 "$n"
	cp "$WORK/many"/* "$MNT/layers/many"
	# 4 KiB of memory for each, not a whole block
	dirty=$(stat_value spillfs_dirty_bytes)
	echo "dirty: $dirty"
	[ "$dirty" -ge $((n * 1024)) ] && [ "$dirty" -le $((n * 4096)) ]
	"$SPILLCTL" commit "$MNT"
	eq "$(stat_value spillfs_dirty_bytes)" 0
	# The bytes of frames alone: the index takes about 150 more for each array.
	live=$(stat_value spillfs_layer_live_bytes)
	at_once=$(cat "$WORK"/many/* | zstd -3 -c | wc -c)
	echo "frames $live, zstd -3 of all at once $at_once"
	[ "$live" -le $((at_once * 16 / 10)) ]
	eq "$(zstd -dc "$MNT/deltas/00000001.zst" | sha256sum)" "$(cat "$WORK"/many/* | sha256sum)"
	drop_caches
	diff -r "$WORK/many" "$MNT/layers/many"
	remount
	diff -r "$WORK/many" "$MNT/layers/many"
	# New blocks for some; the rest of their packs stays.
	records "$WORK/many" 2 $((n * 3 / 10)) $((n * 35 / 100))
	records "$MNT/layers/many" 2 $((n * 3 / 10)) $((n * 35 / 100))
	for i in $((n * 7 / 9)) $((n - 1)); do
		for d in "$WORK/many" "$MNT/layers/many"; do
			printf x | dd of="$d/$(printf %05d "$i")" bs=1 seek=500 conv=notrunc status=none
			truncate -s 100 "$d/$(printf %05d $((i - n / 10)))"
			rm "$d/$(printf %05d $((i - n / 5)))"
		done
	done
	diff -r "$WORK/many" "$MNT/layers/many"
	remount
	diff -r "$WORK/many" "$MNT/layers/many"
}
