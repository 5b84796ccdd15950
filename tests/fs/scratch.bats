#!/usr/bin/env bats
# scratch/: files that nothing makes durable. That it is an ordinary POSIX tree is in posix.bats.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store -o commit=3600
	S=$MNT/scratch
}

# Every name and length of the store, but those of its database and lock.
store_files() { (cd "$STORE" && find . ! -name 'meta.db*' ! -name lock -printf '%p %s %b\n' | sort); }

stats_number() { awk -v name="$1" '$1 == name { print $2 }' "$MNT/.spillfs/stats"; }

fill_all_kinds() {
	mkdir -p "$1/deep/er"
	for name in a b.column c.layered deep/er/d.layered.f64; do
		head -c 3000000 /dev/urandom >"$1/$name"
	done
	ln -s a "$1/link"
	ln "$1/a" "$1/hard"
}

@test "the root of scratch/ is everybody's, and sticky" {
	require_root
	eq "$(stat -c '%a %F' "$S")" "1777 directory"
	touch "$S/mine"
	run setpriv --reuid 1234 --clear-groups rm -f "$S/mine"
	[ "$status" -ne 0 ]
	setpriv --reuid 1234 --clear-groups sh -c "echo 1 >$S/his && rm $S/his"
}

@test "kill -9 leaves nothing: not in the store, not at the next mount" {
	local before
	"$SPILLCTL" sync "$MNT"
	before=$(store_files)
	fill_all_kinds "$S"
	sync -f "$S"
	exec 5>"$S/open"
	head -c 1000000 /dev/zero >&5
	rm "$S/open"
	eq "$(store_files)" "$before"
	kill9
	exec 5>&-
	eq "$(store_files)" "$before"
	mount_again
	eq "$(ls -A "$S")" ""
	eq "$("$SPILLCTL" check -n "$STORE" 2>&1 | grep -c scratch)" 0
}

@test "an unmount leaves nothing, and what is durable is there" {
	local before
	echo kept >"$MNT/buckets/kept"
	"$SPILLCTL" sync "$MNT"
	before=$(store_files)
	fill_all_kinds "$S"
	umount_store
	eq "$(store_files)" "$before"
	mount_again
	eq "$(ls -A "$S")" ""
	eq "$(cat "$MNT/buckets/kept")" kept
}

@test "fsync in scratch/ commits nothing, and a commit leaves scratch/ alone" {
	local before
	before=$(stats_number spillfs_commits_total)
	[ -n "$before" ]
	eq "$(stats_number spillfs_scratch_inodes)" 1
	"$PYTHON" - "$S" <<-'EOF'
		import os, sys
		d = os.open(sys.argv[1], os.O_RDONLY)
		for name in "f", "f.column", "f.layered":
		    f = os.open(sys.argv[1] + "/" + name, os.O_CREAT | os.O_RDWR)
		    os.write(f, b"x" * 1000000)
		    os.fsync(f)
		    os.fdatasync(f)
		    g = os.open(sys.argv[1] + "/" + name, os.O_WRONLY | os.O_SYNC)
		    os.pwrite(g, b"y", 5)
		os.fsync(d)
	EOF
	eq "$(stats_number spillfs_commits_total)" "$before"
	eq "$(stats_number spillfs_scratch_inodes)" 4
	"$SPILLCTL" commit "$MNT"
	eq "$(stats_number spillfs_layers_sealed_total)" 0
}

@test "what is deleted before there is no memory never reaches the disk, and comes back without an interval" {
	taken() { echo $(($(stats_number spillfs_spill_memory_bytes) + $(stats_number spillfs_spill_disk_bytes))); }
	written() { awk '/^spillfs_backing_write_bytes_total{kind="spill"/ { n += $2 } END { printf "%d", n }' "$MNT/.spillfs/stats"; }
	head -c 200M /dev/zero | tr '\0' x >"$S/big"
	sync "$S/big"
	[ "$(taken)" -ge 200000000 ]
	rm "$S/big"
	is_back() { [ "$(taken)" -lt 64000000 ]; }
	soon is_back
	eq "$(written)" 0
}

@test "df in scratch/ tells of its space, in other folders of theirs" {
	local durable
	durable=$(stat -f -c %b "$MNT")
	[ "$(stat -f -c %b "$S")" -ne "$durable" ]
	eq "$(stat -f -c %b "$MNT/buckets")" "$durable"
	mkdir "$S/d"
	eq "$(stat -f -c %b "$S/d")" "$(stat -f -c %b "$S")"
}

@test "the kind follows the name, then the directory" {
	mkdir "$S/d"
	setfattr -n user.spillfs.kind -v layered "$S/d"
	for name in f f.column f.bucket.u8; do seq 1000 >"$S/d/$name"; done
	eq "$(getfattr --only-values -n user.spillfs.kind "$S/d/f")" layered
	eq "$(getfattr --only-values -n user.spillfs.kind "$S/d/f.column")" column
	eq "$(getfattr --only-values -n user.spillfs.kind "$S/d/f.bucket.u8")" bucket
	eq "$(getfattr --only-values -n user.spillfs.dtype "$S/d/f.bucket.u8")" u8
	fails_with "Invalid argument" setfattr -n user.spillfs.kind -v heap "$S/d"
	fails_with "not permitted" setfattr -n user.spillfs.kind -v column "$S/d/f"
	fails_with "not permitted" setfattr -n user.spillfs.kind -v column "$MNT/layers"
	for name in f f.column f.bucket.u8; do eq "$(seq 1000 | cmp - "$S/d/$name" && echo equal)" equal; done
}

@test "between scratch/ and other folders mv copies" {
	seq 1000 >"$S/run"
	fails_with "cross-device" ln "$S/run" "$MNT/buckets/run"
	mv "$S/run" "$MNT/layers/run"
	eq "$(getfattr --only-values -n user.spillfs.kind "$MNT/layers/run")" layered
	mv "$MNT/layers/run" "$S/run"
	eq "$(seq 1000 | cmp - "$S/run" && echo equal)" equal
}

@test "views show the arrays of scratch/, and make some there" {
	"$PYTHON" -c 'import numpy' 2>/dev/null || missing "numpy for $PYTHON (Debian: python3-numpy)"
	"$PYTHON" - "$MNT" <<-'EOF'
		import numpy as np, os, sys
		m = sys.argv[1]
		a = np.arange(100000.0)
		os.mkdir(m + "/scratch/d")
		for name in "x.f64", "y.layered.f64", "z.column.f64":
		    a.tofile(m + "/scratch/d/" + name)
		v = m + "/views/npy/scratch/d/"
		assert sorted(os.listdir(v)) == ["x.npy", "y.layered.npy", "z.column.npy"], os.listdir(v)
		for name in os.listdir(v):
		    assert (np.load(v + name, mmap_mode="r") == a).all()
		np.save(v + "new.npy", a[::2])
		assert (np.load(v + "new.npy") == a[::2]).all()
		w = np.load(v + "z.column.npy", mmap_mode="r+")
		w[7] = -1
		w.flush()
		assert np.fromfile(m + "/scratch/d/z.column.f64")[7] == -1
		os.unlink(v + "x.npy")
		assert not os.path.exists(m + "/scratch/d/x.f64")
	EOF
	fails_with "No such file" ls "$MNT/views/npy/scratch/d/x.npy"
}

@test "snapshots and followers have no scratch/" {
	seq 10 >"$S/f"
	mkdir "$MNT/snapshots/s" "$WORK/ro"
	[ ! -e "$MNT/snapshots/s/scratch" ]
	"$SPILLFS" -o ro "$STORE" "$WORK/ro" 3>&- </dev/null
	[ ! -e "$WORK/ro/scratch" ]
	"$SPILLCTL" umount "$WORK/ro"
}

# ---- lifetimes ----

lifetime() { setfattr -n user.spillfs.lifetime -v "$1" "$2"; }
gone() { [ ! -e "$1" ]; }

@test "a directory ends with the process that it was given to, however that ends" {
	local pid signal
	for signal in TERM KILL; do
		sleep 1000 3>&- &
		pid=$!
		mkdir -p "$S/d/deep/er"
		for i in $(seq 300); do echo "$i" >"$S/d/$((i % 2))$i"; done
		fill_all_kinds "$S/d"
		lifetime "pid:$pid" "$S/d"
		eq "$(getfattr --only-values -n user.spillfs.lifetime "$S/d")" "pid:$pid"
		exec 5<"$S/d/b.column"
		touch "$S/beside"
		kill -$signal "$pid"
		wait "$pid" || true
		soon gone "$S/d"
		eq "$(ls -A "$S")" beside
		eq "$(head -c 3000000 <&5 | wc -c)" 3000000
		exec 5<&-
	done
}

@test "who is in a directory that has ended finds nothing there, and can make nothing" {
	local pid
	sleep 1000 3>&- &
	pid=$!
	mkdir -p "$S/d/sub"
	touch "$S/d/sub/f"
	cd "$S/d/sub"
	ls -l f
	lifetime "pid:$pid" "$S/d"
	kill "$pid"
	wait "$pid" || true
	soon gone "$S/d"
	soon gone f
	fails_with "No such file" touch g
	fails_with "No such file" mkdir g
	touch "$S/x"
	fails_with "No such file" mv "$S/x" g
	cd /
}

@test "a session's directory ends with the process that leads it" {
	mkdir "$S/d"
	setsid -w sh -c "setfattr -n user.spillfs.lifetime -v session '$S/d'; getfattr --only-values -n user.spillfs.lifetime '$S/d' >$WORK/is; exit 3" 3>&- || eq $? 3
	eq "$(cat "$WORK/is")" session
	soon gone "$S/d"
}

@test "a lifetime is given by the owner, to directories, by numbers that mean something" {
	require_root
	mkdir "$S/d"
	chmod 777 "$S/d"
	fails_with "not permitted" setpriv --reuid 1234 --clear-groups setfattr -n user.spillfs.lifetime -v pid:1 "$S/d"
	fails_with "Invalid argument" lifetime forever "$S/d"
	fails_with "Invalid argument" lifetime pid:0 "$S/d"
	fails_with "No such process" lifetime "pid:$(cat /proc/sys/kernel/pid_max)" "$S/d"
	fails_with "busy" lifetime pid:1 "$S"
	touch "$S/f"
	fails_with "Not a directory" lifetime pid:1 "$S/f"
	mkdir "$MNT/buckets/d"
	fails_with "Invalid argument" lifetime pid:1 "$MNT/buckets/d"
	if unshare -p -f true 2>/dev/null; then
		fails_with "Invalid argument" unshare -p -f setfattr -n user.spillfs.lifetime -v pid:1 "$S/d"
	fi
	lifetime pid:1 "$S/d"
	lifetime mount "$S/d"
	fails_with "No such attribute" getfattr -n user.spillfs.lifetime "$S/d"
}

# ---- scratch alone ----

@test "scratch-only: a mount that is all scratch, and leaves the directory below as it was" {
	umount_store
	mkdir "$WORK/room"
	echo mine >"$WORK/room/mine"
	chmod 755 "$WORK/room"
	"$SPILLFS" -o scratch-only,spill=1M "$WORK/room" "$MNT" 3>&- </dev/null
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	eq "$(ls -A "$MNT")" ""
	eq "$(stat -c %a "$MNT")" 1777
	fill_all_kinds "$MNT"
	mkdir "$MNT/views" "$MNT/layers"
	fails_with "exists" mkdir "$MNT/.spillfs"
	[ -r "$MNT/.spillfs/stats" ]
	fails_with "busy" lifetime pid:1 "$MNT"
	cp -r "$MNT" "$WORK/copy"
	eq "$(sums "$MNT")" "$(sums "$WORK/copy")"
	"$SPILLCTL" scratch "$MNT" -- sh -c 'mktemp' >"$WORK/out"
	[[ $(cat "$WORK/out") == "$MNT"/sh.??????/tmp.* ]]
	eq "$(ls -A "$WORK/room")" mine
	"$SPILLCTL" umount "$MNT"
	eq "$(ls -A "$WORK/room")" mine
	"$SPILLFS" -o scratch-only "$MNT" 3>&- </dev/null
	PID=$(daemon_pid)
	echo "$PID" >>"$WORK/.pids"
	eq "$(ls -A "$MNT")" ""
	echo 1 >"$MNT/f"
	kill9
	eq "$(ls -A "$MNT")" ""
}

@test "scratch-only: what it cannot be with is refused" {
	umount_store
	fails_with "exclude each other" "$SPILLFS" -o scratch-only,ro "$MNT"
	fails_with "exclude each other" "$SPILLFS" -o scratch-only,passthrough "$MNT"
}
