#!/usr/bin/env bats
# The mounted tree as a whole: its root, its classes, and that everything is there after a remount.

load ../lib/common

@test "the root shows the folders, and hides .spillfs" {
	spill_only
	local names
	names=$(ls -A "$MNT")
	for n in buckets columns layers deltas; do grep -qx "$n" <<<"$names"; done
	refute grep -q spillfs <<<"$names"
	[ -r "$MNT/.spillfs/stats" ]
	[ -d "$MNT/.spillfs" ]
	eq "$(stat -f -c %T "$MNT")" fuseblk || eq "$(stat -f -c %T "$MNT")" fuse
	grep -qF " $MNT " /proc/self/mountinfo
	grep -F " $MNT " /proc/self/mountinfo | grep -q "fuse.spillfs"
}

@test "clients are told to buffer little, everywhere, and count space in one unit" {
	spill_only
	printf '%080d' 0 >"$MNT/layers/a.f64"
	mkdir "$MNT/snapshots/s"
	for f in "$MNT" "$MNT"/{buckets,columns,layers/a.f64,deltas/00000001.zst,views,views/npy/layers/a.npy,.spillfs/stats} \
		"$MNT"/snapshots/s/{layers/a.f64,views/npy/layers/a.npy}; do
		[ "$(stat -c %o "$f")" -le 131072 ] || fail "$f: st_blksize $(stat -c %o "$f")"
	done
	eq "$(stat -f -c '%s %S' "$MNT")" "4096 4096"
	node -p "const s = fs.statfsSync('$MNT'); s.bsize * s.bavail" >"$WORK/node"
	"$PYTHON" -c "import shutil, sys; a, b = int(open('$WORK/node').read()), shutil.disk_usage('$MNT').free
sys.exit(abs(a - b) > 0.05 * b)"
}

@test "nothing can be made, moved or removed in the root" {
	spill_only
	fails_with "not permitted" touch "$MNT/f"
	fails_with "not permitted" mkdir "$MNT/d"
	fails_with "not permitted" ln -s x "$MNT/s"
	fails_with "not permitted" mkfifo "$MNT/p"
	touch "$MNT/buckets/f"
	run mv -T "$MNT/buckets/f" "$MNT/f"
	[ "$status" -ne 0 ]
	for k in $KINDS; do
		run rmdir "$MNT/$k"
		[ "$status" -ne 0 ]
		run mv "$MNT/$k" "$MNT/renamed"
		[ "$status" -ne 0 ]
		[ -d "$MNT/$k" ]
	done
	run touch "$MNT/deltas/f"
	[ "$status" -ne 0 ]
	run touch "$MNT/.spillfs/f"
	[ "$status" -ne 0 ]
	run rm "$MNT/.spillfs/stats"
	[ "$status" -ne 0 ]
	[ -r "$MNT/.spillfs/stats" ]
	eq "$(ls -A "$MNT" | grep -c renamed)" 0
}

@test "across classes rename and link answer EXDEV, and mv copies" {
	spill_only
	noise 300000 "$WORK/data"
	for a in $KINDS; do
		for b in $KINDS; do
			[ "$a" = "$b" ] && continue
			cp "$WORK/data" "$MNT/$a/file"
			mkdir -p "$MNT/$a/dir"
			"$PYTHON" - "$MNT/$a" "$MNT/$b" <<'PY'
import errno, os, sys
for n in ("file", "dir"):
    try:
        os.rename(sys.argv[1] + "/" + n, sys.argv[2] + "/" + n)
    except OSError as e:
        assert e.errno == errno.EXDEV, e
    else:
        raise SystemExit("renamed")
try:
    os.link(sys.argv[1] + "/file", sys.argv[2] + "/link")
except OSError as e:
    assert e.errno == errno.EXDEV, e
else:
    raise SystemExit("linked")
PY
			mv "$MNT/$a/file" "$MNT/$b/file"
			[ ! -e "$MNT/$a/file" ]
			same "$WORK/data" "$MNT/$b/file"
			rm -r "$MNT/$b/file" "$MNT/$a/dir"
		done
	done
}

# One of everything.
make_tree() {
	local d=$1 i
	mkdir -p "$d/sub/deeper" "$d/empty"
	noise 700001 "$d/noise"
	seq 100000 >"$d/sub/numbers"
	printf small >"$d/small"
	: >"$d/zero-length"
	head -c 3000000 /dev/zero >"$d/zeros"
	truncate -s 5G "$d/sparse"
	printf middle | dd of="$d/sparse" bs=1 seek=3G conv=notrunc status=none
	ln -s ../somewhere/else "$d/symlink"
	ln "$d/noise" "$d/sub/hard"
	mkfifo -m 620 "$d/fifo"
	"$PYTHON" -c 'import os,sys; os.mknod(sys.argv[1], 0o140600)' "$d/socket"
	if [ "$(id -u)" = 0 ]; then
		mknod "$d/null" c 1 3
		mknod "$d/disk" b 259 7
		chown 1234:5678 "$d/small"
		chown -h 42:43 "$d/symlink"
	fi
	setfattr -n user.note -v "a value" "$d/small"
	setfattr -n user.note -v dir "$d/sub"
	chmod 6750 "$d/sub/numbers"
	chmod 1777 "$d/empty"
	for i in $(seq 60); do echo "$i" >"$d/sub/deeper/f$i"; done
	printf '%s' 'odd' >"$d/new
line"
	touch -d '2001-02-03 04:05:06.789012345 UTC' "$d/noise" "$d/empty"
	touch -h -d '1999-01-01 00:00:00.000000001 UTC' "$d/symlink"
}

@test "a tree with everything in it is the same after a remount, down to inode numbers" {
	for k in $KINDS; do
		mkdir "$MNT/$k/t"
		make_tree "$MNT/$k/t"
		rm -f "$MNT/$k/t/sparse" # the manifest would read 5 GiB; see below
		py manifest -i "$MNT/$k" >"$WORK/$k.before"
		[ "$(wc -l <"$WORK/$k.before")" -gt 70 ]
	done
	for round in 1 2; do
		remount
		for k in $KINDS; do
			py manifest -i "$MNT/$k" >"$WORK/$k.after"
			diff "$WORK/$k.before" "$WORK/$k.after"
		done
	done
}

@test "inode numbers are not given out again after a remount" {
	spill_only
	for k in $KINDS; do
		for i in 1 2 3 4 5; do : >"$MNT/$k/old$i"; done
		stat -c %i "$MNT/$k"/old* >>"$WORK/inodes"
		rm "$MNT/$k"/old*
	done
	remount
	for k in $KINDS; do
		for i in 1 2 3 4 5; do : >"$MNT/$k/new$i"; done
		stat -c %i "$MNT/$k"/new* >>"$WORK/inodes"
	done
	eq "$(sort "$WORK/inodes" | uniq -d)" ""
}

@test "sparse files of gigabytes come through a remount, quickly read by their segments" {
	for k in $KINDS; do
		truncate -s 1T "$MNT/$k/sparse"
		printf middle | dd of="$MNT/$k/sparse" bs=1 seek=300G conv=notrunc status=none
	done
	remount
	for k in $KINDS; do
		eq "$(stat -c %s "$MNT/$k/sparse")" 1099511627776
		eq "$(dd if="$MNT/$k/sparse" bs=1 skip=300G count=6 status=none)" middle
		[ "$(blocks "$MNT/$k/sparse")" -lt 32768 ]
		py proc segments "$MNT/$k/sparse" >"$WORK/segments"
		eq "$(wc -l <"$WORK/segments")" 1
	done
}

@test "an orphan (unlinked while open) leaves nothing after a remount" {
	spill_only
	for k in $KINDS; do
		exec 7>"$MNT/$k/orphan"
		noise 8000000 /proc/self/fd/7
		rm "$MNT/$k/orphan"
		eq "$(stat -L -c %h /proc/self/fd/7)" 0
		exec 7>&-
	done
	kill9
	remount
	for k in $KINDS; do eq "$(ls -A "$MNT/$k")" ""; done
	[ "$(du -sk "$STORE" | cut -f1)" -lt 4000 ]
}

@test "an orphan that is still open when the daemon is killed is cleared away by the next mount" {
	spill_only
	for k in $KINDS; do
		noise 8000000 "$MNT/$k/orphan"
		"$SPILLCTL" sync "$MNT"
		exec 7<"$MNT/$k/orphan"
		rm "$MNT/$k/orphan"
		"$SPILLCTL" sync "$MNT"
		kill9
		exec 7<&-
		remount
		eq "$(ls -A "$MNT/$k")" ""
		noise 100000 "$MNT/$k/other"
		"$SPILLCTL" sync "$MNT"
		remount
		eq "$(stat -c %s "$MNT/$k/other")" 100000
		rm "$MNT/$k/other"
	done
	"$SPILLCTL" sync "$MNT"
	# layers keep their history in deltas/; the other classes give it back
	[ "$(du -sk "$STORE/pool" "$STORE/columns" | awk '{ n += $1 } END { print n }')" -lt 4000 ]
}

@test "tools: cp -a, tar, find, du, diff, rm -r" {
	each_kind tools
}
tools() {
	make_tree "$WORK/plain-$K"
	rm "$WORK/plain-$K/sparse"
	cp -a "$WORK/plain-$K/." "$D/copy"
	py manifest "$WORK/plain-$K" | grep -v '^\. ' >"$WORK/want"
	py manifest "$D/copy" | grep -v '^\. ' >"$WORK/got"
	diff "$WORK/want" "$WORK/got"
	mkdir "$D/untarred"
	tar -C "$D/copy" --xattrs -cf "$D/t.tar" --exclude=./socket .
	tar -C "$D/untarred" --xattrs -xf "$D/t.tar"
	rm "$WORK/plain-$K/socket" "$D/copy/socket"
	py manifest "$D/copy" | grep -v '^\. ' >"$WORK/want"
	py manifest "$D/untarred" | grep -v '^\. ' >"$WORK/got"
	diff "$WORK/want" "$WORK/got"
	eq "$(find "$D/copy" -type f | wc -l)" "$(find "$WORK/plain-$K" -type f | wc -l)"
	eq "$(du --apparent-size -sb "$D/copy/sub/deeper"/f1 | cut -f1)" 2
	eq "$(ls -l "$D/copy/sub/deeper" | tail -n +2 | wc -l)" 60
	rm -r "$D/copy" "$D/untarred" "$D/t.tar"
	eq "$(ls -A "$D")" ""
}

@test "-o uid, gid and umask change what is shown" {
	spill_only
	require_root
	touch "$MNT/columns/f"
	chmod 666 "$MNT/columns/f"
	remount -o uid=1234,gid=4321,umask=027
	eq "$(stat -c '%u:%g %a' "$MNT/columns/f")" "1234:4321 640"
	remount -o cache=32M
	eq "$(stat -c '%u:%g %a' "$MNT/columns/f")" "0:0 666"
}

@test "the store is legible: its files are where the papers say" {
	spill_only
	for k in $KINDS; do noise 200000 "$MNT/$k/f"; done
	"$SPILLCTL" commit "$MNT"
	[ -s "$STORE/SPILLFS" ]
	[ -s "$STORE/meta.db" ]
	[ -s "$STORE/layers/00000001.zst" ]
	[ -s "$STORE/layers/HEAD" ]
	[ "$(find "$STORE/columns" -type f | wc -l)" = 1 ]
	[ "$(find "$STORE/pool" -type f | wc -l)" -ge 1 ]
	umount_store
	eq "$(cat "$(find "$STORE/columns" -type f)" | sha256sum)" "$(noise 200000 - | sha256sum)"
	mount_again
}

@test "settings that are not set show the value in effect, and are not listed" {
	mkdir -p "$MNT/layers/in" "$MNT/columns/in"
	echo x >"$MNT/layers/in/prices.f64"
	echo x >"$MNT/columns/in/notes"
	get() { getfattr --only-values --absolute-names -n "user.spillfs.$1" "$2"; }
	eq "$(get dtype "$MNT/layers/in/prices.f64")" f64
	eq "$(get block_size "$MNT/layers/in/prices.f64")" 131072
	run get dtype "$MNT/columns/in/notes"
	[ "$status" -ne 0 ]
	eq "$(getfattr --absolute-names "$MNT/layers/in/prices.f64")" ""
	setfattr -n user.spillfs.dtype -v i64 "$MNT/layers/in/prices.f64"
	eq "$(get dtype "$MNT/layers/in/prices.f64")" i64
	eq "$(get length "$MNT/layers/in/prices.f64")" 0
}
