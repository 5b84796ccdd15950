# For disk.bats and disk-long.bats: a store on an ext4 of its own, with a journal, whose faults disk.py makes.

disk_setup() {
	setup_work
	spill_only
	disk_in
}

# disk_in [FOLDER]: the image of the disk is there.
disk_in() {
	images
	DISK=${1:-$IMAGES}/disk.img
	small_ext4 "$WORK/disk" 256M has_journal "${1:-}"
	STORE=$WORK/disk/store
	mkdir -p "$STORE"
}

# A disk that can be taken away: its image is on another ext4. Once the power of that one is cut (disk.py cut "$WORK/below"), all that
# the device is asked for fails, and what it had in a cache of its own is lost.
removable_disk() {
	umount "$WORK/disk"
	small_ext4 "$WORK/below" 400M has_journal
	disk_in "$WORK/below"
}

# The disk as it is found after its fault: ext4 replays its journal, and is repaired where it says that it must be. Before that it is
# gone everywhere.
disk_again() {
	umount "$WORK/disk"
	loop_gone "$DISK"
	if mounted "$WORK/below"; then
		umount "$WORK/below"
		loop_gone "$IMAGES/below.img"
		mount -o loop "$IMAGES/below.img" "$WORK/below"
	fi
	e2fsck -fp "$DISK" >"$WORK/e2fsck" 2>&1 || [ $? -le 1 ] || { cat "$WORK/e2fsck"; return 1; }
	mount -o loop "$DISK" "$WORK/disk"
}

# start [options]: the daemon in the foreground, whose exit code "$WORK/code" will have.
start() {
	printf '#!/bin/sh\n"%s" "$@"\necho $? >"%s"\n' "$SPILLFS" "$WORK/code" >"$WORK/run"
	chmod 755 "$WORK/run"
	SPILLFS=$WORK/run mount_logged "$@"
}

# The daemon of a disk that has failed unmounts, ends by itself and says so.
end_failed() {
	guarded 60:30 "$SPILLCTL" umount "$MNT" || true # it says that the last commit failed
	refute mounted
	ends "$PID"
	cat "$WORK/log"
	guarded 20 bash -c 'until [ -s "$0" ]; do sleep 0.02; done' "$WORK/code"
	eq "$(cat "$WORK/code")" 6
}

# power_cuts FIRST LAST [options]: at random moments; each time what was fsynced is there, and the store is in order. Of a removable
# disk, the device is gone.
power_cuts() {
	local seed first=$1 last=$2 what=$WORK/disk
	shift 2
	if mounted "$WORK/below"; then what=$WORK/below; fi
	RANDOM=$first
	DAEMON_LOST=expected
	for seed in $(seq "$first" "$last"); do
		echo "--- power cut $seed"
		start "$@"
		guarded 60:30 "$PYTHON" -S "$LIB/crash.py" run "$MNT" "$WORK/state" "$seed" $((RANDOM % 60 + 1)) "cut:$what" >>"$WORK/kept"
		end_failed
		disk_again
		"$SPILLCTL" check "$STORE" >"$WORK/check" || { cat "$WORK/check"; return 1; }
		mount_store "$@"
		guarded 60:30 "$PYTHON" -S "$LIB/crash.py" check "$MNT" "$WORK/state"
		umount_store
	done
	tell "$((last + 1 - first)) power cuts, $(awk '{ n += $1 } END { print n }' "$WORK/kept") promises before them kept"
	tell_peaks
}
