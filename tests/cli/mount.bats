#!/usr/bin/env bats
# Starting and ending the daemon: arguments, options, exit codes, dead mounts, signals, notification.
load ../lib/common

# "! command" alone fails no test.
not() { if "$@"; then fail "should have failed: $*"; fi; }

setup() {
	spill_only
	setup_work
}

# up ARGS...: spillfs with these arguments; its daemon is waited for by teardown.
up() {
	"$SPILLFS" "$@"
	PID=$(daemon_pid "${@: -1}")
	echo "$PID" >>"$WORK/.pids"
}

# refused CODE TEXT ARGS...: that exit code, one line on stderr that holds TEXT, nothing on stdout.
refused() {
	local code=$1 text=$2 rc=0
	shift 2
	LC_ALL=C "$SPILLFS" "$@" >"$WORK/out" 2>"$WORK/err" || rc=$?
	eq "$rc" "$code" || { cat "$WORK/err" >&2; return 1; }
	eq "$(wc -l <"$WORK/err")" 1
	grep -q '^spillfs: ' "$WORK/err"
	grep -qF -- "$text" "$WORK/err" || fail "should have said '$text': $(cat "$WORK/err")"
	[ ! -s "$WORK/out" ]
	not mounted
}

mount_field() { awk -v m="$MNT" -v n="$1" '$5 == m { print $n }' /proc/self/mountinfo; }
shown_options() { awk -v m="$MNT" '$5 == m { print $6 "," $NF }' /proc/self/mountinfo; }
has_option() { case ",$(shown_options)," in *,$1,*) ;; *) fail "no $1 in $(shown_options)" ;; esac; }

@test "two arguments: the store elsewhere" {
	up "$STORE" "$MNT"
	[ -d "$MNT/buckets" ]
	[ -d "$MNT/columns" ]
	[ -d "$MNT/layers" ]
	[ -e "$STORE/SPILLFS" ]
	eq "$(awk -v m="$MNT" '$5 == m { print $(NF - 2), $(NF - 1) }' /proc/self/mountinfo)" "fuse.spillfs $STORE"
}

@test "one argument: the directory is its own store and mounted over" {
	up "$MNT"
	echo hello >"$MNT/buckets/x"
	[ ! -e "$MNT/SPILLFS" ]
	umount_store
	[ -e "$MNT/SPILLFS" ]
	up "$MNT"
	eq "$(cat "$MNT/buckets/x")" hello
}

@test "a relative path, a trailing slash, a symbolic link" {
	cd "$WORK"
	ln -s mnt link
	up store link/
	mounted
	cd /
	umount_store
}

@test "-o store=DIR and --store=DIR" {
	up -o "store=$STORE" "$MNT"
	[ -e "$STORE/SPILLFS" ]
	umount_store
	up "--store=$STORE" "$MNT"
	umount_store
	up -o "store=$STORE" none "$MNT"
	[ ! -e "$MNT/SPILLFS" ]
}

@test "options reach the kernel" {
	up "$STORE" "$MNT"
	umount_store
	up -o ro,noatime,noexec -o 'fsname=a\,b' "$STORE" "$MNT"
	has_option ro
	has_option noatime
	has_option noexec
	has_option nosuid
	has_option default_permissions
	[ "$(id -u)" != 0 ] || has_option allow_other
	eq "$(awk -v m="$MNT" '$5 == m { print $(NF - 1) }' /proc/self/mountinfo)" "a,b"
	not touch "$MNT/layers/x"
}

read_ahead() { cat "/sys/class/bdi/$(awk -v m="$MNT" '$5 == m { print $3 }' /proc/self/mountinfo)/read_ahead_kb"; }

@test "readahead=SIZE reaches the kernel" {
	require_root
	up -o readahead=256K "$STORE" "$MNT"
	[ -w "/sys/class/bdi/$(mountpoint -d "$MNT")/read_ahead_kb" ] || skip "sysfs cannot be written"
	eq "$(read_ahead)" 256
	umount_store
	up "$STORE" "$MNT"
	eq "$(read_ahead)" 512
	umount_store
	up -o readahead=0 "$STORE" "$MNT"
	echo data >"$MNT/columns/x"
	eq "$(cat "$MNT/columns/x")" data
	eq "$(read_ahead)" 0
}

@test "the kernel holds more back of what is written than it does of other FUSE mounts" {
	require_root
	up "$STORE" "$MNT"
	local share="/sys/class/bdi/$(mountpoint -d "$MNT")/max_ratio"
	[ -w "$share" ] || skip "sysfs cannot be written"
	eq "$(cat "$share")" 20
}

@test "words of fstab are accepted and ignored" {
	up -o rw,defaults,noauto,nofail,_netdev,x-systemd.automount,comment=x,user,relatime,suid,dev "$STORE" "$MNT"
	has_option rw
}

@test "every option of the table is taken, as --x=v and as -o x=v" {
	up --backing=buffered --leases=4 --pool=2 --threads=1 --commit=1 --layer=64M --cache=8M --dirty=8M --spill=16M --encrypt=no --keep=3 --compact=1G --nowriteback "$STORE" "$MNT"
	umount_store
	up -o backing=auto,leases=4,pool=2,threads=1,commit=0,layer=1g,cache=8388608,dirty=8192k,spill=0,keep=1,compact=0,writeback \
		-o uid=1,gid=2,umask=027,max_read=131072,readahead=1M "$STORE" "$MNT"
	[ -d "$MNT/layers" ]
	has_option max_read=131072
	umount_store
	up -o nodiratime,diratime "$STORE" "$MNT"
}

@test "mount(8) with fstab: a store, and none for the form with one argument" {
	require_root
	require_tool mount.fuse3 fuse3
	mkdir "$WORK/bin"
	ln -s "$SPILLFS" "$WORK/bin/spillfs"
	# mount.fuse3 looks only in the system's directories
	private_ns bash -euc '
		mount --bind "$WORK/bin" /usr/local/bin
		echo "$STORE $MNT fuse.spillfs noauto,cache=8M,x-y=z 0 0" >"$WORK/fstab"
		mount -T "$WORK/fstab" "$MNT"
		echo hello >"$MNT/layers/x"
		"$SPILLCTL" umount "$MNT"
		echo "none $MNT fuse.spillfs defaults,user 0 0" >"$WORK/fstab"
		mount -T "$WORK/fstab" "$MNT"
		[ ! -e "$MNT/layers/x" ]
		"$SPILLCTL" umount "$MNT"
		mount -t fuse.spillfs -o ro "$STORE" "$MNT"
		[ "$(cat "$MNT/layers/x")" = hello ]
		"$SPILLCTL" umount "$MNT"
	'
}

@test "exit 1: wrong usage names option and value" {
	refused 1 "no mountpoint"
	refused 1 "too many arguments: 'c'" a b c
	refused 1 "unknown option '--frob'" --frob "$STORE" "$MNT"
	refused 1 "unknown option 'frob'" -o ro,frob=1 "$STORE" "$MNT"
	refused 1 "unknown option '-q'" -q "$STORE" "$MNT"
	refused 1 "cache: bad value '12Q'" --cache=12Q "$STORE" "$MNT"
	refused 1 "cache: bad value '-1'" -o cache=-1 "$STORE" "$MNT"
	refused 1 "dirty: bad value '99999999999999999999'" -o dirty=99999999999999999999 "$STORE" "$MNT"
	refused 1 "leases: bad value '0'" -o leases=0 "$STORE" "$MNT"
	refused 1 "umask: bad value '8'" -o umask=8 "$STORE" "$MNT"
	refused 1 "backing: bad value 'fast'" -o backing=fast "$STORE" "$MNT"
	refused 1 "leases needs a value" -o leases "$STORE" "$MNT"
	refused 1 "ro takes no value" -o ro=1 "$STORE" "$MNT"
	refused 1 "given twice" -o store=/x "$STORE" "$MNT"
	[ -z "$(ls -A "$STORE")" ]
}

@test "exit 2: the mountpoint is missing or no directory" {
	touch "$WORK/file"
	refused 2 "$WORK/missing" "$STORE" "$WORK/missing"
	refused 2 "not a directory" "$STORE" "$WORK/file"
	refused 2 "not a directory" "$WORK/file"
	[ -z "$(ls -A "$STORE")" ]
}

@test "exit 3: neither empty nor a store; its files stay as they are" {
	echo precious >"$STORE/thesis.txt"
	refused 3 "$STORE" "$STORE" "$MNT"
	eq "$(ls -A "$STORE")" thesis.txt
	refused 3 "not a directory" "$STORE/thesis.txt" "$MNT"
}

@test "exit 4: held by another daemon, whose pid is named" {
	mkdir "$WORK/other"
	up "$STORE" "$WORK/other"
	refused 4 "$PID" "$STORE" "$MNT"
	refused 4 "$PID" "$WORK/other" "$MNT"
	MNT=$WORK/other
	mounted
	[ -d "$MNT/buckets" ]
	local rc=0
	"$SPILLFS" "$MNT" 2>"$WORK/err" || rc=$?
	eq $rc 4
	grep -qF "$PID" "$WORK/err"
}

@test "a store can be mounted again as soon as spillctl umount has returned" {
	for _ in 1 2 3 4 5; do
		up "$STORE" "$MNT"
		"$SPILLCTL" umount "$MNT"
		wait_gone "$PID"
	done
}

@test "exit 5: a newer format" {
	STORE_DAMAGED=1
	up "$STORE" "$MNT"
	umount_store
	sed -i -E '1,2s/([^0-9]|^)2([^0-9]|$)/\1999\2/' "$STORE/SPILLFS"
	grep -q 999 "$STORE/SPILLFS"
	refused 5 "$STORE" "$STORE" "$MNT"
}

@test "exit 6: a store that cannot be opened" {
	refused 6 "$WORK/missing" "$WORK/missing" "$MNT"
}

@test "exit 7: FUSE is not available" {
	require_root
	# a /dev without fuse, in a mount namespace of its own
	private_ns bash -uc '
		mount -t tmpfs none /dev
		mknod -m 666 /dev/null c 1 3
		"$SPILLFS" "$STORE" "$MNT" 2>"$WORK/err"
		[ $? = 7 ] && grep -q "^spillfs: .*/dev/fuse" "$WORK/err"
	'
	[ -z "$(ls -A "$STORE")" ]
}

@test "a dead mount is detached and said" {
	up "$STORE" "$MNT"
	kill -9 "$PID"
	wait_gone "$PID"
	not ls "$MNT"
	"$SPILLFS" "$STORE" "$MNT" 2>"$WORK/err"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	eq "$(cat "$WORK/err")" "spillfs: $MNT: detached the mount of a dead daemon"
	eq "$(grep -cF " $MNT " /proc/self/mountinfo)" 1
}

# asked_dying CMD...: its first question to the mount is under way when the daemon is killed; its exit code.
asked_dying() {
	local asks waits
	waits=$WORK/connections/$(stat -c %d "$MNT")/waiting
	kill -STOP "$PID"
	while grep -L "^State:.[tT]" "/proc/$PID/task"/*/status | grep -q .; do :; done # until all threads have stopped
	"$@" 2>"$WORK/err" 3>&- &
	asks=$!
	until [ "$(cat "$waits")" -gt 0 ]; do alive "$asks" || break; done
	kill -9 "$PID"
	wait "$asks" || { local rc=$?; cat "$WORK/err"; return $rc; }
}

@test "a mount that dies while it is asked is a dead one" {
	require_root
	mkdir "$WORK/connections"
	mount -t fusectl none "$WORK/connections"
	up "$STORE" "$MNT"
	asked_dying "$SPILLFS" "$STORE" "$MNT"
	eq "$(cat "$WORK/err")" "spillfs: $MNT: detached the mount of a dead daemon"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	asked_dying "$SPILLCTL" umount "$MNT"
	refute mounted
	"$SPILLFS" "$STORE" "$MNT"
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	asked_dying "$SPILLCTL" info "$MNT" || eq "$?" 2
	DAEMON_LOST=expected
	grep -q "the daemon behind this mount is dead" "$WORK/err"
}

@test "a dead mount over its own store is detached too" {
	up "$MNT"
	kill -9 "$PID"
	wait_gone "$PID"
	run "$SPILLFS" "$MNT"
	eq "$status" 0
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
}

@test "the daemon lets go of terminal, directory and inherited descriptors" {
	cd "$WORK"
	exec 8>"$WORK/inherited"
	up "$STORE" "$MNT"
	exec 8>&-
	require_root
	eq "$(readlink "/proc/$PID/cwd")" /
	eq "$(readlink "/proc/$PID/fd/2")" /dev/null
	not grep -q inherited <(ls -l "/proc/$PID/fd")
	eq "$(awk '/^Max open files/ { print ($4 == $5) }' "/proc/$PID/limits")" 1
	eq "$(ps -o sid= -p "$PID" | tr -d ' ')" "$PID"
}

@test "the service manager is told" {
	mount_logged
	grep -q "mounted on $MNT" "$DAEMON_LOG"
	"$PYTHON" - "$SPILLFS" "$WORK" <<-'E'
		import os, signal, socket, subprocess, sys
		spillfs, work = sys.argv[1:]
		s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
		name = "\0spillfs-test-%d" % os.getpid()
		s.bind(name)
		s.settimeout(30)
		os.mkdir(work + "/store2")
		os.mkdir(work + "/mnt2")
		p = subprocess.Popen([spillfs, "-f", work + "/store2", work + "/mnt2"],
		                     env=dict(os.environ, NOTIFY_SOCKET="@" + name[1:]))
		said = s.recv(4096).split(b"\n")
		assert b"READY=1" in said and b"MAINPID=%d" % p.pid in said, said
		p.send_signal(signal.SIGTERM)
		assert s.recv(4096) == b"STOPPING=1"
		assert p.wait(60) == 0
	E
}

@test "SIGTERM, SIGINT and SIGHUP unmount, exit 0, keep what was written" {
	local sig
	for sig in TERM INT HUP; do
		mount_logged
		echo "$sig" >"$MNT/layers/$sig"
		kill -s "$sig" "$PID"
		wait_gone "$PID"
		not mounted
	done
	mount_again
	for sig in TERM INT HUP; do eq "$(cat "$MNT/layers/$sig")" "$sig"; done
}

@test "after a signal open files go on until they are closed" {
	mount_logged
	exec 8<>"$MNT/buckets/x"
	echo one >&8
	kill "$PID"
	until ! mounted; do sleep 0.05; done
	echo two >&8
	kill -0 "$PID"
	exec 8>&-
	wait_gone "$PID"
	mount_again
	eq "$(cat "$MNT/buckets/x")" "one
two"
}

@test "a second signal ends it though files are open, and what was written stays" {
	local single
	for single in "" -s; do
		mount_logged $single
		exec 8<>"$MNT/buckets/y$single"
		echo one >&8
		kill "$PID"
		until ! mounted; do sleep 0.05; done
		echo two >&8
		kill "$PID"
		timeout 30 "$PYTHON" "$LIB/proc.py" wait "$PID"
		not dd if=/dev/zero bs=1 count=1 conv=notrunc,fsync 2>/dev/null >&8
		exec 8>&-
		mount_again
		eq "$(cat "$MNT/buckets/y$single")" "one
two"
		umount_store
	done
}

@test "two signals end it while the kernel writes back for a look at a view" {
	local k
	for k in 1 2 3; do
		mount_logged
		guarded 60 "$PYTHON" "$LIB/unwritten.py" ended "$MNT" "$PID"
	done
}

@test "a connection that is aborted (umount -f) ends it in order, and what was written stays" {
	local single
	for single in "" -s; do
		"$SPILLFS" -f $single "$STORE" "$MNT" 3>&- 2>"$WORK/log" &
		PID=$!
		echo "$PID" >>"$WORK/.pids"
		until mounted; do sleep 0.05; done
		exec 8<>"$MNT/buckets/a$single"
		echo one >&8
		not umount -f "$MNT" 2>/dev/null # busy: it has only aborted
		wait "$PID" || fail "exit code $?: $(cat "$WORK/log")"
		exec 8>&-
		not mounted
		mount_again
		eq "$(cat "$MNT/buckets/a$single")" one
		umount_store
	done
}

@test "a mount that lies over ours is left alone" {
	require_root
	mount_logged
	mount -t tmpfs none "$MNT"
	kill "$PID"
	wait_gone "$PID"
	eq "$(stat -f -c %T "$MNT")" tmpfs
	umount "$MNT"
	DAEMON_LOST=expected
}

@test "another file system's mountpoint under ours survives" {
	require_root
	mount -t tmpfs none "$MNT"
	mount_logged
	exec 8<>"$MNT/buckets/x"
	kill "$PID"
	soon grep -q unmounting "$WORK/log"
	kill "$PID"
	wait_gone "$PID"
	exec 8>&-
	eq "$(stat -f -c %T "$MNT")" tmpfs
	umount "$MNT"
}

@test "without root: mounts through fusermount3" {
	require_root
	[ -u "$(command -v fusermount3)" ] || missing "fusermount3 is not setuid"
	chown nobody "$STORE" "$MNT"
	# the build may lie where only root can look
	cp "$SPILLFS" "$WORK/spillfs"
	cp "$SPILLCTL" "$WORK/spillctl"
	# the device's mode is the system's business; the namespace has one for everybody
	SPILLFS=$WORK/spillfs SPILLCTL=$WORK/spillctl run private_ns bash -euc '
		mknod -m 666 "$WORK/fuse" c 10 229
		mount --bind "$WORK/fuse" /dev/fuse
		setpriv --reuid=65534 --regid=65534 --clear-groups bash -euc "
			\"$SPILLFS\" \"$STORE\" \"$MNT\"
			echo hello >\"$MNT/buckets/x\"
			\"$SPILLCTL\" sync \"$MNT\"
			\"$SPILLCTL\" umount \"$MNT\"
			\"$SPILLFS\" -o passthrough \"$STORE\" \"$MNT\"
			grep \"^passthrough no\" \"$MNT/.spillfs/config\"
			[ \"\$(cat \"$MNT/buckets/x\")\" = hello ]
			pid=\$(\"$SPILLCTL\" info \"$MNT\" | sed -n \"s/^daemon pid *//p\")
			[ \$(grep -cE \"^Cap(Eff|Prm):.0{16}\" /proc/\$pid/status) = 2 ]
			kill \$pid
			while grep -qF \" $MNT \" /proc/self/mountinfo; do sleep 0.05; done
			echo all done
		"
	'
	eq "$status" 0 || fail "$output"
	[[ $output == *"all done"* ]]
}

@test "-h and the man page name the same options" {
	local man=$TOP/man/spillfs.1 option
	"$SPILLFS" -h >"$WORK/help"
	sed -E 's/^\.[A-Z]+ //; s/\\f.//g; s/["\\ ]//g' "$man" >"$WORK/joined"
	sed -E 's/^\.[A-Z]+ //; s/\\-/-/g; s/[",\\]/ /g' "$man" | tr -s ' ' '\n' >"$WORK/words"
	{
		sed -nE 's/^  (-[a-zA-Z], |    )([a-z_]+[^ ]*)  .*/\2/p' "$WORK/help"
		sed -nE '/^Mount options|^Accepted/,/^$/{/^  /p}' "$WORK/help" | tr -s ' ' '\n' | sed '/^$/d'
	} >"$WORK/options"
	[ "$(wc -l <"$WORK/options")" -gt 50 ]
	while read -r option; do
		case $option in
		*[a-z]=[A-Za-z]*) grep -qF -- "$option" "$WORK/joined" ;;
		*) grep -qxF -e "$option" -e "--$option" "$WORK/words" ;;
		esac || fail "$option is not in the man page"
	done <"$WORK/options"
}

@test "-V names program, store format and libfuse" {
	run "$SPILLFS" -V
	eq "$status" 0
	[[ $output =~ ^spillfs\ [0-9].*store\ format\ 2.*libfuse\ 3 ]]
}
