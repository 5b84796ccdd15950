#!/usr/bin/env bats
# Snapshots: layers/ as it stood at a commit, read-only, while the live tree goes on.

load ../lib/common

setup() {
	spill_only
	common_setup
}

snap() { mkdir "$MNT/snapshots/$1"; }
drop() { rmdir "$MNT/snapshots/$1"; }
commit() { "$SPILLCTL" commit "$MNT" >/dev/null; }
snapshots() { guarded 200 "$PYTHON" "$LIB/snapshots.py" "$@"; }
# What the store takes on its disk.
store_kib() { du -sk "$STORE/layers" | cut -f1; }

@test "mkdir makes one, ls lists them with their times, rmdir drops it" {
	local before after i
	eq "$(ls -A "$MNT/snapshots")" ""
	before=$(date +%s.%N)
	echo one >"$MNT/layers/f"
	snap one
	after=$(date +%s.%N)
	echo two >"$MNT/layers/f"
	snap two
	eq "$(ls "$MNT/snapshots")" $'one\ntwo'
	eq "$(ls -t "$MNT/snapshots")" $'two\none'
	eq "$(ls -A "$MNT/snapshots/one")" $'layers\nviews'
	for i in 1 2; do
		stat -c %.9Y "$MNT/snapshots/one" | awk -v a="$before" -v b="$after" '{ exit !($1 >= a - .1 && $1 <= b + .1) }'
		eq "$(cat "$MNT/snapshots/one/layers/f" "$MNT/snapshots/two/layers/f" "$MNT/layers/f")" $'one\ntwo\ntwo'
		stat -c %.9Y "$MNT/snapshots/"* >"$WORK/times$i"
		eq "$(stat -c '%F %a' "$MNT/snapshots/one")" "directory 755"
		remount
	done
	same "$WORK/times1" "$WORK/times2"
	eq "$(stat_value spillfs_snapshots)" 2
	drop one
	eq "$(ls "$MNT/snapshots")" two
	[ ! -e "$MNT/snapshots/one" ]
	fails_with "No such file" rmdir "$MNT/snapshots/one"
	remount
	eq "$(ls "$MNT/snapshots")" two
	eq "$(cat "$MNT/snapshots/two/layers/f")" two
	drop two
	eq "$(ls "$MNT/snapshots")" ""
}

@test "times before 1970, of files and directories, are the same in a snapshot" {
	mkdir "$MNT/layers/d"
	echo x >"$MNT/layers/d/f"
	for n in d/f d; do touch -d @-2.5 "$MNT/layers/$n"; done
	snap old
	for n in d/f d; do eq "$(stat -c %.9Y "$MNT/snapshots/old/layers/$n")" -2.500000000; done
	remount
	for n in d/f d; do
		eq "$(stat -c %.9Y "$MNT/layers/$n")" -2.500000000
		eq "$(stat -c %.9Y "$MNT/snapshots/old/layers/$n")" -2.500000000
	done
}

@test "the first snapshot of an empty store, and two of one state" {
	snap empty
	eq "$(ls -A "$MNT/snapshots/empty/layers")" ""
	echo x >"$MNT/layers/f"
	snap a
	snap b
	eq "$(ls "$MNT/deltas" | wc -l)" "$(ls "$MNT/deltas" | sort -u | wc -l)"
	"$SPILLCTL" log -r "$MNT" | grep -q "	a,b\$"
	eq "$(ls -A "$MNT/snapshots/empty/layers")" ""
	drop a
	eq "$(cat "$MNT/snapshots/b/layers/f")" x
	remount
	eq "$(ls -A "$MNT/snapshots/empty/layers")" ""
	eq "$(cat "$MNT/snapshots/b/layers/f")" x
}

@test "a listing gives what stays once, while others come and go" { snapshots listing "$MNT"; }

@test "names: what can be made in snapshots/ and what cannot" {
	snapshots names "$MNT"
	remount
	eq "$(find "$MNT/snapshots" -mindepth 1 -maxdepth 1 | wc -l)" "$(find "$STORE/layers/refs" -type f | wc -l)"
}

# tree DIR: something of everything.
tree() {
	mkdir -p "$1/d/e/f" "$1/empty dir"
	noise 700000 "$1/d/noise.u8" 1
	py proc numbers 50000 2 >"$1/d/e/prices.f64"
	: >"$1/d/empty"
	echo tiny >"$1/tiny"
	noise 1000 "$1/d/e/f/deep" 3
	truncate -s 3M "$1/hole"
	noise 5000 - 4 | dd of="$1/hole" bs=1000 seek=1200 conv=notrunc status=none
	ln "$1/tiny" "$1/d/hard link"
	ln -s tiny "$1/symlink"
	ln -s /nowhere/at/all "$1/d/dangling"
	mkfifo "$1/fifo"
	chmod 640 "$1/tiny"
	chmod 4755 "$1/d/noise.u8"
	chmod 700 "$1/d/e"
	chmod 1777 "$1/empty dir"
	if [ "$(id -u)" = 0 ]; then
		chown 1234:5678 "$1/tiny" "$1/d/e"
		chown -h 3:4 "$1/symlink"
	fi
	setfattr -n user.note -v 'some text' "$1/tiny"
	setfattr -n user.empty "$1/tiny"
	setfattr -n user.note -v 'of a directory' "$1/d/e"
	set_xattr "$1/tiny" dtype u8
	touch -d '2001-02-03 04:05:06.789012345 UTC' "$1/tiny" "$1/hole"
	touch -d '1960-01-01 UTC' "$1/d/empty"
	touch -h -d '2030-01-01 00:00:00.5 UTC' "$1/symlink"
	touch -d '2002-01-01 UTC' "$1/d/e/f"
}

# Links are names of their own there, and layers/ itself is left out.
manifest() { py manifest "$1" | sed -e 's/ n[0-9]* / /' | tail -n +2; }

@test "everything about a tree is as it was, whatever becomes of it" {
	local s=$MNT/snapshots/then/layers i
	tree "$MNT/layers"
	manifest "$MNT/layers" >"$WORK/want"
	cp -a "$MNT/layers" "$WORK/plain"
	snap then
	manifest "$s" >"$WORK/got"
	diff "$WORK/want" "$WORK/got"
	# Everything changes.
	echo other >"$MNT/layers/tiny"
	chmod 777 "$MNT/layers/d/e"
	setfattr -x user.note "$MNT/layers/d/e"
	mv "$MNT/layers/d/noise.u8" "$MNT/layers/moved"
	noise 700000 "$MNT/layers/d/noise.u8" 9
	truncate -s 10 "$MNT/layers/moved"
	rm "$MNT/layers/symlink"
	ln -s elsewhere "$MNT/layers/symlink"
	fallocate -p -o 0 -l 2000000 "$MNT/layers/hole"
	snap between
	rm -r "$MNT/layers/d" "$MNT/layers/fifo"
	commit
	mkdir "$MNT/layers/d"
	echo new >"$MNT/layers/d/noise.u8"
	for i in live committed dropped remounted; do
		manifest "$s" >"$WORK/got"
		diff "$WORK/want" "$WORK/got"
		eq "$(xattr "$s/tiny" dtype)" u8
		eq "$(xattr "$s/d/noise.u8" length)" 700000
		diff -r --no-dereference --exclude=fifo "$WORK/plain" "$s"
		case $i in
		live) commit ;;
		committed)
			drop between
			drop_caches
			;;
		dropped) remount ;;
		esac
	done
	eq "$(cat "$MNT/layers/d/noise.u8")" new
}

@test "cp -a, tar and diff take a snapshot as any tree; holes stay holes" {
	local s=$MNT/snapshots/then/layers
	tree "$MNT/layers"
	snap then
	rm -r "$MNT"/layers/*
	manifest "$s" >"$WORK/want"
	cp -a "$s" "$WORK/copy"
	manifest "$WORK/copy" >"$WORK/got"
	diff "$WORK/want" "$WORK/got"
	tar -C "$s" --xattrs -cSf "$WORK/tar" .
	mkdir "$WORK/untar"
	tar -C "$WORK/untar" --xattrs --xattrs-include='user.*' -xpf "$WORK/tar"
	manifest "$WORK/untar" | grep -v '^empty dir\|^d/e ' >"$WORK/got"
	grep -v '^empty dir\|^d/e ' "$WORK/want" | diff - "$WORK/got"
	[ "$(blocks "$s/hole")" -lt 2048 ]
	py proc segments "$s/hole" >"$WORK/segments"
	cat "$WORK/segments"
	awk '{ n += $2 - $1; bad += $1 > 1205000 || $2 < 1200000 } END { exit bad || n < 5000 || n > 1000000 }' "$WORK/segments"
	# Back into the live tree.
	cp -a "$s/." "$MNT/layers/"
	manifest "$MNT/layers" | diff "$WORK/want" -
}

@test "an array deleted and created again shows nothing of its past, and its past nothing of it" {
	local f=$MNT/layers/f
	noise 600000 "$f" 1
	snap s1
	rm "$f"
	snap gone
	truncate -s 600000 "$f"
	snap zeros
	fallocate -l 700000 "$f"
	echo x | dd of="$f" conv=notrunc status=none
	snap s2
	truncate -s 0 "$f"
	truncate -s 300000 "$f"
	snap s3
	for i in 1 2; do
		noise 600000 "$WORK/want" 1
		same "$WORK/want" "$MNT/snapshots/s1/layers/f"
		[ ! -e "$MNT/snapshots/gone/layers/f" ]
		head -c 600000 /dev/zero | same - "$MNT/snapshots/zeros/layers/f"
		{ echo x; head -c 699998 /dev/zero; } | same - "$MNT/snapshots/s2/layers/f"
		head -c 300000 /dev/zero | same - "$MNT/snapshots/s3/layers/f"
		head -c 300000 /dev/zero | same - "$f"
		"$SPILLCTL" compact "$MNT"
		remount
	done
}

@test "each is one moment of six concurrent writers, and stays so" {
	snapshots storm "$MNT" "$WORK/looks" 8
	drop_caches
	snapshots again "$MNT" "$WORK/looks"
	"$SPILLCTL" compact "$MNT"
	snapshots again "$MNT" "$WORK/looks"
	remount
	snapshots again "$MNT" "$WORK/looks"
}

@test "without the kernel's writeback cache each write is there as a whole, or not at all" {
	spill_only
	remount -o nowriteback
	SNAPSHOTS_STAMPS=8192 snapshots storm "$MNT" "$WORK/looks" 4
}

@test "read-only for every kind of change" {
	noise 100000 "$MNT/layers/f"
	setfattr -n user.x -v y "$MNT/layers/f"
	mkdir "$MNT/layers/d"
	echo x >"$MNT/layers/d/g"
	ln -s f "$MNT/layers/l"
	snap s
	snapshots readonly "$MNT" s
	snapshots readonly "$MNT" "@$("$SPILLCTL" log -r -n1 "$MNT" | awk '!/^#/ { print $1 }')"
}

@test "other users see snapshots as the modes allow, and make none" {
	require_root
	local other="setpriv --reuid=65534 --regid=65534 --clear-groups"
	echo x >"$MNT/layers/open"
	echo x >"$MNT/layers/closed"
	chmod 600 "$MNT/layers/closed"
	snap s
	chmod 644 "$MNT/layers/closed"
	eq "$($other cat "$MNT/snapshots/s/layers/open")" x
	fails_with "Permission denied" $other cat "$MNT/snapshots/s/layers/closed"
	fails_with "Permission denied" $other mkdir "$MNT/snapshots/mine"
	fails_with "Permission denied" $other rmdir "$MNT/snapshots/s"
}

@test "open handles and maps outlive their snapshot and a compaction" {
	local i
	remount -o cache=1M
	noise 3000000 "$WORK/want" 1
	cp "$WORK/want" "$MNT/layers/f"
	echo small >"$MNT/layers/small"
	mkdir "$MNT/layers/d"
	# The state begins with a full layer that points into this one.
	snap hold
	for i in 1 2; do
		echo "$i" >"$MNT/layers/d/$i"
		commit
	done
	"$SPILLCTL" compact "$MNT"
	snap s
	drop hold
	commit
	[ -e "$MNT/deltas/00000001.zst" ]
	for i in 2 3; do
		noise 3000000 "$MNT/layers/f" $i
		commit
	done
	"$PYTHON" - "$MNT" "$WORK/want" "$SPILLCTL" <<'PY'
import mmap, os, subprocess, sys
mnt, want, ctl = sys.argv[1], open(sys.argv[2], "rb").read(), sys.argv[3]
f = os.open(mnt + "/snapshots/s/layers/f", os.O_RDONLY)
small = os.open(mnt + "/snapshots/s/layers/small", os.O_RDONLY)
m = mmap.mmap(f, 0, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
assert m[:1000] == want[:1000]
os.rmdir(mnt + "/snapshots/s")
for _ in range(2):
    # The kernel's pages go, so that the daemon is asked.
    m.madvise(mmap.MADV_DONTNEED)
    for fd in f, small:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(f, len(want), 0) == want and os.fstat(f).st_size == len(want)
    assert os.pread(small, 10, 0) == b"small\n"
    assert m[:] == want
    os.unlink(mnt + "/layers/f")
    open(mnt + "/layers/f", "wb").write(b"next")
    subprocess.run([ctl, "compact", mnt], check=True)
assert not os.path.exists(mnt + "/snapshots/s")
PY
	# Now nobody holds it.
	"$SPILLCTL" compact "$MNT"
	commit
	[ "$(store_kib)" -lt 200 ]
}

@test "dropping a snapshot gives its space back" {
	local with without
	noise 8000000 "$MNT/layers/f" 1
	snap s
	rm "$MNT/layers/f"
	echo x >"$MNT/layers/g"
	commit
	"$SPILLCTL" compact "$MNT"
	with=$(store_kib)
	[ "$with" -ge 7800 ]
	noise 8000000 - 1 | same - "$MNT/snapshots/s/layers/f"
	drop s
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" compact "$MNT"
	without=$(store_kib)
	echo "with $with KiB, without $without"
	[ "$without" -lt 200 ]
	eq "$(cat "$MNT/layers/g")" x
	[ "$(stat_value spillfs_layer_bytes)" -lt 200000 ]
}

@test "@N: retained layers by number, no others" {
	local i n
	remount -o keep=4
	for i in 1 2 3 4 5 6 7 8; do
		echo "$i" >"$MNT/layers/f"
		commit
		n[i]=$("$SPILLCTL" log -r -n1 "$MNT" | awk '!/^#/ { print $1 }')
		if [ "$i" = 2 ]; then snap two; fi
	done
	for round in 1 2 3; do
		for i in 5 6 7 8; do eq "$(cat "$MNT/snapshots/@${n[i]}/layers/f")" "$i"; done
		eq "$(cat "$MNT/snapshots/@${n[2]}/layers/f" "$MNT/snapshots/two/layers/f")" $'2\n2'
		for i in 1 3 4; do [ ! -e "$MNT/snapshots/@${n[i]}" ]; done
		[ ! -e "$MNT/snapshots/@99" ]
		eq "$(ls "$MNT/snapshots")" two
		case $round in 1) "$SPILLCTL" compact "$MNT" ;; 2) remount ;; esac
	done
	drop two
	[ ! -e "$MNT/snapshots/@${n[2]}" ]
	# Fewer are kept from now on.
	remount -o keep=2
	echo 9 >"$MNT/layers/f"
	commit
	[ ! -e "$MNT/snapshots/@${n[6]}" ]
	eq "$(cat "$MNT/snapshots/@${n[8]}/layers/f")" 8
}

@test "many snapshots: listed whole, each its own" {
	local i
	for i in $(seq 30); do
		echo "$i" >"$MNT/layers/f"
		snap "s$i"
	done
	eq "$(ls "$MNT/snapshots" | wc -l)" 30
	for i in 1 2; do
		eq "$(for i in $(seq 30); do cat "$MNT/snapshots/s$i/layers/f"; done)" "$(seq 30)"
		remount
	done
	for i in $(seq 2 30); do drop "s$i"; done
	"$SPILLCTL" compact "$MNT"
	eq "$(cat "$MNT/snapshots/s1/layers/f" "$MNT/layers/f")" $'1\n30'
	[ "$(ls "$MNT/deltas" | wc -l)" -le 4 ]
}
