# The matrix of views.bats and views-long.bats: arrays of every type, kind and state (matrix.py) through one mount, read by
# readers by others. setup_matrix small|full in setup_file, teardown_matrix in teardown_file.

setup_matrix() {
	spill_only
	find_clients || return 0
	setup_work
	mount_store
	TRUTH=$WORK/truth
	mkdir "$TRUTH"
	export TRUTH WORK STORE MNT MATRIX=$1 MATRIX_WORK=$WORK
	"$PYTHON" "$TOP/tests/clients/matrix.py" "$MNT" "$TRUTH" "$1" >&2
	local d
	for d in m nd then; do (cd "$TRUTH/$d" && read_py raws ./* >"$TRUTH/$d.json"); done
}
teardown_matrix() {
	[ -n "${MATRIX_WORK:-}" ] || return 0
	WORK=$MATRIX_WORK
	teardown_work
}

# reads SET py|js READER FORMAT EXT [TYPES]: all arrays of m, nd or then (of the snapshot) but for those types; each must be
# there, and be read as what it is.
reads() {
	local set=$1 top=$MNT/views files but="^[bcl]_(${6:-none})[_.]"
	if [ "$set" = then ]; then top=$MNT/snapshots/then/views; fi
	mapfile -t files < <(find "$top/$4" -mindepth 3 -maxdepth 3 -path "*/${set/then/m}/*$5" |
		awk -F/ -v but="$but" '$NF !~ but' | sort)
	eq "${#files[@]}" "$(find "$TRUTH/$set" -type f -printf '%f\n' | grep -cvE "$but")"
	"read_$2" "$3" "${files[@]}" >"$WORK/got-$set-$3" || true
	agree --among "$TRUTH/$set.json" "$WORK/got-$set-$3"
	eq "$(grep -o '"count"' "$WORK/got-$set-$3" | wc -l)" "$(sqls "$3" "${#files[@]}")"
}

# How often "count" is said: twice of a column that SQL was asked about.
sqls() { if [ "$1" = parquet-duckdb ]; then echo $(($2 * 2)); else echo "$2"; fi; }

# In the small matrix only some readers are asked about the snapshot: see views.bats.
everywhere() {
	reads m "$@"
	[ "$MATRIX" = small ] || reads then "$@"
}

# The mount of this file, ended and begun again.
mount_again_fresh() {
	PID=$(tail -n1 "$WORK/.pids")
	"$SPILLCTL" umount "$MNT"
	wait_gone "$PID"
	mount_store
}

matrix_numpy() {
	everywhere py npy npy .npy
	reads nd py npy npy .npy
	# what is empty cannot be mapped
	everywhere py npy-mmap npy .npy '[a-z0-9]*_empty.*'
	refute grep -q '"aligned": *false' "$WORK/got-m-npy-mmap"
}

matrix_zarr_python() {
	everywhere py zarr2 zarr2 .zarr 'decimal.*' # they are floats there
	reads nd py zarr2 zarr2 .zarr
	read_py zarr2-group "$MNT/views/zarr2/columns" >"$WORK/group"
	eq "$(grep -o '"count"' "$WORK/group" | wc -l)" "$(find "$TRUTH/m" "$TRUTH/nd" -name 'c_*' | wc -l)"
}

matrix_zarrita() {
	everywhere js zarr3 zarr .zarr 'c64|c128|record|record13|decimal.*'
	reads nd js zarr3 zarr .zarr
	[ "$MATRIX" != small ] || return 0 # zarr-python reads version 2 there
	reads m js zarr2 zarr2 .zarr 'c64|c128|record|record13|time.*|span|decimal.*'
	reads nd js zarr2 zarr2 .zarr
}

matrix_duckdb() { everywhere js parquet-duckdb parquet .parquet; }
matrix_hyparquet() { everywhere js parquet-hyparquet parquet .parquet; }
matrix_arrow() { everywhere js arrow arrow .arrow; }

matrix_zstd() {
	local top
	for top in "$MNT" "$MNT/snapshots/then"; do
		cd "$top/layers/m"
		set -- *
		cd "$top/views/zst/layers/m"
		zstd -dcq "${@/%/.zst}" | cmp - <(cd "$top/layers/m" && cat "$@")
	done
	cd /
}
