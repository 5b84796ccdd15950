#!/usr/bin/env bats
# Views, read by programs that know nothing of spillfs: every type, kind and state, and SQL over several views.
# views-long.bats has more block sizes, filters, codecs and data.

load ../lib/common
load views

setup_file() { setup_matrix small; }
teardown_file() { teardown_matrix; }
setup() {
	spill_only
	need_clients
	WORK=$MATRIX_WORK
	revive
}
teardown() { :; }

@test "NumPy, mapped and not" { matrix_numpy; }
@test "zarr-python" { matrix_zarr_python; }
@test "zarrita, version 3" { matrix_zarrita; }
@test "DuckDB" { matrix_duckdb; }
@test "hyparquet" { matrix_hyparquet; }
@test "apache-arrow" { matrix_arrow; }
@test "zstd -d" { matrix_zstd; }

@test "after all is stored and a remount: two readers, of the present and of a snapshot (all in views-long)" {
	"$SPILLCTL" commit "$MNT" >/dev/null
	mount_again_fresh
	reads m py npy npy .npy
	reads then js parquet-hyparquet parquet .parquet
}

view_bytes() { echo $(($(stat_value spillfs_read_bytes 'kind="view"') + 0)); }
frame_bytes() { stat_value spillfs_frame_read_bytes; }

# cost QUERY ANSWER: sets VIEW and FRAMES to the bytes that it reads when nothing is cached.
cost() {
	mount_again_fresh
	local v f
	v=$(view_bytes) f=$(frame_bytes)
	eq "$(read_js sql "$1")" "$2"
	VIEW=$(($(view_bytes) - v)) FRAMES=$(($(frame_bytes) - f))
	echo "# $1: $VIEW bytes of views, $FRAMES of frames" >&2
}

@test "filters prune: what cannot match is not read" {
	local p=$MNT/views/parquet all all_frames
	"$PYTHON" - "$MNT" <<-'END'
		import numpy as np, sys
		x = np.sort(np.random.default_rng(1).integers(0, 10**12, 2_000_000))
		x[[0, -1]] = 0, 10**12
		x.tofile(sys.argv[1] + "/layers/sorted.i64")
		(x / 8).tofile(sys.argv[1] + "/layers/sorted.f64")
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	local n
	n=$("$PYTHON" -c 'import numpy as np, sys; x = np.fromfile(sys.argv[1], "<i8"); print((x > 999 * 10**9).sum())' "$MNT/layers/sorted.i64")
	cost "SELECT sum(sorted)::VARCHAR AS s FROM '$p/layers/sorted.i64.parquet'" \
		"[{\"s\":\"$("$PYTHON" -c 'import numpy as np, sys; print(np.fromfile(sys.argv[1], "<i8").sum())' "$MNT/layers/sorted.i64")\"}]"
	all=$VIEW all_frames=$FRAMES
	[ "$all" -gt 5000000 ]
	cost "SELECT count(*) AS n FROM '$p/layers/sorted.i64.parquet' WHERE sorted > 999000000000" "[{\"n\":\"$n\"}]"
	[ $((VIEW * 5)) -lt "$all" ]
	[ $((FRAMES * 5)) -lt "$all_frames" ]
	cost "SELECT count(*) AS n FROM '$p/layers/sorted.f64.parquet' WHERE sorted > 999000000000 / 8" "[{\"n\":\"$n\"}]"
	[ $((VIEW * 5)) -lt "$all" ]
	cost "SELECT count(*) AS n FROM '$p/layers/sorted.i64.parquet' WHERE sorted > 1000000000001" '[{"n":"0"}]'
	[ $((VIEW * 20)) -lt "$all" ]
	[ $((FRAMES * 20)) -lt "$all_frames" ]
}

@test "decimals in SQL, and what cannot match is not read" {
	"$PYTHON" - "$MNT" <<-'END'
		import numpy as np, os, sys
		x = np.arange(-300_000, 700_000, dtype="<i8")
		for name, width, text in (("price.i32", "<i4", b"decimal(9,2)"), ("amount.i64", "<i8", b"decimal(18,6)"), ("few.i64", "<i8", b"decimal(6,2)")):
		    with open(sys.argv[1] + "/layers/" + name, "wb") as f:
		        os.setxattr(f.fileno(), "user.spillfs.logical", text)
		        f.write(x.astype(width).tobytes())
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	local p=$MNT/views/parquet/layers all
	cost "SELECT typeof(any_value(price)) AS t, min(price)::VARCHAR AS a, max(price)::VARCHAR AS b, sum(price)::VARCHAR AS s FROM '$p/price.parquet'" \
		'[{"t":"DECIMAL(9,2)","a":"-3000.00","b":"6999.99","s":"1999995000.00"}]'
	all=$VIEW
	cost "SELECT count(*) AS n FROM '$p/price.parquet' WHERE price >= 6999.5" '[{"n":"50"}]'
	[ $((VIEW * 3)) -lt "$all" ]
	eq "$(read_js sql "SELECT typeof(amount) AS t, amount::VARCHAR AS a FROM '$p/amount.parquet' WHERE amount BETWEEN -0.0000015 AND 0")" \
		'[{"t":"DECIMAL(18,6)","a":"-0.000001"},{"t":"DECIMAL(18,6)","a":"0.000000"}]'
	eq "$(read_js sql "SELECT typeof(any_value(few)) AS t, sum(few)::VARCHAR AS s FROM '$p/few.parquet'")" \
		'[{"t":"DECIMAL(6,2)","s":"1999995000.00"}]'
}

@test "Parquet: packed differences are pages of the same, whatever they leap over" {
	"$PYTHON" - "$MNT" "$TRUTH" <<-'END'
		import numpy as np, os, sys
		rng = np.random.default_rng(3)
		os.mkdir(sys.argv[1] + "/layers/leaps")
		for name in ("i4", "u4", "i8", "u8"):
		    t = np.dtype("<" + name)
		    info = np.iinfo(t)
		    x = np.arange(200_000).astype(t)
		    at = rng.integers(0, x.size, 90)
		    at[:20] = at[:20] // 1024 * 1024 # the borders of groups
		    x[at] = rng.choice(np.array([info.min, info.max, info.max // 2, info.min + 1], t), at.size)
		    x[5000:9000] = np.frombuffer(rng.bytes(4000 * t.itemsize), t)
		    x.tofile(sys.argv[2] + "/leaps." + {"i": "i", "u": "u"}[name[0]] + str(8 * t.itemsize))
		    with open(sys.argv[1] + "/layers/leaps/" + name + "." + name[0] + str(8 * t.itemsize), "wb") as f:
		        os.setxattr(f.fileno(), "user.spillfs.filter", b"delta+pack")
		        f.write(x.tobytes())
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	local t z v=$MNT/views/parquet/layers/leaps
	for t in i4.i32 u4.u32 i8.i64 u8.u64; do
		z=$(sha256sum <"$MNT/layers/leaps/$t")
		eq "$z" "$(sha256sum <"$TRUTH/leaps.${t#*.}")"
		[ "$(stat -c %s "$v/${t%.*}.parquet")" -lt $(($(stat -c %s "$MNT/layers/leaps/$t") * 2 / 3)) ]
		read_js parquet-duckdb "$v/${t%.*}.parquet" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
		read_js parquet-hyparquet "$v/${t%.*}.parquet" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
		grep -q DELTA_BINARY_PACKED <(read_js sql "SELECT encodings FROM parquet_metadata('$v/${t%.*}.parquet') WHERE encodings LIKE '%DELTA_BINARY_PACKED%' LIMIT 1")
	done
}

@test "Parquet: integers of little range are differences however they are stored" {
	"$PYTHON" - "$MNT" <<-'END'
		import numpy as np, os, sys
		rng = np.random.default_rng(5)
		os.mkdir(sys.argv[1] + "/layers/range")
		for name, low in (("i4.i32", -2000), ("u4.u32", 2**32 - 1000), ("i8.i64", -2**63), ("u8.u64", 2**63 - 500)):
		    x = rng.integers(0, 1000, 100_000).astype("<u8") + np.uint64(low % 2**64)
		    with open(sys.argv[1] + "/layers/range/" + name, "wb") as f:
		        os.setxattr(f.fileno(), "user.spillfs.filter", b"shuffle")
		        f.write(x.astype("<u" + name[1]).tobytes())
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	local t z v=$MNT/views/parquet/layers/range
	for t in i4.i32 u4.u32 i8.i64 u8.u64; do
		z=$(sha256sum <"$MNT/layers/range/$t")
		[ "$(stat -c %s "$v/${t%.*}.parquet")" -lt $(($(stat -c %s "$MNT/layers/range/$t") / 2)) ]
		read_js parquet-duckdb "$v/${t%.*}.parquet" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
		read_js parquet-hyparquet "$v/${t%.*}.parquet" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
	done
}

@test "Zarr: what is stored otherwise is compressed again, and the size that is told is the size that is read" {
	"$PYTHON" - "$MNT" "$TRUTH" <<-'END'
		import numpy as np, sys
		rng = np.random.default_rng(9)
		for name, x in (("counts.i64", rng.integers(1, 1000, 300_000).cumsum()), ("cents.f64", (100 + rng.normal(0, 0.05, 300_000).cumsum()).round(2))):
		    x.tofile(sys.argv[1] + "/layers/" + name)
		    x.tofile(sys.argv[2] + "/" + name)
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	local n z v
	for n in counts.i64 cents.f64; do
		v=$MNT/views/zarr/layers/${n%.*}.zarr
		[ "$(cat "$v"/c/* | wc -c)" -lt $((300000 * 8 * 9 / 10)) ]
		eq "$(stat -c %s "$v"/c/* | awk '{ n += $1 } END { print n }')" "$(cat "$v"/c/* | wc -c)"
		mount_again_fresh
		eq "$(cat "$v"/c/* | wc -c)" "$(stat -c %s "$v"/c/* | awk '{ n += $1 } END { print n }')"
		z=$(sha256sum <"$TRUTH/$n")
		read_py zarr2 "${v/zarr/zarr2}" | tee /dev/stderr | grep -qF "\"sha256\": \"${z%% *}\""
		read_js zarr3 "$v" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
	done
}

@test "Zarr: decimals are the nearest floats, of whatever kind and filter" {
	"$PYTHON" - "$MNT" "$TRUTH" <<-'END'
		import numpy as np, os, sys
		rng = np.random.default_rng(4)
		for kind in ("layers", "columns"):
		    for name, text, most, scale, how in (("d32.i32", "decimal(9,2)", 10**9, 100, "delta+shuffle"), ("a32.i32", "decimal(5,5)", 10**5, 10**5, "auto"),
		                                         ("d64.i64", "decimal(15,4)", 10**15, 10**4, "delta+shuffle"), ("p64.i64", "decimal(3,1)", 10**3, 10, "delta+pack")):
		        x = rng.integers(1 - most, most, 50_000)
		        x[:4] = 0, 1 - most, most - 1, -1
		        x[1000:30000] = np.arange(29000) % most
		        with open("%s/%s/%s" % (sys.argv[1], kind, name), "wb") as f:
		            os.setxattr(f.fileno(), "user.spillfs.logical", text.encode())
		            os.setxattr(f.fileno(), "user.spillfs.filter", how.encode())
		            f.write(x.astype("<" + name[-3] + str(int(name[-2:]) // 8)).tobytes())
		        (x / scale).tofile("%s/%s-%s.f64" % (sys.argv[2], kind, name[:3]))
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	local k n z
	for k in layers columns; do
		for n in d32 a32 d64 p64; do
			z=$(sha256sum <"$TRUTH/$k-$n.f64")
			read_py zarr2 "$MNT/views/zarr2/$k/$n.zarr" | tee /dev/stderr | grep -qF "\"sha256\": \"${z%% *}\""
			read_js zarr2 "$MNT/views/zarr2/$k/$n.zarr" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
			read_js zarr3 "$MNT/views/zarr/$k/$n.zarr" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
		done
	done
}

@test "filters prune buckets and columns, too, once a reader has seen them, and after each way to change them" {
	local kind f v size all sum="SELECT sum(x)::VARCHAR AS s FROM" count="SELECT count(*)::INT AS n FROM"
	for kind in buckets columns; do
		f=$MNT/$kind/p/x.i64 v=$MNT/views/parquet/$kind/p/x.parquet
		mkdir -p "$MNT/$kind/p"
		"$PYTHON" -c 'import numpy as np, sys; np.arange(2_000_000).tofile(sys.argv[1])' "$f"
		mount_again_fresh
		size=$(stat -c %s "$v")
		bounds "$v" 0
		prunes "$sum '$v'" '[{"s":"1999999000000"}]' 15
		all=$VIEW
		bounds "$v" 8
		eq "$(stat -c %s "$v")" "$size"
		prunes "$count '$v' WHERE x > 1990000" '[{"n":9999}]' 0
		[ $((VIEW * 5)) -lt "$all" ]
		# What would be skipped by what was known before.
		"$PYTHON" "$TOP/tests/clients/change.py" write "$f" 100 5000000
		prunes "$count '$v' WHERE x > 1990000" '[{"n":10000}]' 0
		"$PYTHON" "$TOP/tests/clients/change.py" mmap "$f" 300000 5000001
		prunes "$count '$v' WHERE x > 1990000" '[{"n":10001}]' 0
		"$PYTHON" "$TOP/tests/clients/change.py" copy "$f" 600000 5000002
		prunes "$count '$v' WHERE x > 1990000" '[{"n":10002}]' 0
		prunes "$sum '$v'" "[{\"s\":\"$(sum_of "$f")\"}]" 0
		fallocate -p -o $((8 * 1000000)) -l 80000 "$f"
		prunes "$count '$v' WHERE x = 0" '[{"n":10001}]' 0
		prunes "$sum '$v'" "[{\"s\":\"$(sum_of "$f")\"}]" 0
		truncate -s $((8 * 1995000)) "$f"
		truncate -s $((8 * 2100000)) "$f"
		prunes "$count '$v' WHERE x = 0" '[{"n":115001}]' 0
		prunes "$count '$v' WHERE x > 1990000" '[{"n":5002}]' 0
		# A shift by other bytes of another length: a new file over it.
		"$PYTHON" -c 'import numpy as np, sys; np.full(2_100_000, 7).tofile(sys.argv[1])' "$f.new.i64"
		mv "$f.new.i64" "$f"
		prunes "$count '$v' WHERE x = 7" '[{"n":2100000}]' 0
	done
}

# prunes QUERY ANSWER MIB: sets VIEW to the bytes of views that it reads, at least so many.
prunes() {
	local v
	v=$(view_bytes)
	eq "$(read_js sql "$1")" "$2"
	VIEW=$(($(view_bytes) - v))
	echo "# $1: $VIEW bytes of views" >&2
	[ "$VIEW" -ge $(($3 << 20)) ]
}

# bounds VIEW N: the footer has statistics of N row groups.
bounds() {
	eq "$(read_js sql "SELECT count(stats_max_value)::INT AS n FROM parquet_metadata('$1')")" "[{\"n\":$2}]"
}

sum_of() { "$PYTHON" -c 'import numpy as np, sys; print(np.fromfile(sys.argv[1], "<i8").sum())' "$1"; }

@test "Zarr: chunks of differences are the stored frames, and what was stored otherwise is read as well" {
	"$PYTHON" - "$MNT" <<-'END'
		import numpy as np, os, sys
		x = np.random.default_rng(2).integers(0, 1000, 100_000).cumsum()
		with open(sys.argv[1] + "/layers/steps.i64", "wb") as f:
		    os.setxattr(f.fileno(), "user.spillfs.filter", b"delta+shuffle")
		    f.write(x.tobytes())
		x.tofile(sys.argv[1] + "/layers/later.i64")
	END
	"$SPILLCTL" commit "$MNT" >/dev/null
	setfattr -n user.spillfs.filter -v delta+shuffle "$MNT/layers/later.i64"
	local v z n=$((7 * 131072))
	for v in zarr/layers/steps zarr2/layers/steps; do
		[ "$(find "$MNT/views/$v.zarr" -type f -printf '%s\n' | awk '{ s += $1 } END { print s + 0 }')" -lt $((n / 3)) ]
	done
	for v in steps later; do
		z=$(sha256sum <"$MNT/layers/$v.i64")
		read_py zarr2 "$MNT/views/zarr2/layers/$v.zarr" | tee /dev/stderr | grep -qF "\"sha256\": \"${z%% *}\""
		read_js zarr2 "$MNT/views/zarr2/layers/$v.zarr" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
		read_js zarr3 "$MNT/views/zarr/layers/$v.zarr" | tee /dev/stderr | grep -qF "\"sha256\":\"${z%% *}\""
		grep -q '"numcodecs.delta"' "$MNT/views/zarr/layers/$v.zarr/zarr.json"
	done
}

@test "SQL over tables, views of all kinds, and the past" {
	local d
	for d in layers/sales columns/prices buckets/log; do mkdir "$MNT/$d"; done
	"$PYTHON" - "$MNT" first <<-'END'
		import numpy as np, sys
		mnt, rng = sys.argv[1], np.random.default_rng(5)
		rng.integers(0, 5000, 300000, dtype="<u4").tofile(mnt + "/layers/sales/item.u32")
		rng.integers(1, 10, 300000, dtype="<i2").tofile(mnt + "/layers/sales/pieces.i16")
		np.arange(300000).astype("<i8").tofile(mnt + "/layers/sales/id.i64")
		np.arange(5000, dtype="<u4").tofile(mnt + "/columns/prices/item.u32")
		rng.integers(1, 10**6, 5000).astype("<f8").tofile(mnt + "/columns/prices/price.f64")
		rng.integers(0, 300000, 1000).astype("<i8").tofile(mnt + "/buckets/log/id.i64")
		(rng.random(1000) < .5).tofile(mnt + "/buckets/log/bad.bool")
	END
	mkdir "$MNT/snapshots/sold"
	"$PYTHON" - "$MNT" >"$WORK/want" <<-'END'
		import json, numpy as np, sys
		mnt = sys.argv[1]
		def col(path): return np.fromfile(mnt + "/" + path, {"u32": "<u4", "i16": "<i2", "i64": "<i8", "f64": "<f8", "bool": "?"}[path.rsplit(".")[-1]])
		item, pieces, price = col("layers/sales/item.u32"), col("layers/sales/pieces.i16"), col("columns/prices/price.f64")
		ids, bad = col("buckets/log/id.i64"), col("buckets/log/bad.bool")
		print(json.dumps([{"n": str(len(item)), "s": str(int((pieces * price[item]).sum()))}], separators=(",", ":")))
		print(json.dumps([{"n": str(int(bad.sum())), "s": str(int(pieces[ids[bad]].sum()))}], separators=(",", ":")))
		now = pieces.copy()
		now[1000:200000] = 7
		now.tofile(mnt + "/layers/sales/pieces.i16")
		print(json.dumps([{"n": str(int((pieces != now).sum())), "d": str(int(now.astype(int).sum() - pieces.sum()))}], separators=(",", ":")))
	END
	d=$MNT/views/parquet
	read_js sql "SELECT count(*) AS n, sum(pieces * price)::BIGINT AS s FROM '$MNT/snapshots/sold/views/parquet/layers/sales.parquet'
			JOIN '$d/columns/prices.parquet' USING (item)" \
		"SELECT count(*) AS n, sum(pieces)::VARCHAR AS s FROM '$d/buckets/log.parquet' l
			JOIN '$MNT/snapshots/sold/views/parquet/layers/sales.parquet' s ON l.id = s.id WHERE bad" \
		"SELECT count(*) AS n, sum(a.pieces - b.pieces)::VARCHAR AS d FROM '$d/layers/sales.parquet' a
			JOIN '$MNT/snapshots/sold/views/parquet/layers/sales.parquet' b USING (id) WHERE a.pieces <> b.pieces" >"$WORK/got"
	sed -n 3p "$WORK/want" | grep -q '"n":"1' # something differs
	diff "$WORK/want" "$WORK/got"
}
