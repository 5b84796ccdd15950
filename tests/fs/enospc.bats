#!/usr/bin/env bats
# A store whose file system fills up: ENOSPC, nothing lost, and on with it after rm.

load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/small" 96M
	mount_store -o commit=1
}

# fill FILE: until the store is full. The error may come with a write, or with the fsync.
fill() {
	run env LC_ALL=C dd if=/dev/urandom of="$1" bs=1M count=200 conv=fsync
	echo "$output"
	[ "$status" -ne 0 ]
	grep -qF "No space left on device" <<<"$output"
}

full_and_on() {
	noise 2000000 "$D/before"
	noise 2000000 "$WORK/want"
	sync "$D/before"
	fill "$D/big"
	same "$WORK/want" "$D/before"
	[ "$(stat -f -c '%a' "$D")" -lt "$(stat -f -c '%b' "$D")" ]
	ls -l "$D" >/dev/null
	rm "$D/big"
	noise 5000000 "$D/after" 2 # the next write succeeds
	sync "$D/after"
	noise 5000000 "$WORK/want2" 2
	same "$WORK/want2" "$D/after"
	remount
	same "$WORK/want" "$D/before"
	same "$WORK/want2" "$D/after"
	rm "$D/before" "$D/after"
	"$SPILLCTL" sync "$MNT"
}

one_kind() {
	K=$1 D=$MNT/$1/d
	mkdir "$D"
	full_and_on
}

@test "buckets" { one_kind buckets; }
@test "columns" { one_kind columns; }
@test "layers" { one_kind layers; }

@test "what the kernel held and does not fit is told to each writer, though a reader has closed first" {
	guarded 60 "$PYTHON" "$LIB/unwritten.py" lost "$MNT"
}

@test "a hole in a column is filled until the store is full" {
	D=$MNT/columns/d
	mkdir "$D"
	truncate -s 200M "$D/big"
	printf x >>"$D/big"
	run env LC_ALL=C dd if=/dev/urandom of="$D/big" bs=1M count=200 conv=notrunc,fsync
	grep -qF "No space left on device" <<<"$output"
	rm "$D/big"
	noise 2000000 "$D/after"
	sync "$D/after"
}

@test "a full store and a crash: what was fsynced is there, and it mounts" {
	noise 2000000 "$WORK/want"
	for k in $KINDS; do
		cp "$WORK/want" "$MNT/$k/before"
		sync "$MNT/$k/before"
	done
	fill "$MNT/columns/big"
	kill9
	mount_again
	for k in $KINDS; do same "$WORK/want" "$MNT/$k/before"; done
	rm -f "$MNT/columns/big"
	"$SPILLCTL" sync "$MNT"
	for k in $KINDS; do
		cp "$WORK/want" "$MNT/$k/after"
		sync "$MNT/$k/after"
		same "$WORK/want" "$MNT/$k/after"
	done
}

@test "many small files until it is full, in every class, then all removed" {
	for k in $KINDS; do
		D=$MNT/$k/d
		mkdir "$D"
		noise 1500000 "$WORK/piece"
		n=0
		while cp "$WORK/piece" "$D/f$n" 2>/dev/null && sync "$D/f$n" 2>/dev/null; do
			n=$((n + 1))
			[ $n -lt 200 ]
		done
		echo "$k: $n files"
		[ $n -gt 20 ]
		rm -r "$D"
		"$SPILLCTL" sync "$MNT"
		# layers are history and stay until compaction: start over for the next class
		[ "$k" = layers ] || { echo x >"$MNT/$k/x"; sync "$MNT/$k/x"; }
	done
}
