#!/usr/bin/env bats
# Many kills at random moments; see durability.bats and crash.py.

load ../lib/common
setup() { setup_work; }

kills() { # FROM TO [options]
	local seed from=$1 to=$2
	shift 2
	mount_store "$@"
	RANDOM=$from
	for seed in $(seq "$from" "$to"); do
		echo "--- round $seed"
		py crash run "$MNT" "$WORK/state" "$seed" $((RANDOM % 80 + 1)) "${PID:-0}" >>"$WORK/kept"
		kill9
		mount_again
		py crash check "$MNT" "$WORK/state"
	done
	tell "$((to + 1 - from)) kills, $(awk '{ n += $1 } END { print n }' "$WORK/kept") promises before them kept"
}

@test "40 kills, nothing durable but by request" { kills 1001 1040 -o commit=0; }
@test "40 kills, commits all the time, small budgets and layers" { kills 2001 2040 -o commit=1,dirty=1M,cache=1M,layer=512K; }
@test "20 kills with direct I/O on the store" { spill_only; kills 3001 3020 -o backing=direct,leases=2; }
@test "20 kills with -o nowriteback" { spill_only; kills 4001 4020 -o nowriteback; }
