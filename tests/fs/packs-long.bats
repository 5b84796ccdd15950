#!/usr/bin/env bats
# Many more small arrays than in packs.bats.

load ../lib/common
load packs

@test "10,000 small arrays in one commit take little more than zstd makes of them at once" {
	spill_only
	many 10000
}
