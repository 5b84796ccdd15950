#!/usr/bin/env bats
# make bench and tests/bench/growth, quick: every row gives a figure for every system that takes part, and nothing stays mounted.

load ../lib/common

setup() { setup_work; }

@test "each row has a figure for each system" {
	spill_only
	BUILDDIR=$BUILDDIR "$SRCDIR/tests/bench/run" -q -r 1 -o "$WORK/lines" >"$WORK/table"
	cat "$WORK/table"
	"$SRCDIR/tests/bench/run" --list >"$WORK/rows"
	grep -v commits "$WORK/rows" | while read -r row; do
		grep -F "$row " "$WORK/table" | grep -qE ' [0-9]+ +(MiB)?/s .*[0-9]\.[0-9]{2}'
	done
	for system in native btrfs bindfs squashfuse buckets columns layers passthrough scratch; do
		grep -q "\"system\": \"$system\"" "$WORK/lines"
	done
	grep -qE '^commit, [0-9]+ times +[0-9.]+' "$WORK/table"
}

@test "how cost grows: each table has an exponent in each row" {
	spill_only
	require_root
	"$SRCDIR/tests/bench/growth" -q >"$WORK/table"
	cat "$WORK/table"
	eq "$(grep -c 'exponent$' "$WORK/table")" 5
	[ "$(grep -cE ', (ms|us|us each|MiB|MiB/s) +[0-9.e+]+ .* -?[0-9]+\.[0-9]{2}$' "$WORK/table")" -ge 37 ]
}
