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
		import array, os, random, struct, sys
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
		os.close(os.open(sys.argv[1] + '/trades', os.O_CREAT | os.O_WRONLY))
		os.setxattr(sys.argv[1] + '/trades', 'user.spillfs.dtype', b'p:f64,t:i64,c:i32,id:u8')
		os.setxattr(sys.argv[1] + '/trades', 'user.spillfs.block_size', b'65536')
		with open(sys.argv[1] + '/trades', 'wb') as f:
		    for p, t in zip(walk(9000, 30, 100), walk(9000, 900, start=1 << 60)):
		        f.write(struct.pack('<dqiB', p, t, t % 100000, r.randrange(5)))
		    f.write(b'not whole')
		for i in range(5):
		    put('d/small%d.f64' % i, 'd', walk(700, 30, 100))
	EOF
	noise 150000 "$MNT/layers/noise" 3
	cp "$MNT/layers/prices.f64" "$MNT/layers/d/shuffled.f64"
	setfattr -n user.spillfs.filter -v shuffle "$MNT/layers/d"
	cp "$MNT/layers/prices.f64" "$MNT/layers/d/shuffled2.f64"
	setfattr -n user.spillfs.codec -v zstd:-5 "$MNT/layers/d"
	cp "$MNT/layers/prices.f64" "$MNT/layers/d/fast.f64"
	truncate -s 3000000 "$MNT/layers/noise"
}

@test "arrays with all kinds of filters are read without spillfs" {
	write_arrays
	mkdir "$MNT/snapshots/one"
	printf x | dd of="$MNT/layers/prices.f64" bs=1 seek=100000 conv=notrunc status=none
	rm "$MNT/layers/plain"
	(cd "$MNT/layers" && find . -type f -printf '%P\n' | sort | xargs md5sum) >"$WORK/before"
	for f in prices.f64 d/tenths.f32 d/count.i64 d/level.i16 trades; do "$SPILLCTL" stats "$MNT/layers/$f"; done >"$WORK/stats"
	umount_store
	grep -q 'scale+[a-z+]*pack:8' "$WORK/stats"
	grep -q 'scale+[a-z+]*:4' "$WORK/stats"
	grep -q ' delta+[a-z+]*:8' "$WORK/stats"
	grep -q ' record(scale+[a-z+]*:8, ' "$WORK/stats"
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

@test "a filter of a later version: an error that names array and block, everywhere, and nothing is changed" {
	local out code=0
	STORE_DAMAGED=1
	mkdir "$MNT/layers/d"
	py proc numbers 40000 1 >"$MNT/layers/d/x.f64"
	py proc numbers 40000 1 >"$WORK/x"
	umount_store
	py future "$STORE" d/x.f64 1 200
	sums "$STORE/layers" >"$WORK/layers1"
	fails_with "layers/d/x.f64: block 1 cannot be read: it has filter 200, of a later version of spillfs" \
		"$TOP/contrib/spillfs-read" "$STORE" d/x.f64
	for options in -n "-n --data" "-y --data"; do
		code=0
		# shellcheck disable=SC2086 # several options
		out=$("$SPILLCTL" check $options "$STORE" 2>&1) || code=$?
		eq "$code" 4
		grep -qE "filters: .*layers/d/x.f64.*: block 1 cannot be read by this version of spillfs: filter 200 is of a later one" <<<"$out"
		refute grep -q "lost+found" <<<"$out"
	done
	mount_logged
	fails_with "Input/output error" cat "$MNT/layers/d/x.f64"
	grep -qF "layers/d/x.f64: block 1 cannot be read: it has filter 200, of a later version of spillfs" "$DAEMON_LOG"
	head -c 131072 "$MNT/layers/d/x.f64" | cmp - <(head -c 131072 "$WORK/x")
	"$SPILLCTL" stats "$MNT/layers/d/x.f64" | tr -s ' ' | grep -qE "^ *1 .* 200 "
	umount_store
	sums "$STORE/layers" >"$WORK/layers2"
	same "$WORK/layers1" "$WORK/layers2"
}
