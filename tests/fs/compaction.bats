#!/usr/bin/env bats
# Compaction: few layers to look into, the space of what is dead given back, nobody disturbed.

load ../lib/common

setup() {
	spill_only
	setup_work
}

commit() { "$SPILLCTL" commit "$MNT" >/dev/null; }
# gives_back KIB: compaction gets there. Twice or so: the kernel tells a moment later that it has forgotten a deleted file.
gives_back() {
	local i
	for i in 1 2 3 4 5 6 7 8 9 10; do
		"$SPILLCTL" compact "$MNT"
		[ "$(layer_kib)" -gt "$1" ] || return 0
		sleep 0.2
	done
	fail "still $(layer_kib) KiB instead of $1"
}
layer_kib() { du -sk "$STORE/layers" | cut -f1; }
chain() { stat_value spillfs_chain; }

# churn FROM TO: commits that each change a few of 40 small arrays, in $MNT/layers and in $WORK/plain.
churn() {
	"$PYTHON" - "$MNT" "$WORK/plain" "$LIB" "$1" "$2" <<'PY'
import os, random, sys
sys.path.insert(0, sys.argv[3])
import sysx
mnt, plain, first, last = sys.argv[1], sys.argv[2], int(sys.argv[4]), int(sys.argv[5])
os.makedirs(plain, exist_ok=True)
root, longest = os.open(mnt, os.O_RDONLY), 0
for n in range(first, last):
    rng = random.Random(n)
    for _ in range(4):
        name, data = "a%d" % rng.randrange(40), rng.randbytes(rng.choice((10, 3000, 300000)))
        off = rng.choice((0, 0, 1000, 200000))
        for top in mnt + "/layers/", plain + "/":
            fd = os.open(top + name, os.O_WRONLY | os.O_CREAT)
            os.pwrite(fd, data, off)
            os.close(fd)
    if n % 10 == 9:
        for top in mnt + "/layers/", plain + "/":
            name = sorted(os.listdir(plain))[0] if top.startswith(mnt) else name
            os.unlink(top + name)
    sysx.commit(root)
    stats = open(mnt + "/.spillfs/stats").read().split("\n")
    chain = [int(s.split()[1]) for s in stats if s.startswith("spillfs_chain ")][0]
    longest = max(longest, chain)
    assert chain <= 65, "the chain is %d after commit %d" % (chain, n)
print("longest chain", longest)
PY
}

@test "many deltas: the chain stays bounded by itself, compact makes it one" {
	mount_store -o compact=0
	churn 0 60
	diff -r "$WORK/plain" "$MNT/layers"
	"$SPILLCTL" compact "$MNT"
	eq "$(chain)" 1
	eq "$("$SPILLCTL" log -r -n1 "$MNT" | awk -F'\t' '!/^#/ { print $6 }')" full
	drop_caches
	diff -r "$WORK/plain" "$MNT/layers"
	churn 60 70
	diff -r "$WORK/plain" "$MNT/layers"
	remount -o cache=1M
	diff -r "$WORK/plain" "$MNT/layers"
	[ "$(chain)" -le 65 ]
}

@test "each overwrite of one array gives the space of the one before back" {
	local i kib=0 now
	mount_store -o compact=0
	for i in $(seq 12); do
		noise 6000000 "$MNT/layers/f" "$i"
		commit
		now=$(layer_kib)
		[ "$now" -le "$kib" ] || kib=$now
	done
	echo "72 MB written, at most $kib KiB at any time"
	[ "$kib" -le 30000 ]
	gives_back 6100
	noise 6000000 - 12 | same - "$MNT/layers/f"
	[ "$(ls "$MNT/deltas" | wc -l)" -le 2 ]
}

@test "parts of arrays that are dead, and arrays that are deleted, go" {
	local i
	mount_store
	for i in $(seq 20); do noise 1000000 "$MNT/layers/f$i" "$i"; done
	commit
	for i in $(seq 20); do fallocate -p -o 262144 -l 524288 "$MNT/layers/f$i"; done
	commit
	gives_back 10100
	for i in $(seq 2 20); do rm "$MNT/layers/f$i"; done
	gives_back 600
	[ "$(stat_value spillfs_layer_bytes)" -le 600000 ]
	{ noise 1000000 - 1 | head -c 262144; head -c 524288 /dev/zero; noise 1000000 - 1 | tail -c +786433; } |
		same - "$MNT/layers/f1"
	rm "$MNT/layers/f1"
	gives_back 40
	remount
	eq "$(ls -A "$MNT/layers")" ""
}

@test "named states are kept whole, and what only they need goes with them" {
	local i
	mount_store
	for i in 1 2 3; do
		noise 2000000 "$MNT/layers/f" "$i"
		mkdir "$MNT/snapshots/s$i"
	done
	"$SPILLCTL" compact "$MNT"
	for i in 1 2 3; do noise 2000000 - "$i" | same - "$MNT/snapshots/s$i/layers/f"; done
	[ "$(layer_kib)" -le 6100 ]
	rmdir "$MNT/snapshots/s2"
	"$SPILLCTL" compact "$MNT"
	for i in 1 3; do noise 2000000 - "$i" | same - "$MNT/snapshots/s$i/layers/f"; done
	noise 2000000 - 3 | same - "$MNT/layers/f"
	echo "three states $(layer_kib) KiB"
	rmdir "$MNT/snapshots/s1" "$MNT/snapshots/s3"
	gives_back 2100
	noise 2000000 - 3 | same - "$MNT/layers/f"
}

@test "readers and writers go on, open handles and maps read right" {
	mount_store -o cache=1M,dirty=8M,commit=1
	guarded 100 "$PYTHON" "$LIB/compaction.py" "$MNT" "$SPILLCTL" "${COMPACTION_SECONDS:-2}" 8
	remount
	eq "$(find "$MNT/layers" -type f | wc -l)" "$((2 + 2 + 40 + 1))"
}

@test "killed in the middle: everything is there, nothing is left over" {
	mount_store -o compact=4M
	churn 0 10
	noise 9000000 "$MNT/layers/big" 1
	noise 9000000 "$MNT/layers/dead" 2
	commit
	rm "$MNT/layers/dead"
	cp "$MNT/layers/big" "$WORK/plain/big"
	commit
	"$SPILLCTL" compact "$MNT" >"$WORK/out" 2>&1 &
	soon test -e "$STORE/layers/compact.tmp"
	kill9
	wait $! || true
	[ -e "$STORE/layers/compact.tmp" ]
	mount_store -o compact=0 # which does not begin another one by itself
	diff -r "$WORK/plain" "$MNT/layers"
	[ ! -e "$STORE/layers/compact.tmp" ]
	"$SPILLCTL" compact "$MNT"
	eq "$(chain)" 1
	diff -r "$WORK/plain" "$MNT/layers"
	eq "$(ls "$STORE/layers" | grep -c zst)" "$(ls "$MNT/deltas" | wc -l)"
}
