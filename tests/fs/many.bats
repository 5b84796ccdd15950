#!/usr/bin/env bats
# Several processes at once, beside ext4: see many.bash. MANY_SEED: another seed than 1.

load ../lib/common
load many

setup() { many_setup; }

@test "four processes of their own files, compared with ext4, and four on shared ones" {
	mount_store
	many "$seed" 4 300 2
}

@test "the same with -o nowriteback" {
	mount_store -o nowriteback
	many "$seed" 4 150 2
}

@test "the same with columns by passthrough" {
	need_passthrough
	mount_store -o passthrough
	export FSOPS_NO_SETID=1
	many "$seed" 4 150 2
}

@test "the same with direct I/O on the store and two leases" {
	mount_store -o backing=direct,leases=2
	many "$seed" 4 150 2
}
