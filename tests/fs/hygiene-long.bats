#!/usr/bin/env bats
# With 4 GiB: what goes through the mount is in the page cache once, and puts out nothing of others that the daemon shares a memory bound with.
# alone: tests that empty the page cache of the machine take the bystander with it

load ../lib/common
load hygiene

STREAM_MIB=4096

@test "buckets are in the page cache once" { holds_once buckets; }
@test "columns are in the page cache once" { holds_once columns; }
@test "layers that do not shrink are in the page cache once" { holds_once layers; }
@test "a stream through buckets puts out no bystander" { spares_bystander buckets; }
@test "a stream through columns puts out no bystander" { spares_bystander columns; }
@test "a stream through layers puts out no bystander" { spares_bystander layers; }
