#!/usr/bin/env bats
# Quotas: what a directory may hold, asked at write(2).
load ../lib/common

setup() {
	spill_only
	common_setup
}

limit() { setfattr -n user.spillfs.quota -v "$2" "$1"; }
# The size and the free KiB that df shows.
size_of() { df -k --output=size "$1" | tail -n 1 | tr -d ' '; }
left_of() { df -k --output=avail "$1" | tail -n 1 | tr -d ' '; }

@test "each kind: dd gets EDQUOT from write, df shows what is left, others write on" {
	noise $((4 << 20)) "$WORK/noise"
	for kind in buckets columns layers; do
		cd "$MNT/$kind"
		mkdir q
		limit q 2M
		eq "$(size_of q)" 2048
		eq "$(left_of q)" 2048
		run dd if="$WORK/noise" of=q/a bs=256K
		[ "$status" != 0 ]
		[[ $output == *"error writing"*"quota exceeded"* ]]
		refute grep -q "closing" <<<"$output"
		(( $(stat -c %s q/a) > 1900000 ))
		# What has been answered is there.
		cmp -n "$(stat -c %s q/a)" q/a "$WORK/noise"
		dd if="$WORK/noise" of=beside bs=256K status=none
		cmp beside "$WORK/noise"
		rm q/a
		dd if="$WORK/noise" of=q/b bs=4K count=256 status=none
		cmp -n 1048576 q/b "$WORK/noise"
		sync q/b
		(( $(left_of q) >= 1000 && $(left_of q) <= 1024 ))
		cd "$WORK"
	done
}

@test "through duplicates, appends, O_RDWR and mappings it is write that is refused, and times are right after a close" {
	noise $((1 << 20)) "$WORK/noise"
	cd "$MNT/buckets"
	mkdir q
	limit q 512K
	py quota writes q "$WORK/noise"
	touch -d 2001-01-01 q/times
	echo more >>q/times
	(( $(date +%s) - $(stat -c %Y q/times) < 100 ))
}

@test "by a npy view, too, it is write that is refused: of a new array, and of one that is written in place" {
	noise $((1 << 20)) "$WORK/noise"
	for kind in buckets columns layers; do
		cd "$MNT/$kind"
		mkdir q
		limit q 512K
		{ printf '\x93NUMPY\x01\x00\x76\x00'; printf '%-117s\n' "{'descr': '|u1', 'fortran_order': False, 'shape': (1048576,), }"; cat "$WORK/noise"; } >"$WORK/noise.npy"
		run dd if="$WORK/noise.npy" of="$MNT/views/npy/$kind/q/new.npy" bs=64K
		[ "$status" != 0 ]
		[[ $output == *"error writing"*"quota exceeded"* ]]
		eq "$(ls q)" ""
		for way in w rw; do
			truncate -s 1M q/zeros.u8
			py quota place "$MNT/views/npy/$kind/q/zeros.npy" $way
			rm q/zeros.u8
		done
		cd "$WORK"
	done
}

@test "cp, mv, ln and truncate across a quota" {
	noise $((1 << 20)) "$WORK/noise"
	cd "$MNT/columns"
	mkdir q d
	limit q 1M
	cp "$WORK/noise" big
	cp "$WORK/noise" big2
	mv big q/
	eq "$(left_of q)" 0
	fails_with "quota exceeded" mv big2 q/
	cmp big2 "$WORK/noise"
	fails_with "cross-device" ln q/big twin
	ln q/big q/twin
	rm q/twin
	truncate -s 256K q/big
	eq "$(left_of q)" 768
	mv q/big .
	eq "$(left_of q)" 1024
	# A directory is copied, as between file systems.
	cp big d/
	mv d q/
	eq "$(left_of q)" 768
	cmp q/d/big big
	truncate -s 1G q/hole
	eq "$(left_of q)" 768
	setfattr -n user.spillfs.quota_logical -v 2M q
	fails_with "quota exceeded" truncate -s 1025M q/hole
	cp --sparse=never q/d/big q/c || true
	rm q/hole
	cp q/d/big q/c
	setfattr -x user.spillfs.quota_logical q
	setfattr -x user.spillfs.quota q
	cp "$WORK/noise" q/e
	(( $(left_of q) > 2048 ))
}

@test "only root and the mount's owner set it; bad values are refused; it is no default of what is made below" {
	require_root
	cd "$MNT/layers"
	mkdir q
	chmod 777 q
	chown 1234 q
	limit q 1M
	for name in quota quota_logical; do
		run setpriv --reuid=1234 --regid=1234 --clear-groups setfattr -n user.spillfs.$name -v 1G q
		[[ $status != 0 && $output == *"not permitted"* ]]
		run setpriv --reuid=1234 --regid=1234 --clear-groups setfattr -x user.spillfs.$name q
		[[ $status != 0 && $output == *"not permitted"* ]]
	done
	eq "$(xattr q quota)" 1M
	fails_with "nvalid" setfattr -n user.spillfs.quota -v lots q
	fails_with "nvalid" setfattr -n user.spillfs.quota -v 0 q
	touch q/f
	fails_with "ot a directory" setfattr -n user.spillfs.quota -v 1M q/f
	mkdir q/sub
	refute getfattr -n user.spillfs.quota q/sub
	eq "$(getfattr -d q)" ""
}

@test "after a remount, a kill and a check it is what it was" {
	noise $((1 << 20)) "$WORK/noise"
	for kind in buckets columns layers; do
		mkdir -p "$MNT/$kind/q/in"
		limit "$MNT/$kind/q" 2M
		limit "$MNT/$kind/q/in" 1500K
		cp "$WORK/noise" "$MNT/$kind/q/in/a"
		sync "$MNT/$kind/q/in/a"
	done
	remount
	for kind in buckets columns layers; do
		(( $(left_of "$MNT/$kind/q") <= 1024 && $(left_of "$MNT/$kind/q") >= 1010 ))
		(( $(left_of "$MNT/$kind/q/in") <= 476 ))
		cp "$WORK/noise" "$MNT/$kind/q/lost" || true
	done
	kill9
	mount_again
	for kind in buckets columns layers; do
		rm -f "$MNT/$kind/q/lost"
		"$SPILLCTL" sync "$MNT"
		(( $(left_of "$MNT/$kind/q") <= 1024 && $(left_of "$MNT/$kind/q") >= 1010 ))
		eq "$(size_of "$MNT/$kind/q/in")" 1500
	done
	umount_store
	"$SPILLCTL" check --data "$STORE"
}

@test "columns: what a truncation cuts off a sparse file is not counted after a kill" {
	mkdir "$MNT/columns/q"
	limit "$MNT/columns/q" 1M
	noise $((512 << 10)) "$WORK/noise"
	dd if="$WORK/noise" of="$MNT/columns/q/a" bs=64K seek=16 status=none
	"$SPILLCTL" sync "$MNT"
	eq "$(left_of "$MNT/columns/q")" 512
	truncate -s 768K "$MNT/columns/q/a"
	"$SPILLCTL" sync "$MNT"
	kill9
	mount_again
	eq "$(left_of "$MNT/columns/q")" 1024
	cp "$WORK/noise" "$MNT/columns/q/b"
	cp "$WORK/noise" "$MNT/columns/q/c"
	eq "$(left_of "$MNT/columns/q")" 0
}

@test "columns: two ranges reserved behind the end of a sparse file are its own, after a remount and a kill" {
	mkdir "$MNT/columns/q"
	limit "$MNT/columns/q" 1M
	cd "$MNT/columns/q"
	truncate -s 1M a
	noise 65536 "$WORK/noise"
	dd if="$WORK/noise" of=a bs=64K seek=15 conv=notrunc status=none
	fallocate -n -o 2M -l 64K a
	fallocate -n -o 4M -l 64K a
	cd /
	remount
	for how in after-remount after-kill; do
		cd "$MNT/columns/q"
		eq "$(left_of .)" 832
		fails_with "Disk quota exceeded" dd if=/dev/urandom of=b bs=64K count=14 status=none
		fails_with "Disk quota exceeded" dd if="$WORK/noise" of=a bs=64K count=1 conv=notrunc status=none
		fallocate -n -o 2M -l 64K a
		fallocate -n -o 4M -l 64K a
		fails_with "Disk quota exceeded" fallocate -n -o 3M -l 64K a
		rm b
		"$SPILLCTL" sync "$MNT"
		cd /
		[ "$how" = after-kill ] || { kill9; mount_again; }
	done
	cd "$MNT/columns/q"
	dd if=/dev/zero of=b bs=64K count=13 status=none
	dd if="$WORK/noise" of=a bs=64K seek=32 conv=notrunc status=none
	dd if="$WORK/noise" of=a bs=64K seek=64 conv=notrunc status=none
	cmp -n 65536 -i 4194304:0 a "$WORK/noise"
	eq "$(left_of .)" 0
	cd /
	umount_store
	"$SPILLCTL" check --data "$STORE"
}

@test "-o size bounds the mount: ENOSPC from write, df shows it, nothing is lost at a remount" {
	umount_store
	mount_store -o size=3M
	noise $((4 << 20)) "$WORK/noise"
	eq "$(size_of "$MNT")" 3072
	run dd if="$WORK/noise" of="$MNT/buckets/a" bs=256K
	[[ $status != 0 && $output == *"No space left"* ]]
	eq "$(stat -c %s "$MNT/buckets/a")" 3145728
	cmp -n 3145728 "$MNT/buckets/a" "$WORK/noise"
	fails_with "No space left" dd if="$WORK/noise" of="$MNT/columns/b" bs=4K count=1
	rm "$MNT/buckets/a"
	dd if="$WORK/noise" of="$MNT/columns/b" bs=1M count=2 status=none
	eq "$(left_of "$MNT")" 1024
	umount_store
	mount_logged -o size=1M
	grep -q -- "-o size=1048576: 2[0-9]* bytes are in use already" "$WORK/log"
	cmp -n 2097152 "$MNT/columns/b" "$WORK/noise"
}

@test "spillctl quota sets, lists and takes away; what it cannot do it names" {
	cd "$MNT"
	eq "$("$SPILLCTL" quota "$MNT")" "no directory has a quota"
	mkdir -p buckets/q/in "layers/a b" scratch/s
	"$SPILLCTL" quota "$MNT" buckets/q 2M
	"$SPILLCTL" quota -l "$MNT" "$MNT/layers/a b" 1G
	"$SPILLCTL" quota buckets buckets/q/in 3M
	noise $((1 << 20)) buckets/q/in/x
	eq "$("$SPILLCTL" quota "$MNT" | tr -s ' ' | sed 's/^ //')" "$(cat <<-'E'
		quota used left logical quota used left directory
		2.0 MiB 1.0 MiB 1.0 MiB buckets/q
		3.0 MiB 1.0 MiB 2.0 MiB buckets/q/in
		1.0 GiB 0 B 1.0 GiB layers/a b
	E
	)"
	"$SPILLCTL" quota "$MNT" scratch/s 1M
	"$SPILLCTL" quota "$MNT" scratch/s | grep -q '1.0 MiB .* scratch/s$'
	fails_with "quota exceeded" dd if=/dev/zero of=scratch/s/x bs=1M count=2
	eq "$("$SPILLCTL" quota -r "$MNT" | grep -c .)" 5
	"$SPILLCTL" quota "$MNT" buckets/q none
	"$SPILLCTL" quota "$MNT" buckets/q none
	eq "$("$SPILLCTL" quota "$MNT" buckets/q)" "buckets/q has no quota of its own"
	ctl_fails 1 "'2X' is no size" quota "$MNT" buckets 2X
	ctl_fails 1 "'0' is no size" quota "$MNT" buckets 0
	ctl_fails 3 "No such file" quota "$MNT" buckets/none 1M
	ctl_fails 3 "Not a directory" quota "$MNT" buckets/q/in/x 1M
	ctl_fails 1 "is not in" quota "$MNT" "$WORK" 1M
	ctl_fails 1 "is not in" quota "$MNT" ../store 1M
	ctl_fails 2 "not in a mounted spillfs" quota "$WORK" x 1M
	ctl_fails 3 "only directories below" quota "$MNT" snapshots 1M
	# A bound below what is used holds, and is told.
	eq "$("$SPILLCTL" quota "$MNT" buckets/q 512K 2>&1)" \
		"spillctl: buckets/q: 1.0 MiB are in use, more than the bound of 512.0 KiB: nothing more can be written there until less is"
	fails_with "quota exceeded" dd if=/dev/zero of=buckets/q/y bs=4K count=1
	rm buckets/q/in/x
	"$SPILLCTL" quota -r "$MNT" | grep -qxF "524288	0	-	0	buckets/q"
	eq "$("$SPILLCTL" quota "$MNT" buckets/q 256K 2>&1)" ""
	# A directory that goes takes its quota along.
	rm -r buckets/q "layers/a b" scratch/s
	soon eval '[ "$("$SPILLCTL" quota "$MNT")" = "no directory has a quota" ]'
	# The root has one of all.
	"$SPILLCTL" quota "$MNT" . 1M
	"$SPILLCTL" quota "$MNT" . | grep -q '1.0 MiB .* \.$'
	fails_with "quota exceeded" dd if=/dev/zero of=buckets/x bs=1M count=2
}

# The bytes that the store of this mount has for a file.
stored() { stat -c %b "$1" | awk '{ print $1 * 512 }'; }

is_freed() { (( $(stored "$1") <= 4096 )); }

@test "consume: what is read in order is freed behind the reader; others, jumps and small looks free nothing" {
	noise $((16 << 20)) "$WORK/noise"
	for kind in buckets columns layers scratch; do
		cd "$MNT/$kind"
		mkdir c
		setfattr -n user.spillfs.consume -v 1 c
		cp "$WORK/noise" c/run
		cp "$WORK/noise" c/kept
		eq "$(xattr c/run consume)" 1
		# All of it is read as it was, and all of it is gone then.
		cmp c/run "$WORK/noise"
		# The close of a reader is not waited for; while that of a writer is on its way, a block is shown.
		soon is_freed c/run
		eq "$(stat -c %s c/run)" $((16 << 20))
		cmp -n $((16 << 20)) c/run /dev/zero
		# The end, the beginning, a reader who also writes: nothing is freed.
		tail -c 100 c/kept >/dev/null
		head -c 100 c/kept >/dev/null
		dd if=c/kept of=/dev/null bs=1M skip=1 status=none
		cat <>c/kept >/dev/null
		if [ "$(id -u)" = 0 ]; then
			chmod 644 c/kept
			setpriv --reuid=1234 --regid=1234 --clear-groups cat c/kept >/dev/null
		fi
		(( $(stored c/kept) >= 15 << 20 ))
		cmp -n 100 c/kept "$WORK/noise"
		# A part is freed up to a margin behind the reader.
		head -c $((12 << 20)) c/kept >/dev/null
		(( $(stored c/kept) <= 9 << 20 && $(stored c/kept) >= 4 << 20 ))
		tail -c $((4 << 20)) c/kept | cmp - <(tail -c $((4 << 20)) "$WORK/noise")
		# A map may go back.
		cp "$WORK/noise" c/mapped
		"$PYTHON" - c/mapped "$WORK/noise" <<-'END'
			import mmap, os, sys
			fd = os.open(sys.argv[1], os.O_RDONLY)
			m = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
			want = open(sys.argv[2], 'rb').read()
			for _ in range(2):
			    for k in range(0, len(m), 65536):
			        assert m[k:k + 65536] == want[k:k + 65536], k
			    m.madvise(mmap.MADV_DONTNEED)
			    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
		END
		setfattr -n user.spillfs.consume -v 0 c/kept
		fails_with "nvalid" setfattr -n user.spillfs.consume -v yes c/kept
		rm -r c
		cd "$WORK"
	done
}

@test "consume: a merge of sorted runs keeps near the size, not twice" {
	cd "$MNT/buckets"
	mkdir in out
	setfattr -n user.spillfs.consume -v 1 in
	for k in 1 2 3 4; do
		seq -f '%012.0f' "$k" 4 4000000 >"in/$k"
	done
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" quota "$MNT" buckets 72M
	# (Without it there is no room for both.)
	for k in 1 2 3 4; do setfattr -n user.spillfs.consume -v 0 in/$k; done
	fails_with "quota exceeded" bash -c 'LC_ALL=C sort -m -S 8M -T out in/* >out/all'
	for k in 1 2 3 4; do setfattr -n user.spillfs.consume -v 1 in/$k; done
	LC_ALL=C sort -m -S 8M -T out in/* >out/all
	eq "$(stat -c %s out/all)" 52000000
	LC_ALL=C sort -c out/all
	eq "$(tail -n 1 out/all)" 000004000000
}
