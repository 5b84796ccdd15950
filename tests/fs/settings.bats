#!/usr/bin/env bats
# Settings (user.spillfs.*) and copies: what is set on a file is listed, goes with it, and stops no copy.
load ../lib/common

setup_file() {
	setup_work
	mount_store
}
teardown_file() { teardown_work; }
setup() {
	spill_only
	revive
	cd "$MNT"
}
teardown() { cd /; }

# names FILE: the attributes that are listed.
names() { getfattr -m - --absolute-names "$1" | sed -n 's/^user\.spillfs\.//p' | paste -sd' '; }
block_in_effect() { "$SPILLCTL" stats -s "$1" | sed -n 's/.* blocks of \([0-9.]* [KM]iB\).*/\1/p'; }

# The source: every setting, on a file with data.
make_source() { # DIR
	mkdir -p "$1/sub"
	: >"$1/sub/a"
	set_xattr "$1/sub/a" block_size 8192
	noise 200000 "$1/sub/a"
	set_xattr "$1/sub/a" dtype i32
	set_xattr "$1/sub/a" shape 500,100
	set_xattr "$1/sub/a" codec zstd:7
	set_xattr "$1/sub/a" filter shuffle
	setfattr -n user.own -v kept "$1/sub/a"
	: >"$1/sub/empty"
	set_xattr "$1/sub/empty" block_size 12288
}

# The copy has the bytes and every attribute of the original.
whole() { # ORIGINAL COPY
	same "$1/sub/a" "$2/sub/a"
	diff <(cd "$1/sub" && getfattr -d -m user a empty) <(cd "$2/sub" && getfattr -d -m user a empty)
	eq "$(xattr "$2/sub/a" block_size)" 8192
	case $2 in */layers/*) eq "$(block_in_effect "$2/sub/a")" "8.0 KiB" ;; esac
}

# Unmounted, the store is in order to the last frame; mounted again.
checked() {
	cd /
	umount_store
	"$SPILLCTL" check --data "$STORE"
	mount_again
	cd "$MNT"
}

@test "copies by rsync, cp, shutil and tar carry settings between all kinds, twice over" {
	require_tool rsync
	for from in $KINDS; do
		make_source "$MNT/$from/src"
		for to in $KINDS; do
			echo "--- $from to $to"
			d=$MNT/$to/from-$from
			mkdir "$d"
			for round in 1 2; do
				rsync -aX "$MNT/$from/src/" "$d/rsync/"
				cp -r --preserve=xattr "$MNT/$from/src/." "$d/cp$round"
				cp -a "$MNT/$from/src/." "$d/archive"
				"$PYTHON" -c 'import shutil, sys; shutil.copytree(*sys.argv[1:], dirs_exist_ok=True)' \
					"$MNT/$from/src" "$d/tree"
				mkdir -p "$d/tar"
				tar -C "$MNT/$from/src" --xattrs -cf - . | tar -C "$d/tar" --xattrs -xf -
			done
			for c in rsync cp1 cp2 archive tree tar; do whole "$MNT/$from/src" "$d/$c"; done
		done
		eq "$(cd "$MNT/$from/src" && rsync -aXn --itemize-changes . "$d/rsync")" ""
	done
}

@test "a value survives the way from folder to folder and back, and out to another file system" {
	make_source "$MNT/buckets/way"
	make_source "$WORK/want"
	mv buckets/way layers/way
	whole "$WORK/want" "$MNT/layers/way"
	mv layers/way columns/way
	whole "$WORK/want" "$MNT/columns/way"
	mv columns/way buckets/way
	mv buckets/way "$WORK/out"
	whole "$WORK/want" "$WORK/out"
	mv "$WORK/out" layers/way
	mkdir snapshots/way
	cp -a snapshots/way/layers/way layers/from-snapshot
	cp -r --preserve=xattr snapshots/way/layers/way buckets/from-snapshot
	whole "$WORK/want" "$MNT/snapshots/way/layers/way"
	whole "$WORK/want" "$MNT/layers/from-snapshot"
	whole "$WORK/want" "$MNT/buckets/from-snapshot"
}

@test "listed is what was set on a file, not how its folder stores things" {
	for k in $KINDS; do
		mkdir -p "$k/d"
		set_xattr "$k/d" block_size 16384
		set_xattr "$k/d" codec zstd:9
		set_xattr "$k/d" filter none
		mkdir "$k/d/e"
		: >"$k/d/e/f"
		eq "$(names "$k/d/e/f")" ""
		eq "$(names "$k/d/e")" ""
		eq "$(names "$k/d")" "block_size codec filter"
		eq "$(xattr "$k/d/e/f" block_size) $(xattr "$k/d/e/f" codec) $(xattr "$k/d/e/f" filter)" "16384 zstd:9 none"
		set_xattr "$k/d/e/f" codec none
		eq "$(names "$k/d/e/f")" codec
		setfattr -x user.spillfs.codec "$k/d/e/f"
		eq "$(xattr "$k/d/e/f" codec)" zstd:9
		refute setfattr -x user.spillfs.codec "$k/d/e/f"
		noise 100000 "$k/d/e/f"
		# A copy to where the folder says something else is stored as that says.
		mkdir -p "$k/other"
		set_xattr "$k/other" block_size 4096
		cp -a "$k/d/e/f" "$k/other/f"
		eq "$(xattr "$k/other/f" block_size)" 4096
	done
	eq "$(block_in_effect layers/d/e/f) $(block_in_effect layers/other/f)" "16.0 KiB 4.0 KiB"
	mkdir snapshots/listed
	eq "$(names snapshots/listed/layers/d/e/f)" ""
	checked
	eq "$(xattr layers/d/e/f codec)" zstd:9
	eq "$(block_in_effect layers/d/e/f)" "16.0 KiB"
	eq "$(xattr snapshots/listed/layers/d/e/f block_size)" 16384
}

@test "a link or a fifo has none of its directory's settings, and is copied with attributes" {
	mkdir layers/given
	for set in dtype=i64 'logical=decimal(18,2)' direct=1; do set_xattr layers/given "${set%=*}" "${set#*=}"; done
	echo 12345678 >layers/given/file
	ln -s file layers/given/link
	mkfifo layers/given/fifo
	eq "$(getfattr -h -d -m - layers/given/link layers/given/fifo)" ""
	rsync -aX layers/given/ "$WORK/copy/"
	eq "$(readlink "$WORK/copy/link")" file
	eq "$(xattr "$WORK/copy/file" dtype)" i64
	checked
}

@test "what is no block size is refused on every kind; where blocks mean nothing a size is a wish" {
	for k in $KINDS; do
		echo x >"$k/w"
		set_xattr "$k/w" block_size 4096
		for bad in 0 -1 17 17x 5000 99999999999999; do
			fails_with "Invalid argument" set_xattr "$k/w" block_size $bad
		done
		eq "$(xattr "$k/w" block_size)" 4096
		eq "$(names "$k/w")" block_size
	done
	setfattr -x user.spillfs.block_size layers/w
	eq "$(xattr layers/w block_size)" 4096 # its blocks are what they are
}

@test "an array with data is written anew in blocks of another size, holes and history kept" {
	noise 3000000 "$WORK/a"
	cp "$WORK/a" layers/re
	truncate -s 40M layers/re
	noise 70001 - 2 | dd of=layers/re bs=1 seek=35000000 conv=notrunc status=none iflag=fullblock bs=70001 oflag=seek_bytes
	mkdir snapshots/re-before
	sum=$(sha layers/re)
	before=$(xattr layers/re stored_bytes)
	for size in 4096 1048576 16777216 8192; do
		noise 5000 - 3 | dd of=layers/re conv=notrunc status=none # some of it not compressed yet
		noise 5000 "$WORK/head"
		dd if="$WORK/head" of=layers/re conv=notrunc status=none
		set_xattr layers/re block_size $size
		eq "$(sha layers/re)" "$sum"
		eq "$(xattr layers/re block_size)" $size
		"$SPILLCTL" sync "$MNT"
		eq "$(sha layers/re)" "$sum"
	done
	eq "$(block_in_effect layers/re)" "8.0 KiB"
	[ "$(xattr layers/re stored_bytes)" -lt $((before + before / 10)) ]
	eq "$(sha snapshots/re-before/layers/re)" "$sum"
	mkdir snapshots/re-after
	eq "$("$SPILLCTL" diff "$MNT" re-before re-after | tail -n +1 | grep -A1 '~ re$' | tail -n1 | tr -d ' ')" "[0,41943040)"
	truncate -s 3000000 layers/re
	same layers/re "$WORK/a"
	"$SPILLCTL" compact "$MNT"
	same layers/re "$WORK/a"
	cd /
	kill9
	mount_again
	cd "$MNT"
	same layers/re "$WORK/a"
	eq "$(sha snapshots/re-before/layers/re)" "$sum"
	checked
}

@test "an array too large to be written anew keeps its blocks, and setting another size is not supported" {
	truncate -s 2G layers/large
	set_xattr layers/large block_size 131072
	fails_with "Operation not supported" set_xattr layers/large block_size 65536
	eq "$(xattr layers/large block_size)" 131072
	eq "$(names layers/large)" block_size
	fails_with "Operation not supported" set_xattr layers/large block_size 4096
	eq "$(xattr layers/large block_size)" 131072
	truncate -s 0 layers/large
	set_xattr layers/large block_size 65536
}

@test "codecs and filters by name" {
	for codec in auto zstd:1 zstd:-7 pack none; do
		for filter in auto none shuffle delta+pack delta+zigzag+shuffle; do
			f=$MNT/layers/$codec.$filter.i64
			: >"$f"
			set_xattr "$f" codec "$codec"
			set_xattr "$f" filter "$filter"
			"$PYTHON" -c 'import array, sys; array.array("q", (i * 3 + i % 7 for i in range(40000))).tofile(sys.stdout.buffer)' >"$f"
		done
	done
	: >"$MNT/layers/x.f64"
	set_xattr "$MNT/layers/x.f64" filter scale+delta+pack
	"$PYTHON" -c 'import array, sys; array.array("d", (i % 900 / 100 for i in range(40000))).tofile(sys.stdout.buffer)' >"$MNT/layers/x.f64"
	(cd "$MNT/layers" && md5sum -- *.?64) >"$WORK/sums"
	sync "$MNT"
	"$SPILLCTL" stats "$MNT/layers/none.auto.i64" | grep -q ' none '
	"$SPILLCTL" stats "$MNT/layers/none.shuffle.i64" | grep -q ' shuffle:8 '
	"$SPILLCTL" stats "$MNT/layers/pack.auto.i64" | grep -q 'pack:8 '
	"$SPILLCTL" stats "$MNT/layers/zstd:1.delta+zigzag+shuffle.i64" | grep -q ' delta+zigzag+shuffle:8 '
	"$SPILLCTL" stats "$MNT/layers/x.f64" | grep -q ' scale+delta+pack:8 '
	for bad in zstd:0 zstd:20 zstd:-0 zstd:-8 zstd:--1 zstd:- zstd:+1 packs ''; do run setfattr -n user.spillfs.codec -v "$bad" "$MNT/layers/x.f64"; [ "$status" -ne 0 ]; done
	for bad in pack+delta zigzag shuffle+pack 9 ''; do run setfattr -n user.spillfs.filter -v "$bad" "$MNT/layers/x.f64"; [ "$status" -ne 0 ]; done
	checked
	(cd "$MNT/layers" && md5sum --quiet -c "$WORK/sums")
}

# cut_often FILE: 40 pieces of 128 KiB are written, and the file is shortened by each fourth of them while it is open.
cut_often() {
	"$PYTHON" -S - "$1" <<-'EOF'
		import os, sys
		fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644)
		piece, end = os.urandom(1 << 17), 0
		for i in range(40):
		    os.pwrite(fd, piece, end)
		    end += len(piece)
		    if i % 4 == 3:
		        end -= 2 * len(piece)
		        os.ftruncate(fd, end)
		assert os.pread(fd, len(piece), end - len(piece)) == piece
		assert os.fstat(fd).st_size == end == 20 << 17
		assert open(sys.argv[1], "rb").read() == piece * 20
	EOF
}

@test "direct: what a file that is cut has gathered is not written page by page" {
	local dir before ops
	[ "$(printf '%s\n' 6.6 "$(uname -r)" | sort -V | head -n1)" = 6.6 ] || missing "maps of direct files: Linux 6.6"
	for dir in scratch buckets; do
		mkdir "$MNT/$dir/direct"
		set_xattr "$MNT/$dir/direct" direct 1
		before=$(stat_value spillfs_write_ops 'kind="bucket"')
		cut_often "$MNT/$dir/direct/f"
		ops=$(($(stat_value spillfs_write_ops 'kind="bucket"') - before))
		eq "$ops" 40
		eq "$(xattr "$MNT/$dir/direct/f" direct)" 1
		set_xattr "$MNT/$dir/direct/f" direct 0
		cut_often "$MNT/$dir/direct/f"
		fails_with "nvalid" setfattr -n user.spillfs.direct -v yes "$MNT/$dir/direct/f"
		rm -r "$MNT/$dir/direct"
	done
}
