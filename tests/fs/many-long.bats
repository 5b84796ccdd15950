#!/usr/bin/env bats
# Minutes of many.bats, with other seeds each time that MANY_SEED says so; and 64 processes at once.

load ../lib/common
load many

setup() { many_setup; }

# rounds FIRST COUNT [options]
rounds() {
	local i first=$((seed * 1000 + $1)) count=$2
	shift 2
	mount_store "$@"
	for i in $(seq 1 "$count"); do many $((first + i)) 4 3000 20; done
	tell_many
}

@test "2 rounds" { rounds 0 2; }
@test "2 rounds with small budgets and layers and frequent commits" { rounds 100 2 -o dirty=1M,cache=1M,layer=512K,commit=1; }
@test "2 rounds with -o nowriteback" { rounds 200 2 -o nowriteback; }
@test "2 rounds with columns by passthrough" { need_passthrough; export FSOPS_NO_SETID=1; rounds 300 2 -o passthrough,commit=1; }
@test "2 rounds with direct I/O on the store and two leases" { rounds 400 2 -o backing=direct,leases=2; }

@test "64 processes of their own files, and 64 on shared ones" {
	mount_store
	many $((seed * 1000 + 500)) 64 300 20
	tell_many
}
