#!/usr/bin/env bats
# spillctl rebuild: a store that has lost meta.db comes back from its layers.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store -o keep=10,commit=0
}

# Everything about the tree but access times, and the bytes of all files.
picture() {
	(shopt -s nullglob
	 cd "$MNT"
	 set -- layers columns snapshots/*/layers
	 find "$@" -name lost+found -prune -o -printf '%p %y %m %u %g %s %n %T@ %l\n' | sort
	 find "$@" -name lost+found -prune -o -type f -exec md5sum {} + | sort
	 getfattr -hRdm '^user' layers columns) >"$1"
}

fill() {
	mkdir -p "$MNT/layers/d/e" "$MNT/columns/c"
	"$PYTHON" -c 'import array, sys; array.array("d", range(100000)).tofile(sys.stdout.buffer)' >"$MNT/layers/d/ramp.f64"
	noise 700000 "$MNT/layers/d/e/noise" 1
	for i in $(seq 40); do noise 900 "$MNT/layers/d/small$i" "$i"; done
	ln "$MNT/layers/d/small1" "$MNT/layers/linked"
	ln -s d/ramp.f64 "$MNT/layers/soft"
	mkfifo "$MNT/layers/fifo"
	: >"$MNT/layers/empty"
	truncate -s 5000000 "$MNT/layers/hole"
	setfattr -n user.spillfs.shape -v 100,1000 "$MNT/layers/d/ramp.f64"
	setfattr -n user.note -v kept "$MNT/layers/d"
	noise 300000 "$MNT/columns/c/big" 2
	noise 500 "$MNT/columns/few" 3
	setfattr -n user.note -v "of a column" "$MNT/columns/few"
	ln -s few "$MNT/columns/soft"
	touch -d '2001-02-03 04:05:06.123456789' "$MNT/layers/d/e" "$MNT/layers/empty"
	chmod 2750 "$MNT/columns/c"
	echo scratch >"$MNT/buckets/b"
}

change() {
	rm "$MNT/layers/linked"
	noise 5000 - 9 | dd of="$MNT/layers/d/e/noise" bs=1000 seek=300 conv=notrunc status=none
	mv "$MNT/layers/d" "$MNT/layers/moved"
	fallocate -p -o 262144 -l 262144 "$MNT/layers/moved/e/noise"
	noise 100 "$MNT/columns/few" 4
	mv "$MNT/columns/c/big" "$MNT/columns/bigger"
}

lose_meta() { rm "$STORE"/meta.db*; }

rebuilt_is() { # PICTURE
	"$SPILLFS" "$STORE" "$MNT" 2>"$WORK/err" && fail "mounted without meta.db"
	grep -q 'spillctl rebuild' "$WORK/err"
	"$SPILLCTL" rebuild "$STORE" >"$WORK/out"
	cat "$WORK/out"
	"$SPILLCTL" check --data "$STORE" >&2
	mount_again
	picture "$WORK/after"
	diff "$1" "$WORK/after"
}

@test "after an orderly end everything but buckets is back, with snapshots" {
	fill
	mkdir "$MNT/snapshots/first"
	change
	mkdir "$MNT/snapshots/second one"
	picture "$WORK/before"
	umount_store
	lose_meta
	rebuilt_is "$WORK/before"
	grep -q '^buckets: pool/0[0-9] had 8 bytes' "$WORK/out"
	grep -q '2 snapshots' "$WORK/out"
	eq "$(ls -A "$MNT/buckets")" ""
	# It is a store like any other.
	noise 100000 "$MNT/layers/new" 7
	mkdir "$MNT/snapshots/third"
	rmdir "$MNT/snapshots/first"
	remount
	noise 100000 - 7 | same - "$MNT/layers/new"
	eq "$(ls "$MNT/snapshots" | sort | tr '\n' ,)" "second one,third,"
}

@test "after kill -9 what was synced is back, sealed or not" {
	fill
	mkdir "$MNT/snapshots/first"
	change
	# What is under columns/ is noted in the layers when something else is.
	noise 100 "$MNT/layers/more" 5
	"$SPILLCTL" sync "$MNT"
	picture "$WORK/before"
	kill9
	lose_meta
	rebuilt_is "$WORK/before"
	grep -q 'behind it$' "$WORK/out"
}

@test "columns that were deleted or renamed before a crash do not come back" {
	: >"$MNT/layers/x"
	noise 100000 "$MNT/columns/gone" 1
	noise 100000 "$MNT/columns/a" 2
	mkdir "$MNT/columns/d"
	"$SPILLCTL" commit "$MNT"
	rm "$MNT/columns/gone"
	mv "$MNT/columns/a" "$MNT/columns/b"
	rmdir "$MNT/columns/d"
	"$SPILLCTL" sync "$MNT"
	kill9
	mount_again
	"$SPILLCTL" commit "$MNT"
	picture "$WORK/before"
	umount_store
	lose_meta
	rebuilt_is "$WORK/before"
	eq "$(ls -A "$MNT/columns")" b
}

@test "after compactions" {
	fill
	"$SPILLCTL" compact "$MNT"
	mkdir "$MNT/snapshots/first"
	change
	"$SPILLCTL" compact "$MNT"
	rm "$MNT/layers/moved/small2"
	"$SPILLCTL" sync "$MNT"
	picture "$WORK/before"
	umount_store
	lose_meta
	rebuilt_is "$WORK/before"
}

@test "columns: a name without its file is said, a file without its name is found" {
	fill
	picture "$WORK/before"
	umount_store
	lose_meta
	rm "$STORE"/columns/*
	noise 200000 "$STORE/columns/77" 5
	"$SPILLCTL" rebuild "$STORE" >"$WORK/out"
	grep -q '^columns: c/big: its file, columns/[0-9]*, is not there$' "$WORK/out"
	"$SPILLCTL" check "$STORE"
	mount_again
	[ ! -e "$MNT/columns/c/big" ]
	noise 500 - 3 | same - "$MNT/columns/few"
	noise 200000 - 5 | same - "$MNT/columns/lost+found/77"
}

@test "a damaged layer: the state before it, and the rest in lost+found" {
	noise 500000 "$MNT/layers/a" 1
	mkdir "$MNT/snapshots/one"
	noise 500000 "$MNT/layers/a" 2
	mkdir "$MNT/snapshots/two"
	umount_store
	lose_meta
	truncate -s -20 "$STORE/layers/00000002.zst"
	"$SPILLCTL" rebuild "$STORE" >"$WORK/out" 2>"$WORK/err"
	grep -q 'layer 2 cannot be read, or one that it needs: the state is that of layer 1' "$WORK/out"
	grep -q '^snapshots: two: layer 2' "$WORK/out"
	[ -e "$STORE/lost+found/00000002.zst" ]
	"$SPILLCTL" check --data "$STORE"
	mount_again
	noise 500000 - 1 | same - "$MNT/layers/a"
	eq "$(ls "$MNT/snapshots")" one
}

@test "refused: a store with meta.db, one that is mounted, what is no store" {
	fill
	run "$SPILLCTL" rebuild "$STORE"
	eq "$status" 3
	[[ $output == *"in use by"* ]]
	umount_store
	run "$SPILLCTL" rebuild "$STORE"
	eq "$status" 3
	[[ $output == *"meta.db is there"* && $output != *layer* ]]
	run "$SPILLCTL" rebuild "$WORK"
	eq "$status" 3
	run "$SPILLCTL" rebuild
	eq "$status" 1
	"$SPILLCTL" rebuild --force "$STORE"
	ls "$STORE"/meta.db.before-rebuild-*
	mount_again
	noise 700000 - 1 | same - "$MNT/layers/d/e/noise"
}

@test "an empty meta.db, be it lost or half rebuilt, is refused with all that it knows nothing of" {
	fill
	picture "$WORK/before"
	umount_store
	lose_meta
	: >"$STORE/meta.db"
	(cd "$STORE" && ls layers columns pool) >"$WORK/files"
	run "$SPILLFS" "$STORE" "$MNT" 3>&-
	eq "$status" 6
	[[ $output == *"spillctl rebuild --force $STORE"* ]]
	(cd "$STORE" && ls layers columns pool) | diff "$WORK/files" -
	run "$SPILLCTL" check "$STORE"
	eq "$status" 4
	[[ $output == *"meta.db holds no commit"*"spillctl rebuild --force"* ]]
	run "$SPILLCTL" check --repair "$STORE"
	eq "$status" 4
	(cd "$STORE" && ls layers columns pool) | diff "$WORK/files" -
	"$SPILLCTL" rebuild --force "$STORE"
	mount_again
	picture "$WORK/after"
	diff "$WORK/before" "$WORK/after"
}
