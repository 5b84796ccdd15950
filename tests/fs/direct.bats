#!/usr/bin/env bats
# Direct I/O on the store: it leaves the page cache alone, waits for its leases, and counts what it does.
load ../lib/common

# The bytes of a kind that went one way: backing read|write KIND direct|buffered
backing() { stat_value "spillfs_backing_$1_bytes" "kind=\"$2\",way=\"$3\""; }

# Pages of the store's files (SQLite's aside) in the page cache.
cached() { find "$STORE"/{pool,columns,layers} -type f -exec fincore -n -o PAGES {} + | awk '{ n += $1 } END { print n + 0 }'; }

fallbacks() { awk '/^spillfs_lease_fallbacks_total/ { n += $2 } END { print n + 0 }' "$MNT/.spillfs/stats"; }

kind_of() { case $1 in buckets) echo bucket ;; columns) echo column ;; layers) echo layered ;; esac; }

# Writes $BYTES to each of four files while four others are read, all in pieces that fit no block.
four_writers_four_readers() {
	local old=$MNT/$1/old new=$MNT/$1/new i
	mkdir "$old" "$new"
	for i in 1 2 3 4; do dd if="$WORK/in$i" of="$old/$i" bs=100003 status=none; done
	"$SPILLCTL" sync "$MNT"
	for i in 1 2 3 4; do dd of="$old/$i" oflag=nocache conv=notrunc count=0 status=none; done # no page of the kernel's
	for i in 1 2 3 4; do
		dd if="$WORK/in$i" of="$new/$i" bs=$((100000 + i)) status=none &
		same "$WORK/in$i" "$old/$i" &
	done
	wait_all
	"$SPILLCTL" sync "$MNT"
	for i in 1 2 3 4; do same "$WORK/in$i" "$new/$i"; done
}

# Four files with $1 bytes each.
inputs() { for i in 1 2 3 4; do noise "$1" "$WORK/in$i" "$i"; done; }

@test "with one lease, four writers and four readers of each kind leave no page and no fallback" {
	spill_only
	require_tool fincore util-linux
	inputs 4194304
	for k in $KINDS; do
		remount -o backing=direct,leases=1,commit=1,cache=1M
		four_writers_four_readers "$k"
		eq "$(cached)" 0
		for op in read write; do
			eq "$(backing $op "$(kind_of "$k")" buffered)" 0
			[ "$(backing $op "$(kind_of "$k")" direct)" -ge 16777216 ]
		done
		eq "$(fallbacks)" 0
		eq "$(stat_value spillfs_backing_buffered_bytes)" 0
		[ "$(stat_value spillfs_lease_waits)" -gt 0 ]
		[[ "$(stat_value spillfs_lease_wait_seconds)" =~ ^[0-9]+\.[0-9]{9}$ ]]
		eq "$(stat_value spillfs_leases_in_use)" 0
		umount_store
		eq "$(cached)" 0
		mount_again
	done
}

@test "backing bytes of each kind are counted once, whichever way they go" {
	spill_only
	noise 8388608 "$WORK/in"
	for way in direct buffered; do
		for k in $KINDS; do
			remount -o backing=$way,commit=0
			kind=$(kind_of "$k")
			cp "$WORK/in" "$MNT/$k/$way"
			"$SPILLCTL" sync "$MNT"
			written=$(backing write "$kind" $way)
			if [ "$k" = layers ]; then # frames, and what a layer says of them
				[ "$written" -ge 8388608 ] && [ "$written" -le 8500000 ]
			else
				eq "$written" 8388608
			fi
			remount
			same "$WORK/in" "$MNT/$k/$way"
			read=$(backing read "$kind" $way)
			if [ "$k" = layers ]; then
				frames=$(stat_value spillfs_frame_read_bytes)
				[ "$frames" -ge 8388608 ] && [ "$frames" -le 8500000 ]
				[ "$read" -ge "$frames" ] && [ "$read" -le $((frames + 1000000)) ]
			else
				eq "$read" 8388608
			fi
		done
	done
}

@test "a caller's O_DIRECT goes through to the store with backing=auto" {
	spill_only
	require_tool fincore util-linux
	remount -o commit=0
	noise 4194304 "$WORK/in"
	for k in $KINDS; do
		kind=$(kind_of "$k")
		dd if="$WORK/in" of="$MNT/$k/f" bs=64k oflag=direct status=none
		"$SPILLCTL" sync "$MNT"
		[ "$(backing write "$kind" direct)" -ge 4194304 ]
		[ "$(backing write "$kind" buffered)" -lt 65536 ] # a layer's own records
	done
	remount
	for k in $KINDS; do
		dd if="$MNT/$k/f" bs=64k iflag=direct status=none | cmp - "$WORK/in"
		[ "$(backing read "$(kind_of "$k")" direct)" -ge 4194304 ]
		[ "$(backing read "$(kind_of "$k")" buffered)" -lt 131072 ] # a layer's end
	done
	eq "$(fallbacks)" 0
}

@test "the stored file is the column with direct I/O, too, and keeps what is reserved behind it" {
	spill_only
	remount -o backing=direct,commit=0
	for i in 1 2 3 4 5 6 7; do noise 100003 - $i >>"$MNT/columns/f"; done
	"$SPILLCTL" sync "$MNT"
	stored=$(find "$STORE/columns" -type f)
	cmp -n 700021 "$stored" "$MNT/columns/f"
	[ "$(stat -c %s "$stored")" -lt $((700021 + 4096)) ]
	fallocate -n -o 700021 -l 4000000 "$MNT/columns/f"
	noise 100003 - 8 >>"$MNT/columns/f"
	"$SPILLCTL" sync "$MNT"
	[ "$(stat -c %b "$stored")" -ge $((4700021 / 512)) ]
	remount
	eq "$(stat -c %s "$stored")" 800024
	[ "$(stat -c %b "$stored")" -ge $((4700021 / 512)) ]
	truncate -s 300000 "$MNT/columns/f"
	"$SPILLCTL" sync "$MNT"
	eq "$(stat -c %s "$stored")" 300000
	truncate -s 400000 "$MNT/columns/f"
	printf x >>"$MNT/columns/f"
	{
		for i in 1 2 3; do noise 100003 - $i; done | head -c 300000
		head -c 100000 /dev/zero
		printf x
	} >"$WORK/want"
	same "$WORK/want" "$MNT/columns/f"
	remount
	eq "$(stat -c %s "$stored")" 400001
	same "$WORK/want" "$MNT/columns/f"
}

@test "direct appends leave the ranges that are reserved behind the end, and no others, also after a remount" {
	spill_only
	remount -o backing=direct,commit=0
	noise 100003 - 1 >"$MNT/columns/f"
	fallocate -n -o 2M -l 64K "$MNT/columns/f"
	fallocate -n -o 4M -l 64K "$MNT/columns/f"
	"$SPILLCTL" sync "$MNT"
	stored=$(find "$STORE/columns" -type f)
	has_both() {
		local bytes=$(($(stat -c %b "$stored") * 512))
		echo "$bytes bytes are stored"
		[ $bytes -ge $((100003 + 131072)) ] && [ $bytes -le $((100003 + 131072 + 65536)) ]
	}
	for i in 2 3 4; do
		noise 1001 - $i >>"$MNT/columns/f"
		"$SPILLCTL" sync "$MNT"
		has_both
		remount
		has_both
	done
	eq "$(stat -c %s "$stored")" $((100003 + 3 * 1001))
}

@test "options of leases are checked, shown and kept to" {
	spill_only
	remount -o backing=direct,leases=2,lease_size=100K
	grep -qx 'lease_size 102400' "$MNT/.spillfs/config"
	grep -qx 'lease_wait block' "$MNT/.spillfs/config"
	inputs 1000003
	for k in $KINDS; do four_writers_four_readers "$k"; done
	eq "$(fallbacks)" 0
	remount -o leases=1,lease_size=8192,lease_wait=buffered,backing=direct,commit=0
	grep -qx 'lease_wait buffered' "$MNT/.spillfs/config"
	rm -r "$MNT"/*/{old,new}
	for k in $KINDS; do four_writers_four_readers "$k"; done
	eq "$(stat_value spillfs_lease_waits)" 0
	for bad in lease_size=1K lease_size=1G lease_wait=maybe; do
		fails_with "option ${bad%=*}: bad value" "$SPILLFS" -o $bad "$WORK" "$WORK"
	done
	"$SPILLCTL" stat "$MNT" | grep -qE '^leases +0 in use, 0 waits \(0\.000 s\), [0-9]+ fallbacks$'
}

@test "a file system without direct I/O: all is buffered, is counted, and the log says why" {
	spill_only
	require_root
	require_tool mkfs.ext4 e2fsprogs
	umount_store
	truncate -s 64M "$WORK/img"
	mkfs.ext4 -q -F -m 0 "$WORK/img"
	mount -o loop,data=journal "$WORK/img" "$STORE" || missing "loop devices cannot be used here"
	mount_logged -o backing=direct
	grep -q 'backing_in_use buffered' "$MNT/.spillfs/config" || missing "this kernel does not say that it takes no direct I/O"
	grep -qx 'backing_in_use buffered (the file system takes no direct transfers)' "$MNT/.spillfs/config"
	grep -q 'with backing=direct all I/O is buffered here, because the file system takes no direct transfers' "$DAEMON_LOG"
	noise 300000 "$WORK/in"
	for k in $KINDS; do
		cp "$WORK/in" "$MNT/$k/f"
		same "$WORK/in" "$MNT/$k/f"
	done
	"$SPILLCTL" sync "$MNT"
	[ "$(stat_value spillfs_lease_fallbacks 'reason="unsupported"')" -gt 3 ]
	eq "$(stat_value spillfs_backing_direct_bytes)" 0
	"$SPILLCTL" stat "$MNT" | grep -qE '^ +[0-9]+ fallbacks: reason="unsupported"$'
}
