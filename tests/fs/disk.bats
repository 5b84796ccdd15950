#!/usr/bin/env bats
# The disk below a store fails: its power is cut, it is gone, or it has become read-only. Operations end with clear errors, the
# daemon ends in order, and nothing that was acknowledged is lost. (A full disk: full.bats, enospc.bats.)

load ../lib/common
load disk

setup() { disk_setup; }

@test "a power cut keeps what was fsynced, and the mount can be taken away" { power_cuts 1 2 -o commit=0; }
@test "a power cut between commits of every second" { power_cuts 11 12 -o commit=1,dirty=1M,cache=1M,layer=512K; }
@test "a power cut that loses the disk's own cache" {
	removable_disk
	power_cuts 21 22 -o commit=0
}

# Files of each kind: old, cut, gone; synced, and so are their sums.
use() {
	local k
	for k in $KINDS; do
		noise 1000000 "$MNT/$k/old" 1
		noise 1000000 "$MNT/$k/cut" 2
		noise 1000000 "$MNT/$k/gone" 3
	done
	"$SPILLCTL" sync "$MNT"
}

as_synced() {
	local k
	for k in $KINDS; do
		eq "$(cd "$MNT/$k" && ls)" $'cut\ngone\nold'
		cmp "$MNT/$k/cut" <(noise 1000000 - 2)
		cmp "$MNT/$k/gone" <(noise 1000000 - 3)
		eq "$(stat -c %s "$MNT/$k/old")" 1000000
		# Buckets and columns are overwritten in place.
		[ $k != layers ] || cmp "$MNT/$k/old" <(noise 1000000 - 1)
	done
}

# fails_by FAULT [options]
fails_by() {
	local fault=$1
	shift
	DAEMON_LOST=expected
	start -o commit=0 "$@"
	use
	case $fault in
	gone)
		py disk cut "$WORK/below"
		refute dd if="$(losetup -n -O NAME -j "$DISK")" of=/dev/null bs=4096 count=1 iflag=direct
		;;
	*) py disk "$fault" "$WORK/disk" ;;
	esac
	guarded 60:30 "$PYTHON" -S "$LIB/disk.py" dead "$MNT"
	refute "$SPILLCTL" sync "$MNT"
	end_failed
	grep -q "read-only" "$WORK/log"
	disk_again
	"$SPILLCTL" check "$STORE"
	mount_store
	as_synced
	for k in $KINDS; do echo new >"$MNT/$k/new"; done
	umount_store
}

@test "a disk that has lost its power: errors, an end in order, and what was synced is there when it is back" { fails_by cut; }
@test "the same with -o nowriteback" { fails_by cut -o nowriteback; }
@test "the same with direct I/O on the store" { fails_by cut -o backing=direct; }
@test "the same with columns by passthrough" { need_passthrough; fails_by cut -o passthrough; }

@test "a device that is gone below ext4" {
	removable_disk
	fails_by gone
}
@test "a device that is gone below ext4, with direct I/O on the store" {
	removable_disk
	fails_by gone -o backing=direct
}

@test "a disk that ext4 makes read-only at an error" {
	mount -o remount,errors=remount-ro "$WORK/disk"
	fails_by error
}

@test "a store on a read-only disk is refused with its path, and is untouched" {
	mount_store
	use
	umount_store
	mount -o remount,ro "$WORK/disk"
	fails_with "$STORE" "$SPILLFS" "$STORE" "$MNT"
	refute mounted
	mount -o remount,rw "$WORK/disk"
	mount_store
	as_synced
}
