#!/usr/bin/env bats
# A store on several small ext4: one is full, one fails, one is emptied, and its daemon is killed meanwhile.
load ../lib/common

setup() {
	setup_work
	spill_only
	small_store "$WORK/home" 64M has_journal
	small_ext4 "$WORK/a" "${A_SIZE:-96M}" has_journal
	small_ext4 "$WORK/b" 200M has_journal
	A=$WORK/a/d B=$WORK/b/d
	mkdir "$A" "$B"
}

# fill FROM TO KINDS: files of 1 MB that do not compress.
fill() {
	local i k
	for i in $(seq "$1" "$2"); do
		for k in $3; do
			noise 1000000 "$MNT/$k/f$i" "$i"
			(cd "$MNT" && sha256sum "$k/f$i") >>"$WORK/sums"
		done
	done
}

same() { (cd "$MNT" && sha256sum -c --quiet "$WORK/sums"); }

@test "one is full: writes go on as long as another has room, and say so" {
	head -c 70M /dev/zero >"$WORK/a/others"
	mount_logged -o "pool=$A:$B"
	fill 1 25 "buckets layers"
	cat /dev/zero >"$WORK/a/more" 2>/dev/null || true
	fallocate -l 40M "$WORK/b/others"
	fill 26 50 "buckets layers"
	"$SPILLCTL" commit "$MNT"
	same
	grep -q "$A: full: new data goes to the other directories" "$WORK/log"
	"$SPILLCTL" info "$MNT" | grep "^directory 1 .* full,"
	# df shows the room of all.
	[ "$(df --output=size -BM "$MNT" | tail -n 1 | tr -dc 0-9)" -gt 300 ]
	# The end is ENOSPC, which loses nothing; what is deleted is there for others again.
	refute bash -c 'head -c 400M /dev/urandom >"$0"' "$MNT/buckets/large" 2>"$WORK/err"
	grep -q 'No space left' "$WORK/err"
	same
	rm "$MNT/buckets/large" "$MNT"/buckets/f[1-4]*
	sed -i '/buckets.f[1-4]/d' "$WORK/sums"
	"$SPILLCTL" sync "$MNT"
	fill 101 110 buckets
	umount_store
	"$SPILLCTL" check --data "$STORE"
	mount_again
	same
}

@test "one fails: its writer is told, others go on, and what is elsewhere can be read" {
	mount_logged -o "pool=$A:$B,nowriteback,commit=0"
	fill 1 20 buckets
	"$SPILLCTL" commit "$MNT" # no layer is open
	noise 1000 "$MNT/columns/c" 1
	"$SPILLCTL" sync "$MNT"
	py disk cut "$WORK/a"
	errors=0
	for i in $(seq 50); do
		noise 1000000 "$WORK/noise" "$i"
		if ! cat "$WORK/noise" >"$MNT/buckets/g$i" 2>"$WORK/err"; then
			grep -q 'Input/output error' "$WORK/err"
			errors=$((errors + 1))
			rm "$MNT/buckets/g$i"
		fi
	done
	echo "errors: $errors"
	[ "$errors" -ge 1 ]
	[ "$errors" -le 2 ]
	eq "$(grep -c "$A: .* cannot be written: Input/output error; new data goes to the other directories" "$WORK/log")" 1
	"$SPILLCTL" info "$MNT" | grep "^directory 1 .* failing,"
	noise 1000000 "$MNT/buckets/h" 1
	"$SPILLCTL" sync "$MNT"
	for i in $(seq 20); do cat "$MNT/buckets/f$i" >/dev/null 2>&1 && touch "$WORK/read.$i" || true; done
	compgen -G "$WORK/read.*" >/dev/null # those on other disks
	umount_store
	umount "$WORK/a"
	loop_gone "$IMAGES/a.img"
	e2fsck -fp "$IMAGES/a.img" || [ $? -le 1 ]
	mount -o loop "$IMAGES/a.img" "$WORK/a"
	mount_again
	same
	noise 1000000 "$WORK/noise" 1
	cmp "$WORK/noise" "$MNT/buckets/h"
}

@test "one is emptied beside writers, the daemon killed meanwhile, and taken away" {
	mount_logged -o "pool=$A:$B"
	fill 1 30 "buckets layers"
	"$SPILLCTL" commit "$MNT"
	(while noise 300000 "$MNT/buckets/busy" 1 && noise 300000 "$MNT/layers/busy" 2; do :; done) 2>/dev/null 3>&- &
	"$SPILLCTL" drain "$MNT" "$A" 3>&- >"$WORK/out" 2>&1 &
	soon grep -q "is being emptied" "$WORK/log"
	kill9
	wait || true
	mount_again
	same
	"$SPILLCTL" drain "$MNT" "$A"
	same
	umount "$WORK/a"
	fill 31 35 "buckets layers"
	umount_store
	"$SPILLCTL" check --data "$STORE"
	remount -o commit=1
	same
}

@test "what is left has no room: nothing is lost, and it can be asked again, or taken back" {
	head -c 150M /dev/zero >"$WORK/b/others"
	head -c 30M /dev/zero >"$WORK/home/others"
	mount_logged -o "pool=$A:$B"
	fill 1 60 buckets
	refute "$SPILLCTL" drain "$MNT" "$A" 2>"$WORK/err"
	grep "the other directories have no room for what is left in it" "$WORK/err"
	same
	remount -o commit=1
	"$SPILLCTL" info "$MNT" | grep "^directory 1 .* draining,"
	rm "$WORK/b/others"
	"$SPILLCTL" drain "$MNT" "$A"
	same
	remount -o "pool=$A"
	"$SPILLCTL" info "$MNT" | grep "^directory [0-9]* *ok, .*: $A$"
	same
}
