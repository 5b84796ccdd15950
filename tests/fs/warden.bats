#!/usr/bin/env bats
# A daemon that dies while one of its threads waits in the kernel: its warden lets the clients go. A warden holds nothing, cuts nothing
# while the daemon lives, and ends with it.

load ../lib/common

setup() {
	setup_work
	spill_only
	FROZEN=
}

teardown() {
	thaw_disk
	kill -CONT "${PID:-$$}" ${WARDEN:-} 2>/dev/null || true
	teardown_work
}

# A store on a disk that can be frozen, mounted with these options.
mount_on_disk() {
	small_ext4 "$WORK/disk" 256M has_journal
	STORE=$WORK/disk/store
	mkdir "$STORE"
	mount_store -o commit=0 "$@"
	WARDEN=$(warden_of "$PID")
}

freeze_disk() {
	fsfreeze -f "$WORK/disk"
	FROZEN=1
}

thaw_disk() {
	[ -z "${FROZEN:-}" ] || fsfreeze -u "$WORK/disk"
	FROZEN=
}

# warden_of PID: the number of its warden.
warden_of() {
	local warden
	warden=$(pgrep -P "$1" -x spillfs-warden) || fail "the daemon has no warden"
	echo "$warden"
}

no_warden_here() {
	local pid
	for pid in $(pgrep -x spillfs-warden); do ! is_ours "$pid" || return 1; done
}
no_warden_of() { ! pgrep -P "$1" -x spillfs-warden >/dev/null; }

warden() { guarded 60 "$PYTHON" -S "$LIB/warden.py" "$@"; }

# asks N: until so many requests of the mount wait for their answers.
asks() {
	local waits
	mkdir -p "$WORK/connections"
	mount -t fusectl none "$WORK/connections"
	waits=$WORK/connections/$(mountpoint -d "$MNT" | cut -d: -f2)/waiting
	guarded 60 bash -c 'until [ "$(cat "$0")" -ge "$1" ]; do sleep 0.02; done' "$waits" "$1"
	umount "$WORK/connections"
}

# stick_on_write FILE: a thread of the daemon cannot write a page of it to the disk.
stick_on_write() {
	noise 40000 "$1"
	"$SPILLCTL" sync "$MNT"
	freeze_disk
	dd if=/dev/zero of="$1" bs=4096 count=1 conv=notrunc 2>/dev/null 3>&- &
	clients=($!)
	warden stuck "$PID" loop 0
}

# The kernel writes a page back for the notify thread, and the daemon cannot write it to the disk.
stick_on_page() {
	stick_on_write "$MNT/buckets/a.f64"
	stat "$MNT/views/npy/buckets/a.npy" >/dev/null 2>&1 3>&- &
	clients+=($!)
	warden stuck "$PID" notify 1
}

# The thread that drops names wants the lock of a directory that a program makes a file in; the one thread that could answer is at the frozen disk.
stick_on_directory() {
	noise 40000 "$MNT/buckets/a"
	mkdir "$MNT/scratch/d"
	sleep 1000 3>&- &
	local owner=$!
	set_xattr "$MNT/scratch/d" lifetime "pid:$owner"
	"$SPILLCTL" sync "$MNT"
	rm -f "$WORK/go"
	mkfifo "$WORK/go"
	# Below a working directory there is nothing to ask for but the new name, with the lock.
	(cd "$MNT/scratch" && read -r <"$WORK/go" && exec touch new) 2>/dev/null 3>&- &
	clients=($!)
	freeze_disk
	dd if=/dev/zero of="$MNT/buckets/a" bs=4096 count=1 conv=notrunc 2>/dev/null 3>&- &
	clients+=($!)
	warden stuck "$PID" loop 0
	echo >"$WORK/go"
	asks 2
	kill -9 "$owner"
	warden stuck "$PID" notify-names 1
}

# lets_go SIGNAL: kills the daemon, whose clients end with an error though the disk is frozen. With the disk, all else ends, and the next
# mount takes the place of the dead one.
lets_go() {
	local client
	DAEMON_LOST=expected
	kill -s "$1" "$PID"
	ends "${clients[@]}"
	for client in "${clients[@]}"; do refute wait "$client"; done
	fails_with "not connected" stat "$MNT/buckets"
	wait_gone "$WARDEN"
	[ -e "/proc/$PID" ]
	thaw_disk
	guarded 60 "$PYTHON" -S "$LIB/proc.py" wait "$PID"
	run "$SPILLFS" "$STORE" "$MNT" 3>&-
	eq "$status" 0
	eq "$output" "spillfs: $MNT: detached the mount of a dead daemon"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	umount_store
}

@test "killed while it waits for a page: clients get an error" {
	mount_on_disk
	stick_on_page
	lets_go KILL
}

@test "aborted while it waits for a page: clients get an error" {
	mount_on_disk
	stick_on_page
	lets_go ABRT
}

@test "a fault while it waits for a page: clients get an error" {
	! sanitized || skip "a sanitizer ends the process by itself"
	mount_on_disk
	stick_on_page
	lets_go SEGV
}

@test "killed while it waits for a directory, and its only thread for the disk: clients get an error" {
	mount_on_disk -s
	stick_on_directory
	lets_go KILL
}

@test "killed while the disk keeps its only thread: clients get an error" {
	mount_on_disk -s
	stick_on_write "$MNT/buckets/a"
	lets_go KILL
}

# Its groups alone are more than half a megabyte of /proc/PID/status.
@test "killed, with as many groups as there can be: clients get an error" {
	require_root
	cat >"$WORK/run" <<-END
		#!/bin/bash
		exec "$PYTHON" -S -c 'import os, sys; os.setgroups(range(3000000000, 3000065536)); os.execv(sys.argv[1], sys.argv[1:])' "$SPILLFS" "\$@"
	END
	chmod +x "$WORK/run"
	SPILLFS=$WORK/run mount_on_disk -s
	[ "$(wc -c <"/proc/$PID/status")" -gt 600000 ]
	warden looked "$WARDEN" 3
	stick_on_write "$MNT/buckets/a"
	lets_go KILL
}

@test "what is mounted over the mount at once is not cut with it" {
	! sanitized || skip "a sanitizer wants to be loaded first"
	local other
	mkdir "$WORK/other" "$WORK/over"
	"$SPILLFS" "$WORK/other" "$WORK/over" 3>&- </dev/null
	other=$(daemon_pid "$WORK/over")
	echo "$other" >>"$WORK/.pids"
	cat >"$WORK/over.c" <<-END
		#define _GNU_SOURCE
		#include <dlfcn.h>
		#include <stdlib.h>
		#include <sys/mount.h>

		int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
		{
			int (*real)() = (int (*)())dlsym(RTLD_NEXT, "mount"), err = real(source, target, type, flags, data);

			return err ? err : real(getenv("OVER"), target, NULL, MS_BIND, NULL);
		}
	END
	cc -w -shared -fPIC -o "$WORK/over.so" "$WORK/over.c" || missing "no compiler"
	printf '#!/bin/bash\nOVER=%q LD_PRELOAD=%q exec %q "$@"\n' "$WORK/over" "$WORK/over.so" "$SPILLFS" >"$WORK/run"
	chmod +x "$WORK/run"
	SPILLFS=$WORK/run mount_logged
	eq "$(daemon_pid)" "$other"
	WARDEN=$(pgrep -P "$PID" -x spillfs-warden || true) # a kernel that does not tell which is which: none
	echo hello >"$MNT/layers/f"
	kill -9 "$PID"
	wait_gone "$PID"
	[ -z "$WARDEN" ] || wait_gone "$WARDEN"
	eq "$(cat "$WORK/over/layers/f")" hello
	umount "$MNT"
	fails_with "not connected" stat "$MNT/layers"
	umount -l "$MNT"
	"$SPILLCTL" umount "$WORK/over"
	DAEMON_LOST=expected
}

@test "a warden holds nothing of the daemon's" {
	mount_store
	WARDEN=$(warden_of "$PID")
	py warden left "$WARDEN" >"$WORK/left"
	cat "$WORK/left"
	eq "$(grep ^fds "$WORK/left")" "fds /$(mountpoint -d "$MNT" | cut -d: -f2)/abort /dev/null /dev/null /dev/null /proc/$PID/status socket"
	grep -qx "capabilities 0000000000000000 1" "$WORK/left"
	grep -qx "cwd /" "$WORK/left"
	grep -qx "leads True" "$WORK/left"
	grep -qx "locked 0 kB" "$WORK/left"
	sanitized || [ "$(awk '/^RssAnon/ { print $2 }' "/proc/$WARDEN/status")" -lt 2048 ]
}

@test "a daemon that is stopped or traced is not dead: its clients wait, and go on" {
	mount_store
	WARDEN=$(warden_of "$PID")
	kill -STOP "$PID"
	mkdir "$MNT/columns/d" 3>&- &
	warden looked "$WARDEN" 3
	kill -CONT "$PID"
	wait $!
	warden traced "$PID" "$WARDEN"
	mkdir "$MNT/columns/e"
	umount_store
	refute alive "$WARDEN"
}

@test "a warden ends with its daemon, however that ends, also if it is stopped" {
	local signal
	mount_store
	WARDEN=$(warden_of "$PID")
	umount_store
	refute alive "$WARDEN"
	for signal in TERM INT KILL ABRT; do
		mount_again
		WARDEN=$(warden_of "$PID")
		kill -TERM "$WARDEN" # as a service manager sends it to all processes of a service
		kill -s $signal "$PID"
		wait_gone "$PID"
		wait_gone "$WARDEN"
		! mounted || detach "$MNT"
	done
	mount_again
	WARDEN=$(warden_of "$PID")
	kill -STOP "$WARDEN"
	umount_store
	wait_gone "$WARDEN"
	DAEMON_LOST=expected
}

@test "a mount that fails leaves no warden" {
	echo precious >"$STORE/thesis.txt"
	refute "$SPILLFS" "$STORE" "$MNT" 2>/dev/null 3>&-
	soon no_warden_here
	rm "$STORE/thesis.txt"
}

@test "a daemon without its warden goes on, and says so once" {
	mount_logged
	WARDEN=$(warden_of "$PID")
	kill -9 "$WARDEN"
	soon grep -q "the warden (pid $WARDEN) has ended" "$WORK/log"
	echo hello >"$MNT/layers/f"
	eq "$(cat "$MNT/layers/f")" hello
	no_warden_of "$PID"
	umount_store
	eq "$(grep -c warden "$WORK/log")" 1
}

@test "without root: a warden where the system shows the control files, else none" {
	require_root
	[ -u "$(command -v fusermount3)" ] || missing "fusermount3 is not setuid"
	[ -d /sys/fs/fuse/connections ] || missing "no /sys/fs/fuse/connections"
	chown nobody "$STORE" "$MNT"
	cp "$SPILLFS" "$WORK/spillfs" # the build may lie where only root can look
	cp "$SPILLCTL" "$WORK/spillctl"
	SPILLFS=$WORK/spillfs SPILLCTL=$WORK/spillctl run private_ns bash -euc '
		mknod -m 666 "$WORK/fuse" c 10 229
		mount --bind "$WORK/fuse" /dev/fuse
		! mountpoint -q /sys/fs/fuse/connections || umount /sys/fs/fuse/connections
		daemon() {
			setpriv --reuid=65534 --regid=65534 --clear-groups "$SPILLFS" "$STORE" "$MNT"
			pid=$(setpriv --reuid=65534 --regid=65534 --clear-groups "$SPILLCTL" info "$MNT" | sed -n "s/^daemon pid *//p")
		}
		daemon
		[ -z "$(pgrep -P "$pid")" ]
		setpriv --reuid=65534 --regid=65534 --clear-groups "$SPILLCTL" umount "$MNT"
		mount -t fusectl none /sys/fs/fuse/connections
		daemon
		warden=$(pgrep -P "$pid" -x spillfs-warden)
		[ "$(readlink "/proc/$warden/fd/"* | grep -c abort)" = 1 ]
		setpriv --reuid=65534 --regid=65534 --clear-groups "$SPILLCTL" umount "$MNT"
		[ ! -e "/proc/$warden" ]
		echo all done
	'
	eq "$status" 0 || fail "$output"
	[[ $output == *"all done"* ]]
}
