#!/usr/bin/env bats
# spillctl check: a store in order is clean, damage is found, named and mended, and nothing else is touched.
# Each test works on a copy of one store, filled once.
load ../lib/common

setup_file() {
	spill_only
	setup_work
	mount_store
	fill
	umount_store
	keep_pristine
}
teardown_file() { teardown_pristine; }
setup() { setup_copy; }

# In each class: large and small files, holes, hard links, links, special files, attributes, directories.
fill() {
	local k
	real_data words
	head -c 1500000 "$DATA" >"$WORK/words"
	real_data grid
	head -c 1200000 "$DATA" >"$WORK/grid"
	py proc numbers 60000 1 >"$WORK/numbers"
	for k in $KINDS; do
		mkdir -p "$MNT/$k/d/e"
		cp "$WORK/words" "$MNT/$k/d/words"
		cp "$WORK/grid" "$MNT/$k/d/grid.f32"
		cp "$WORK/numbers" "$MNT/$k/d/e/numbers.f64"
		cp /usr/bin/env "$MNT/$k/env"
		head -c 20000 "$WORK/numbers" >"$MNT/$k/small.f64"
		ln "$MNT/$k/small.f64" "$MNT/$k/d/link.f64"
		ln -s d/words "$MNT/$k/symlink"
		mkfifo "$MNT/$k/fifo"
		: >"$MNT/$k/empty"
		truncate -s 3000000 "$MNT/$k/hole"
		dd if="$WORK/words" of="$MNT/$k/hole" bs=100000 seek=7 count=2 conv=notrunc status=none
		setfattr -n user.note -v "of $k" "$MNT/$k/small.f64"
		set_xattr "$MNT/$k/d/e/numbers.f64" shape 300,200
	done
	for i in 1 2 3 4; do # in turn, so that their extents lie so, too
		for f in 1 2 3; do noise 200000 - $i$f >>"$MNT/buckets/d/run$f"; done
	done
}

check() { # EXPECTED-CODE OPTIONS...: output in $WORK/out
	local want=$1 code=0
	shift
	"$SPILLCTL" check "$@" "$STORE" >"$WORK/out" 2>"$WORK/err" || code=$?
	[ "$code" = "$want" ] || { cat "$WORK/out" "$WORK/err" >&2; fail "exit code $code, wanted $want"; }
	[ ! -s "$WORK/err" ] || [ "$want" -ge 8 ] || { cat "$WORK/err" >&2; return 1; }
}

says() { # TEXT: a line of the output holds it
	grep -qF -- "$1" "$WORK/out" || { cat "$WORK/out" >&2; fail "should have said: $1"; }
}

sql() { py damage sql "$STORE" "$1"; }
ask() { sqlite3 -batch "file:$STORE/meta.db?immutable=1" "$1"; }
ino() { ask "SELECT ino FROM names WHERE name=CAST('$1' AS BLOB) AND parent IN (SELECT ino FROM inodes WHERE kind=$2) LIMIT 1"; }

unchanged() { # CMD...: nothing in the store is different afterwards
	sums "$STORE" >"$WORK/tree1"
	"$@"
	sums "$STORE" >"$WORK/tree2"
	same "$WORK/tree1" "$WORK/tree2"
}

# finds TEXT...: each is in the output of a check, which changes nothing.
finds() {
	local text
	unchanged check 4 -n
	for text in "$@"; do says "$text"; done
}

# mends: --repair corrects everything, and then the store is clean and mounts.
mends() {
	check 1 --repair
	says " 0 left"
	cp "$WORK/out" "$WORK/repair"
	ls "$STORE"/meta.db.before-repair-* >/dev/null
	unchanged check 0 -n
	says ": clean, "
	mount_store
}

# intact [PATH...]: all files but these are as they were filled in, and links, and attributes.
intact() {
	local k f skip
	for k in $KINDS; do
		for f in d/words d/grid.f32 d/e/numbers.f64 env small.f64 d/link.f64; do
			for skip in "$@"; do [ "$k/$f" != "$skip" ] || continue 2; done
			case $f in
			*words) same "$PRISTINE/words" "$MNT/$k/$f" ;;
			*grid.f32) same "$PRISTINE/grid" "$MNT/$k/$f" ;;
			*numbers.f64) same "$PRISTINE/numbers" "$MNT/$k/$f" ;;
			env) same /usr/bin/env "$MNT/$k/$f" ;;
			*) cmp -n 20000 "$PRISTINE/numbers" "$MNT/$k/$f" ;;
			esac
		done
	done
}

lost() { ls "$MNT/$1/lost+found"; }

# ---- stores in order ---------------------------------------------------------------------------

@test "clean: a filled store, with its numbers; --data, -v, --repair, fsck's options" {
	unchanged check 0
	grep -qE "^$STORE: clean, [0-9]+ files, [0-9]+ bytes$" "$WORK/out"
	unchanged check 0 -n --data -v
	says "data: ..."
	says "pool: pool/00: "
	check 0 --repair
	[ -z "$(ls "$STORE"/meta.db.before* 2>/dev/null)" ]
	for o in -p -a -y "-f -n" "-C0 -a" "-C -y" "-fy"; do check 0 $o; done
	rm "$STORE/lock"
	unchanged check 0 -n
}

@test "clean: a fresh store, mounted and unmounted, or killed at once" {
	rm -rf "$STORE"
	mkdir "$STORE"
	mount_store
	umount_store
	unchanged check 0
	says "clean, 0 files, 0 bytes"
	rm -rf "$STORE"
	mkdir "$STORE"
	mount_store
	kill9
	unchanged check 0
}

@test "clean: after kill -9 in the middle of writing; leftovers are no errors" {
	mount_store -o commit=1
	for k in $KINDS; do
		for i in 1 2 3; do noise 900000 "$MNT/$k/late$i" $i; done
		exec 9>"$MNT/$k/gone"
		noise 300000 - 7 >&9
		rm "$MNT/$k/gone"
		sync "$MNT/$k/late1"
		exec 9>&-
	done
	noise 900000 "$MNT/columns/unsynced"
	rm "$MNT/columns/d/words" "$MNT/buckets/d/words"
	kill9
	[ -s "$STORE/meta.db-wal" ]
	unchanged check 0 -v --data
	says ": clean, "
	mount_again
	umount_store
	unchanged check 0
}

@test "usage, help, version, and called as fsck.spillfs" {
	local code=0
	ln -s "$SPILLCTL" "$WORK/fsck.spillfs"
	for args in "" "--frob $STORE" "-n -y $STORE" "a b"; do
		code=0
		"$WORK/fsck.spillfs" $args >"$WORK/out" 2>"$WORK/err" || code=$?
		eq "$code" 16
		[ -s "$WORK/err" ]
	done
	"$WORK/fsck.spillfs" -V | grep -q "^fsck.spillfs [0-9]"
	"$SPILLCTL" check --help | grep -q "Exit codes"
	"$WORK/fsck.spillfs" -a "$STORE" | grep -q ": clean, "
	unchanged "$WORK/fsck.spillfs" "$STORE"
}

@test "no store, a newer store, a store in use" {
	local code=0
	for dir in "$WORK" "$WORK/none" /dev/null; do
		code=0
		"$SPILLCTL" check "$dir" 2>"$WORK/err" || code=$?
		eq "$code" 8
		grep -qF "spillctl check: $dir: " "$WORK/err"
	done
	mount_store
	for o in -n -y; do
		check 8 $o
		grep -qF "in use by the process with pid $PID" "$WORK/err"
	done
	umount_store
	STORE_DAMAGED=1
	sed -i 's/^spillfs .*/spillfs 9/' "$STORE/SPILLFS"
	check 8
	grep -qF "format 9" "$WORK/err"
}

# ---- damage ------------------------------------------------------------------------------------

@test "mark: lost or unreadable, it is written anew, with the uuid of the layers" {
	local uuid
	uuid=$(sed -n 's/^uuid //p' "$STORE/SPILLFS")
	rm "$STORE/SPILLFS"
	finds "mark: SPILLFS is missing"
	refute grep -q rebuild "$WORK/out"
	check 1 --repair
	says "mark: SPILLFS is missing: written anew"
	eq "$(sed -n 's/^uuid //p' "$STORE/SPILLFS")" "$uuid"
	echo garbage >"$STORE/SPILLFS"
	finds "mark: SPILLFS holds no"
	check 1 -a
	check 0
	mount_store
	intact
}

@test "--data reads what is data, not the holes of a column" {
	mount_store
	truncate -s 1T "$MNT/columns/sparse"
	printf x | dd of="$MNT/columns/sparse" bs=1 seek=$((1 << 39)) conv=notrunc status=none
	umount_store
	guarded 60 "$SPILLCTL" check --data "$STORE"
}

@test "meta.db: missing, no database, truncated, without a table: left, and rebuild is named" {
	STORE_DAMAGED=1
	rm "$STORE/meta.db"
	finds "database: meta.db is missing" "spillctl rebuild"
	head -c 60000 /dev/urandom >"$STORE/meta.db"
	finds "database: "
	check 4 -y
	cp "$PRISTINE/pristine/meta.db" "$STORE/meta.db"
	truncate -s 12288 "$STORE/meta.db"
	finds "database: "
	unchanged check 4 -n
	: >"$STORE/meta.db"
	finds "schema: meta.db: table inodes is missing"
	cp "$PRISTINE/pristine/meta.db" "$STORE/meta.db"
	sql "DROP TABLE xattrs"
	finds "schema: meta.db: table xattrs is missing"
	cp "$PRISTINE/pristine/meta.db" "$STORE/meta.db"
	sql "UPDATE inodes SET size='many' WHERE ino=(SELECT max(ino) FROM inodes)"
	finds "types: meta.db: table inodes: 1 values of column size are no integer"
}

@test "meta.db: a flipped byte at 60 random places is found, and never breaks the check" {
	py damage flips "$STORE" "$SPILLCTL" 60 "${SEED:-1}" | tee "$WORK/flips"
	unchanged check 0
}

@test "meta.db: a flipped byte is not served: the mount is refused, or the read fails" {
	local page code=0
	STORE_DAMAGED=1
	page=$(ask "SELECT rootpage FROM sqlite_schema WHERE name='inodes'")
	py proc poke "$STORE/meta.db" $(((page - 1) * 4096 + 4000)) 4
	"$SPILLFS" "$STORE" "$MNT" 2>"$WORK/err" 3>&- </dev/null || code=$?
	[ $code != 0 ]
	refute mounted
}

@test "indexes: missing ones are made anew, triggers dropped" {
	sql "DROP INDEX names_ino; DROP INDEX names_name; CREATE TRIGGER t AFTER INSERT ON facts BEGIN SELECT 1; END"
	finds "indexes: meta.db: index names_ino is missing" "index names_name is missing" 'trigger "t" does not belong'
	mends
	intact
}

@test "facts: lost or too low" {
	sql "DELETE FROM facts WHERE key='next_layer'; UPDATE facts SET value=70 WHERE key='next_ino'"
	finds "facts: next_layer is missing or negative" "facts: next_ino is 70"
	mends
	intact
}

@test "inodes: a fixed directory lost or turned into something else" {
	sql "DELETE FROM inodes WHERE ino=3; UPDATE inodes SET kind=1 WHERE ino=4"
	finds "inodes: inode 3, columns/, is missing" "inodes: inode 4, layers/, is no directory of its class"
	mends
	intact
}

@test "inodes: numbers and modes that cannot be" {
	local f
	f=$(ino env 1)
	sql "UPDATE inodes SET uid=-5, rdev=-1, file=7, parent=66 WHERE ino=$f;
		UPDATE inodes SET mode=7 WHERE ino=$(ino env 3); UPDATE inodes SET size=5 WHERE ino=$(ino fifo 2)"
	finds "inodes: file $f \"buckets/env\": uid is -5" "file is 7" "rdev is -1" "parent is 66" \
		"inodes: inode $(ino env 3) \"layers/env\": mode 7 is no valid one" "size is 5"
	mends
	intact
}

@test "inodes: kinds follow from the place" {
	sql "UPDATE inodes SET kind=3 WHERE ino=$(ino env 1); UPDATE inodes SET kind=1 WHERE ino=$(ino env 2);
		UPDATE inodes SET kind=2 WHERE ino=$(ino env 3); UPDATE inodes SET kind=9 WHERE ino=$(ino small.f64 2);
		UPDATE inodes SET kind=1 WHERE ino=$(ino e 3)"
	finds '"buckets/env": its kind is 3 (layered), but it stands where things are bucket' \
		'"columns/env": its kind is 1' '"layers/env": its kind is 2' 'its kind is 9 (unknown)' '"layers/d/e": its kind is 1'
	mends
	intact
	[ ! -e "$MNT/layers/lost+found" ]
}

@test "inodes: a bucket among the columns goes to the buckets' lost+found" {
	local f
	f=$(ino env 1)
	sql "UPDATE names SET parent=3, name=CAST('guest' AS BLOB) WHERE ino=$f"
	finds "inodes: file $f \"columns/guest\": its kind is 1 (bucket)"
	mends
	eq "$(lost buckets)" "$f-guest"
	same /usr/bin/env "$MNT/buckets/lost+found/$f-guest"
	intact buckets/env
}

@test "inodes: sizes that no file can have, wrong stored bytes" {
	sql "UPDATE inodes SET size=-1 WHERE ino=$(ino env 1); UPDATE inodes SET size=-1 WHERE ino=$(ino small.f64 2);
		UPDATE inodes SET stored=12 WHERE ino=$(ino words 1)"
	finds '"buckets/env": its size is -1, which no file can have' "its size is -1" \
		'"buckets/d/words": 12 bytes are said to be stored'
	mends
	intact
}

@test "blobs: inline bytes that are gone, short or without an inode" {
	local f g
	f=$(ino small.f64 2)
	sql "UPDATE blobs SET value=substr(value, 1, 9000) WHERE ino=$f AND what=2"
	finds "blobs: file $f " "its size is 20000, but there are 9000 inline bytes"
	mends
	grep -qF 'padded with zeros, moved to "columns/lost+found/' "$WORK/repair"
	intact columns/small.f64 columns/d/link.f64
	eq "$(lost columns)" "$f-link.f64"$'\n'"$f-small.f64"
	cmp -n 9000 "$PRISTINE/numbers" "$MNT/columns/lost+found/$f-small.f64"
	eq "$(tail -c +9001 "$MNT/columns/lost+found/$f-small.f64" | tr -d '\0' | wc -c)" 0
	eq "$(stat -c '%s %h' "$MNT/columns/lost+found/$f-small.f64")" "20000 2"
	remount
	umount_store
	sql "DELETE FROM inodes WHERE ino=$f"
	finds "blobs: inode $f \"columns/lost+found/$f-small.f64\" has 20000 inline bytes, but is no inline column"
	mends
	cmp -n 9000 "$PRISTINE/numbers" "$MNT/columns/lost+found/$f-small.f64"
}

@test "blobs: symlinks and run boundaries" {
	local l r
	l=$(ino symlink 3)
	r=$(ask "SELECT ino FROM blobs WHERE what=3 AND length(value)>16 LIMIT 1")
	sql "DELETE FROM blobs WHERE ino=$l; UPDATE inodes SET size=3 WHERE ino=$(ino symlink 1);
		UPDATE blobs SET value=CAST(substr(value, 1, 8) || substr(value, 1, 8) || x'aa' AS BLOB) WHERE ino=$r AND what=3"
	finds "blobs: symlink $l \"layers/symlink\" has lost its target" "its size is 3, its target has 7 bytes" \
		"of its run boundaries, 17 bytes, only the first 1 are valid"
	mends
	intact
	eq "$(lost layers)" "$l-symlink"
	eq "$(readlink "$MNT/buckets/symlink")" d/words
}

@test "blobs: ends of reserved space without sense, or of what has no file" {
	local f g
	f=$(ino words 2)
	g=$(ino small.f64 2)
	sql "INSERT INTO blobs VALUES($f, 5, x'0000000000000080'), ($g, 5, x'0000100000000000')"
	finds "the end of its reserved space makes no sense" "has an end of reserved space, but is no column with a file"
	mends
	eq "$(ask "SELECT count(*) FROM blobs WHERE what=5")" 0
	intact
}

@test "xattrs: of nobody, out of their namespace, settings without sense" {
	local f
	f=$(ino env 3)
	sql "INSERT INTO xattrs VALUES(9999, 'user.x', x'01'), ($f, 'system.posix', x'01'),
		($f, 'user.spillfs.block_size', CAST('77' AS BLOB)), ($f, 'user.spillfs.dtype', CAST('f64' AS BLOB))"
	finds 'xattrs: attribute "user.x", 1 bytes, of inode 9999, which does not exist' '"system.posix" with 1 bytes' \
		'attribute "user.spillfs.block_size" has no valid value: "77"'
	eq "$(grep -c '^xattrs' "$WORK/out")" 3
	mends
	intact
	eq "$(xattr "$MNT/layers/env" dtype)" f64
}

@test "xattrs: what a file has of its directory is in order, but for what nobody inherits" {
	local set f
	mount_store
	mkdir "$MNT/layers/given"
	for set in block_size=65536 codec=zstd:5 filter=none consume=1 direct=1; do set_xattr "$MNT/layers/given" "${set%=*}" "${set#*=}"; done
	echo >"$MNT/layers/given/heir"
	umount_store
	f=$(ino heir 3)
	eq "$(ask "SELECT count(*) FROM xattrs WHERE ino=$f AND name LIKE 'spillfs.%'")" 5
	unchanged check 0 -n
	sql "INSERT INTO xattrs VALUES($f, 'spillfs.dtype', CAST('f64' AS BLOB)), ($f, 'spillfs.filter2', x'01')"
	finds '"spillfs.dtype" with 3 bytes is none that can be set' '"spillfs.filter2" with 1 bytes'
	mends
	intact
	eq "$(xattr "$MNT/layers/given/heir" direct)" 1
}

@test "extents: two owners of the same bytes; each keeps what it read" {
	local a b e
	a=$(ino words 1)
	b=$(ino env 1)
	[ "$a" -lt "$b" ]
	e=$(ask "SELECT file || ', phys=' || (phys + 5000) FROM extents WHERE ino=$a AND len>200000 LIMIT 1")
	sql "UPDATE extents SET file=$e WHERE ino=$b AND off=(SELECT off FROM extents WHERE ino=$b LIMIT 1)"
	finds "belong to file $a \"buckets/d/words\"" "and to file $b \"buckets/env\", at 0"
	mends
	intact buckets/env
	eq "$(lost buckets)" "$b-env"
	cmp -n 20000 <(tail -c +5001 "$PRISTINE/words") "$MNT/buckets/lost+found/$b-env" ||
		cmp -n 20000 "$MNT/buckets/lost+found/$b-env" <(tail -c +5001 "$PRISTINE/words")
	noise 100000 "$MNT/buckets/d/words" 3 # it has its own bytes now
	intact buckets/env buckets/d/words
}

@test "extents: behind the size, of nobody, impossible, twice in one bucket" {
	local a b f
	a=$(ino words 1)
	b=$(ino env 1)
	f=$(ino grid.f32 1)
	sql "UPDATE inodes SET size=100 WHERE ino=$a; DELETE FROM inodes WHERE ino=$b;
		INSERT INTO extents SELECT ino, off + 10, 1000, file, phys + 10 FROM extents WHERE ino=$f LIMIT 1"
	finds "extents: file $a \"buckets/d/words\": its size is 100, but its extents end at 1500000" \
		"extents: inode $b \"buckets/env\" has" "two extents have its bytes 10 to 1009"
	mends
	[ "$(lost buckets)" = "$f-grid.f32" ]
	same "$PRISTINE/grid" "$MNT/buckets/lost+found/$f-grid.f32"
	intact buckets/d/grid.f32 buckets/env
	cmp -n "$(stat -c %s "$MNT/buckets/env")" /usr/bin/env "$MNT/buckets/env"
	umount_store
	sql "UPDATE extents SET phys=-4 WHERE ino=$a AND off=0"
	finds "extents: file $a \"buckets/d/words\": an extent of "
	mends
	eq "$(stat -c %s "$MNT/buckets/lost+found/$a-words")" 1500000
}

@test "pool: a file cut short, and a file gone: the rest is unharmed" {
	local f
	truncate -s 500000 "$STORE/pool/00"
	finds "are lost: pool/00 ends before them, at 500000"
	mends
	intact $(sed -n 's/^pool: file [0-9]* "\([^"]*\)".*/\1/p' "$WORK/repair") buckets/d/link.f64 buckets/small.f64
	[ -n "$(lost buckets)" ]
	umount_store
	rm -r "$STORE"
	cp -a --sparse=always "$PRISTINE/pristine" "$STORE"
	rm "$STORE/pool/00"
	finds "pool: pool/00 is missing" "are lost with pool/00, which does not exist"
	mends
	intact $(sed -n 's/^pool: file [0-9]* "\([^"]*\)".*/\1/p' "$WORK/repair") buckets/d/link.f64 buckets/small.f64
	for f in $(lost buckets); do eq "$(tr -d '\0' <"$MNT/buckets/lost+found/$f" | wc -c)" 0; done
}

@test "pool, columns: other files are noted and left" {
	touch "$STORE/pool/007" "$STORE/pool/99999999" "$STORE/columns/007" "$STORE/columns/-7"
	unchanged check 0 -v
	for f in pool/007 pool/99999999 columns/007 columns/-7; do says "\"$f\" is not known here"; done
	mount_store
	intact
}

@test "columns: a file gone, cut short, owned twice" {
	local a b f
	a=$(ino words 2)
	b=$(ino grid.f32 2)
	f=$(ino numbers.f64 2)
	rm "$STORE/columns/$(ask "SELECT file FROM inodes WHERE ino=$a")"
	truncate -s 100000 "$STORE/columns/$(ask "SELECT file FROM inodes WHERE ino=$b")"
	finds "columns: file $a \"columns/d/words\": its 1500000 bytes are lost with columns/" \
		"columns: file $b \"columns/d/grid.f32\": bytes 100000 to "
	mends
	intact columns/d/words columns/d/grid.f32
	eq "$(stat -c %s "$MNT/columns/lost+found/$a-words")" 1500000
	cmp -n 100000 "$PRISTINE/grid" "$MNT/columns/lost+found/$b-grid.f32"
	eq "$(stat -c %s "$MNT/columns/lost+found/$b-grid.f32")" "$(stat -c %s "$PRISTINE/grid")"
	umount_store
	sql "UPDATE inodes SET file=(SELECT file FROM inodes WHERE ino=$f), size=(SELECT size FROM inodes WHERE ino=$f)
		WHERE ino=$b"
	finds "columns: file $f \"columns/d/e/numbers.f64\": columns/" "belongs to file $b \"columns/lost+found/$b-grid.f32\", too"
	mends
	same "$PRISTINE/numbers" "$MNT/columns/lost+found/$f-numbers.f64"
	same "$PRISTINE/numbers" "$MNT/columns/lost+found/$b-grid.f32"
}

@test "columns: a file that belongs to nobody is kept when its inode is lost, and deleted otherwise" {
	local a file
	a=$(ino words 2)
	file=$(ask "SELECT file FROM inodes WHERE ino=$a")
	cp "$STORE/columns/$file" "$STORE/columns/7777"
	: >"$STORE/columns/7778"
	finds "leftovers: columns/7777, 1500000 bytes, belongs to no file" "leftovers: columns/7778, 0 bytes, belongs to no file"
	run "$SPILLCTL" check --repair "$STORE"
	eq "$status" 1
	[[ $output == *"columns/7777, 1500000 bytes, belongs to no file: deleted"* ]]
	[ ! -e "$STORE/columns/7777" ] && [ ! -e "$STORE/columns/7778" ]
	unchanged check 0
	sql "DELETE FROM inodes WHERE ino=$a"
	finds "names: directory " "entry \"words\" points to inode $a, which does not exist" \
		"leftovers: columns/$file, 1500000 bytes, belongs to no file"
	mends
	same "$PRISTINE/words" "$MNT/columns/lost+found/"*
	intact columns/d/words
}

@test "layers: a file gone, cut short or longer than sealed is found and left" {
	local l
	STORE_DAMAGED=1
	l=$(ls "$STORE"/layers/*.zst | head -n1)
	echo x >>"$l"
	finds "layers: layers/$(basename "$l") is sealed at"
	truncate -s 5000 "$l"
	finds "layers: layers/$(basename "$l") has 5000 bytes"
	rm "$l"
	finds "layers: layers/$(basename "$l"), of "
	check 4 -y
	cp -r "$PRISTINE/pristine/layers/." "$STORE/layers/"
	echo garbage >"$STORE/layers/HEAD"
	finds 'layers: layers/HEAD names no layer: "garbage"'
}

@test "names: dangling, invalid, in no directory, in the root" {
	local f d
	f=$(ino env 1)
	d=$(ino d 3)
	sql "INSERT INTO names(parent, name, ino) VALUES($d, CAST('dangling' AS BLOB), 99999), (4, CAST('a/b' AS BLOB), $(ino env 3)),
		(1, CAST('stray' AS BLOB), $f), (88888, CAST('nowhere' AS BLOB), $(ino env 2));
		DELETE FROM names WHERE ino=$(ino env 2) AND parent=3; DELETE FROM names WHERE ino=$f AND parent=2;
		UPDATE inodes SET nlink=2 WHERE ino=$(ino env 3)"
	finds "names: directory $d \"layers/d\": entry \"dangling\" points to inode 99999, which does not exist" \
		'entry "a/b" is no valid name' 'stands in the root, as "stray"' 'stands in inode 88888, which does not exist'
	mends
	intact buckets/env columns/env
	[[ $(lost buckets) = *-stray ]]
	[[ $(lost columns) = *-nowhere ]]
	same /usr/bin/env "$MNT/columns/lost+found/"*
	same /usr/bin/env "$MNT/layers/renamed-"*
}

@test "names: control characters in them are not printed" {
	sql "INSERT INTO names(parent, name, ino) VALUES(4, x'1b5b33316d410a', 99999)"
	finds 'entry "\x1b[31mA\x0a" points to inode 99999'
	mends
}

@test "tree: nameless, twice named and circular directories" {
	local d e b
	d=$(ino d 1)
	e=$(ino e 3)
	b=$(ino d 2)
	sql "DELETE FROM names WHERE ino=$d; UPDATE names SET parent=$e WHERE ino=$(ino d 3);
		INSERT INTO names(parent, name, ino) VALUES(3, CAST('again' AS BLOB), $b)"
	finds "tree: directory $d has no name" 'is inside itself' "names: directory $b \"columns/d\" has a second name, \"again\""
	mends
	eq "$(lost buckets)" "$d"
	same "$PRISTINE/words" "$MNT/buckets/lost+found/$d/words"
	same "$PRISTINE/numbers" "$MNT/buckets/lost+found/$d/e/numbers.f64"
	[ "$(find "$MNT/layers/lost+found" -type f | wc -l)" = 4 ]
	same "$PRISTINE/words" "$(find "$MNT/layers/lost+found" -name words)"
	same "$PRISTINE/words" "$MNT/columns/d/words"
	find "$MNT" \( -name .spillfs -o -path "$MNT/views" \) -prune -o -type d -printf '%n %p\n' | while read -r n p; do
		eq "$(($(find "$p" -mindepth 1 -maxdepth 1 -type d -not -path "$MNT/deltas" -not -path "$MNT/snapshots" -not -path "$MNT/views" -not -path "$MNT/scratch" | wc -l) + 2))" "$n"
	done
}

@test "tree: a directory below one that is inside itself" {
	local d e
	d=$(ino d 3)
	e=$(ino e 3)
	sql "UPDATE names SET parent=$e WHERE ino IN ($d, $e)"
	finds "tree: directory $e "
	eq "$(grep -c 'is inside itself' "$WORK/out")" 1
	mends
	same "$PRISTINE/words" "$MNT/layers/lost+found/$e-e/d/words"
}

@test "tree: a directory with a second name in another class stays where it belongs" {
	local mine other
	mine=$(ino e 3)
	other=$(ino e 2)
	sql "UPDATE names SET ino=$mine WHERE ino=$other"
	finds "has a second name, \"e\" in directory $(ino d 2) \"columns/d\"" "tree: directory $other has no name"
	mends
	intact columns/d/e/numbers.f64
	same "$PRISTINE/numbers" "$MNT/columns/lost+found/$other/numbers.f64"
}

@test "tree: a wrong parent" {
	sql "UPDATE inodes SET parent=2 WHERE ino=$(ino e 3)"
	finds 'tree: directory ' '"layers/d/e": its parent is said to be inode 2'
	mends
	intact
}

@test "links: counts, and files without a name" {
	local f g
	f=$(ino env 3)
	g=$(ino words 2)
	sql "UPDATE inodes SET nlink=5 WHERE ino=$f; UPDATE inodes SET nlink=9 WHERE ino=3;
		DELETE FROM names WHERE ino=$g; UPDATE inodes SET nlink=0 WHERE ino=$(ino words 1)"
	finds "links: file $f \"layers/env\": its link count is 5, it has 1" 'links: directory 3 "columns": its link count is 9' \
		"links: file $g has no name, but a link count" '"buckets/d/words": its link count is 0, it has 1'
	mends
	intact columns/d/words
	same "$PRISTINE/words" "$MNT/columns/lost+found/$g"
}

@test "orphans are counted, no errors, and survive no mount" {
	local f
	f=$(ino words 1)
	sql "DELETE FROM names WHERE ino=$f; UPDATE inodes SET nlink=0 WHERE ino=$f"
	unchanged check 0 -v
	says "links: 1 inodes without a name"
	mount_store
	intact buckets/d/words
	umount_store
	check 0
}

@test "lost+found: an existing one is used, a file of that name is left alone" {
	mount_store
	mkdir "$MNT/buckets/lost+found"
	echo mine >"$MNT/columns/lost+found"
	umount_store
	sql "DELETE FROM names WHERE ino IN ($(ino env 1), $(ino env 2))"
	finds "has no name, but a link count"
	mends
	eq "$(lost buckets)" "$(ino env 1)$(ls "$MNT/buckets/lost+found")"
	eq "$(cat "$MNT/columns/lost+found")" mine
	same /usr/bin/env "$MNT/columns/lost+found.1/"*
}

@test "much at once, with a log that was never folded in" {
	local i
	mount_store
	for k in $KINDS; do
		mkdir "$MNT/$k/many"
		for i in $(seq 200); do echo $i >"$MNT/$k/many/$i"; done
	done
	"$SPILLCTL" sync "$MNT"
	kill9
	[ -s "$STORE/meta.db-wal" ]
	unchanged check 0
	sql "DELETE FROM names WHERE ino % 7=0 AND ino>64; UPDATE inodes SET nlink=3 WHERE ino % 11=0 AND ino>64"
	finds "links: "
	mends
	for k in $KINDS; do [ "$(lost "$k" | wc -l)" -gt 20 ]; done
}

@test "SIGINT ends it with 32, and nothing is changed" {
	local code=0
	mount_store
	head -c 256M /dev/zero >"$MNT/columns/long"
	umount_store
	sums "$STORE/pool" >"$WORK/tree1"
	bash -c 'kill -STOP $$ && exec "$0" check --data -y "$1"' "$SPILLCTL" "$STORE" >"$WORK/out" 3>&- &
	# In steps, so that it is stopped while it reads.
	until [ -n "$(find "/proc/$!/fd" -lname "*/columns/*")" ]; do
		grep -q "^State:.[^Z]" "/proc/$!/status"
		kill -CONT $!
		kill -STOP $!
	done
	kill -INT $!
	kill -CONT $!
	wait $! || code=$?
	eq $code 32
	says ": cancelled"
	sums "$STORE/pool" >"$WORK/tree2"
	same "$WORK/tree1" "$WORK/tree2"
}
