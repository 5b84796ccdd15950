#!/usr/bin/env bats
# Who may do what, compared with ext4 cell by cell (tests/lib/perms.py), in all worlds; who may ask the daemon for what; and what
# the daemon itself may do. Four callers are asked here, all of them in perms-long.bats. The tests share one mount.

load ../lib/common

setup_file() {
	[ "$(id -u)" = 0 ] || return 0
	setup_work
	mount_store -o suid
	model_dir
	export MODEL FEW=4
}
teardown_file() { [ "$(id -u)" != 0 ] || teardown_work; }
setup() {
	require_root
	spill_only
	revive
	rm -rf "$MODEL/perms" "$MNT"/{buckets,columns,layers}/perms
}
teardown() { :; }

perms() { guarded 250 "$PYTHON" -S "$LIB/perms.py" "$@"; }

@test "the live tree: files, directories and their entries" {
	perms live "$MODEL" "$MNT/layers"
	FEW=1 perms live "$MODEL" "$MNT"/{buckets,columns}
}

@test "views of npy give the rights of the array, those of Parquet the right to read it" {
	perms views "$MODEL" "$MNT" npy layers
	perms views "$MODEL" "$MNT" parquet layers
}

@test "what cannot be changed: snapshots and their views, deltas, control files, a follower" {
	perms make "$MNT/layers/perms"
	mkdir "$MNT/snapshots/kept"
	FEW=2 perms fixed past "$MODEL" "$MNT/snapshots/kept/layers/perms"
	FEW=2 perms fixed views "$MODEL" "$MNT/snapshots/kept/views/zst"
	FEW=2 perms fixed control "$MODEL" "$MNT"/{deltas,.spillfs}
	mkdir -p "$WORK/follower"
	"$SPILLFS" -o ro,suid "$STORE" "$WORK/follower" 3>&-
	FEW=2 perms fixed follower "$MODEL" "$WORK/follower/layers/perms"
	"$SPILLCTL" umount "$WORK/follower"
	rmdir "$MNT/snapshots/kept"
}

@test "requests: ioctls, attributes, snapshots, control files, descriptors that are opened again" {
	perms control "$MNT"
	rmdir "$MNT"/snapshots/perms*
}

@test "owners cannot be mapped by a mount" {
	perms idmapped "$MNT"
}

@test "ACLs are refused in words that setfacl, cp and tar understand" {
	require_tool setfacl acl
	local d=$MNT/layers/acl
	mkdir "$d" "$MODEL/acl"
	echo x >"$MODEL/acl/f"
	setfacl -m u:1000:r "$MODEL/acl/f"
	fails_with "Operation not supported" setfacl -m u:1000:r "$d"
	getfacl -p "$d" | grep -qx 'user::rwx'
	fails_with "Operation not supported" cp -a "$MODEL/acl/f" "$d/f"
	same "$MODEL/acl/f" "$d/f"
	tar -C "$MODEL/acl" --acls -cf "$WORK/acl.tar" f
	rm "$d/f"
	tar -C "$d" --acls -xf "$WORK/acl.tar" 2>"$WORK/said" || true
	same "$MODEL/acl/f" "$d/f"
	rm -r "$d" "$MODEL/acl"
}

# limits_of PID: what each thread of the daemon is limited to.
limits_of() {
	cat /proc/"$1"/task/*/status | awk '/^(CapEff|CapPrm|CapBnd|CapInh|CapAmb|NoNewPrivs|Seccomp):/ { print $1 $2 }' | sort -u
}

@test "the daemon keeps six capabilities, gains none by a program, and has system calls refused" {
	# DAC_OVERRIDE, FOWNER, SYS_PTRACE, SYS_ADMIN, SYS_RESOURCE, LEASE
	local needed=$((1 << 1 | 1 << 3 | 1 << 19 | 1 << 21 | 1 << 24 | 1 << 28)) line
	local filter=2
	! sanitized || filter=0
	grep -q 'HAVE_SECCOMP 1' "$BUILDDIR/config.h" || filter=0
	limits_of "$PID" >"$WORK/limits"
	for line in $(grep -E '^Cap(Eff|Prm|Bnd)' "$WORK/limits"); do
		eq $((0x${line#*:} & ~needed)) 0
	done
	[ "$(grep -c ^CapEff: "$WORK/limits")" = 1 ] # all threads alike
	grep -qx 'CapInh:0000000000000000' "$WORK/limits"
	eq "$(grep -E '^(NoNewPrivs|Seccomp)' "$WORK/limits" | tr '\n' ' ')" "NoNewPrivs:1 Seccomp:$filter "
}
