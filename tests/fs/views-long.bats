#!/usr/bin/env bats
# Readers and writers of views, for longer than in views.bats.

load ../lib/common

setup() {
	spill_only
	setup_work
}

views() { guarded 200 "$PYTHON" "$LIB/views.py" "$@"; }

@test "many readers and three writers: each view is one whole version" {
	mount_store
	views storm "$MNT" 20
}

@test "the same with small budgets and commits all the time" {
	mount_store -o cache=1M,dirty=1M,commit=1,layer=256K
	views storm "$MNT" 20
}

@test "the same without the kernel's writeback cache" {
	mount_store -o nowriteback
	VIEWS_INPLACE=16000 views storm "$MNT" 20
}

@test "many look at a file of the past while it is opened and closed" {
	mount_store
	head -c 8000 /dev/zero >"$MNT/layers/a.f64"
	mkdir "$MNT/snapshots/s"
	views past "$MNT" 20
}
