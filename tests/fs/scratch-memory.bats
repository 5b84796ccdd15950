#!/usr/bin/env bats
# -o spill and -o encrypt: where the bytes of scratch/ are, and what the disk sees of them.

load ../lib/common

setup() {
	spill_only
	setup_work
	S=$MNT/scratch
}

stats_number() { awk -v name="$1" '$1 == name { print $2 }' "$MNT/.spillfs/stats"; }
written() { awk '/^spillfs_backing_write_bytes_total{kind="spill"/ { n += $2 } END { printf "%d", n }' "$MNT/.spillfs/stats"; }

# The file that scratch/ has on the disk: without a name, behind a descriptor of the daemon.
spill_file() { find "/proc/$PID/fd" -lname "$STORE/* (deleted)" -size +0 | head -n 1; }

# text N: a line of plain text, N times.
text() { yes "nobody else may read this line of plain text" | head -n "$1"; }

@test "spill= is what is in memory: the rest, the oldest first, is on the disk" {
	mount_store -o spill=64M
	for i in 1 2 3 4 5 6; do head -c 16M /dev/urandom >"$WORK/$i" && cp "$WORK/$i" "$S/$i" && sync "$S/$i"; done
	[ "$(stats_number spillfs_spill_memory_bytes)" -le $((64 << 20)) ]
	[ "$(stats_number spillfs_spill_memory_bytes)" -gt $((48 << 20)) ]
	[ "$(stats_number spillfs_spill_disk_bytes)" -ge $((32 << 20)) ]
	[ "$(written)" -ge $((32 << 20)) ]
	for i in 1 2 3 4 5 6; do cmp "$WORK/$i" "$S/$i"; done
	rm "$S"/[1-6]
	is_back() { [ "$(stats_number spillfs_spill_disk_bytes)" -lt $((16 << 20)) ]; }
	soon is_back || { grep -E "^spillfs_(spill|pool)" "$MNT/.spillfs/stats" >&2; false; }
	grep -qx "spill $((64 << 20))" "$MNT/.spillfs/config"
}

@test "a spill that fits and is deleted, cut or punched out again writes no byte to the disk" {
	mount_store -o spill=256M,commit=3600
	for way in "rm" "rm" "truncate -s 0" "fallocate -p -o 0 -l 128M" "rm"; do
		head -c 128M /dev/urandom >"$S/f" && sync "$S/f"
		[ "$(stats_number spillfs_spill_memory_bytes)" -ge $((128 << 20)) ]
		$way "$S/f"
		is_back() { [ "$(stats_number spillfs_spill_memory_bytes)" -lt $((100 << 20)) ]; }
		soon is_back
	done
	eq "$(written)" 0
	eq "$(stats_number spillfs_spill_disk_bytes)" 0
}

# What is deleted is taken out of the layers before their memory is needed.
@test "layers whose data is written anew again and again stay in memory" {
	mount_store -o spill=128M,commit=3600
	setfattr -n user.spillfs.kind -v layered "$S"
	head -c 32M /dev/urandom >"$WORK/noise"
	for i in $(seq 20); do
		cat "$WORK/noise" >"$S/f" && sync "$S/f"
		is_back() { [ "$(stats_number spillfs_spill_memory_bytes)" -lt $((80 << 20)) ]; }
		soon is_back
	done
	cmp "$WORK/noise" "$S/f"
	eq "$(written)" 0
}

@test "spill=0 has all of it on the disk, and kill -9 leaves nothing there" {
	local before
	mount_store -o spill=0,commit=3600
	before=$(cd "$STORE" && find . ! -name 'meta.db*' | sort)
	seq 1000000 >"$S/f" && seq 100000 >"$S/f.column" && seq 100000 >"$S/f.layered" && sync "$S/f"
	eq "$(stats_number spillfs_spill_memory_bytes)" 0
	[ "$(stats_number spillfs_spill_disk_bytes)" -gt 6000000 ]
	[ -n "$(spill_file)" ]
	eq "$(seq 1000000 | cmp - "$S/f" && seq 100000 | cmp - "$S/f.column" && seq 100000 | cmp - "$S/f.layered" && echo equal)" equal
	eq "$(cd "$STORE" && find . ! -name 'meta.db*' | sort)" "$before"
	kill9
	eq "$(cd "$STORE" && find . ! -name 'meta.db*' | sort)" "$before"
}

@test "encrypt=ephemeral leaves no plaintext on the disk: not data, not names" {
	local before
	require_root
	mount_store -o spill=0,commit=1
	text 100000 >"$S/a_name_to_be_found" && sync "$S/a_name_to_be_found"
	grep -qa "read this line" "$(spill_file)"
	name_is_there() { grep -qa a_name_to_be_found "$(spill_file)"; }
	soon name_is_there
	grep -qx "encrypt no" "$MNT/.spillfs/config"
	umount_store

	mount_store -o spill=0,encrypt=ephemeral,commit=1
	text 100000 >"$S/a_name_to_be_found" && sync "$S/a_name_to_be_found"
	text 100000 >"$S/b.column"
	setfattr -n user.note -v "an attribute to be found" "$S/b.column"
	sync "$S/b.column"
	[ "$(stats_number spillfs_spill_disk_bytes)" -gt 9000000 ]
	# Eight bytes for each sector of them.
	[ "$(stat_value spillfs_memory_bytes 'holds="sums"')" -gt 17000 ]
	before=$(written)
	touch "$S/another_name_to_be_found"
	is_written() { [ "$(written)" -gt "$before" ]; }
	soon is_written
	refute grep -qa "read this line" "$(spill_file)"
	refute grep -qa "to_be_found" "$(spill_file)"
	refute grep -qa "to be found" "$(spill_file)"
	eq "$(text 100000 | cmp - "$S/a_name_to_be_found" && text 100000 | cmp - "$S/b.column" && echo equal)" equal
	printf overwritten | dd of="$S/b.column" conv=notrunc bs=1 seek=4000 status=none
	eq "$(dd if="$S/b.column" bs=1 skip=4000 count=11 status=none)" overwritten
	grep -qx "encrypt ephemeral" "$MNT/.spillfs/config"
	# The key is in a locked page, which no core dump has.
	awk '/^[0-9a-f]+-/ { locked = 0 } /^Locked:/ && $2 > 0 { locked = 1 } /^VmFlags:/ && locked && / lo/ && / dd/ { found = 1 } END { exit !found }' "/proc/$PID/smaps"
}

# Noise, which is written as it is; encrypted, or compressed pages would be noticed in any case.
@test "what the disk gives back otherwise than it was written is EIO, with a line in the log" {
	local file
	require_root
	mount_logged -o spill=0,encrypt=ephemeral,commit=0
	head -c 8M /dev/urandom >"$WORK/noise"
	cp "$WORK/noise" "$S/noise"
	sync "$S/noise"
	file=$(spill_file)
	"$PYTHON" -S -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
end = os.lseek(fd, 0, os.SEEK_END)
os.pwrite(fd, b"other bytes", end - 5 * 2**20)' "$file"
	"$PYTHON" -S -c 'import os, sys; os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' "$S/noise"
	run cmp "$WORK/noise" "$S/noise"
	eq "$status" 2
	grep "Input/output error" <<<"$output"
	grep "the disk's part of scratch/ at byte .*: the bytes are not those that were written" "$DAEMON_LOG"
	cp "$WORK/noise" "$S/again"
	cmp "$WORK/noise" "$S/again"
}

@test "encrypt= says what it takes" {
	run env LC_ALL=C "$SPILLFS" -o encrypt=forever "$STORE" "$MNT"
	eq "$status" 1
	eq "$output" "spillfs: option encrypt: bad value 'forever' (no|ephemeral)"
	refute mounted
}
