#!/usr/bin/env bats
# The readers of tests/clients, on files that no spillfs has made: a reader that fails here is broken itself. What they
# do not read is said here too, for whoever writes such files.
load ../lib/common

setup_file() {
	find_clients || return 0
	S=$(mktemp -d "${TMPDIR:-/tmp}/spillfs-test.XXXXXX")
	export S
	"$PYTHON" "$TOP/tests/clients/samples.py" "$S"
	node "$TOP/tests/clients/samples.mjs" "$S"
	cd "$S"
	read_py raws raw/* >truth
}
teardown_file() { rm -rf "${S:-}"; }
setup() {
	need_clients
	cd "$S"
}
teardown() { :; }

# reads py|js FORMAT FILE... [-- FORMAT FILE...]: all elements of all these are those of raw/.
reads() {
	"read_$1" "${@:2}" >"got-$BATS_TEST_NUMBER"
	agree --among truth "got-$BATS_TEST_NUMBER"
}

# refuses TEXT py|js FORMAT FILE...: not one of these is read, and each time TEXT is why.
refuses() {
	refute "read_$2" "${@:3}" >"got-$BATS_TEST_NUMBER"
	eq "$(grep -o "\"error\": *\"[^\"]*$1" "got-$BATS_TEST_NUMBER" | wc -l)" $(($# - 3)) ||
		fail "$(cat "got-$BATS_TEST_NUMBER")"
}

# others WORD DIR: what DIR holds, save for names with one of those words.
others() { find "$2" -mindepth 1 -maxdepth 1 -not -name '.*' | grep -vE "$1"; }

@test "every element type: NumPy, mapped and not, and zarr-python" {
	reads py npy npy/*
	reads py npy-mmap npy/*
	grep -q '"offset": 128' "got-$BATS_TEST_NUMBER"
	reads py zarr2 zarr2/*
	echo '{"zarr_format": 2}' >zarr2/.zgroup
	reads py zarr2-group zarr2
}

@test "every element type: zarrita, which knows no complex numbers and no records" {
	# shellcheck disable=SC2046 # names without spaces
	reads js zarr3 $(others 'c64|c128|record' zarr3) -- zarr2 $(others 'c64|c128|record|time' zarr2)
	refuses "Unknown or unsupported dataType" js zarr3 zarr3/{c64,c128,record}
	refuses "dtype" js zarr2 zarr2/{c64,c128,record,timems}
}

@test "every element type: Parquet, DuckDB and hyparquet" {
	reads js parquet-duckdb parquet/* -- parquet-hyparquet parquet/*
}

@test "Parquet's BYTE_STREAM_SPLIT: hyparquet all, DuckDB f32 and f64 alone" {
	reads js parquet-hyparquet split/* -- parquet-duckdb split/f{32,64}.parquet
	refuses "only supported for FLOAT or DOUBLE" js parquet-duckdb split/{i32,u64,f16,c64}.parquet
}

@test "Parquet as DuckDB writes it" {
	local query="COPY (SELECT i::INTEGER AS i, (i % 200)::UTINYINT AS u, i % 3 = 0 AS b, i / 7 AS x
		FROM range(100000) t(i)) TO 'duck.parquet' (FORMAT parquet, COMPRESSION zstd)"
	read_js sql "$query" -- parquet-duckdb duck.parquet -- parquet-hyparquet duck.parquet >got
	"$PYTHON" - <<-'END'
		import numpy as np
		i = np.arange(100000, dtype="<i4")
		for name, array in {"i.i32": i, "u.u8": (i % 200).astype("u1"), "b.bool": i % 3 == 0, "x.f64": i / 7}.items():
		    array.tofile(name)
	END
	read_py raws i.i32 u.u8 b.bool x.f64 >t
	sed 1d got >g
	agree t g
}

@test "Arrow as apache-arrow writes it, plain and compressed" {
	reads js arrow arrow/* -- arrow arrow-zstd/*
	[ "$(stat -c %s arrow-zstd/f64.arrow)" -lt "$(stat -c %s arrow/f64.arrow)" ]
}

@test "frames of raw and RLE blocks are read by all" {
	zstd -dc frames/x.zst | cmp - frames/x.f64
	read_py raws frames/x.f64 >t
	read_py zarr2 frames/zarr2 >g1
	read_js zarr2 frames/zarr2 -- zarr3 frames/zarr3 -- parquet-duckdb frames/x.parquet \
		-- parquet-hyparquet frames/x.parquet >g2
	eq "$(wc -l <g2)" 4
	agree t g1 g2
}

@test "DuckDB skips row groups by their statistics, and believes them about NaN" {
	local above="SELECT count(*) AS n FROM 'prune/%s.parquet' WHERE x > 29" failed='^{"error":".*ZSTD'
	# shellcheck disable=SC2059
	refute read_js sql "$(printf "$above" stats)" "$(printf "$above" none)" "SELECT sum(x) FROM 'prune/stats.parquet'" \
		"$(printf "$above" nan)" "$(printf "$above" nan-bounds)" >got
	eq "$(sed -n 1p got)" '[{"n":"1000"}]'
	sed -n 2p got | grep -q "$failed"
	sed -n 3p got | grep -q "$failed"
	# to DuckDB a NaN is above 29
	eq "$(sed -n 4p got)" '[{"n":"1001"}]'
	eq "$(sed -n 5p got)" '[{"n":"1000"}]'
}

@test "SQL across files" {
	read_js sql "SELECT count(*) AS n, sum(a.x = b.x) AS same FROM 'parquet/i32.parquet' a
		POSITIONAL JOIN 'parquet/i32.parquet' b" "SELECT 'nan'::DOUBLE AS a, 1::BIGINT AS b, NULL AS c, 1.5 AS d" >got
	eq "$(sed -n 1p got)" '[{"n":"20011","same":"20011"}]'
	eq "$(sed -n 2p got)" '[{"a":"NaN","b":"1","c":null,"d":"1.5"}]'
	refuses "Catalog Error" js sql "SELECT * FROM nothing"
}

@test "what differs is said" {
	cp raw/f64.f64 d.f64
	read_py raw d.f64 f64 >t
	printf '\x01' | dd of=d.f64 bs=1 seek=60007 conv=notrunc status=none
	read_py raw d.f64 f64 >g
	fails_with "column d: sha256: wanted" agree t g
	truncate -s -8 d.f64
	read_py raw d.f64 f64 >g
	fails_with "column d: count: wanted 20011, got 20010" agree t g
	read_py raw raw/f64.f64 i64 >g
	fails_with "dtype: wanted <f8, got <i8" agree t g
	read_py raw raw/f64.f64 V8 >g
	agree t g
	refute read_py npy raw/f64.f64 >g
	fails_with "got: ValueError" agree t g
	refute read_js arrow raw/f64.f64 >g
	fails_with "got: " agree t g
	read_py raws raw/f32.f32 raw/i8.i8 >t
	read_py raws raw/f32.f32 raw/i16.i16 >g
	fails_with "column i8 is only in one" agree t g
}
