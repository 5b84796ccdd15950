#!/usr/bin/env bats
# tests/run: whatever goes wrong in a program or a .bats file is counted as a failure, named, and shown.
load ../lib/common

setup() {
	setup_work
	mkdir "$WORK/t"
	F=$WORK/t/f.bats
	# with nothing of the bats around it
	RUN="env -i PATH=${PATH//$BATS_LIBEXEC:/} TMPDIR=$WORK BUILDDIR=$WORK SRCDIR=$TOP"
}

# says TEXT...: the last run failed, and printed each text.
says() {
	local text
	eq "$status" 1
	for text; do [[ $output == *"$text"* ]] || fail "should have said '$text': $output"; done
}

@test "a failed test fails the run, and is shown with what it printed" {
	printf '@test "%s" { %s; }\n' good true bad 'echo because; false' other true >"$F"
	run $RUN "$TOP/tests/run" "$F"
	says "FAILED: t/f" "| not ok 2 bad" "| # because" "failed:
    - t/f (1)" "2 passed, 1 failed"
	[[ $output != *"ok 3"* ]]
}

@test "beside others that pass, too; each is told as a whole" {
	local f
	for f in 1 2 3 4 5; do printf '@test "%s" { true; }\n' a b c >"$WORK/t/$f.bats"; done
	echo '@test "bad" { echo because; false; }' >"$F"
	run $RUN TEST_JOBS=3 "$TOP/tests/run" "$WORK"/t/*.bats
	says "FAILED: t/f, whole output in $WORK/test-t-f.log
    | not ok 1 bad in " "    | # because
t/f " "15 passed, 1 failed"
}

@test "one that hangs is ended after its time, and fails" {
	printf '@test "%s" { %s; }\n' good true hangs 'read -r <><(:)' >"$F"
	run $RUN TEST_LIMIT_S=2 "$TOP/tests/run" "$F"
	says "FAILED: t/f: no end after 2 s" "| ok 1 good" "1 passed, 1 failed"
}

@test "a mount that is left is taken away, and fails" {
	require_root
	echo '@test "x" { mkdir "$TMPDIR/m" && mount -t tmpfs none "$TMPDIR/m"; }' >"$F"
	run $RUN "$TOP/tests/run" "$F"
	says "FAILED: t/f: left mounted: $WORK/sfs." "1 passed, 1 failed"
	refute grep -q " $WORK/sfs" /proc/self/mountinfo
}

@test "no test, a file that is missing, a file that is no bats file" {
	: >"$F"
	run $RUN "$TOP/tests/run" "$F"
	says "FAILED: t/f: " "0 passed, 1 failed"
	run $RUN "$TOP/tests/run" "$WORK/none.bats"
	says "FAILED: $WORK/none.bats: no such file" "0 passed, 1 failed"
	echo 'exit 0' >"$F"
	run $RUN "$TOP/tests/run" "$F"
	says "FAILED: t/f: " "0 passed, 1 failed"
}

@test "skips are said; for want of /dev/fuse under CI=true they are failures" {
	printf '@test "%s" { skip "%s"; }\n' a "for fun" b "no /dev/fuse" >"$F"
	run $RUN "$TOP/tests/run" "$F"
	eq "$status" 1
	says "SKIPPED: t/f: 1 a in " "# skip for fun" "SKIPPED: t/f: 2 b in " "no test was executed" "0 passed, 0 failed, 2 skipped"
	run $RUN CI=true "$TOP/tests/run" "$F"
	says "SKIPPED: t/f: 1 a in " "FAILED: t/f: skipped although CI=true" "0 passed, 1 failed, 1 skipped"
}

@test "without /dev/fuse .bats files are skipped, and failures under CI=true" {
	require_root
	printf '@test "%s" { true; }\n' a b >"$F"
	# a /dev without fuse, in a mount namespace of its own
	local dev='mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"'
	run private_ns bash -c "$dev" - $RUN "$TOP/tests/run" "$F"
	says "SKIPPED: t/f: 2 tests need /dev/fuse" "0 passed, 0 failed, 2 skipped"
	run private_ns bash -c "$dev" - $RUN CI=true "$TOP/tests/run" "$F"
	says "FAILED: t/f: /dev/fuse is missing although CI=true" "0 passed, 1 failed"
}

@test "files that say so run alone, after the others" {
	printf '%s\n' '# alone: it counts what runs' '@test "x" { [ ! -e "$BUILDDIR/busy" ] && [ -e "$BUILDDIR/ran" ]; }' >"$F"
	for f in 1 2; do
		echo '@test "x" { touch "$BUILDDIR/busy"; sleep 0.5; rm "$BUILDDIR/busy"; touch "$BUILDDIR/ran"; }' >"$WORK/t/$f.bats"
	done
	run $RUN TEST_JOBS=4 "$TOP/tests/run" "$F" "$WORK"/t/1.bats
	eq "$status" 0
	[[ $output == *"2 passed, 0 failed" ]]
}

@test "fuzz: an input that crashes, hangs or fails is named" {
	mkdir -p "$WORK/tests/fuzz" "$WORK/src/tests/fuzz/corpus/x"
	printf '%s\n' '#include <stddef.h>' '#include <stdint.h>' '#include <stdlib.h>' \
		'int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n) {
			if (n && *p == 97) abort();
			if (n && *p == 101) exit(7);
			return 0; }' >"$WORK/x.c"
	${CC:-cc} -o "$WORK/tests/fuzz/fuzz_x" "$WORK/x.c" "$TOP/tests/fuzz/fuzz_main.c"
	for f in zero abort exit; do printf %s "${f#zero}" >"$WORK/src/tests/fuzz/corpus/x/$f"; done
	run $RUN SRCDIR="$WORK/src" "$TOP/tests/run" fuzz
	says "not ok 1 abort: Aborted" "not ok 2 exit: exit code 7" "1 passed, 2 failed"
}
