#!/usr/bin/env bats
# What is deleted leaves nothing behind: no file of the store, no pages of meta.db.
load ../lib/common

setup() {
	spill_only
	common_setup
}

# No column file without a row, and no row without its file.
no_leak() {
	"$SPILLCTL" check -n "$STORE"
	"$PYTHON" - "$STORE" <<-'P'
		import os, sqlite3, sys
		db = sqlite3.connect("file:%s/meta.db?immutable=1" % sys.argv[1], uri=True)
		rows = sorted(str(n) for n, in db.execute("SELECT file FROM inodes WHERE file > 0"))
		files = sorted(os.listdir(sys.argv[1] + "/columns"))
		assert rows == files, (rows, files)
	P
}

@test "columns: allocated and never grown, it leaves no file, whichever way it goes" {
	cd "$MNT/columns"
	touch a; fallocate -n -l 1M a; rm a
	touch b c; fallocate -n -l 1M b; mv c b
	exec 8<>d; fallocate -n -l 1M d; rm d; exec 8>&-
	touch e; fallocate -n -o 70000 -l 1M e; truncate -s 0 e; rm e
	fallocate -l 1M f; truncate -s 0 f; fallocate -n -l 1M f; truncate -s 0 f; rm f
	touch g; fallocate -n -l 1M g; "$SPILLCTL" sync "$MNT"; rm g
	cd "$WORK"
	umount_store
	eq "$(ls -A "$STORE/columns")" ""
	no_leak
}

@test "columns: no order of allocating, punching, cutting, renaming and deleting leaves a file" {
	for seed in 1 2 3; do
		mkdir "$MNT/columns/$seed"
		py leaks "$MNT/columns/$seed" $seed 300 >"$WORK/left"
		eq "$(ls "$MNT/columns/$seed" | sort)" "$(sort "$WORK/left")"
		umount_store
		no_leak
		mount_again
	done
	"$SPILLCTL" sync "$MNT"
	py leaks "$MNT/columns/1" 4 300 >"$WORK/left"
	kill9
	mount_again
	umount_store
	no_leak
}

@test "meta.db gives back what deleted files took, and its log what it had grown to" {
	for k in $KINDS; do mkdir "$MNT/$k/d"; done
	"$PYTHON" - "$MNT" <<-'P'
		import os, sys
		for i in range(600):
		    open("%s/columns/d/%d" % (sys.argv[1], i), "wb").write(b"x" * 60000)
		for k in "buckets", "layers":
		    for i in range(50):
		        open("%s/%s/d/%s%d" % (sys.argv[1], k, "n" * 250, i), "wb").write(b"x")
		        os.setxattr("%s/%s/d/%s%d" % (sys.argv[1], k, "n" * 250, i), "user.a", b"y" * 60000)
	P
	"$SPILLCTL" sync "$MNT"
	before=$(($(stat -c %s "$STORE/meta.db") + $(stat -c %s "$STORE/meta.db-wal")))
	[ "$before" -gt 40000000 ]
	echo kept >"$MNT/columns/kept"
	setfattr -n user.a -v b "$MNT/columns/kept"
	rm -r "$MNT"/*/d
	"$SPILLCTL" sync "$MNT"
	"$SPILLCTL" sync "$MNT"
	[ "$(stat -c %s "$STORE/meta.db")" -lt 1000000 ]
	[ "$(stat -c %s "$STORE/meta.db-wal")" -lt 1000000 ]
	eq "$(cat "$MNT/columns/kept")" kept
	kill9
	"$SPILLCTL" check "$STORE"
	mount_again
	eq "$(cat "$MNT/columns/kept") $(getfattr --only-values -n user.a "$MNT/columns/kept")" "kept b"
	umount_store
	[ "$(stat -c %s "$STORE/meta.db")" -lt 1000000 ]
}

# 20,000 files, by one process.
make_files() {
	"$PYTHON" - "$MNT" <<-'P'
		import sys
		for i in range(20000):
		    open("%s/%s/d/file%d" % (sys.argv[1], ("buckets", "columns", "layers")[i % 3], i), "wb").write(b"x")
	P
}

# Their rows are deleted once the kernel has let go of them.
are_gone() { [ $(($(stat -f -c '%c - %d' "$MNT"))) -lt 200 ]; }

@test "meta.db is as small as before 20,000 files were made and removed: at the end of the mount, or after a kill at the next" {
	local before end
	for k in $KINDS; do mkdir "$MNT/$k/d"; done
	for i in $(seq 100); do echo "$i" >"$MNT/columns/$i"; done
	umount_store
	before=$(stat -c %s "$STORE/meta.db")
	for end in umount_store kill9; do
		mount_again
		make_files
		"$SPILLCTL" sync "$MNT"
		find "$MNT"/*/d -type f -delete
		soon are_gone
		"$SPILLCTL" sync "$MNT"
		$end
		[ $end = umount_store ] || mount_again
		[ "$(stat -c %s "$STORE/meta.db")" -lt $((2 * before)) ]
	done
	eq "$(cat "$MNT/columns/77")" 77
}

pool_bytes() { find "$STORE/pool" -type f -printf '%b\n' | awk '{ s += $1 * 512 } END { print s + 0 }'; }

@test "buckets: what is punched, cut and deleted is back on the store's file system after the next commit" {
	noise $((16 << 20)) "$MNT/buckets/a"
	"$SPILLCTL" sync "$MNT"
	(( $(pool_bytes) >= 16 << 20 ))
	fallocate -p -o 0 -l 8M "$MNT/buckets/a"
	"$SPILLCTL" sync "$MNT"
	(( $(pool_bytes) <= 9 << 20 ))
	truncate -s 12M "$MNT/buckets/a"
	"$SPILLCTL" sync "$MNT"
	(( $(pool_bytes) <= 5 << 20 ))
	rm "$MNT/buckets/a"
	soon eval '"$SPILLCTL" sync "$MNT"; [ "$(pool_bytes)" = 0 ]'
}

@test "buckets: files that come, grow and go leave the pool near what is live" {
	local excess ratio held taken rest
	remount -o pool=2
	read -r excess ratio held taken rest < <(py churn "$MNT/buckets" "$STORE/pool" 600 1 | paste -sd " ")
	tell "at most $ratio of what was live, $taken bytes for $held at the end, $rest after all was deleted"
	(( excess <= 0 ))
	(( taken <= held + held / 10 + (1 << 20) ))
	(( rest <= 1 << 20 ))
}
