#!/usr/bin/env bats
# views/: the tree once more in other formats. Names, sizes, what an open file goes on showing, and arrays written as .npy.
# Whether readers of each format understand them is tested in tests/clients/views.bats; views-long.bats has longer storms.

load ../lib/common

setup() {
	spill_only
	common_setup
}

views() { guarded 100 "$PYTHON" "$LIB/views.py" "$@"; }
upload() { guarded 100 "$PYTHON" "$LIB/views_upload.py" "$@"; }
snap() { mkdir "$MNT/snapshots/$1"; }
commit() { "$SPILLCTL" commit "$MNT" >/dev/null; }

@test "views/ has the formats, and these the classes that they can show" {
	eq "$(ls "$MNT/views")" $'arrow\nnpy\nparquet\nruns\nzarr\nzarr2\nzst'
	eq "$(ls "$MNT"/views/*)" "$(
		for f in arrow npy parquet runs zarr zarr2 zst; do
			[ $f = arrow ] || echo
			echo "$MNT/views/$f:"
			case $f in runs) printf 'buckets\nscratch\n' ;; zst) printf 'layers\nscratch\n' ;; *) printf '%s\n' $KINDS scratch ;; esac
		done)"
	ls "$MNT"/views/*/* >/dev/null
	eq "$(stat -c %a "$MNT/views" "$MNT/views/npy")" $'555\n555'
	eq "$(find "$MNT/views" -type f ! -name zarr.json ! -name .zgroup)" ""
	remount
	eq "$(ls -A "$MNT/views/npy/layers" "$MNT/views/parquet/columns" "$MNT/views/runs/buckets" | grep -v :)" ""
}

@test "names: what is listed is there, and nothing is missing" {
	views names "$MNT"
	remount
	views agree "$MNT"
}

@test "what a name stands for is found in a few statements, however many names there are" {
	local kind
	for kind in $KINDS; do views listed "$MNT" $kind; done
}

@test "names that two things would share" { views collisions "$MNT"; }
@test "arrays and directories come, go and are renamed" { views changes "$MNT"; }
@test "a listing ends and gives what stays once, while arrays change names" { views walks "$MNT"; }
@test "modes and owners are those of the arrays" { views owners "$MNT"; }
@test "stat tells how much is read, and reads nothing" { views sizes "$MNT"; }
@test "open views of layered arrays, whatever becomes of the arrays" { views pinned "$MNT"; }
@test "mapped views while arrays are overwritten, cut, replaced, removed" { views mapped "$MNT"; }
@test "open views of buckets and columns keep their length" { views unpinned "$MNT"; }
@test "a new open sees new bytes, an unchanged view is not read again" { views caches "$MNT"; }

@test "arrays that are loaded again: a view has what was written since" {
	local k
	for k in $KINDS; do
		mkdir "$MNT/$k/t"
		head -c 400000 /dev/zero >"$MNT/$k/t/a.u32"
	done
	remount
	views reload "$MNT"
	remount
	views reload "$MNT"
}

@test "what Zarr says of an array does not depend on its blocks" { views settings "$MNT"; }
@test "huge holes, and directories of what is gone" { views sparse "$MNT"; }
@test "access is that of what is opened, not of what was looked at" {
	require_root
	views access "$MNT"
}

@test "a layer that ends too early is an error in every view" {
	head -c 4194304 /dev/urandom >"$MNT/layers/a.u8"
	"$SPILLCTL" sync "$MNT"
	remount
	STORE_DAMAGED=1
	views damaged "$MNT" "$STORE"
}

@test "without the kernel's writeback cache, views have their own sizes, too" {
	umount_store
	mount_store -o nowriteback
	views caches "$MNT"
	rm "$MNT"/*/a.u32
	views pinned "$MNT"
	seq 10 >"$MNT/buckets/r"
	eq "$(wc -l <"$MNT/views/runs/buckets/r/000000")" 10
	seq 100 >"$MNT/buckets/r"
	eq "$(wc -l <"$MNT/views/runs/buckets/r/000000")" 100
}

@test "many look at a file of the past while it is opened and closed" {
	head -c 8000 /dev/zero >"$MNT/layers/a.f64"
	snap s
	views past "$MNT" 1
}

@test "what does not change has one number" {
	mkdir "$MNT/layers/d"
	py proc numbers 50000 1 | tee "$MNT/layers/a.f64" "$MNT/layers/d/b.f64" >/dev/null
	snap s
	views shared "$MNT"
}

@test "directories are tables as long as their arrays are equally long" { views tables "$MNT"; }
@test "arrays of several dimensions in both orders" { views zarr "$MNT"; }
@test "many readers and three writers: each view is one whole version" { views storm "$MNT" 1; }
@test "without the writeback cache a write of many pages is in a view as a whole, or not at all" {
	remount -o nowriteback
	VIEWS_INPLACE=16000 views storm "$MNT" 1
}

@test "what is read-only says so" {
	py proc numbers 1000 1 >"$MNT/layers/a.f64"
	mkdir "$MNT/layers/t"
	py proc numbers 1000 1 | tee "$MNT/layers/t/a.f64" "$MNT/buckets/run" >/dev/null
	snap s
	views readonly "$MNT"
	views readonly "$MNT" snapshots/s
	views agree "$MNT"
}

@test "views of snapshots show the past" {
	local i
	py proc numbers 50000 1 >"$MNT/layers/a.f64"
	mkdir "$MNT/layers/d"
	noise 300000 "$MNT/layers/d/b.u8"
	"$PYTHON" -c 'import numpy, sys; numpy.save(sys.argv[1], numpy.arange(60000.).reshape(200, 300).T)' \
		"$MNT/views/npy/layers/f.npy"
	snap s
	eq "$(ls "$MNT/snapshots/s")" $'layers\nviews'
	cp -r --sparse=never "$MNT/views" "$WORK/before"
	rm -r "$WORK/before"/*/{buckets,columns,scratch}
	rmdir "$WORK/before/runs"
	for i in live changed committed remounted; do
		rm -rf "$WORK/now"
		cp -r --sparse=never "$MNT/snapshots/s/views" "$WORK/now"
		rm -rf "$WORK/now/runs"
		diff -r "$WORK/before" "$WORK/now"
		case $i in
		live)
			py proc numbers 50000 2 >"$MNT/layers/a.f64"
			mv "$MNT/layers/d" "$MNT/layers/e"
			rm "$MNT/layers/f"
			;;
		changed) commit ;;
		committed) remount ;;
		esac
	done
	views agree "$MNT"
	views agree "$MNT" snapshots/s
	[ -e "$MNT/views/npy/layers/e/b.npy" ]
	[ ! -e "$MNT/snapshots/s/views/npy/layers/e" ]
	exec 7<"$MNT/snapshots/s/views/npy/layers/f.npy"
	rmdir "$MNT/snapshots/s"
	commit
	cmp - "$WORK/before/npy/layers/f.npy" <&7
	exec 7<&-
}

@test "a follower's views" {
	local ro=$WORK/ro f
	py proc numbers 50000 1 >"$MNT/layers/a.f64"
	mkdir "$ro" "$MNT/layers/d"
	cp "$MNT/layers/a.f64" "$MNT/layers/d"
	snap s
	commit
	"$SPILLFS" -o ro "$STORE" "$ro" 3>&- </dev/null
	daemon_pid "$ro" >>"$WORK/.pids"
	echo "$PID" >>"$WORK/.pids" # teardown takes the last for the writer's
	for f in npy/layers/a.npy parquet/layers/a.parquet parquet/layers/d.parquet zst/layers/a.f64.zst zarr/layers/a.zarr/zarr.json; do
		cmp "$MNT/views/$f" "$ro/views/$f"
		cmp "$MNT/views/$f" "$ro/snapshots/s/views/$f"
		cmp "$MNT/views/$f" "$ro/views/$f"
	done
	fails_with "Read-only file system" cp "$MNT/views/npy/layers/a.npy" "$ro/views/npy/layers/new.npy"
	fails_with "Read-only file system" cp "$MNT/views/npy/layers/d/a.npy" "$ro/views/npy/layers/a.npy"
	exec 7<"$ro/views/npy/layers/a.npy"
	py proc numbers 60000 2 >"$MNT/layers/a.f64"
	cp "$MNT/views/npy/layers/a.npy" "$WORK/new.npy"
	commit
	soon cmp "$WORK/new.npy" "$ro/views/npy/layers/a.npy"
	cmp - "$ro/snapshots/s/views/npy/layers/a.npy" <&7
	exec 7<&-
	"$SPILLCTL" umount "$ro"
}

@test "zst views are read by zstd -d, and sparse arrays are small" {
	local f n
	cd "$MNT/layers"
	noise 700000 noise
	py proc numbers 100000 1 >numbers.f64
	: >empty
	printf x >one
	truncate -s 600M sparse
	noise 100000 - 3 | dd of=sparse bs=4096 seek=30000 conv=notrunc status=none
	printf end | dd of=sparse bs=1 seek=520000000 conv=notrunc status=none
	for n in 4096 65536 69632 1048576; do
		: >"b$n"
		set_xattr "b$n" block_size $n
		py proc numbers 40000 $n >"b$n"
		printf tail >>"b$n"
	done
	for f in first flushed; do
		for f in noise numbers.f64 empty one b*; do
			zstd -dcq "$MNT/views/zst/layers/$f.zst" | cmp - "$f"
			zstd -lq "$MNT/views/zst/layers/$f.zst" >/dev/null
		done
		commit
	done
	[ "$(stat -c %s "$MNT/views/zst/layers/sparse.zst")" -lt 2000000 ]
	zstd -dcq --long=31 "$MNT/views/zst/layers/sparse.zst" | cmp - sparse
	eq "$(ls "$MNT/views/zst/layers" | wc -l)" 9
	cd /
}

@test "runs of a bucket, merged by sort -m and joined by cat" {
	local i dir=$MNT/buckets/part-7 runs=$MNT/views/runs/buckets/part-7
	cd "$WORK"
	for i in 0 1 2 3 4 5 6; do
		shuf -i 0-99999 -n 3000 --random-source=<(noise 100000 - "$i") | LC_ALL=C sort >run$i
		cat run$i >>"$dir"
	done
	eq "$(ls "$runs" | xargs)" "000000 000001 000002 000003 000004 000005 000006"
	for i in 0 1 2 3 4 5 6; do cmp run$i "$runs/00000$i"; done
	eq "$(stat -c %s "$runs"/* | awk '{ n += $1 } END { print n }')" "$(stat -c %s "$dir")"
	LC_ALL=C sort -m "$runs"/* >merged
	LC_ALL=C sort run? | cmp - merged
	[ ! -e "$runs/000007" ] && [ ! -e "$runs/7" ] && [ ! -e "$runs/0" ] && [ ! -e "$runs/0000000" ]
	exec 7<"$runs/000003"
	: >"$dir"
	eq "$(cat "$runs"/*)" ""
	eq "$(wc -c <&7)" "$(stat -c %s run3)"
	exec 7<&-
	remount
	mkdir "$MNT/buckets/d"
	for i in 1 2 3; do "$PYTHON" -c '
import numpy as np, sys
rng = np.random.default_rng(int(sys.argv[1]))
a = np.zeros(10000, [("key", "<u4"), ("value", "<f8")])
a["key"], a["value"] = np.sort(rng.integers(0, 1 << 32, 10000)), rng.random(10000)
sys.stdout.buffer.write(a.tobytes())' $i >>"$MNT/buckets/d/records"; done
	set_xattr "$MNT/buckets/d/records" dtype key:u32,value:f64
	remount
	"$PYTHON" - "$MNT" <<-'END'
		import glob, heapq, numpy as np, sys
		runs = [np.fromfile(f, [("key", "<u4"), ("value", "<f8")]) for f in sorted(glob.glob(sys.argv[1] + "/views/runs/buckets/d/records/*"))]
		assert len(runs) == 3 and all((r["key"][1:] >= r["key"][:-1]).all() and len(r) == 10000 for r in runs)
		whole = np.load(sys.argv[1] + "/views/npy/buckets/d/records.npy")
		assert (np.concatenate(runs) == whole).all()
		assert list(heapq.merge(*(r["key"].tolist() for r in runs))) == np.sort(whole["key"]).tolist()
	END
	cd /
}

@test "views take no space, and memory for what is open alone" {
	local before files
	mkdir "$MNT/layers/d"
	py proc numbers 250000 1 | split -b 40000 --additional-suffix=.f64 - "$MNT/layers/d/a"
	commit
	sync
	cost() { du -s --apparent-size "$STORE/layers" | cut -f1; df --output=iused "$MNT"; du -s "$MNT/layers"; }
	before=$(cost)
	files=$(find "$MNT/views" -type f | wc -l)
	eq "$(du -s --block-size=512 "$MNT/views" | cut -f1)" "$files"
	[ "$files" -gt 300 ]
	find "$MNT/views" -type f -exec cat {} + | wc -c
	sync
	eq "$(cost)" "$before"
	! ls -R "$STORE" | grep -E '\.(npy|zarr|parquet|arrow)'
	eq "$(find "$MNT/layers" "$MNT/buckets" "$MNT/columns" -type f | wc -l)" 50
}

@test "np.save: all types, shapes and orders" { upload saved "$MNT"; }
@test "uploads by hand: versions, pieces, shells, cp" { upload byhand "$MNT"; }
@test "an upload replaces the array as a rename would" { upload replaced "$MNT"; }
@test "what an upload is called" { upload names "$MNT"; }
@test "an upload that is cut short changes nothing" { upload cut "$MNT"; }

@test "what cannot be an array is refused, and the log says why" {
	umount_store
	mount_logged
	upload refused "$MNT" "$WORK/log"
}

@test "uploads are as durable as renames: after a crash the old array or the new one" {
	local i n
	"$PYTHON" -c 'import numpy, sys; numpy.save(sys.argv[1], numpy.full(40000, 1.))' "$MNT/views/npy/layers/a.npy"
	commit
	"$PYTHON" - "$MNT" <<-'END' &
		import numpy as np, sys
		for k in range(2, 100000):
		    np.save(sys.argv[1] + "/views/npy/layers/a.npy", np.full(40000 + k, float(k)))
	END
	i=$!
	grown() { [ "$(stat -c %s "$MNT/layers/a")" -gt "$1" ]; }
	soon grown 320000
	commit
	soon grown "$(stat -c %s "$MNT/layers/a")"
	kill9
	wait $i || true
	mount_again
	"$PYTHON" -c '
import numpy as np, sys
a = np.load(sys.argv[1])
assert (a == a[0]).all() and a.size == (40000 + int(a[0]) if a[0] > 1 else 40000), (a[:3], a.size)
assert a[0] > 1' "$MNT/views/npy/layers/a.npy"
	eq "$(ls "$MNT/layers")" a
}
