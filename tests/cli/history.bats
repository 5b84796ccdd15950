#!/usr/bin/env bats
# spillctl log, diff, compact: the layers, what changed between them, and their merging.
load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store -o keep=20
}

layer() { # FILE...: new noise in each, sealed
	local f
	for f in "$@"; do noise 600000 "$MNT/layers/$f"; done
	"$SPILLCTL" commit "$MNT" >&2
}

@test "usage of log and diff" {
	ctl_fails 1 "usage: spillctl log [options] MNT" log
	ctl_fails 1 "option '-n' needs a value" log "$MNT" -n
	ctl_fails 1 "option '-n' needs a value" log "$MNT" --number
	ctl_fails 1 "'x' is not a number" log -n x "$MNT"
	ctl_fails 1 "'-1' is not a number" log --number=-1 "$MNT"
	ctl_fails 1 "takes no value" log --raw=1 "$MNT"
	ctl_fails 1 "usage: spillctl diff [options] MNT A B" diff "$MNT" a
	ctl_fails 1 "'a/b' is neither" diff "$MNT" a/b c
	ctl_fails 1 "'' is neither" diff "$MNT" a ""
	ctl_fails 2 "is not in a mounted spillfs" log "$WORK"
	ctl_fails 2 "is not in a mounted spillfs" diff "$WORK" a b
	ctl_fails 2 "is not in a mounted spillfs" compact "$WORK"
}

@test "log of an empty store is empty" {
	eq "$("$SPILLCTL" log "$MNT")" ""
	grep -q '^# layer' <("$SPILLCTL" log -r "$MNT")
}

@test "log lists the layers, newest first, with their snapshots" {
	layer a b
	mkdir "$MNT/snapshots/first day"
	layer a
	TZ=UTC "$SPILLCTL" log "$MNT" >"$WORK/log"
	cat "$WORK/log"
	eq "$(wc -l <"$WORK/log")" 2
	grep -qE '^@2  20[0-9-]{8} [0-9:]{8}  1 array +[0-9.]+ KiB -> +[0-9.]+ KiB$' "$WORK/log"
	grep -qE '^@1  20[0-9-]{8} [0-9:]{8}  2 arrays +1\.1 MiB -> .*  first day$' "$WORK/log"
	head -n1 "$WORK/log" | grep -q '^@2 '
	eq "$("$SPILLCTL" log -n 1 "$MNT" | cut -c1-3)" "@2 "
	eq "$("$SPILLCTL" log --number=0 "$MNT")" ""
	# The raw text, as scripts read it.
	"$SPILLCTL" log -r -n1 "$MNT" | awk -F'\t' '
		/^#/ { next }
		{ rows++; bad += NF < 7 || $1 != 2 || $3 != 1 || $4 != 600000 || $6 != "delta" || $7 != "-" }
		END { exit bad || rows != 1 }'
	"$SPILLCTL" log --raw "$MNT" | awk -F'\t' '$1 == 1 { found = $7 == "first%20day" } END { exit !found }'
	eq "$("$SPILLCTL" log -r "$MNT")" "$(cat "$MNT/.spillfs/log")"
	rmdir "$MNT/snapshots/first day"
	if "$SPILLCTL" log "$MNT" | grep -q first; then fail "the snapshot is still there"; fi
}

@test "log shows the newest layer at once and later, whatever compaction looks at" {
	local i
	remount -o keep=3
	for i in 1 2 3 4 5; do
		layer a
		"$SPILLCTL" sync "$MNT"
		"$SPILLCTL" log "$MNT" | head -n1 | grep -q "^@$i "
		sleep 0.05
		"$SPILLCTL" log "$MNT" | head -n1 | grep -q "^@$i "
		"$SPILLCTL" log "$MNT" >"$WORK/log"
		eq "$(wc -l <"$WORK/log")" $((i < 3 ? i : 3))
	done
}

@test "diff: new, gone, changed, attributes, and where" {
	truncate -s 2M "$MNT/layers/same"
	noise 1048576 "$MNT/layers/changed"
	noise 1000 "$MNT/layers/gone"
	noise 1000 "$MNT/layers/attr"
	"$SPILLCTL" commit "$MNT"
	mkdir "$MNT/snapshots/a b"
	noise 10 "$WORK/ten"
	dd if="$WORK/ten" of="$MNT/layers/changed" bs=1 seek=600000 conv=notrunc status=none
	rm "$MNT/layers/gone"
	chmod 600 "$MNT/layers/attr"
	mkdir "$MNT/layers/d"
	noise 5 "$MNT/layers/d/new one"
	"$SPILLCTL" commit "$MNT"
	mkdir "$MNT/snapshots/v1.1"
	"$SPILLCTL" diff "$MNT" "a b" v1.1 >"$WORK/diff"
	cat "$WORK/diff"
	eq "$(grep -c '^[^ ]' "$WORK/diff")" 4
	grep -qxF -- '- gone' "$WORK/diff"
	grep -qxF 'm attr' "$WORK/diff"
	grep -A1 -xF '+ d/new one' "$WORK/diff" | grep -qxF '    [0, 5)'
	# The range holds the bytes, and is no more than their block.
	grep -A1 -xF '~ changed' "$WORK/diff" | awk -F'[^0-9]+' '
		/\[/ { found = $2 >= 524288 && $2 <= 600000 && $3 >= 600010 && $3 <= 786432 } END { exit !found }'
	# Backwards, and layers by number.
	"$SPILLCTL" diff "$MNT" @2 @1 >"$WORK/back"
	grep -qxF '+ gone' "$WORK/back"
	grep -qxF -- '- d/new one' "$WORK/back"
	eq "$("$SPILLCTL" diff "$MNT" v1.1 v1.1)" ""
	eq "$("$SPILLCTL" diff "$MNT" v1.1 @2)" ""
	"$SPILLCTL" diff --raw "$MNT" "a b" v1.1 | grep -q "^+	0	5	d/new%20one\$"
}

@test "diff names the snapshot or layer that does not exist" {
	layer a
	mkdir "$MNT/snapshots/yes"
	ctl_fails 3 "no snapshot 'nope'" diff "$MNT" yes nope
	ctl_fails 3 "no snapshot 'nope'" diff "$MNT" nope yes
	ctl_fails 3 "no snapshot 'first'" diff "$MNT" first second
	ctl_fails 3 "no layer @77" diff "$MNT" yes @77
	ctl_fails 3 "no snapshot '1' (a layer is written @1)" diff "$MNT" yes 1
}

@test "other users may read the history, not names that they may not see, nor compact" {
	require_root
	local ctl="setpriv --reuid=65534 --regid=65534 --clear-groups $SPILLCTL"
	layer a
	mkdir "$MNT/snapshots/s"
	$ctl log "$MNT" | grep -q '^@1 '
	run $ctl diff "$MNT" s @1
	eq "$status" 3
	run $ctl compact "$MNT"
	eq "$status" 3
	[[ $output == *"only root"* ]]
}

@test "compact merges the layers, waits for it, and says what came of it" {
	remount -o keep=1
	local i
	for i in 1 2 3 4 5; do
		layer a
		cp "$MNT/layers/a" "$WORK/a"
	done
	"$SPILLCTL" compact "$MNT" >"$WORK/out" 2>"$WORK/err"
	cat "$WORK/out" "$WORK/err"
	[ ! -s "$WORK/err" ]
	grep -qE '^[0-9]+ layers, [0-9.]+ MiB -> [0-9]+ layers?, [0-9.]+ KiB$' "$WORK/out"
	awk '{ exit !($1 >= 5 && $6 <= 2) }' "$WORK/out"
	same "$WORK/a" "$MNT/layers/a"
	"$SPILLCTL" log "$MNT" | grep -qE '^@[0-9]+ .*  compaction$'
	# Once more: there is nothing to merge.
	"$SPILLCTL" compact "$MNT"
	remount
	same "$WORK/a" "$MNT/layers/a"
}

@test "compact says what stays for the last commits and for snapshots, and it goes with them" {
	remount -o keep=3
	noise 2000000 "$MNT/layers/b"
	"$SPILLCTL" commit "$MNT"
	for i in 1 2; do noise 2000000 "$MNT/layers/b" "$i"; layer a; done
	"$SPILLCTL" compact "$MNT" >"$WORK/out" 2>"$WORK/err"
	cat "$WORK/out" "$WORK/err"
	grep -q "keeps its last 3 commits (-o keep)" "$WORK/err"
	grep -qE "^[4-9]\.[0-9] MiB of them only for the last 3 commits" "$WORK/out"
	refute grep -q "for snapshots" "$WORK/out"
	[ "$(stat_value spillfs_layer_window_bytes)" -gt 4000000 ]
	eq "$(stat_value spillfs_layer_snapshot_bytes)" 0
	for i in 1 2 3; do echo "$i" >"$MNT/layers/c"; "$SPILLCTL" commit "$MNT"; done
	[ "$(stat_value spillfs_layer_window_bytes)" -lt 100000 ]
	[ "$(stat_value spillfs_layer_bytes)" -lt 3000000 ]
	rm "$MNT"/layers/*
	"$SPILLCTL" commit "$MNT"
	noise 2000000 "$MNT/layers/b" 7
	mkdir "$MNT/snapshots/held"
	rm "$MNT/layers/b"
	for i in 1 2 3; do echo "$i" >"$MNT/layers/c"; "$SPILLCTL" commit "$MNT"; done
	"$SPILLCTL" compact "$MNT" >"$WORK/out"
	cat "$WORK/out"
	grep -qE "^[1-9]\.[0-9] MiB of them only for snapshots" "$WORK/out"
	rmdir "$MNT/snapshots/held"
	"$SPILLCTL" sync "$MNT"
	eq "$(stat_value spillfs_layer_snapshot_bytes)" 0
}

@test "compact draws a bar on a terminal, and takes it away" {
	require_tool script bsdutils
	layer a
	layer a
	# Columns: script has no terminal to take a size from, and gives 0 by 0, which stands for 80.
	script -qec "'$SPILLCTL' compact '$MNT'" "$WORK/typescript" </dev/null >/dev/null
	tr '\r' '\n' <"$WORK/typescript" >"$WORK/lines"
	cat "$WORK/lines"
	grep -q '^compacting' "$WORK/lines"
	awk '/^compacting/ && length($0) > 79 { bad = 1 } END { exit bad }' "$WORK/lines"
	grep -A1 '^ *$' "$WORK/lines" | grep -qE '^[0-9]+ layers?, .* -> '
	# Only the standard error counts.
	script -qec "'$SPILLCTL' compact '$MNT' 2>'$WORK/err'" "$WORK/typescript" </dev/null >/dev/null
	refute grep -q compacting "$WORK/err"
	if grep -q compacting "$WORK/typescript"; then fail "drawn all the same"; fi
}
