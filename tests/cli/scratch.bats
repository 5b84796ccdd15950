#!/usr/bin/env bats
# spillctl scratch: a command with a directory that ends with it.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store
	S=$MNT/scratch
}

in_scratch() { "$SPILLCTL" scratch "$MNT" -- "$@"; }
is_empty() { [ -z "$(ls -A "$S")" ]; }
has() { [ -e "$1" ]; }

# Its output is a file of the test's: a pipe of bats' would be held open by what it leaves behind.
starts() { "$SPILLCTL" scratch "$MNT" -- "$@" >"$WORK/out" 2>&1 3>&- & }

@test "the command has a private directory in the variables, and nothing is left" {
	in_scratch sh -c 'echo "$TMPDIR $TMP $TEMP $SQLITE_TMPDIR $MAGICK_TEMPORARY_PATH"; stat -c %a "$TMPDIR"; mktemp; mkdir "$TMPDIR/d"; seq 1000 >"$TMPDIR/d/f"' >"$WORK/out"
	read -r a b c d e <"$WORK/out"
	[[ $a == "$S"/sh.?????? ]]
	eq "$a $b $c $d" "$b $c $d $e"
	eq "$(sed -n 2p "$WORK/out")" 700
	[[ $(sed -n 3p "$WORK/out") == "$a"/tmp.* ]]
	eq "$(ls -A "$S")" ""
}

@test "the directory's name is one that a script can leave without quotes" {
	local command=$WORK/$'-a b\n"\xc3\xa9*c'
	cp "$(command -v printenv)" "$command"
	in_scratch "$command" TMPDIR >"$WORK/out"
	[[ $(cat "$WORK/out") == "$S"/-a_b_____c.?????? ]]
	is_empty
}

@test "input, output and exit code are the command's" {
	local code
	eq "$(seq 5 | in_scratch tac | tr '\n' ' ')" "5 4 3 2 1 "
	for code in 0 1 2 3 42 255; do
		run in_scratch sh -c "exit $code"
		eq "$status" "$code"
	done
	run in_scratch sh -c 'kill -KILL $$'
	eq "$status" 137
	run in_scratch nonesuch
	eq "$status" 127
	eq "$output" "spillctl: nonesuch: No such file or directory"
	run in_scratch "$WORK"
	eq "$status" 126
	soon is_empty
}

@test "signals are passed on, once, and are as they were given" {
	local signal
	for signal in HUP INT QUIT TERM USR1 USR2; do
		: >"$WORK/out"
		"$PYTHON" - "$SPILLCTL" "$MNT" "$signal" 3>&- <<-'EOF'
			import os, signal, subprocess, sys
			ctl, mnt, name = sys.argv[1:]
			child = """
			import signal, sys
			got = []
			signal.signal(signal.SIG%s, lambda n, f: got.append(n))
			blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
			print(len(blocked), flush=True)
			signal.sigtimedwait([], 0.001)
			while not got:
			    signal.pause()
			signal.sigtimedwait([], 0.2)
			sys.exit(10 + len(got))
			""" % name
			p = subprocess.Popen([ctl, "scratch", mnt, "--", sys.executable, "-c", "\n".join(l.strip("\t") for l in child.split("\n"))],
			                     stdout=subprocess.PIPE)
			assert p.stdout.readline() == b"0\n"
			p.send_signal(getattr(signal, "SIG" + name))
			assert p.wait() == 11, (name, p.returncode)
		EOF
	done
	is_empty
}

@test "what the command leaves behind keeps the directory, and does not keep spillctl" {
	mkfifo "$WORK/go"
	in_scratch sh -c "setsid sh -c 'read x <$WORK/go; echo late >\"\$TMPDIR/late\"; cp \"\$TMPDIR/late\" $WORK/late; read x <$WORK/go' >/dev/null 2>&1 3>&- & exit 5" || eq $? 5
	eq "$(ls "$S" | wc -l)" 1
	echo >"$WORK/go"
	soon has "$WORK/late"
	eq "$(cat "$S"/*/late)" late
	echo >"$WORK/go"
	soon is_empty
}

@test "spillctl is killed: the directory stays as long as the command" {
	mkfifo "$WORK/go"
	starts sh -c "touch \"\$TMPDIR/there\"; read x <$WORK/go; touch \"\$TMPDIR/later\"; read x <$WORK/go"
	there() { has "$S"/*/there; }
	soon there
	kill -9 $!
	wait $! || true
	echo >"$WORK/go"
	later() { has "$S"/*/later; }
	soon later
	echo >"$WORK/go"
	soon is_empty
}

@test "the keeper is killed: nothing is left, and what is open can be used on" {
	mkfifo "$WORK/go"
	starts sh -c "exec 5>\"\$TMPDIR/open\"; echo \$PPID >$WORK/keeper; read x <$WORK/go; echo on >&5 && echo used >$WORK/used"
	soon test -s "$WORK/keeper"
	kill -9 "$(cat "$WORK/keeper")"
	soon is_empty
	echo >"$WORK/go"
	soon has "$WORK/used"
	wait $! || eq $? 3
	grep -q "the process that keeps $S/sh.* was killed" "$WORK/out"
}

@test "the daemon is killed: the command ends as it would" {
	mkfifo "$WORK/go"
	starts sh -c "touch $WORK/runs; read x <$WORK/go; exit 9"
	soon has "$WORK/runs"
	kill9
	echo >"$WORK/go"
	wait $! || eq $? 9
	mount_again
	is_empty
}

@test "any user has a directory of his own" {
	require_root
	setpriv --reuid 1234 --clear-groups "$SPILLCTL" scratch "$MNT" -- sh -c "stat -c '%a %u' \"\$TMPDIR\" && touch \"\$TMPDIR/f\"" >"$WORK/out"
	eq "$(cat "$WORK/out")" "700 1234"
	is_empty
}

@test "what cannot be: no mount, no command, a follower" {
	run "$SPILLCTL" scratch "$WORK" -- true
	eq "$status" 2
	run "$SPILLCTL" scratch "$MNT"
	eq "$status" 1
	mkdir "$WORK/ro"
	"$SPILLFS" -o ro "$STORE" "$WORK/ro" 3>&- </dev/null
	run "$SPILLCTL" scratch "$WORK/ro" -- true
	eq "$status" 3
	[[ $output == *"no directory can be made there: Read-only file system"* ]]
	"$SPILLCTL" umount "$WORK/ro"
}
