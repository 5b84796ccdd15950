#!/usr/bin/env bats
# spillctl: finding the mount, unmounting, sync, commit, statistics.
load ../lib/common

setup() {
	spill_only
	common_setup
}

@test "usage" {
	ctl_fails 1 "usage:"
	ctl_fails 1 "unknown command 'frob'" frob "$MNT"
	ctl_fails 1 "usage: spillctl sync MNT" sync
	ctl_fails 1 "usage: spillctl umount [options] MNT" umount a b
	ctl_fails 1 "unknown option '-l'" sync -l "$MNT"
	"$SPILLCTL" help | grep -q "umount"
	"$SPILLCTL" --version | grep -q '^spillctl [0-9]'
}

@test "every command and flag of help is in the man page" {
	local word
	"$SPILLCTL" help | sed -nE 's/^  ([a-z]+) .*/\1/p; s/^ +-(.), --([a-z]+) .*/--\2/p' >"$WORK/words"
	[ "$(wc -l <"$WORK/words")" -gt 7 ]
	sed 's/\\-/-/g' "$TOP/man/spillctl.1" >"$WORK/man"
	while read -r word; do
		grep -qE -- "(^|[ \"])$word([ \"]|\$)" "$WORK/man" || fail "$word is not in the man page"
	done <"$WORK/words"
}

@test "any path inside names the mount; others are refused by name" {
	mkdir -p "$MNT/layers/a/b"
	echo x >"$MNT/layers/a/b/c"
	ln -s "$MNT/layers/a" "$WORK/link"
	local p
	for p in "$MNT" "$MNT/" "$MNT/layers" "$MNT/layers/a/b/c" "$WORK/link/b"; do
		"$SPILLCTL" info "$p" | grep -qxF "mountpoint    $MNT"
	done
	(cd "$MNT/layers/a" && "$SPILLCTL" info . | grep -qxF "mountpoint    $MNT")
	ctl_fails 2 "$WORK is not in a mounted spillfs" info "$WORK"
	ctl_fails 2 "/proc is not" sync /proc
	ctl_fails 2 "$WORK/missing: No such file" stat "$WORK/missing"
}

@test "umount waits until the daemon has gone and the store is free" {
	echo x >"$MNT/layers/x"
	"$SPILLCTL" umount "$MNT"
	refute mounted
	wait_gone "$PID"
	mount_again
	eq "$(cat "$MNT/layers/x")" x
	"$SPILLCTL" umount "$MNT/layers/x"
	refute mounted
}

@test "umount of a mount in use says so and leaves it; --lazy detaches it" {
	exec 8<>"$MNT/buckets/x"
	ctl_fails 3 "in use" umount "$MNT"
	mounted
	"$SPILLCTL" umount --lazy "$MNT"
	refute mounted
	echo late >&8
	kill -0 "$PID"
	exec 8>&-
	wait_gone "$PID"
	mount_again
	eq "$(cat "$MNT/buckets/x")" late
}

@test "umount detaches the mount of a dead daemon" {
	kill -9 "$PID"
	wait_gone "$PID"
	ctl_fails 2 "dead" info "$MNT"
	run "$SPILLCTL" umount "$MNT"
	eq "$status" 0
	refute mounted
	DAEMON_LOST=expected
}

@test "sync makes everything durable" {
	local k
	for k in $KINDS; do echo "$k" >"$MNT/$k/x"; done
	"$SPILLCTL" sync "$MNT"
	kill9
	mount_again
	for k in $KINDS; do eq "$(cat "$MNT/$k/x")" "$k"; done
}

@test "commit seals a layer once" {
	noise 3000000 "$MNT/layers/x"
	eq "$("$SPILLCTL" commit "$MNT")" "layer 1 sealed"
	eq "$("$SPILLCTL" commit "$MNT")" "nothing to commit"
	[ -s "$MNT/deltas/00000001.zst" ]
	"$SPILLCTL" info "$MNT" | grep -qxF "newest layer  1"
	echo y >"$MNT/layers/y"
	eq "$("$SPILLCTL" commit "$MNT")" "layer 2 sealed"
}

@test "other users: commit and info are refused, stat works" {
	require_root
	local ctl="setpriv --reuid=65534 --regid=65534 --clear-groups $SPILLCTL"
	run $ctl commit "$MNT"
	eq "$status" 3
	[[ $output == *"only root"* ]]
	run $ctl stat "$MNT"
	eq "$status" 0
}

@test "stat: figures for people, and raw as the daemon writes them" {
	noise 1048576 "$WORK/in"
	cp "$WORK/in" "$MNT/columns/x"
	"$SPILLCTL" stat "$MNT" >"$WORK/table"
	head -n1 "$WORK/table" | grep -q "^spillfs on $MNT (pid $PID, commit [0-9]*, newest layer 0)"
	awk '$1 == "columns" && $6 " " $7 == "1.0 MiB" { found = 1 } END { exit !found }' "$WORK/table" ||
		{ cat "$WORK/table" >&2; return 1; }
	grep -q '^compression ' "$WORK/table"
	"$SPILLCTL" stat --raw "$MNT" >"$WORK/raw"
	grep -q '^# EOF$' "$WORK/raw"
	grep -q '^spillfs_write_bytes_total{kind="column"} 1048576$' "$WORK/raw"
}

@test "a full pipe behind it is an error, not silence" {
	local rc=0
	"$SPILLCTL" stat "$MNT" >/dev/full 2>"$WORK/err" || rc=$?
	eq "$rc" 3
}

# held CODE ARG...: umount unmounts, and ends before the daemon does.
held() {
	ctl_fails "$1" "has not ended" umount "${@:2}" "$MNT"
	cat "$WORK/err"
	refute mounted
	alive "$PID"
}

@test "umount names the bind mount that keeps the daemon, and does not wait for ever" {
	require_root
	mkdir "$WORK/bind"
	echo x >"$MNT/layers/x"
	mount --bind "$MNT/layers" "$WORK/bind"
	exec 8<"$WORK/bind/x"
	held 4 -t 1
	grep -q "mounted at $WORK/bind$" "$WORK/err"
	grep -qE "$WORK/bind/x is open in process [0-9]+ \(bash\)" "$WORK/err"
	grep -q "not waited for longer than 1 s" "$WORK/err"
	exec 8>&-
	umount "$WORK/bind"
	wait_gone "$PID"
	mount_again
	eq "$(cat "$MNT/layers/x")" x
}

# A pipe that is full holds spillctl before it looks for them.
@test "umount names nobody once the file system has ended, though another one has its number" {
	local code=0 ctl number
	require_root
	mkdir "$WORK/bind" "$WORK/other" "$WORK/there"
	mount --bind "$MNT/layers" "$WORK/bind"
	number=$(stat -c %d "$WORK/bind")
	mkfifo "$WORK/pipe"
	exec 7<>"$WORK/pipe"
	dd if=/dev/zero of="$WORK/pipe" oflag=nonblock bs=4096 2>/dev/null || true
	"$SPILLCTL" umount -t 1 "$MNT" 2>&7 3>&- &
	ctl=$!
	until ! mounted; do :; done
	kill -STOP "$PID"
	# umount(8) would ask the daemon.
	"$PYTHON" -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).umount2(sys.argv[1].encode(), 0))' "$WORK/bind"
	"$SPILLFS" "$WORK/other" "$WORK/there" 7>&- 3>&-
	echo "$number, $(stat -c %d "$WORK/there")"
	exec 6<"$WORK/pipe" 7>&-
	cat <&6 >"$WORK/err"
	wait "$ctl" || code=$?
	kill -CONT "$PID"
	exec 6<&-
	"$SPILLCTL" umount "$WORK/there"
	cat "$WORK/err"
	eq "$code" 4
	grep -aq "has not ended yet" "$WORK/err"
	grep -aq "it finishes its writes" "$WORK/err"
	refute grep -aq "still mounted" "$WORK/err"
	wait_gone "$PID"
	mount_again
}

# hold SECONDS: a process, $holder, in a mount namespace of its own.
hold() {
	rm -f "$WORK/holder"
	mkfifo "$WORK/holder"
	private_ns bash -c 'echo $$ >"$1"; exec sleep "$2" >/dev/null 2>&1' - "$WORK/holder" "$1" 3>&- &
	read -r holder <"$WORK/holder"
	until grep -q "^sleep" "/proc/$holder/comm"; do :; done
}

@test "umount names the process in whose mount namespace the mount lives on; its end ends the daemon" {
	require_root
	hold 30
	held 4 --timeout 0
	grep -q "mounted at $MNT in the mount namespace of process $holder (sleep)" "$WORK/err"
	kill "$holder"
	wait_gone "$PID"
	mount_again
	# Waited for, and gone within the time: no failure.
	hold 2
	"$SPILLCTL" umount "$MNT"
	wait_gone "$PID"
	ctl_fails 1 "is not a number of seconds" umount -t soon "$MNT"
	mount_again
}

@test "umount of a mount in use names the processes that use it" {
	echo x >"$MNT/columns/x"
	(cd "$MNT/layers" && exec sleep 30 8<"$MNT/columns/x" >/dev/null 2>&1 3>&-) &
	holder=$!
	until grep -q "^sleep" "/proc/$holder/comm"; do :; done
	ctl_fails 3 "in use" umount "$MNT"
	cat "$WORK/err"
	grep -q "$MNT/layers is the working directory of process $holder (sleep)" "$WORK/err"
	grep -q "$MNT/columns/x is open in process $holder (sleep)" "$WORK/err"
	mounted
	kill "$holder"
	wait "$holder" || true
}
