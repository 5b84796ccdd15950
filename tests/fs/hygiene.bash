# The page cache beside a stream of STREAM_MIB: what hygiene.bats and hygiene-long.bats look at.

# So much of what a reader has behind it waits to be dropped, with what the kernel has read ahead, and read again for one that was late.
left_mib() { echo $((STREAM_MIB / 16 > 64 ? STREAM_MIB / 16 : 64)); }

setup() {
	spill_only
	require_tool fincore util-linux
	setup_work
}

teardown() {
	teardown_work
	remove_group
}

# cached_mib PATH...: of files there that are large, in the page cache.
cached_mib() {
	find "$@" -type f -size +1M -exec fincore -b -n -o PAGES {} + | awk '{ n += $1 } END { print int(n / 256) }'
}

# forget FILE: the kernel drops its pages of it.
forget() { "$PYTHON" -c 'import os, sys; os.posix_fadvise(os.open(sys.argv[1], os.O_RDONLY), 0, 0, os.POSIX_FADV_DONTNEED)' "$1"; }

make_noise() { head -c $((STREAM_MIB << 20)) /dev/urandom >"$1"; }

is_once() {
	local mib
	mib=$(cached_mib "$STORE")
	echo "$1: $mib MiB of the store are in the page cache, $(cached_mib "$2") of the file"
	[ "$mib" -le "$(left_mib)" ]
}

# Written, read in order, and read by a view.
holds_once() {
	local view=$MNT/views/npy/$1/noise.npy
	mount_store
	make_noise "$MNT/$1/noise.f64"
	"$SPILLCTL" sync "$MNT"
	is_once "$1, written" "$MNT/$1/noise.f64"
	forget "$MNT/$1/noise.f64"
	cat "$MNT/$1/noise.f64" >/dev/null
	is_once "$1, read" "$MNT/$1/noise.f64"
	cat "$view" >/dev/null
	is_once "$1, read by a view" "$view"
}

# The daemon and a file that was read once share a control group that holds little more than them.
spares_bystander() {
	local part
	head -c 64M /dev/urandom >"$WORK/bystander"
	sync "$WORK/bystander"
	forget "$WORK/bystander"
	mount_store -o cache=16M,dirty=16M
	group $((224 << 20))
	echo "$PID" >"$GROUP/cgroup.procs"
	in_group cat "$WORK/bystander" >/dev/null
	eq "$(cached_mib "$WORK/bystander")" 64
	for part in $(seq $((STREAM_MIB / 16))); do # however slow the disk is
		head -c 16M /dev/urandom >>"$MNT/$1/noise"
		"$SPILLCTL" sync "$MNT"
	done
	forget "$MNT/$1/noise"
	cat "$MNT/$1/noise" >/dev/null
	echo "$1: $(cached_mib "$WORK/bystander") of 64 MiB of the bystander are left"
	[ "$(cached_mib "$WORK/bystander")" -ge 60 ]
}
