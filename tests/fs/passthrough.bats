#!/usr/bin/env bats
# Columns that the kernel reads, writes and maps by itself. The tests share one mount, but for the last ones.

load ../lib/common

setup_file() {
	[ "$(id -u)" = 0 ] || return 0
	setup_work
	mount_store -o passthrough,suid
}
teardown_file() { [ "$(id -u)" != 0 ] || teardown_work; }
setup() {
	spill_only
	need_passthrough
	MOUNT_OPTS=(-o passthrough,suid)
	revive
}
teardown() { :; }

# check NAME: of lib/passthrough.py, in a directory of its own.
check() { guarded 60 "$PYTHON" "$LIB/passthrough.py" "$1" "$MNT/columns/${1%-after}" "$PID"; }

in_force() { grep '^passthrough ' "$MNT/.spillfs/config"; }
opens() { stat_value spillfs_column_opens "mode=\"$1\""; }

@test "with the daemon stopped an open column is read, written and mapped" {
	eq "$(in_force)" "passthrough yes (offered by the kernel)"
	check in_force
}

@test "sizes and times are those of this moment, whoever asks" { check sizes; }
@test "O_DIRECT agrees with the page cache" { check direct; }
@test "times that were set stay" { check times; }
@test "summaries are of the bytes as they are, whatever a map writes" {
	local f=$MNT/columns/summed.i64
	"$PYTHON" -c 'import array, sys; array.array("q", range(1, 100001)).tofile(open(sys.argv[1], "wb"))' "$f"
	"$SPILLCTL" stats -s "$f" | grep -qxE 'max +100000'
	"$PYTHON" - "$f" "$SPILLCTL" <<-'END'
		import mmap, re, struct, subprocess, sys
		def bounds():
		    text = subprocess.run([sys.argv[2], "stats", "-s", sys.argv[1]], stdout=subprocess.PIPE, check=True, text=True).stdout
		    return tuple(int(re.search(r"^%s +(\S+)$" % what, text, re.M)[1]) for what in ("min", "max", "zeros"))
		with open(sys.argv[1], "r+b") as f:
		    m = mmap.mmap(f.fileno(), 0)
		for value in 200000, 300000, -5, 0:  # the page is dirty from the first on: nothing tells of the others
		    m[80:88] = struct.pack("<q", value)
		    got = bounds()
		    want = min(1, value), max(100000, value), int(value == 0)
		    if got != want:
		        sys.exit("%s, not %s" % (got, want))
		m.close()
	END
	"$SPILLCTL" stats -s "$f" | grep -qxE 'zeros +1'
}
@test "set-id bits and capabilities go with the next change" { check privileges; }
@test "cached and passed through in turns" { check alternation; }
@test "consumed, and below a quota, beside one that is passed through" { check bound; }
@test "open files that are unlinked, replaced and linked" { check names; }

@test "maps, what is synced and many open files outlive a crash of the daemon" {
	check maps
	check durable
	check many
	"$SPILLCTL" sync "$MNT"
	kill9
	mount_again
	check maps-after
	check durable-after
	check many-after
}

@test "opens are counted by mode, and few bytes are inline again" {
	remount
	before=$(find "$STORE/columns" -type f | wc -l)
	echo hello >"$MNT/columns/small.u8"
	noise 200000 "$MNT/columns/large.u8"
	cat "$MNT/columns/large.u8" >/dev/null
	cat "$MNT/columns/small.u8" >/dev/null
	eq "$(opens passthrough) $(opens direct)" "3 0"
	"$SPILLCTL" sync "$MNT"
	eq "$(find "$STORE/columns" -type f | wc -l)" $((before + 1))
	eq "$(cat "$MNT/columns/small.u8")" hello
}

@test "a view shows a column that is being written as it is when it is opened" {
	exec 8>"$MNT/columns/v.u8"
	for n in 1000 100000; do
		noise "$n" "$WORK/part" "$n"
		cat "$WORK/part" >&8
		cat "$WORK/part" >>"$WORK/all"
		tail -c +4097 "$MNT/views/npy/columns/v.npy" | cmp - "$WORK/all"
	done
	exec 8>&-
	tail -c +4097 "$MNT/views/npy/columns/v.npy" | cmp - "$WORK/all"
}

@test "with the writeback cache it is refused" {
	fails_with "passthrough and writeback exclude each other" "$SPILLFS" -o passthrough,writeback "$STORE" "$WORK"
}

@test "why it is off" {
	while read -r options; do
		remount -o "$options"
		read -r why
		eq "$(in_force)" "passthrough no ($why)"
		noise 100000 "$MNT/columns/off.u8"
		eq "$(opens passthrough)" 0
	done <<-END
		commit=5
		not asked for
		passthrough,backing=direct
		backing=direct keeps the store out of the page cache
	END
}

# The next test has a store on a file system of its own, mounted at $WORK/own; leave_own goes back.
enter_own() {
	umount_store
	SHARED_STORE=$STORE SHARED_MNT=$MNT
	STORE=$WORK/own/store MNT=$WORK/own_mnt
	mkdir -p "$STORE" "$MNT"
}

leave_own() {
	umount_store
	check_left
	umount -R "$WORK/own"
	STORE=$SHARED_STORE MNT=$SHARED_MNT DAEMON_LOG=
	mount_store -o passthrough,suid
}

@test "a store on a stacked file system: without, and the log says why" {
	mkdir "$WORK/own" "$WORK/below"
	mount -t tmpfs none "$WORK/below"
	mkdir "$WORK/below/"{low,up,work}
	mount -t overlay -o "lowerdir=$WORK/below/low,upperdir=$WORK/below/up,workdir=$WORK/below/work" none "$WORK/own"
	enter_own
	mount_logged -o passthrough
	eq "$(in_force)" "passthrough no (the store's file system is itself stacked on another)"
	grep "passthrough.*stacked on another" "$DAEMON_LOG"
	noise 100000 "$MNT/columns/x.u8"
	leave_own
	umount "$WORK/below"
}

small() {
	small_ext4 "$WORK/own" 64M
	enter_own
	mount_store -o passthrough,commit=1
}

each_works() {
	for k in $KINDS; do
		echo x >"$MNT/$k/new"
		mv "$MNT/$k/keep" "$MNT/$k/kept"
		chmod 600 "$MNT/$k/kept"
		mkdir "$MNT/$k/dir"
		ln "$MNT/$k/kept" "$MNT/$k/link"
		setfattr -n user.a -v b "$MNT/$k/kept"
		sync "$MNT/$k/kept"
	done
}

@test "a disk that the kernel has filled: everything else goes on, and nothing that was answered is lost" {
	small
	noise 3000000 "$WORK/want"
	for k in $KINDS; do cp "$WORK/want" "$MNT/$k/keep"; done
	fails_with "No space left on device" dd if=/dev/zero of="$MNT/columns/big" bs=64k status=none
	exec 8>>"$MNT/columns/big" # a writer stays
	each_works
	refute dd if=/dev/zero bs=64k count=1000 status=none >&8 2>/dev/null
	"$SPILLCTL" sync "$MNT"
	exec 8>&-
	remount
	for k in $KINDS; do same "$WORK/want" "$MNT/$k/kept"; done
	rm "$MNT/columns/big"
	for k in $KINDS; do
		cp "$WORK/want" "$MNT/$k/again"
		sync "$MNT/$k/again"
	done
	leave_own
}

@test "a writer that takes each byte that it finds stops no commit" {
	small
	noise 1000000 "$WORK/want"
	cp "$WORK/want" "$MNT/layers/keep"
	py hog "$MNT/columns/hog" "$WORK/stop" &
	hog=$!
	until [ -e "$WORK/stop.full" ]; do "$SPILLCTL" sync "$MNT"; done
	for n in 1 2 3 4 5; do
		ln "$MNT/layers/keep" "$MNT/layers/keep$n" || break # what a name needs may be gone, but not the commit's
		"$SPILLCTL" sync "$MNT"
		rm "$MNT/layers/keep$n"
	done
	"$SPILLCTL" sync "$MNT"
	: >"$WORK/stop"
	wait "$hog"
	eq "$(stat_value spillfs_read_only)" 0
	remount
	same "$WORK/want" "$MNT/layers/keep"
	leave_own
}
