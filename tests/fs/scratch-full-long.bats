#!/usr/bin/env bats
# scratch/ on a disk that fills up: ENOSPC for who writes, nothing lost of others, on with it after rm, and nothing left at the end.

load ../lib/common

setup() {
	spill_only
	setup_work
	S=$MNT/scratch
}

# fill FILE: until there is no space. The error comes with a write or with the fsync.
fill() {
	run env LC_ALL=C dd if=/dev/urandom of="$1" bs=1M count=300 conv=fsync
	[ "$status" -ne 0 ]
	grep -qF "No space left on device" <<<"$output"
}

full_and_on() {
	local opts=$1 name
	small_store "$WORK/small" 96M
	mount_store -o "commit=1,$opts"
	noise 5000000 "$MNT/buckets/durable"
	"$SPILLCTL" sync "$MNT"
	noise 5000000 "$WORK/want"
	for name in a a.column a.layered; do noise 5000000 "$S/$name" && sync "$S/$name"; done
	for name in full full.column full.layered; do
		fill "$S/$name"
		same "$WORK/want" "$S/a"
		same "$WORK/want" "$S/a.column"
		same "$WORK/want" "$S/a.layered"
		rm "$S/$name"
		# The space is there again, for others as well.
		noise 20000000 "$S/next" && sync "$S/next"
		rm "$S/next"
	done
	same "$WORK/want" "$MNT/buckets/durable"
	umount_store
	mount_again
	same "$WORK/want" "$MNT/buckets/durable"
	eq "$(ls -A "$S")" ""
}

@test "a full disk: ENOSPC for who writes, and nothing lost, with all on the disk" { full_and_on spill=0; }
@test "a full disk behind memory that is full" { full_and_on spill=24M; }
@test "a full disk, encrypted" { full_and_on spill=0,encrypt=ephemeral; }
