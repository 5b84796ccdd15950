#!/usr/bin/env bats
# Who may do what, compared with ext4 cell by cell (tests/lib/perms.py), in all worlds; who may ask the daemon for what; and what
# the daemon itself may do. Three callers are asked here, all of them in perms-long.bats. The tests share one mount.

load ../lib/common

setup_file() {
	[ "$(id -u)" = 0 ] || return 0
	setup_work
	mount_store -o suid
	model_dir
	export MODEL FEW=3
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
	FEW=1 perms fixed views "$MODEL" "$MNT/snapshots/kept/views/zst"
	FEW=1 perms fixed control "$MODEL" "$MNT"/{deltas,.spillfs}
	mkdir -p "$WORK/follower"
	"$SPILLFS" -o ro,suid "$STORE" "$WORK/follower" 3>&-
	FEW=1 perms fixed follower "$MODEL" "$WORK/follower/layers/perms"
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

# as UID CMD...: as a user without groups.
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }

# acls FILE: as getfacl tells them, without the name.
acls() { getfacl -cn --absolute-names "$1"; }

@test "ACLs: setfacl, cp -a, tar, views, a snapshot, a follower, an unmount, and a rebuild" {
	require_tool setfacl acl
	local k d
	for k in $KINDS; do
		d=$MNT/$k/acl
		mkdir -m 755 "$d"
		head -c 8000 /dev/zero >"$d/a.f64"
		chmod 640 "$d/a.f64"
		refute as 1500 cat "$d/a.f64" 2>/dev/null
		setfacl -m u:1500:r "$d/a.f64"
		as 1500 cat "$d/a.f64" >/dev/null
		as 1500 cat "$MNT/views/npy/$k/acl/a.npy" >/dev/null
		as 1500 cat "$MNT/views/zarr/$k/acl/a.zarr/zarr.json" "$MNT/views/zarr/$k/acl/a.zarr/c/0" >/dev/null
		refute as 1501 cat "$MNT/views/zarr/$k/acl/a.zarr/zarr.json" 2>/dev/null
		refute as 1500 cat "$MNT/views/parquet/$k/acl.parquet" 2>/dev/null # no mode can tell who may: a table is the owner's then
		acls "$d/a.f64" >"$WORK/acls"
		grep -qx 'user:1500:r--' "$WORK/acls"
		cp -a "$d/a.f64" "$d/b.f64"
		tar -C "$d" --acls -cf - a.f64 | tar -C "$MODEL" --acls -xf -
		tar -C "$MODEL" --acls --transform=s/a/c/ -cf - a.f64 | tar -C "$d" --acls -xf -
		cp "$MNT/views/npy/$k/acl/a.npy" "$WORK/a.npy"
		cp "$WORK/a.npy" "$MNT/views/npy/$k/acl/c.npy" # another array in its place
		for f in b c; do acls "$d/$f.f64" | diff "$WORK/acls" -; done
		chmod 600 "$d/c.f64"
		refute as 1500 cat "$d/c.f64" 2>/dev/null
		setfacl -dm u:1500:rwx,g::- "$d"
		mkdir "$d/e"
		cp "$WORK/a.npy" "$MNT/views/npy/$k/acl/e/n.npy"
		acls "$d/e/n.f64" 2>/dev/null | grep -q '^user:1500:rw' || acls "$d/e/n" | grep -q '^user:1500:rw'
		acls "$d/e" | grep -qx 'default:user:1500:rwx'
	done
	mkdir "$MNT/snapshots/acl"
	acls "$MNT/snapshots/acl/layers/acl/a.f64" | diff "$WORK/acls" -
	acls "$MNT/snapshots/acl/layers/acl/e" | grep -qx 'default:user:1500:rwx'
	as 1500 cat "$MNT/snapshots/acl/views/npy/layers/acl/a.npy" >/dev/null
	remount
	mkdir -p "$WORK/follower"
	"$SPILLFS" -o ro "$STORE" "$WORK/follower" 3>&-
	as 1500 cat "$WORK/follower/layers/acl/a.f64" >/dev/null
	refute as 1501 cat "$WORK/follower/layers/acl/a.f64" 2>/dev/null
	"$SPILLCTL" umount "$WORK/follower"
	for k in $KINDS; do acls "$MNT/$k/acl/a.f64" | diff "$WORK/acls" -; done
	rmdir "$MNT/snapshots/acl"
	umount_store
	"$SPILLCTL" check "$STORE" # finds nothing amiss, and takes none away
	mount_again
	for k in $KINDS; do acls "$MNT/$k/acl/a.f64" | diff "$WORK/acls" -; done
	umount_store
	rm "$STORE/meta.db"*
	"$SPILLCTL" rebuild "$STORE"
	mount_again
	for k in columns layers; do acls "$MNT/$k/acl/a.f64" | diff "$WORK/acls" -; done
	remount -o suid,umask=0
	fails_with "Operation not supported" setfacl -m u:1500:r "$MNT/layers/acl/a.f64"
	refute as 1500 cat "$MNT/layers/acl/c.f64" 2>/dev/null
	remount -o suid
	rm -r "$MNT"/*/acl
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
