#!/usr/bin/env bats
# Direct I/O on the store with much data, and with many threads on one lease.
load ../lib/common

cached() { find "$STORE"/{pool,columns,layers} -type f -exec fincore -n -o PAGES {} + | awk '{ n += $1 } END { print n + 0 }'; }

@test "writing and reading 1 GiB of each kind leaves no page of the store in the cache" {
	spill_only
	require_tool fincore util-linux
	noise 1073741824 "$WORK/in"
	for k in $KINDS; do
		remount -o backing=direct
		cp "$WORK/in" "$MNT/$k/f"
		"$SPILLCTL" sync "$MNT"
		eq "$(cached)" 0
		remount
		same "$WORK/in" "$MNT/$k/f"
		eq "$(cached)" 0
		eq "$(stat_value spillfs_backing_buffered_bytes)" 0
		[ "$(stat_value spillfs_backing_direct_bytes)" -ge 1073741824 ]
		rm "$MNT/$k/f"
		"$SPILLCTL" sync "$MNT"
	done
}

# Writes and reads back a file of its own, in records that fit no block.
client() {
	dd if="$WORK/in" of="$1/$2" bs=$((4000 + $2 * 1009)) status=none
	cmp "$WORK/in" "$1/$2"
}

@test "64 clients on one lease all finish" {
	spill_only
	require_tool fincore util-linux
	noise 1500007 "$WORK/in"
	for k in $KINDS; do
		remount -o nowriteback,backing=direct,leases=1,lease_size=64K,commit=1
		mkdir "$MNT/$k/d"
		for i in $(seq 64); do client "$MNT/$k/d" "$i" & done
		wait_all
		"$SPILLCTL" sync "$MNT"
		eq "$(cached)" 0
		eq "$(stat_value spillfs_backing_buffered_bytes)" 0
		[ "$(stat_value spillfs_lease_waits)" -gt 0 ]
		awk '/^spillfs_lease_wait_seconds_total/ { exit !($2 > 0) }' "$MNT/.spillfs/stats"
		eq "$(awk '/^spillfs_lease_fallbacks/ { n += $2 } END { print n }' "$MNT/.spillfs/stats")" 0
		remount
		for i in $(seq 64); do cmp "$WORK/in" "$MNT/$k/d/$i"; done
	done
}
