#!/usr/bin/env bats
# POSIX behaviour under each of the three classes, in scratch/ and in a directory that is declared scratch; what each check asks for is in tests/lib/posix_*.py.
# The tests of this file share one mount.

load ../lib/common

setup_file() {
	setup_work
	mount_store
}
teardown_file() { teardown_work; }
setup() {
	revive
	[ ! -d "$MNT/buckets/declared" ] || return 0
	mkdir "$MNT/buckets/declared"
	[ -n "$NATIVE" ] || setfattr -n user.spillfs.durable -v no "$MNT/buckets/declared"
}
teardown() { :; }

posix() {
	guarded 100 "$PYTHON" -S "$LIB/posix.py" "$1" "$MNT"/buckets "$MNT"/columns "$MNT"/layers "$MNT"/scratch "$MNT"/buckets/declared
	[ -n "$NATIVE" ] || alive "$PID"
}

@test "create: O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, access modes and their errors" { posix create_flags; }
@test "create: the umask applies" { posix umask_applies; }
@test "names: any bytes, 255 of them, no more" { posix names; }
@test "names: directories deeper than PATH_MAX" { posix deep_directories; }
@test "names: 1,000 files in a directory" { posix many_files; }
@test "rename: replaces, keeps the inode, spares open files" { posix rename_basic; }
@test "rename: directories, link counts, errors" { posix rename_directories; }
@test "rename: NOREPLACE and EXCHANGE" { posix rename_flags; }
@test "rename: a reader always finds a whole file" { posix rename_is_atomic; }
@test "links: hard, across directories of a class" { posix hard_links; }
@test "links: symbolic, dangling, looping, long" { posix symlinks; }
@test "special files: FIFO, socket, devices" { posix special_files; }
@test "directories: mkdir, rmdir, their errors, removal while open" { posix directories; }
@test "directories: their times" { posix directory_times; }
@test "readdir: 2,000 entries, each unlinked as it is read" { posix readdir_while_unlinking; }
@test "readdir: a walk ends and gives what stays once, while names change" { posix readdir_while_changing; }
@test "readdir: two walks at once, rewinding" { posix readdir_two_walks; }
@test "readdir: cookies stay" { posix readdir_cookies; }
@test "attributes: modes" { posix modes; }
@test "attributes: owners" { require_root; posix owners; }
@test "attributes: setgid directories pass on their group" { require_root; posix setgid_directory; }
@test "attributes: another user is refused what is not his" { require_root; posix other_user; }
@test "attributes: setuid and setgid bits are cleared by a change" { require_root; posix setuid_cleared; }
@test "attributes: times to the nanosecond, UTIME_OMIT, UTIME_NOW" { posix times; }
@test "attributes: times outside of what can be stored, and before 1970" { posix times_far; }
@test "attributes: time stamps ascend" { posix times_ascend; }
@test "attributes: a time set after a write stays" { posix times_and_writes; }
@test "attributes: xattrs, their flags and limits" { posix xattrs; }
@test "attributes: trusted ones are listed to who may read them" { posix trusted; }
@test "attributes: inode numbers" { posix inode_numbers; }
@test "attributes: statfs" { posix statfs; }
@test "concurrency: one of several O_EXCL creators wins" { posix exclusive_create; }
@test "concurrency: one directory, several processes" { posix concurrent_directories; }
@test "concurrency: readers beside a writer" { posix readers_and_writer; }
@test "concurrency: writers of parts of one file" { posix parallel_ranges; }
@test "programs run from the mount" { posix programs; }
@test "data: reads and writes at any offset" { posix read_write; }
@test "data: readv, writev, sendfile, splice" { posix vectors; }
@test "data: contents of every kind, sizes around the units" { posix write_kinds; }
@test "data: O_APPEND, also by several processes" { posix append; }
@test "data: a file is used on after its unlink" { posix unlink_while_open; }
@test "data: truncate both ways" { posix truncate; }
@test "data: a sparse file of 1 TiB" { posix sparse_terabyte; }
@test "data: SEEK_DATA and SEEK_HOLE, with data still in memory" { posix seek_data_hole; }
@test "data: fallocate, all modes" { posix fallocate_modes; }
@test "data: st_blocks follows what is stored" { posix space_comes_back; }
@test "data: copy_file_range" { posix copy_range; }
@test "data: O_DIRECT beside cached descriptors" { posix direct_io; }
@test "data: RLIMIT_FSIZE" { posix file_size_limit; }
@test "data: fsync, fdatasync, syncfs, O_SYNC" { posix sync_calls; }
@test "data: O_TMPFILE, where there is one" { posix tmpfile; }
@test "mmap: shared mappings and read() see the same" { posix mmap_shared; }
@test "mmap: private mappings do not reach the file" { posix mmap_private; }
@test "mmap: truncation under a mapping; files written by mappings only" { posix mmap_edges; }
@test "mmap: pages written back through another handle, beside readers" { posix mmap_other_handle; }
@test "locks: flock between two processes" { posix flock_two_processes; }
@test "locks: POSIX and OFD locks between two processes" { posix posix_locks; }

@test "every check is called by a test of this file" {
	local name
	for name in $(py posix -l); do
		grep -qE "posix $name;" "$BATS_TEST_FILENAME" || fail "no test calls $name"
	done
}
