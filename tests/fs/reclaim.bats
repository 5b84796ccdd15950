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
