#!/usr/bin/env bats
# Runs of buckets: where they end, marks, and what the views say of them. runs-long.bats has a million.

load ../lib/common

setup() {
	spill_only
	setup_work
}

runs() { guarded 100 "$PYTHON" "$LIB/runs.py" "$@"; }
index() { echo "$MNT/views/runs/buckets/$1/index.u64"; }

# Two files, two writers each, all at once: every boundary is there as soon as close(2) has returned, and no other one.
load_runs() {
	need_prog RUNLOAD tests/fs/runload.c
	"$RUNLOAD" write "$MNT/buckets/b" "$1" 2 &
	local other=$!
	"$RUNLOAD" write "$MNT/buckets/a" "$1" 2
	for f in a b; do
		[ $f = a ] || wait $other
		getfattr -n user.spillfs.runs --only-values --absolute-names "$MNT/buckets/$f" | "$RUNLOAD" check "$MNT/buckets/$f" -
	done
}

@test "runs of several writers end where their writers closed" {
	mount_store
	load_runs 2000
	remount
	for f in a b; do "$RUNLOAD" check "$MNT/buckets/$f" "$(index $f)"; done
}

@test "the same without the kernel's writeback cache" {
	mount_store -o nowriteback
	load_runs 2000
}

@test "what ends a run, and what does not" { mount_store; runs ends "$MNT"; }
@test "the same without the kernel's writeback cache: what ends a run" { mount_store -o nowriteback; runs ends "$MNT" nowriteback; }

@test "marks" {
	mount_store
	runs marks "$MNT"
	printf 12345 >"$MNT/buckets/f"
	printf 678 >"$MNT/buckets/g"
	{ printf 9; "$SPILLCTL" mark "$MNT/buckets/f" "$MNT/buckets/g"; printf 0; } >>"$MNT/buckets/f"
	eq "$(xattr "$MNT/buckets/f" runs)" "0 5 6 7"
	eq "$(xattr "$MNT/buckets/g" runs)" "0 3"
	ctl_fails 2 "is not in a mounted spillfs" mark "$WORK"
	ctl_fails 2 "is not a file below buckets/" mark "$MNT/layers" "$MNT/buckets/f"
}

@test "the same without the kernel's writeback cache: marks" { mount_store -o nowriteback; runs marks "$MNT"; }

@test "any number of runs: views/runs has their index, and their element type" { mount_store; runs index "$MNT"; }

@test "after a crash, runs end where they ended, or where what was durable does" {
	mount_store
	f=$MNT/buckets/f
	printf 123 >>"$f"
	printf 4567 >>"$f"
	exec 9>>"$f"
	printf 89 >&9
	sync "$f"
	kill9
	exec 9>&- || true
	mount_again
	eq "$(xattr "$f" runs)" "0 3 7 9"
	printf 0 >>"$f"
	eq "$(xattr "$f" runs)" "0 3 7 9 10"
}

# Boundaries are stored in pieces of 128; earlier releases have one of any length.
@test "stores of earlier releases, and damage" {
	mount_store
	need_prog RUNLOAD tests/fs/runload.c
	f=$MNT/buckets/f
	"$RUNLOAD" write "$f" 599 1
	umount_store
	db() { py damage sql "$STORE" "$1"; }
	have() { sqlite3 -batch "file:$STORE/meta.db?immutable=1" "$1"; }
	pieces="SELECT group_concat(length(value)) FROM blobs WHERE what=3 OR what>16"
	eq "$(have "$pieces")" 1024,1024,1024,1024,696
	for what in 17 18 19 20; do
		db "UPDATE blobs SET value=CAST(value||(SELECT value FROM blobs WHERE what=$what) AS BLOB) WHERE what=3"
	done
	db "DELETE FROM blobs WHERE what>16"
	"$SPILLCTL" check "$STORE"
	mount_again
	"$RUNLOAD" check "$f" "$(index f)"
	"$RUNLOAD" write "$f" 1 1
	umount_store
	eq "$(have "$pieces")" 1024,1024,1024,1024,704
	"$SPILLCTL" check "$STORE"
	db "UPDATE blobs SET value=CAST(substr(value, 1, 80)||substr(value, 73) AS BLOB) WHERE what=18"
	refute "$SPILLCTL" check "$STORE" >"$WORK/out" 2>&1
	grep "of its run boundaries, 1032 bytes, only the first 10 are valid" "$WORK/out"
	"$SPILLCTL" check --repair "$STORE" || eq $? 1
	"$SPILLCTL" check "$STORE"
	mount_again
	eq "$(stat -c %s "$(index f)")" $(((1 + 256 + 10 + 1) * 8))
}
