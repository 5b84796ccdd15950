#!/usr/bin/env bats
# Directories below buckets/, columns/ and layers/ that are declared scratch: user.spillfs.durable=no.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store -o commit=3600
}

# Every name and length of the store, but those of its database and lock.
store_files() { (cd "$STORE" && find . ! -name 'meta.db*' ! -name lock -printf '%p %s %b\n' | sort); }

stats_number() { awk -v name="$1" '$1 == name { print $2 }' "$MNT/.spillfs/stats"; }

declare_scratch() { setfattr -n user.spillfs.durable -v no "$1"; }

fill() {
	local k
	mkdir -p "$1/deep/er"
	for k in 1 2 3; do head -c 3000000 /dev/urandom >"$1/f$k"; done
	cp "$1/f1" "$1/deep/er/f"
	ln -s f1 "$1/link"
	ln "$1/f1" "$1/deep/hard"
}

@test "kill -9, and a clean end, leave an empty directory, which goes on being scratch" {
	local before folder
	for folder in buckets columns layers; do
		mkdir "$MNT/$folder/d"
		declare_scratch "$MNT/$folder/d"
		echo kept >"$MNT/$folder/kept"
	done
	"$SPILLCTL" sync "$MNT"
	before=$(store_files)
	for end in kill9 umount_store; do
		for folder in buckets columns layers; do
			fill "$MNT/$folder/d"
			sync "$MNT/$folder/d/f1" "$MNT/$folder/d/deep/er/f"
		done
		eq "$(store_files)" "$before"
		$end
		mount_again
		for folder in buckets columns layers; do
			eq "$(ls -A "$MNT/$folder/d")" ""
			eq "$(stat -c %h "$MNT/$folder/d")" 2
			eq "$(getfattr --only-values -n user.spillfs.durable "$MNT/$folder/d")" no
			eq "$(cat "$MNT/$folder/kept")" kept
		done
		"$SPILLCTL" sync "$MNT"
		before=$(store_files)
	done
	umount_store
	"$SPILLCTL" check -n "$STORE"
}

@test "nobody waits for the disk on behalf of its files, and none of their bytes is written there" {
	local commits
	mkdir "$MNT/layers/d"
	declare_scratch "$MNT/layers/d"
	"$SPILLCTL" sync "$MNT"
	commits=$(stats_number spillfs_commits_total)
	head -c 50000000 /dev/urandom | tee "$WORK/f" >"$MNT/layers/d/f"
	sync "$MNT/layers/d/f"
	sync -d "$MNT/layers/d/f"
	eq "$(stats_number spillfs_commits_total)" "$commits"
	"$SPILLCTL" commit "$MNT"
	[ "$(du -s --block-size=1 "$STORE" | cut -f 1)" -lt 10000000 ]
	eq "$(awk '/^spillfs_backing_write_bytes_total{kind="spill"/ { n += $2 } END { printf "%d", n }' "$MNT/.spillfs/stats")" 0
	eq "$(awk '/^spillfs_backing_write_bytes_total{kind="layer"/ { n += $2 } END { printf "%d", n < 10000000 }' "$MNT/.spillfs/stats")" 1
	cmp "$MNT/layers/d/f" "$WORK/f"
}

@test "a folder itself can be declared scratch" {
	declare_scratch "$MNT/buckets"
	fill "$MNT/buckets"
	(cd "$MNT/buckets" && ls -lR >/dev/null && find . -type f | sort | tr '\n' ' ' >"$WORK/found")
	eq "$(cat "$WORK/found")" "./deep/er/f ./deep/hard ./f1 ./f2 ./f3 "
	eq "$(seq 300000 | sort -S 1M -T "$MNT/buckets/deep" | tail -n 1)" 99999
	kill9
	mount_again
	eq "$(ls -A "$MNT/buckets")" ""
}

@test "mv and cp between a declared directory and others copy, and what arrives is durable" {
	mkdir "$MNT/buckets/d" "$MNT/buckets/e"
	declare_scratch "$MNT/buckets/d"
	seq 1000 >"$MNT/buckets/d/run"
	fails_with "cross-device" ln "$MNT/buckets/d/run" "$MNT/buckets/e/run"
	mv "$MNT/buckets/d/run" "$MNT/buckets/e/run"
	sync "$MNT/buckets/e/run"
	fill "$MNT/buckets/d"
	cp -a "$MNT/buckets/d" "$MNT/buckets/copy"
	"$SPILLCTL" sync "$MNT"
	mv "$MNT/buckets/e/run" "$MNT/buckets/d/run"
	"$SPILLCTL" sync "$MNT"
	kill9
	mount_again
	eq "$(ls -A "$MNT/buckets/d" "$MNT/buckets/e" | tr '\n' ' ')" "$MNT/buckets/d:  $MNT/buckets/e: "
	eq "$(ls -A "$MNT/buckets/copy" | tr '\n' ' ')" "deep f1 f2 f3 link "
	fails_with "No such attribute" getfattr -n user.spillfs.durable "$MNT/buckets/copy"
	cmp "$MNT/buckets/copy/f1" "$MNT/buckets/copy/deep/er/f"
}

@test "what cannot be declared is said" {
	mkdir "$MNT/buckets/d"
	touch "$MNT/buckets/d/f"
	fails_with "not empty" declare_scratch "$MNT/buckets/d"
	fails_with "Not a directory" declare_scratch "$MNT/buckets/d/f"
	fails_with "Invalid argument" setfattr -n user.spillfs.durable -v perhaps "$MNT/buckets"
	rm "$MNT/buckets/d/f"
	declare_scratch "$MNT/buckets/d"
	touch "$MNT/buckets/d/f"
	fails_with "not empty" setfattr -n user.spillfs.durable -v yes "$MNT/buckets/d"
	fails_with "not empty" setfattr -x user.spillfs.durable "$MNT/buckets/d"
	fails_with "not supported" setfattr -n user.spillfs.durable -v yes "$MNT/buckets/d/f"
	fails_with "not empty" rmdir "$MNT/buckets/d"
	rm "$MNT/buckets/d/f"
	setfattr -n user.spillfs.durable -v yes "$MNT/buckets/d"
	echo kept >"$MNT/buckets/d/f"
	sync "$MNT/buckets/d/f"
	kill9
	mount_again
	eq "$(cat "$MNT/buckets/d/f")" kept
}

@test "a quota above a declared directory holds in it" {
	mkdir "$MNT/buckets/q" "$MNT/buckets/q/d"
	declare_scratch "$MNT/buckets/q/d"
	"$SPILLCTL" quota "$MNT" buckets/q 1M
	mkdir "$MNT/buckets/q/d/sub"
	"$SPILLCTL" quota "$MNT" buckets/q/d/sub 500K
	"$SPILLCTL" quota "$MNT" | grep -q 'buckets/q/d/sub$'
	fails_with "quota exceeded" dd if=/dev/zero of="$MNT/buckets/q/d/sub/f" bs=100000 count=6
	rm "$MNT/buckets/q/d/sub/f"
	fails_with "quota exceeded" dd if=/dev/zero of="$MNT/buckets/q/d/f" bs=100000 count=11
	[ "$(stat -c %s "$MNT/buckets/q/d/f")" -gt 900000 ]
	fails_with "quota exceeded" dd if=/dev/zero of="$MNT/buckets/q/f" bs=100000 count=2
	"$SPILLCTL" sync "$MNT"
	kill9
	mount_again
	dd if=/dev/zero of="$MNT/buckets/q/f" bs=100000 count=2 2>/dev/null
}

@test "snapshots, followers, rebuild and the check find the directory, and nothing in it" {
	mkdir "$MNT/layers/d" "$WORK/ro"
	declare_scratch "$MNT/layers/d"
	fill "$MNT/layers/d"
	mkdir "$MNT/snapshots/s"
	eq "$(ls -A "$MNT/snapshots/s/layers/d")" ""
	"$SPILLFS" -o ro "$STORE" "$WORK/ro" 3>&- </dev/null
	eq "$(ls -A "$WORK/ro/layers/d")" ""
	"$SPILLCTL" umount "$WORK/ro"
	umount_store
	"$SPILLCTL" check -n "$STORE"
	rm "$STORE/meta.db"
	"$SPILLCTL" rebuild "$STORE" >/dev/null
	mount_again
	eq "$(ls -A "$MNT/layers/d")" ""
	eq "$(getfattr --only-values -n user.spillfs.durable "$MNT/layers/d")" no
	fill "$MNT/layers/d"
	kill9
	mount_again
	eq "$(ls -A "$MNT/layers/d")" ""
}

@test "a directory of a declared one can have a lifetime" {
	local pid
	mkdir "$MNT/buckets/d"
	declare_scratch "$MNT/buckets/d"
	sleep 1000 3>&- &
	pid=$!
	mkdir "$MNT/buckets/d/job"
	fill "$MNT/buckets/d/job"
	setfattr -n user.spillfs.lifetime -v "pid:$pid" "$MNT/buckets/d/job"
	kill "$pid"
	wait "$pid" || true
	gone() { [ ! -e "$1" ]; }
	soon gone "$MNT/buckets/d/job"
	eq "$(ls -A "$MNT/buckets/d")" ""
	eq "$(stat -c %h "$MNT/buckets/d")" 2
}

@test "views show its arrays, and make some in it" {
	"$PYTHON" -c 'import numpy' 2>/dev/null || missing "numpy for $PYTHON (Debian: python3-numpy)"
	mkdir "$MNT/layers/d"
	ls "$MNT/views/npy/layers/d"
	declare_scratch "$MNT/layers/d"
	"$PYTHON" - "$MNT" <<-'EOF'
		import numpy as np, os, sys
		m = sys.argv[1]
		a = np.arange(100000.0)
		a.tofile(m + "/layers/d/x.f64")
		v = m + "/views/npy/layers/d/"
		assert os.listdir(v) == ["x.npy"], os.listdir(v)
		np.save(v + "new.npy", a[::2])
		assert (np.load(v + "new.npy") == a[::2]).all()
		assert sorted(os.listdir(m + "/layers/d")) == ["new", "x.f64"]
		os.rename(v + "new.npy", v + "other.npy")
		os.unlink(v + "x.npy")
		assert os.listdir(m + "/layers/d") == ["other"]
	EOF
	kill9
	mount_again
	eq "$(ls -A "$MNT/layers/d")" ""
}
