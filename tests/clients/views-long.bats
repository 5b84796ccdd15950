#!/usr/bin/env bats
# The matrix of views.bats with all block sizes, filters, codecs and kinds of data.

load ../lib/common
load views

setup_file() { setup_matrix full; }
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
@test "zarrita, both versions" { matrix_zarrita; }
@test "DuckDB" { matrix_duckdb; }
@test "hyparquet" { matrix_hyparquet; }
@test "apache-arrow" { matrix_arrow; }
@test "zstd -d" { matrix_zstd; }

@test "after all is stored, and after a remount" {
	"$SPILLCTL" commit "$MNT" >/dev/null
	reads m js parquet-duckdb parquet .parquet
	mount_again_fresh
	reads m py npy npy .npy
	reads then py npy npy .npy
	reads then js parquet-hyparquet parquet .parquet
	reads m js zarr3 zarr .zarr 'c64|c128|record|record13|decimal.*'
	reads then js arrow arrow .arrow
}
