# For disk.bats and disk-long.bats: a store on an ext4 of its own, with a journal, whose faults disk.py makes.

disk_setup() {
	setup_work
	spill_only
	need_journaled_ext4
}

need_journaled_ext4() {
	small_ext4 "$WORK/disk" 256M has_journal
	STORE=$WORK/disk/store
	mkdir "$STORE"
}

# The disk as it is found after its fault: ext4 replays its journal, and is repaired where it says that it must be.
disk_again() {
	umount "$WORK/disk"
	e2fsck -fp "$WORK/disk.img" >"$WORK/e2fsck" 2>&1 || [ $? -le 1 ] || { cat "$WORK/e2fsck"; return 1; }
	mount -o loop "$WORK/disk.img" "$WORK/disk"
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

# power_cuts FIRST LAST [options]: at random moments; each time what was fsynced is there, and the store is in order.
power_cuts() {
	local seed first=$1 last=$2
	shift 2
	RANDOM=$first
	DAEMON_LOST=expected
	for seed in $(seq "$first" "$last"); do
		echo "--- power cut $seed"
		start "$@"
		guarded 60:30 "$PYTHON" -S "$LIB/crash.py" run "$MNT" "$WORK/state" "$seed" $((RANDOM % 60 + 1)) "cut:$WORK/disk"
		end_failed
		disk_again
		"$SPILLCTL" check "$STORE" >"$WORK/check" || { cat "$WORK/check"; return 1; }
		mount_store "$@"
		guarded 60:30 "$PYTHON" -S "$LIB/crash.py" check "$MNT" "$WORK/state"
		umount_store
	done
}
