#!/usr/bin/env bats
# The daemon's memory has a bound, however many small files it has seen: the budgets plus 64 MiB. (A million of each kind:
# memory-long.bats.)

load ../lib/common
setup() {
	setup_work
	spill_only
	need_prog MANYFILES tests/fs/manyfiles.c
	need_prog SPILLLOAD tests/fs/spillload.c
}

peak_mib() { awk '/^VmHWM/ { print int($2 / 1024) }' "/proc/$PID/status"; }

@test "3,000 small arrays are made, listed, read and removed within the budgets" {
	mount_store -o cache=8M,dirty=8M
	for k in $KINDS; do
		"$MANYFILES" "$MNT/$k" 3000 100 4 create list read remove
		echo "$k: peak $(peak_mib) MiB"
		sanitized || [ "$(peak_mib)" -le $((8 + 8 + 64)) ]
	done
}

@test "columns of less than 64 KiB are in memory while they are dirty, not longer" {
	mount_store -o cache=8M,dirty=8M
	"$MANYFILES" "$MNT/columns" 1500 60000 4 create read
	echo "peak: $(peak_mib) MiB"
	sanitized || [ "$(peak_mib)" -le $((8 + 8 + 64)) ]
}

# Each file has attributes of 60,000 bytes, which are in the log with it.
@test "a compaction takes no more memory for a state of 100 MB" {
	mount_store -o cache=8M,dirty=8M
	"$PYTHON" -S -c '
import os, sys
for i in range(1700):
    fd = os.open(f"{sys.argv[1]}/{i}", os.O_CREAT | os.O_WRONLY)
    os.setxattr(fd, "user.long", bytes([i % 256]) * 60000)
    if i % 50 == 49:
        os.fsync(fd)
    os.close(fd)' "$MNT/layers"
	before=$(peak_mib)
	"$SPILLCTL" compact "$MNT"
	echo "peak: $before MiB, $(peak_mib) MiB after the compaction"
	sanitized || [ "$(peak_mib)" -le $((8 + 8 + 64)) ]
	[ "$(getfattr --absolute-names -n user.long --only-values "$MNT/layers/777" | wc -c)" = 60000 ]
}

@test "the kernel is asked to forget inodes that hold more than their share" {
	mount_store -o cache=1M
	"$MANYFILES" "$MNT/columns" 2000 100 2 create list read
	# A quarter of 1 MiB is some 600 inodes.
	[ "$(stat_value spillfs_memory_bytes 'holds="inodes"')" -gt 0 ]
	few() { [ "$(stat_value spillfs_memory_bytes 'holds="inodes"')" -lt 300000 ]; }
	soon few
	"$MANYFILES" "$MNT/columns" 2000 100 2 list read remove
}

@test "unmounting columns writes what is dirty, not what was ever made" {
	mount_store -o cache=8M
	"$MANYFILES" "$MNT/columns" 2500 8000 4 create
	"$SPILLCTL" sync "$MNT"
	# The open layer is sealed when its list gets long, which takes a moment.
	sealed() { [ "$(stat_value spillfs_layers_sealed)" -gt 0 ]; }
	soon sealed
	before=$(du -s --block-size=1 "$STORE/layers" | cut -f1)
	umount_store
	after=$(du -s --block-size=1 "$STORE/layers" | cut -f1)
	echo "layers/ has $before bytes, and $after after the unmount"
	[ $((after - before)) -lt 16000000 ]
}

teardown() {
	teardown_work
	remove_group
}

@test "programs and the daemon share 256 MiB, and the programs write more than that" {
	require_root
	need_prog SPILLLOAD tests/fs/spillload.c
	group $((256 << 20))
	in_group "$SPILLFS" "$STORE" "$MNT"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	mkdir "$MNT/buckets/d"
	guarded 60 bash -c 'in_group "$@"' - "$SPILLLOAD" -q "$MNT/buckets/d" 2048 2 32768 8 write
	umount_store
}

# The default budgets by themselves, of both stores, are more than a gibibyte.
@test "a daemon fits into the control group that it starts in" {
	require_root
	sanitized && skip "a sanitizer takes more memory"
	group $((192 << 20))
	in_group "$SPILLFS" "$STORE" "$MNT"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	mkdir "$MNT/scratch/layers"
	setfattr -n user.spillfs.kind -v layered "$MNT/scratch/layers"
	for dir in "$MNT/layers" "$MNT/scratch/layers" "$MNT/scratch"; do
		"$SPILLLOAD" -q -z "$dir" 8 2 1048576 16
	done
	[ -d "/proc/$PID" ]
	grep -E '^(cache|dirty|spill) ' "$MNT/.spillfs/config"
	awk '$1 == "cache" { few = $2 < 64 * 2 ^ 20 } END { exit !few }' "$MNT/.spillfs/config"
}

@test "a daemon that is given more than its control group has says so" {
	require_root
	group $((192 << 20))
	(echo "$BASHPID" >"$GROUP/cgroup.procs" && mount_logged -o spill=1G)
	PID=$(daemon_pid)
	grep "cache=, dirty= and spill= let the daemon take .*, and its control group leaves it 192 MiB" "$WORK/log"
}
