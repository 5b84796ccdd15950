#!/usr/bin/env bats
# One writer, many readers: -o ro follows the commits of another daemon, from layers/ alone.

load ../lib/common

setup() {
	spill_only
	setup_work
	RO=$WORK/ro
	mkdir "$RO"
}

follower() { guarded 200 "$PYTHON" "$LIB/follower.py" "$@"; }
commit() { "$SPILLCTL" commit "$MNT" >/dev/null; }

# follow STORE [OPTIONS]: a follower at $RO.
follow() {
	local last=${PID:-}
	"$SPILLFS" -o "ro${2:+,$2}" "$1" "$RO" 3>&- </dev/null
	RO_PID=$(daemon_pid "$RO")
	echo "$RO_PID" >>"$WORK/.pids"
	# teardown takes the last for the writer's
	if [ -n "$last" ]; then echo "$last" >>"$WORK/.pids"; fi
}

unfollow() {
	"$SPILLCTL" umount "$RO"
	wait_gone "$RO_PID"
}

# refreshed CMD...: after another pass over the copy, as rsync would. HEAD comes last; of a busy store it may even so name a
# layer that the pass has missed, which the next one brings.
refreshed() {
	cp "$STORE"/layers/*.zst "$WORK/copy/layers/"
	cp "$STORE/layers/HEAD" "$WORK/copy/layers/HEAD.new"
	mv "$WORK/copy/layers/HEAD.new" "$WORK/copy/layers/HEAD"
	sleep 0.3
	"$@"
}

# teardown's umount of the writer would leave the follower's mount to force.
teardown() {
	if [ -n "${RO:-}" ] && mounted "$RO"; then "$SPILLCTL" umount "$RO" || true; fi
	teardown_work
}

@test "a second writer is refused and told who has the store" {
	local rc=0
	mount_store
	"$SPILLFS" "$STORE" "$RO" 3>&- 2>"$WORK/err" || rc=$?
	cat "$WORK/err"
	eq "$rc" 4
	grep -qw "$PID" "$WORK/err"
	refute mounted "$RO"
	# The writer may come while a follower is there, and another follower.
	umount_store
	follow "$STORE"
	mount_again
	mkdir "$WORK/ro2"
	"$SPILLFS" -o ro "$STORE" "$WORK/ro2" 3>&-
	echo x >"$MNT/layers/f"
	commit
	soon grep x "$RO/layers/f"
	soon grep x "$WORK/ro2/layers/f"
	"$SPILLCTL" umount "$WORK/ro2"
}

@test "follows within a second" {
	mount_store -o keep=100
	follow "$STORE"
	follower delay "$MNT" "$RO" 6
}

@test "reading the statistics takes no state away" {
	mount_store -o keep=100,commit=0
	for n in $(seq 12); do
		echo "$n" >"$MNT/layers/f"
		"$SPILLCTL" commit "$MNT" >/dev/null
	done
	follow "$STORE"
	for n in $(seq 12); do
		cat "$RO/.spillfs/stats" >/dev/null
		eq "$(cat "$RO/snapshots/@$n/layers/f")" "$n"
	done
}

@test "never a half of a commit" {
	mount_store -o keep=100,commit=0
	follow "$STORE"
	follower pairs "$MNT" "$RO" 50
}

@test "shows names, snapshots and attributes as the writer does" {
	mount_store -o keep=10
	mkdir -p "$MNT/layers/d/e"
	noise 700000 "$MNT/layers/d/f" 1
	chmod 640 "$MNT/layers/d/f"
	setfattr -n user.x -v y "$MNT/layers/d/f"
	ln -s f "$MNT/layers/d/l"
	echo b >"$MNT/buckets/b"
	mkdir "$MNT/snapshots/s"
	rm "$MNT/layers/d/l"
	noise 700000 "$MNT/layers/d/e/g" 2
	follow "$STORE"
	commit
	soon [ -e "$RO/layers/d/e/g" ]
	for t in layers snapshots/s; do
		py manifest "$MNT/$t" | tail -n +2 | sed 's/ n[0-9]* / /' >"$WORK/want"
		py manifest "$RO/$t" | tail -n +2 | sed 's/ n[0-9]* / /' >"$WORK/got"
		diff "$WORK/want" "$WORK/got"
	done
	eq "$(ls "$RO/snapshots" "$RO/deltas")" "$(ls "$MNT/snapshots" "$MNT/deltas" | sed "s#$MNT#$RO#")"
	"$SPILLCTL" log "$RO" >"$WORK/got"
	"$SPILLCTL" log "$MNT" | diff - "$WORK/got"
	eq "$("$SPILLCTL" diff "$RO" s "@$("$SPILLCTL" log -r -n1 "$RO" | awk '!/^#/ { print $1 }')" | grep -c '^[+-]')" 2
	rmdir "$MNT/snapshots/s"
	mkdir "$MNT/snapshots/t"
	soon [ -e "$RO/snapshots/t" ]
	soon [ ! -e "$RO/snapshots/s" ]
}

@test "refuses every change" {
	mount_store
	echo x >"$MNT/layers/f"
	mkdir "$MNT/layers/d" "$MNT/snapshots/s"
	echo x >"$MNT/layers/d/g"
	commit
	follow "$STORE"
	follower refused "$RO"
	eq "$(cat "$RO/layers/f")" x
	fails_with "" "$SPILLCTL" compact "$RO"
}

@test "writes nothing into the store, and needs no right to" {
	local i
	mount_store -o keep=10
	for i in 1 2 3; do
		noise 300000 "$MNT/layers/f" $i
		commit
	done
	mkdir "$MNT/snapshots/s"
	umount_store
	py follower listing "$STORE" >"$WORK/before"
	unset PID
	follow "$STORE"
	noise 300000 - 3 | same - "$RO/layers/f"
	noise 300000 - 3 | same - "$RO/snapshots/s/layers/f"
	noise 300000 - 1 | same - "$RO/snapshots/@1/layers/f"
	cat "$RO/.spillfs/stats" "$RO/.spillfs/log" >"$WORK/text"
	sleep 0.5
	py follower listing "$STORE" | diff "$WORK/before" -
	unfollow
	py follower listing "$STORE" | diff "$WORK/before" -
	echo 0 >"$WORK/.pids"
}

@test "on a copy made while the writer runs, and without meta.db" {
	local i
	mount_store -o keep=100
	for i in 1 2 3 4 5; do
		noise 300000 "$MNT/layers/f" $i
		echo $i >"$MNT/layers/n"
		commit
	done
	mkdir "$MNT/snapshots/five"
	(
		while [ ! -e "$WORK/stop" ]; do
			date >"$MNT/layers/clock"
			"$SPILLCTL" commit "$MNT"
		done
	) >"$WORK/out" 2>&1 &
	for i in 1 2 3; do
		rm -rf "$WORK/copy"
		cp -r "$STORE" "$WORK/copy" || true # files that are gone again
		rm -f "$WORK"/copy/meta.db*
		if [ "$i" = 2 ]; then rm -rf "$WORK/copy/pool" "$WORK/copy/columns" "$WORK/copy/lock"; fi
		follow "$WORK/copy"
		soon refreshed grep 5 "$RO/layers/n"
		eq "$(cat "$RO/layers/n" "$RO/snapshots/five/layers/n" "$RO/snapshots/@2/layers/n")" $'5\n5\n2'
		noise 300000 - 5 | same - "$RO/layers/f"
		noise 300000 - 3 | same - "$RO/snapshots/@3/layers/f"
		unfollow
	done
	touch "$WORK/stop"
	wait_all
	# A copy that is brought up to date is followed as the store itself.
	follow "$WORK/copy"
	echo last >"$MNT/layers/n"
	commit
	soon refreshed grep last "$RO/layers/n"
}

@test "after the writer's compaction; open files go on" {
	local i
	mount_store
	noise 3000000 "$MNT/layers/f" 1
	commit
	follow "$STORE"
	exec 7<"$RO/layers/f"
	for i in 2 3 4; do
		noise 3000000 "$MNT/layers/f" $i
		commit
	done
	"$SPILLCTL" compact "$MNT"
	soon bash -c 'cmp -s "$1" "$2"' - "$MNT/layers/f" "$RO/layers/f"
	noise 3000000 - 4 | same - "$RO/layers/f"
	drop_caches
	noise 3000000 - 4 | same - "$RO/layers/f"
	noise 3000000 "$WORK/want" 1
	same "$WORK/want" - <&7
	exec 7<&-
	unfollow
	follow "$STORE"
	noise 3000000 - 4 | same - "$RO/layers/f"
}

@test "the writer is killed and comes back; the follower stays" {
	mount_store
	echo one >"$MNT/layers/f"
	commit
	follow "$STORE"
	eq "$(cat "$RO/layers/f")" one
	echo lost >"$MNT/layers/f"
	kill9
	eq "$(cat "$RO/layers/f")" one
	mount_again
	echo two >"$MNT/layers/f"
	commit
	soon grep two "$RO/layers/f"
}

@test "what is no store is not followed" {
	local rc d
	mkdir "$WORK/empty" "$WORK/other"
	echo x >"$WORK/other/file"
	for d in empty other missing; do
		rc=0
		"$SPILLFS" -o ro "$WORK/$d" "$RO" 3>&- 2>"$WORK/err" || rc=$?
		echo "$d: $rc $(cat "$WORK/err")"
		[ "$rc" -ne 0 ]
		[ -s "$WORK/err" ]
		refute mounted "$RO"
	done
	eq "$(ls -A "$WORK/empty")" ""
	eq "$(ls -A "$WORK/other")" file
	[ ! -e "$WORK/missing" ]
	# A store in which nothing was sealed yet is one.
	mount_store
	follow "$STORE"
	eq "$(ls -A "$RO/layers")" ""
	echo x >"$MNT/layers/f"
	commit
	soon grep x "$RO/layers/f"
}
