#!/usr/bin/env bats
# The account of quotas beside what the files themselves say, over kills and mounts.

load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store -o commit=1
}

# A program that changes files below the directory in its first argument, by the seed in its second, until it is killed: without the
# mount it finds no file.
changes() {
	cat >"$WORK/changes.py" <<-'EOF'
		import ctypes, os, random, sys
		libc = ctypes.CDLL(None, use_errno=True)
		top, r = sys.argv[1], random.Random(int(sys.argv[2]))
		places = [top + "/%s/%s" % (a, b) for a in ("q", "free") for b in ("", "in")]
		def any_file():
		    return r.choice(places) + "/f%d" % r.randrange(12)
		def write():
		    f = os.open(any_file(), os.O_CREAT | os.O_WRONLY)
		    try: os.pwrite(f, r.randbytes(r.randrange(1, 200000)), r.randrange(300000))
		    finally: os.close(f)
		def allocate(mode):
		    f = os.open(any_file(), os.O_WRONLY)
		    try: libc.fallocate(f, mode, ctypes.c_long(r.randrange(200000)), ctypes.c_long(r.randrange(1, 100000)))
		    finally: os.close(f)
		KEEP_SIZE, PUNCH_HOLE = 1, 2
		steps = [write] * 6 + [
		    lambda: allocate(0),
		    lambda: allocate(KEEP_SIZE),
		    lambda: allocate(KEEP_SIZE | PUNCH_HOLE),
		    lambda: os.truncate(any_file(), r.randrange(400000)),
		    lambda: os.rename(any_file(), any_file()),
		    lambda: os.link(any_file(), any_file()),
		    lambda: os.unlink(any_file()),
		]
		while True:
		    try: r.choice(steps)()
		    except OSError: pass
	EOF
	exec "$PYTHON" "$WORK/changes.py" "$1" "$2" 2>/dev/null 3>&-
}

# used DIR COLUMN: as .spillfs/quotas has it.
used() { awk -F '\t' -v dir="$1" -v n="$2" '$5 == dir { print $n }' "$MNT/.spillfs/quotas"; }

# What the files of the quota say; one with several names counts once. What is promised to buckets and layered arrays is in meta.db alone.
recount() {
	"$SPILLCTL" sync "$MNT"
	rm -rf "$WORK/meta"
	mkdir "$WORK/meta"
	cp "$STORE"/meta.db* "$WORK/meta"
	"$PYTHON" - "$MNT/$1/q" "$WORK/meta/meta.db" <<-'EOF'
		import os, sqlite3, struct, sys
		promised = {}
		for ino, v in sqlite3.connect(sys.argv[2]).execute("SELECT ino, value FROM blobs WHERE what = 4"):
		    promised[ino] = sum(n for _, n in struct.iter_unpack("<QQ", v))
		seen = {}
		for d, _, names in os.walk(sys.argv[1]):
		    for name in names:
		        p = os.path.join(d, name)
		        ino = os.stat(p).st_ino
		        seen[ino] = (int(os.getxattr(p, "user.spillfs.stored_bytes")) + promised.get(ino, 0), os.stat(p).st_size)
		print(sum(s for s, _ in seen.values()), sum(n for _, n in seen.values()))
	EOF
}

# Nothing, or what a directory holds where that is more.
over() { used "$1" 2 | awk -v limit="$2" '$1 > limit'; }

# A column may have kept what was written to it after the last commit; it counts once somebody looks, and can pass the bound where what
# made room for it, a file that was deleted, is there again.
is_exact() {
	local want
	want=$(recount "$1")
	eq "$1: $(used "$1/q" 2) $(used "$1/q" 4)" "$1: $want"
}

@test "what quotas say is what is there, over twelve kills at any moment and mounts" {
	local folder round pids
	for folder in $KINDS; do
		mkdir -p "$MNT/$folder/q/in" "$MNT/$folder/free/in"
		setfattr -n user.spillfs.quota -v 3M "$MNT/$folder/q"
		setfattr -n user.spillfs.quota_logical -v 8M "$MNT/$folder/q"
	done
	"$SPILLCTL" sync "$MNT"
	for round in $(seq 12); do
		pids=
		for folder in $KINDS; do
			changes "$MNT/$folder" "$round" &
			pids="$pids $!"
		done
		soon has_committed
		kill9
		kill -9 $pids
		wait $pids || true
		mount_again
		for folder in $KINDS; do
			is_exact "$folder"
			[ "$folder" = columns ] || eq "$folder: $(over "$folder/q" $((3 << 20)))" "$folder: "
			[ "$(used "$folder/q" 4)" -le $((8 << 20)) ]
		done
	done
	umount_store
	"$SPILLCTL" check -n "$STORE"
	mount_again
	for folder in $KINDS; do is_exact "$folder"; done
}

# A few times since the mount.
has_committed() { [ "$(awk '$1 == "spillfs_commits_total" { print $2 }' "$MNT/.spillfs/stats")" -ge 3 ]; }
