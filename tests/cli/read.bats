#!/usr/bin/env bats
# contrib/spillfs-read: arrays come out of a store without spillfs, whatever filters their blocks have.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store
}

# Decimals with exceptions among them, counters, walks of each width, noise.
write_arrays() {
	"$PYTHON" - "$MNT/layers" <<-'EOF'
		import array, os, random, sys
		r = random.Random(7)
		os.mkdir(sys.argv[1] + '/d')
		def walk(n, step, power=1, start=5000):
		    at = start
		    for _ in range(n):
		        at += r.randint(-step, step)
		        yield at / power if power > 1 else at
		def put(name, code, values):
		    with open(sys.argv[1] + '/' + name, 'wb') as f:
		        array.array(code, values).tofile(f)
		odd = [x if r.randrange(500) else r.choice([float('nan'), -0.0, 1 / 3]) for x in walk(30000, 30, 100)]
		put('prices.f64', 'd', odd)
		put('rough.f64', 'd', [r.random() for _ in range(17000)])
		put('d/tenths.f32', 'f', walk(33001, 9, 10))
		put('d/count.i64', 'q', walk(20000, 900, start=1 << 60))
		put('d/level.i16', 'h', walk(40000, 3, start=0))
		put('d/byte.u8', 'B', [x % 200 for x in walk(70000, 2)])
		put('plain', 'B', bytes(200000))
		for i in range(5):
		    put('d/small%d.f64' % i, 'd', walk(700, 30, 100))
	EOF
	noise 150000 "$MNT/layers/noise" 3
	cp "$MNT/layers/prices.f64" "$MNT/layers/d/shuffled.f64"
	setfattr -n user.spillfs.filter -v shuffle "$MNT/layers/d"
	cp "$MNT/layers/prices.f64" "$MNT/layers/d/shuffled2.f64"
	truncate -s 3000000 "$MNT/layers/noise"
}

@test "arrays with all kinds of filters are read without spillfs" {
	write_arrays
	mkdir "$MNT/snapshots/one"
	printf x | dd of="$MNT/layers/prices.f64" bs=1 seek=100000 conv=notrunc status=none
	rm "$MNT/layers/plain"
	(cd "$MNT/layers" && find . -type f -printf '%P\n' | sort | xargs md5sum) >"$WORK/before"
	for f in prices.f64 d/tenths.f32 d/count.i64 d/level.i16; do "$SPILLCTL" stats "$MNT/layers/$f"; done >"$WORK/stats"
	umount_store
	grep -q 'scale+[a-z+]*pack:8' "$WORK/stats"
	grep -q 'scale+[a-z+]*:4' "$WORK/stats"
	grep -q ' delta+[a-z+]*:8' "$WORK/stats"
	mkdir "$WORK/out" "$WORK/out/d"
	"$TOP/contrib/spillfs-read" "$STORE" >"$WORK/list"
	cut -c35- "$WORK/before" | while read -r f; do
		grep -qxF "$f" "$WORK/list"
		"$TOP/contrib/spillfs-read" "$STORE" "$f" >"$WORK/out/$f"
	done
	(cd "$WORK/out" && md5sum --quiet -c "$WORK/before")
	for f in "$STORE"/layers/*.zst; do zstd -dc "$f" >"$WORK/frames"; done
	run "$TOP/contrib/spillfs-read" "$STORE" plain
	[ "$status" -eq 1 ]
	[[ $output == *"plain: no such file"* ]]
}
