#!/usr/bin/env bats
# posix_fallocate: what is reserved can be written, however full the store is.
load ../lib/common

setup_file() {
	setup_work
	small_store "$WORK/small" 128M
	mount_store -o commit=1
	export STORE
}
teardown_file() { teardown_work; }
setup() {
	spill_only
	require_root
	revive
}

teardown() { :; }

@test "what is reserved is missing from the free space, and comes back when it is wanted no more" {
	py reserve returned "$MNT" $KINDS
}

@test "a reservation outlives the daemon, by an unmount and by a crash" {
	py reserve reserve "$MNT" $KINDS
	before=$(stat -f -c %a "$MNT")
	umount_store
	"$SPILLCTL" check "$STORE"
	mount_again
	after=$(stat -f -c %a "$MNT")
	[ $((before - after)) -lt 300 ] && [ $((after - before)) -lt 300 ] || fail "free: $before, then $after"
	kill9
	mount_again
	py reserve use "$MNT" $KINDS
	umount_store
	"$SPILLCTL" check "$STORE"
	mount_again
}

@test "what is reserved can be written on a store that is full otherwise, in every kind" {
	py reserve kept "$MNT"
}

@test "what is left of a reservation by odd writes is in order" {
	for k in $KINDS; do
		fallocate -l 300000 "$MNT/$k/odd"
		noise 777 - | dd of="$MNT/$k/odd" bs=777 seek=3 conv=notrunc status=none
		fallocate -p -o 50001 -l 70003 "$MNT/$k/odd"
		truncate -s 250007 "$MNT/$k/odd"
	done
	umount_store
	"$SPILLCTL" check "$STORE"
	mount_again
	rm "$MNT"/*/odd
}
