#!/usr/bin/env bats
# What was fsynced is there after kill -9, byte for byte, and the next mount needs no repair.

load ../lib/common
# Nothing is made durable but by request: a crash then shows what fsync itself does.
setup() { setup_work; mount_store -o commit=0; }

crash_and_mount() { kill9; mount_again; }

synced() { sync "$1"; } # coreutils: fsync of that file

@test "a file written and fsynced, and its directory" {
	each_kind write_and_crash
}
write_and_crash() {
	for n in 0 1 4096 65535 65536 262144 3000001; do
		noise $n "$D/f$n"
		synced "$D/f$n"
	done
	synced "$D"
	crash_and_mount
	for n in 0 1 4096 65535 65536 262144 3000001; do
		noise $n "$WORK/want"
		same "$WORK/want" "$D/f$n"
	done
}

@test "fsync of a file makes its name durable, too, with all metadata before it" {
	each_kind names_and_crash
}
names_and_crash() {
	mkdir -p "$D/a/b"
	echo x >"$D/a/b/f"
	ln "$D/a/b/f" "$D/link"
	ln -s target "$D/symlink"
	setfattr -n user.x -v y "$D/a/b/f"
	touch -d '2001-02-03 04:05:06.789012345 UTC' "$D/a/b/f"
	chmod 640 "$D/a/b/f"
	synced "$D/a/b/f"
	ino=$(stat -c %i "$D/link")
	crash_and_mount
	eq "$(cat "$D/a/b/f" "$D/link")" $'x\nx'
	eq "$(readlink "$D/symlink")" target
	eq "$(stat -c '%i %a %h %.9Y' "$D/a/b/f")" "$ino 640 2 981173106.789012345"
	eq "$(getfattr --only-values --absolute-names -n user.x "$D/link")" y
}

@test "appends and overwrites, each fsynced" {
	each_kind appends
}
appends() {
	noise 500000 "$D/f" 1
	synced "$D/f"
	cp "$D/f" "$WORK/want"
	for i in 1 2 3; do
		for f in "$D/f" "$WORK/want"; do
			noise 70001 - $i >>"$f"
			noise 999 - $i | dd of="$f" bs=1 seek=$((i * 131000)) conv=notrunc status=none
		done
		synced "$D/f"
		crash_and_mount
		same "$WORK/want" "$D/f"
	done
}

@test "rename over a file: after fsync of the new one, never an empty or mixed one" {
	each_kind rename_over
}
rename_over() {
	noise 300000 "$D/f" 1
	synced "$D/f"
	noise 400000 "$D/new" 2
	synced "$D/new"
	mv "$D/new" "$D/f"
	synced "$D"
	crash_and_mount
	noise 400000 "$WORK/want" 2
	same "$WORK/want" "$D/f"
	[ ! -e "$D/new" ]
	noise 200000 "$D/new" 3
	mv "$D/new" "$D/f" # nothing synced: old or new
	crash_and_mount
	noise 200000 "$WORK/want3" 3
	cmp -s "$WORK/want" "$D/f" || same "$WORK/want3" "$D/f"
}

@test "unlink and rmdir, made durable by fsync of the directory" {
	each_kind removals
}
removals() {
	mkdir "$D/d"
	noise 300000 "$D/f"
	noise 1000 "$D/g"
	synced "$D/f"
	synced "$D/g"
	rm "$D/f"
	rmdir "$D/d"
	synced "$D"
	crash_and_mount
	eq "$(ls "$D")" g
	noise 300000 "$D/f2" 2 # takes what f had
	synced "$D/f2"
	crash_and_mount
	noise 300000 "$WORK/want" 2
	same "$WORK/want" "$D/f2"
	noise 1000 "$WORK/want"
	same "$WORK/want" "$D/g"
}

@test "truncate, then kill: the old or the new size, never zeros" {
	each_kind truncated
}
truncated() {
	head -c 2000000 /dev/zero | tr '\0' A >"$D/f"
	synced "$D/f"
	truncate -s 700000 "$D/f"
	crash_and_mount
	n=$(stat -c %s "$D/f")
	[ "$n" = 2000000 ] || [ "$n" = 700000 ]
	eq "$(tr -d A <"$D/f" | wc -c)" 0
	truncate -s 100 "$D/f"
	head -c 500000 /dev/zero | tr '\0' B >>"$D/f"
	crash_and_mount
	n=$(stat -c %s "$D/f")
	echo "size after the crash: $n"
	eq "$(tr -d AB <"$D/f" | wc -c)" 0
	truncate -s 50 "$D/f"
	synced "$D/f"
	crash_and_mount
	eq "$(stat -c %s "$D/f")" 50
	eq "$(tr -d AB <"$D/f" | wc -c)" 0
	head -c 900000 /dev/zero | tr '\0' C >"$D/f" # O_TRUNC
	crash_and_mount
	eq "$(tr -d ABC <"$D/f" | wc -c)" 0
}

@test "punched ranges stay punched after fsync" {
	each_kind punched
}
punched() {
	noise 3000000 "$D/f"
	cp "$D/f" "$WORK/want"
	synced "$D/f"
	for f in "$D/f" "$WORK/want"; do fallocate -p -o 500001 -l 1000000 "$f"; done
	synced "$D/f"
	crash_and_mount
	same "$WORK/want" "$D/f"
}

@test "spillctl sync, and fsync of the root, make everything durable" {
	for k in $KINDS; do noise 400000 "$MNT/$k/one"; done
	[ -n "$NATIVE" ] || "$SPILLCTL" sync "$MNT"
	crash_and_mount
	noise 400000 "$WORK/want"
	for k in $KINDS; do same "$WORK/want" "$MNT/$k/one"; done
	for k in $KINDS; do noise 400000 "$MNT/$k/two"; done
	synced "$MNT"
	crash_and_mount
	for k in $KINDS; do same "$WORK/want" "$MNT/$k/two"; done
}

@test "an unmount makes everything durable, though nobody asked" {
	for k in $KINDS; do noise 400000 "$MNT/$k/one"; done
	remount
	crash_and_mount
	noise 400000 "$WORK/want"
	for k in $KINDS; do same "$WORK/want" "$MNT/$k/one"; done
}

@test "fsync of one file beside much unsynced work" {
	each_kind beside
}
beside() {
	for i in 1 2 3 4 5 6; do noise 900000 "$D/unsynced$i" $i; done
	noise 100000 "$D/f"
	synced "$D/f"
	crash_and_mount
	noise 100000 "$WORK/want"
	same "$WORK/want" "$D/f"
	for i in 1 2 3 4 5 6; do # whatever is there of them is right
		[ -e "$D/unsynced$i" ] || continue
		noise 900000 "$WORK/want" $i
		cmp -n "$(stat -c %s "$D/unsynced$i")" "$WORK/want" "$D/unsynced$i"
	done
}

@test "a crash right after mount, twice, and one while another follows" {
	crash_and_mount
	crash_and_mount
	for k in $KINDS; do echo x >"$MNT/$k/f"; synced "$MNT/$k/f"; done
	crash_and_mount
	crash_and_mount
	for k in $KINDS; do eq "$(cat "$MNT/$k/f")" x; done
}

@test "a torn tail of the open layer is cut back" {
	spill_only
	noise 1000000 "$MNT/layers/f"
	synced "$MNT/layers/f"
	kill9
	open=$(ls "$STORE"/layers/*.zst* | tail -n1)
	head -c 70000 /dev/urandom >>"$open"
	mount_again
	noise 1000000 "$WORK/want"
	same "$WORK/want" "$MNT/layers/f"
	noise 500000 "$MNT/layers/g" 2
	remount
	noise 500000 "$WORK/g" 2
	same "$WORK/want" "$MNT/layers/f"
	same "$WORK/g" "$MNT/layers/g"
	for l in "$MNT"/deltas/*; do zstd -tq "$l"; done
}

crash_rounds() { # FROM TO
	local seed
	for seed in $(seq "$1" "$2"); do
		echo "--- round $seed"
		py crash run "$MNT" "$WORK/state" "$seed" $((RANDOM % 60 + 1)) "${PID:-0}"
		crash_and_mount
		py crash check "$MNT" "$WORK/state"
	done
}

@test "a write-only handle with O_DSYNC: each write is durable" {
	each_kind dsync_and_crash
}
dsync_and_crash() {
	noise 300000 "$WORK/want" 5
	dd if="$WORK/want" of="$D/f" bs=100000 oflag=dsync status=none
	crash_and_mount
	same "$WORK/want" "$D/f"
}

@test "a small file replaced without fsync, then a crash: it is the old or the new one" {
	each_kind replace_small_and_crash
}
replace_small_and_crash() {
	for n in 100 5000 70000; do
		noise $n "$D/f" 1
		synced "$D/f"
		cp "$D/f" "$WORK/old"
		noise $n "$D/tmp" 2
		cp "$D/tmp" "$WORK/new"
		mv "$D/tmp" "$D/f"
		noise 400000 "$D/other" 3 # wants the space that the old one had
		crash_and_mount
		cmp -s "$WORK/old" "$D/f" || same "$WORK/new" "$D/f"
		rm -f "$D/tmp" "$D/other"
	done
}

@test "unmounting while commits run, again and again" {
	umount_store
	for i in 1 2 3 4 5; do
		mount_store -o commit=1,layer=1M
		for k in $KINDS; do
			mkdir -p "$MNT/$k/d"
			noise 3000000 "$MNT/$k/d/f$i" $i &
		done
		for j in 1 2 3; do "$SPILLCTL" sync "$MNT"; done
		wait
		exec 9>"$MNT/layers/d/gone$i"
		noise 300000 - $i >&9
		rm "$MNT/layers/d/gone$i"
		exec 9>&-
		umount_store
	done
	mount_again
	for i in 1 2 3 4 5; do
		noise 3000000 "$WORK/want" $i
		for k in $KINDS; do same "$WORK/want" "$MNT/$k/d/f$i"; done
	done
}

@test "kills at random moments, with promises kept by hand (more in killloop-long)" {
	RANDOM=20
	crash_rounds 1 4
}

@test "the same with a commit every second and small budgets" {
	remount -o commit=1,dirty=2M,cache=2M,layer=1M
	RANDOM=21
	crash_rounds 101 103
}
