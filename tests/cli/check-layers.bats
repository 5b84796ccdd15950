#!/usr/bin/env bats
# spillctl check of what is under layers/: files against rows, the log against the tree, and damage to both.
# Each test works on a copy of one store: a history with snapshots, a compaction, and an open layer left by kill -9.
load ../lib/common

setup_file() {
	spill_only
	setup_work
	mount_store -o keep=4,commit=0
	fill
	kill9
	keep_pristine
}
teardown_file() { teardown_pristine; }
setup() { setup_copy; }

fill() {
	local L=$MNT/layers i
	mkdir -p "$L/d/e"
	noise 300000 "$L/d/noise" 1
	py proc numbers 20000 1 >"$L/d/numbers.f64"
	for i in $(seq 12); do noise 700 "$L/d/e/small$i" "$i"; done
	ln "$L/d/e/small1" "$L/linked"
	ln -s d/noise "$L/soft"
	truncate -s 900000 "$L/hole"
	noise 400 "$MNT/columns/few" 3
	noise 90000 "$MNT/buckets/scratch" 3
	mkdir "$MNT/snapshots/one"
	noise 5000 - 9 | dd of="$L/d/noise" bs=1000 seek=250 conv=notrunc status=none
	rm "$L/d/e/small2"
	mkdir "$MNT/snapshots/two"
	"$SPILLCTL" compact "$MNT" >&2
	noise 60000 "$L/after" 4
	mv "$L/d/e/small3" "$L/moved"
	mkdir "$MNT/snapshots/three"
	noise 50000 "$L/open" 5
	noise 900 "$L/d/e/small4" 44
	"$SPILLCTL" sync "$MNT"
}

check() { # EXPECTED-CODE OPTIONS...: output in $WORK/out
	local want=$1 code=0
	shift
	TMPDIR=$WORK "$SPILLCTL" check "$@" "$STORE" >"$WORK/out" 2>"$WORK/err" || code=$?
	[ "$code" = "$want" ] || { cat "$WORK/out" "$WORK/err" >&2; fail "exit code $code, wanted $want"; }
	[ ! -s "$WORK/err" ] || { cat "$WORK/err" >&2; return 1; }
}
says() { grep -qF -- "$1" "$WORK/out" || { cat "$WORK/out" >&2; fail "should have said: $1"; }; }
says_not() { if grep -qF -- "$1" "$WORK/out"; then cat "$WORK/out" >&2; fail "should not have said: $1"; fi; }
sql() { py damage sql "$STORE" "$1"; }
ask() { sqlite3 -batch "file:$STORE/meta.db?immutable=1" "$1"; }
unchanged() {
	sums "$STORE" >"$WORK/tree1"
	"$@"
	sums "$STORE" >"$WORK/tree2"
	same "$WORK/tree1" "$WORK/tree2"
}
finds() { # TEXT...
	local text
	unchanged check 4 -n
	for text in "$@"; do says "$text"; done
}
mends() {
	check 1 --repair
	says " 0 left"
	unchanged check 0 -n
}
# The folded database, so that it can be edited.
fold() { sql "UPDATE facts SET value=value+1 WHERE key='next_ino'"; }
layer() { printf '%s/layers/%08d.zst' "$STORE" "$1"; }
state() { ask "SELECT number FROM layers WHERE state=$1 ORDER BY number $2 LIMIT 1"; }
@test "clean: whole, with --data and -v, after a mount, and nothing is changed" {
	unchanged check 0 --data -v
	says "log: ..."
	unchanged check 0 -n
	mount_store -o keep=4,commit=0
	umount_store
	unchanged check 0 --data
}

@test "a flipped byte at 10 random places of layers, HEAD and refs: found, and never served (160 in check-layers-long)" {
	py flips layers "$STORE" "$MNT" 10 "${SEED:-1}"
}

@test "a flipped byte at 10 random places of meta.db: found, and never served (90 in check-layers-long)" {
	fold
	py flips meta "$STORE" "$MNT" 10 "${SEED:-1}"
}

@test "a layer that is missing, cut, swapped with another store's or another number's" {
	local a b
	STORE_DAMAGED=1
	fold
	a=$(state 2 "")
	b=$(state 1 DESC)
	mv "$(layer "$b")" "$WORK/kept"
	finds "layers: layers/$(printf %08d "$b").zst, of " "spillctl rebuild --force"
	cp "$(layer "$a")" "$(layer "$b")"
	finds "at byte 0: the header says layer $a"
	cp "$WORK/kept" "$(layer "$b")"
	truncate -s -100 "$(layer "$b")"
	finds "are committed"
	mkdir "$WORK/other" "$WORK/m2"
	"$SPILLFS" "$WORK/other" "$WORK/m2" 3>&- </dev/null
	daemon_pid "$WORK/m2" >>"$WORK/.pids"
	for i in $(seq "$b"); do
		noise 100 "$WORK/m2/layers/x" "$i"
		"$SPILLCTL" commit "$WORK/m2"
	done
	"$SPILLCTL" umount "$WORK/m2"
	cp "$WORK/other/layers/$(printf %08d "$b").zst" "$(layer "$b")"
	finds "the layer belongs to another store"
	cp "$WORK/kept" "$(layer "$b")"
	check 0
}

@test "the open layer: cut short, damaged, and a longer one is no error" {
	local o
	STORE_DAMAGED=1
	o=$(layer "$(ls "$STORE/layers" | sed -n 's/^0*\([0-9]*\)\.zst$/\1/p' | sort -n | tail -n1)")
	cp "$o" "$WORK/kept"
	noise 3000 - 8 >>"$o"
	unchanged check 0 --data
	truncate -s 5000 "$o"
	finds "has 5000 bytes" "spillctl rebuild --force"
	cp "$WORK/kept" "$o"
	py proc poke "$o" $(($(stat -c %s "$o") - 30)) 4
	finds "the index is damaged"
}

@test "rows: what they say otherwise than the file is set right" {
	local d f
	fold
	d=$(state 1 DESC)
	f=$(state 2 "")
	sql "UPDATE layers SET state=1, refs=x'' WHERE number=$f; UPDATE layers SET chain=x'0100000000000000', bytes=bytes+5,
		raw=1, arrays=9, live=0 WHERE number=$d"
	finds "its row has state 1, the file 2" "its row has another chain than the file" "its row has bytes" \
		"its row has decoded bytes 1" "its row has number of files 9" "of its bytes are said to be live"
	mends
	sql "UPDATE layers SET state=7 WHERE number=$d"
	finds "its row has state 7, the file 1"
	mends
}

@test "HEAD and refs: garbage and what does not exist is written anew, behind is no error" {
	local newest
	echo garbage >"$STORE/layers/HEAD"
	echo "00000077.zst 5" >"$STORE/layers/refs/two"
	echo nothing >"$STORE/layers/refs/one"
	finds 'layers: layers/HEAD names no layer: "garbage"' '"layers/refs/two" names layer 77, which does not exist' \
		'"layers/refs/one" names no layer and time'
	mends
	newest=$(cat "$PRISTINE/pristine/layers/HEAD")
	eq "$(cat "$STORE/layers/HEAD")" "$newest"
	diff -r "$PRISTINE/pristine/layers/refs" "$STORE/layers/refs"
	echo 00000099.zst >"$STORE/layers/HEAD"
	finds "layers/HEAD names layer 99"
	mends
	echo 00000001.zst >"$STORE/layers/HEAD"
	rm "$STORE/layers/refs/one"
	echo "00000001.zst 5" >"$STORE/layers/refs/four"
	unchanged check 0 -v
	says "layers/HEAD names layer 1"
	says "belongs to no snapshot"
}

@test "a snapshot of a layer that does not exist is removed, and said" {
	fold
	sql "UPDATE snapshots SET layer=88 WHERE name=CAST('two' AS BLOB)"
	finds 'snapshot "two" is of layer 88, which does not exist'
	check 1 --repair
	says "the snapshot is removed"
	check 0
	mount_store -o keep=4
	eq "$(ls "$MNT/snapshots" | tr '\n' ,)" "one,three,"
}

@test "names and facts behind the log's back are found, and the log is told" {
	local f g
	fold
	f=$(ask "SELECT ino FROM names WHERE name=CAST('moved' AS BLOB)")
	g=$(ask "SELECT ino FROM names WHERE name=CAST('after' AS BLOB)")
	sql "UPDATE names SET name=CAST('elsewhere' AS BLOB) WHERE ino=$f; UPDATE inodes SET uid=77, mtime=5 WHERE ino=$g"
	finds 'entry "elsewhere", inode' 'entry "moved", inode' "its uid is 77, the log has" "its time of change is 5"
	mends
	eq "$(ask "SELECT value FROM facts WHERE key='relog'")" 1
	eq "$(ask "SELECT value FROM facts WHERE key='logged'")" 0
	mount_store -o keep=4
	noise 700 - 3 | same - "$MNT/layers/elsewhere"
}

@test "a name that is lost: the file goes to lost+found, and the log is told" {
	local f
	fold
	f=$(ask "SELECT ino FROM names WHERE name=CAST('moved' AS BLOB)")
	sql "DELETE FROM names WHERE ino=$f"
	finds "entry \"moved\", inode $f, is in the log, but not there" "links: file $f has no name"
	mends
	eq "$(ask "SELECT value FROM facts WHERE key='relog'")" 1
	mount_store -o keep=4
	noise 700 - 3 | same - "$MNT/layers/lost+found/$f"
}

@test "an inode without a record, and a record without an inode" {
	local f
	fold
	f=$(ask "SELECT ino FROM names WHERE name=CAST('moved' AS BLOB)")
	sql "DELETE FROM inodes WHERE ino=$f; INSERT INTO inodes SELECT 9000, kind, mode, nlink, uid, gid, rdev, 0, 0, file, parent,
		atime, mtime, ctime, btime FROM inodes WHERE ino=(SELECT ino FROM names WHERE name=CAST('after' AS BLOB));
		INSERT INTO names(parent, name, ino) VALUES(4, CAST('new' AS BLOB), 9000)"
	finds "inode $f, once " 'file 9000 "layers/new" is not in the log' 'entry "new", inode 9000, is not in the log'
	mends
}

@test "--data: the array that a damaged frame hits is named, and moves to lost+found; snapshots keep theirs" {
	local o
	o=$(ls "$STORE"/layers/*.zst | tail -n1)
	py proc poke "$o" 20000 8 # noise of layers/open
	unchanged check 0 -n
	unchanged check 4 -n --data
	says "layers: layers/$(basename "$o") at byte "
	says "; block 0"
	says " of file "
	says '"layers/open"'
	check 1 --data --repair
	says 'moved to "layers/lost+found/'
	unchanged check 0 -n --data
	says "nothing outside lost+found needs it"
	mount_store -o keep=4,commit=0
	[ -e "$MNT/layers/lost+found/"*-open ]
	refute cat "$MNT/layers/lost+found/"*-open
	noise 60000 - 4 | same - "$MNT/layers/after"
}

@test "--data: damage that a snapshot has is left" {
	local one
	STORE_DAMAGED=1
	one=$(layer 1)
	py proc poke "$one" 20000 8
	unchanged check 4 -n --data
	says 'in snapshot "one"'
	check 4 --data --repair || check 5 --data --repair
	unchanged check 4 -n --data
}

@test "a layer into which a full one points is missing: the arrays are named and moved, the rest is read" {
	local n
	STORE_DAMAGED=1
	fold
	n=$(ask "SELECT number FROM layers WHERE state=1 AND number<(SELECT max(number) FROM layers WHERE state=2) LIMIT 1")
	rm "$(layer "$n")"
	unchanged check 4 -n

	says "layers: layers/$(printf %08d "$n").zst, of "
	says ".zst: it is missing or damaged; block 0"
	says 'in snapshot "three"'
	says 'log: snapshot "one" cannot be read without layers/'

	cp -a "$STORE" "$WORK/before"
	check 5 --repair
	says 'moved to "layers/lost+found/'
	unchanged check 4 -n
	says_not "; block 0 of file"
	mount_store -o keep=4,commit=0
	noise 60000 - 4 | same - "$MNT/layers/after"
}
