#!/usr/bin/env bats
# A small disk full of small files: whoever needs space is told so, nothing that was answered is lost, and deleting gives
# space to whoever is next.

load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/small" 12M
	mount_store
}

# filled KIND BYTES
filled() {
	guarded 200 "$PYTHON" "$LIB/full.py" "$MNT/$1/d" "$2"
	remount
	guarded 100 "$PYTHON" "$LIB/full.py" check "$MNT/$1/d" "$2"
	rm -r "$MNT/$1/d"
	"$SPILLCTL" sync "$MNT"
	touch "$MNT/$1/x"
}

@test "columns of 4,000 bytes" { filled columns 4000; }
@test "buckets of 4,000 bytes" { filled buckets 4000; }
@test "layers of 4,000 bytes" { filled layers 4000; }

# With commit=0 nothing but df gives it back; that of layers needs a compaction. One df for each: a second one would have what the first has waited for.
@test "df shows at once what is free of a full disk when a file is deleted, synced or not" {
	local kind synced left before
	umount_store
	small_store "$WORK/larger" 96M
	mount_store -o commit=0
	left_of() { df -k --output=avail "$1" | tail -n 1 | tr -d ' '; }
	for kind in buckets columns; do
		for synced in no yes; do
			before=$(left_of "$MNT")
			dd if=/dev/urandom of="$MNT/$kind/big" bs=1M count=$((before / 1024 - 6)) iflag=fullblock oflag=direct status=none
			[ "$synced" = no ] || sync "$MNT/$kind/big"
			rm "$MNT/$kind/big"
			left=$(left_of "$MNT")
			echo "$kind, synced: $synced: $left of $before KiB are free"
			[ "$left" -gt $((before - 6000)) ]
		done
	done
}

# emptied WHAT KIND
emptied() {
	guarded 200 "$PYTHON" "$LIB/full.py" "$1" "$MNT/$2/d"
	umount_store
	"$SPILLCTL" check "$STORE"
	mount_again
}

@test "facts of columns change on a full disk, again and again, and a crash loses none" {
	umount_store
	small_store "$WORK/larger" 48M
	mount_store -o commit=0
	guarded 200 "$PYTHON" "$LIB/full.py" facts "$MNT/columns/d"
	kill9
	mount_again
	[ "$(stat -c %a "$MNT/columns/d/7")" = 644 ]
	rm -r "$MNT/columns/d"
	"$SPILLCTL" sync "$MNT"
	touch "$MNT/columns/x"
}
# taken KIND: names that were answered, and no space for the log of the commit: it is tried again, and nothing is taken back.
taken() {
	umount_store
	small_store "$WORK/$1" 64M
	mount_store -o commit=0
	guarded 100 "$PYTHON" "$LIB/full.py" others "$MNT/$1/d" "$WORK/$1"
	kill9
	mount_again
	eq "$(ls "$MNT/$1/d" | wc -l)" 400
	umount_store
	"$SPILLCTL" check "$STORE"
}

@test "others take all space before a commit: names of buckets" { taken buckets; }
@test "others take all space before a commit: names of columns" { taken columns; }
@test "others take all space before a commit: names of layers" { taken layers; }
@test "long attributes of columns" { emptied attributes columns; }
@test "long attributes of layered arrays" { emptied attributes layers; }
@test "extents of one byte in a bucket" {
	umount_store
	mount_store -o commit=0,nowriteback # the kernel would make pages of them
	emptied extents buckets
}

umount_small() {
	umount "$WORK/small"
	loop_gone "$IMAGES/small.img"
}

# killed N: cuts with a daemon that is killed at the N-th change; 9: it was.
killed() {
	local rc=0
	cp "$IMAGES/base.img" "$IMAGES/small.img"
	mount -o loop "$IMAGES/small.img" "$WORK/small"
	export SPILLFS_FAULT=kill:$1 SPILLFS_FAULT_ARM=$WORK/armed
	mount_store -o commit=0
	unset SPILLFS_FAULT SPILLFS_FAULT_ARM
	touch "$WORK/armed"
	guarded 100 "$PYTHON" "$LIB/full.py" begin "$MNT/buckets" >"$WORK/promised" || rc=$?
	rm "$WORK/armed"
	return $rc
}

was_cutting() {
	cp "$STORE"/meta.db* "$WORK" # SQLite alone would fold the log, without checksums
	"$PYTHON" -c 'import sqlite3, sys
facts = dict(sqlite3.connect(sys.argv[1]).execute("SELECT key, value FROM facts"))
sys.exit(not facts.get("cutting"))' "$WORK/meta.db"
}

@test "the daemon is killed while buckets are cut: the next one goes on with it" {
	umount_store
	mount_store -o nowriteback # the kernel would make pages of the extents
	guarded 200 "$PYTHON" "$LIB/full.py" sparse "$MNT/buckets"
	umount_store
	umount_small
	cp "$IMAGES/small.img" "$IMAGES/base.img"
	seen=0
	for ((n = 140; n < 1000; n += 90)); do
		rc=0
		killed $n || rc=$?
		[ $rc = 9 ] || break
		DAEMON_LOST=expected
		umount -l "$MNT"
		"$SPILLCTL" check "$STORE"
		if was_cutting; then seen=1; fi
		mount_again
		guarded 100 "$PYTHON" "$LIB/full.py" resumed "$MNT/buckets" $(cat "$WORK/promised")
		umount_store
		"$SPILLCTL" check "$STORE"
		umount_small
	done
	eq "$rc $seen" "0 1"
}

@test "a hole in a bucket that is cut behind it before the commit leaves no extents" {
	umount_store
	mount_store -o commit=0,nowriteback # the kernel would make pages of the extents
	"$PYTHON" "$LIB/full.py" hole "$MNT/buckets"
	umount_store
	"$SPILLCTL" check "$STORE"
	mount_again
	cmp "$MNT/buckets/t" <(head -c 16000 /dev/zero)
}
