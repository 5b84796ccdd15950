# Helpers for all .bats files: a store mounted in a directory of its own for each test, killed and
# removed by teardown whatever happens. Load with:  load ../lib/common
#
#   SPILLFS, SPILLCTL   programs under test (default: $BUILDDIR/spillfs, $BUILDDIR/spillctl)
#   BUILDDIR            where make ran (default: the top of the source tree)
#   SPILLFS_TEST_OPTS   options for every mount, before those of the test (-o passthrough)
#   SPILLFS_TEST_LOG=1  every daemon in the foreground mode; what it said is shown when a test fails
#   NATIVE=1            no spillfs: the tests of plain POSIX behaviour run on a directory (to test the
#                       tests); those of spillfs alone are skipped
#   CI=true             a missing tool, package or /dev/fuse is a failure instead of a skip
#
# In a test: $MNT (mounted), $STORE, $WORK (scratch, removed), $KINDS, and for each_kind $K and $D.

LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOP=$(cd "$LIB/../.." && pwd)
: "${BUILDDIR:=$TOP}"
BUILDDIR=$(cd "$BUILDDIR" && pwd)
: "${SPILLFS:=$BUILDDIR/spillfs}"
: "${SPILLCTL:=$BUILDDIR/spillctl}"
: "${PYTHON:=/usr/bin/python3}"
: "${NATIVE:=}"
KINDS="buckets columns layers"
export LIB TOP BUILDDIR SPILLFS SPILLCTL PYTHON NATIVE KINDS
export PYTHONDONTWRITEBYTECODE=1

# ---- what a test needs -------------------------------------------------------------------------

# need_passthrough: the kernel has it, and we may (Linux 6.9, root).
need_passthrough() {
	require_root
	[ "$(printf '%s\n' 6.9 "$(uname -r)" | sort -V | head -n1)" = 6.9 ] || { missing "passthrough: Linux 6.9"; return; }
}

# missing TEXT: a skip for people, a failure in CI.
missing() {
	if [ "${CI:-}" = true ]; then
		echo "needed, and CI=true: $*" >&2
		return 1
	fi
	echo "# SKIPPED, not tested: $*" >&3
	skip "$*"
}

require_fuse() {
	[ -n "$NATIVE" ] && return 0
	[ -x "$SPILLFS" ] || { echo "no program at $SPILLFS" >&2; return 1; }
	[ -r /dev/fuse ] && [ -w /dev/fuse ] || missing "/dev/fuse cannot be opened"
}

require_root() { [ "$(id -u)" = 0 ] || missing "must be root"; }
require_tool() { command -v "$1" >/dev/null || missing "no $1 (Debian: ${2:-$1})"; }
spill_only() { if [ -n "$NATIVE" ]; then skip "NATIVE: a test of spillfs alone"; fi; }

# A sanitizer's own memory is not the daemon's.
sanitized() { grep -qaE '__(asan|tsan|msan)_init' "$SPILLFS"; }

# need_prog VAR SOURCE...: sets VAR to a test program: as made by make, else compiled here once.
need_prog() {
	local exe=$BUILDDIR/${2%.c} sources=("${@:2}")
	sources=("${sources[@]/#/$TOP/}")
	if [ ! -x "$exe" ]; then
		exe=$BATS_RUN_TMPDIR/$(basename "${2%.c}")
		if [ ! -x "$exe" ]; then
			${CC:-cc} -D_GNU_SOURCE -std=gnu11 -O2 -o "$exe.$BASHPID" "${sources[@]}" -lm
			mv "$exe.$BASHPID" "$exe" # several at once may do this
		fi
	fi
	printf -v "$1" %s "$exe"
}

# py HELPER ARGS: one that needs the standard library alone; without other packages it starts in half the time.
py() { "$PYTHON" -S "$LIB/$1.py" "${@:2}"; }

# ---- readers by others (tests/clients) -----------------------------------------------------------

# find_clients: installs the readers if nobody has, and sets CLIENTS to where they are; fails if it cannot, without
# trying again in this run. setup_file must not skip; it can ask this.
find_clients() {
	local note=$BATS_RUN_TMPDIR/clients
	if [ ! -e "$note" ]; then
		if ! "$PYTHON" -c 'import numpy, numcodecs, zarr' 2>/dev/null; then
			echo "# no zarr for $PYTHON (Debian: python3-zarr python3-numcodecs)" >&3
			: >"$note"
		elif [ -n "${CLIENTS_DIR:-}" ]; then
			echo "$CLIENTS_DIR" >"$note"
		else
			"$TOP/contrib/clients" >"$note" || true
		fi
	fi
	CLIENTS=$(cat "$note")
	[ -n "$CLIENTS" ] || return 1
	CLIENTS_DIR=$CLIENTS
	export CLIENTS CLIENTS_DIR
}

# need_clients: for setup, and tests.
need_clients() { find_clients || missing "the readers of tests/clients cannot be installed: see contrib/clients"; }

# read_js FORMAT FILE..., read_py FORMAT FILE...: the file as that reader sees it, as JSON.
read_js() { node "$TOP/tests/clients/read.mjs" "$@"; }
read_py() { "$PYTHON" "$TOP/tests/clients/read.py" "$@"; }

# agree TRUTH GOT...: JSON documents of those two tell of the same elements.
agree() { "$PYTHON" "$TOP/tests/clients/compare.py" "$@"; }

# guarded SECONDS[:IDLE] CMD...: CMD on the mount; if it takes longer, or if nothing of it has moved for IDLE seconds, the stacks
# of all are shown, the daemon is killed, and it fails.
guarded() { DAEMON_PID=${PID:-} PEAKS=$WORK/peaks py guard "$@"; }

# tell TEXT...: shown, and kept in the log of the suite, also when all is well.
tell() { echo "# $*" >&3; }

# tell_peaks: of the daemons that guarded has looked at in this test.
tell_peaks() {
	tell "$(awk '{ fds = $1 > fds ? $1 : fds; kib = $2 > kib ? $2 : kib }
		END { printf "daemon: at most %d descriptors, %.1f MiB of memory", fds, kib / 1024 }' "$WORK/peaks")"
}

# ---- set-up and teardown -----------------------------------------------------------------------

# Every test's scratch is readable by other users (the tests of permissions need the path).
setup_work() {
	require_fuse
	WORK=$(mktemp -d "${TMPDIR:-/tmp}/spillfs-test.XXXXXX")
	chmod 755 "$WORK"
	STORE=$WORK/store
	MNT=$WORK/mnt
	DAEMON_LOG=${SPILLFS_TEST_LOG:+$WORK/log}
	DAEMON_LOST=
	STORE_DAMAGED=
	MOUNT_OPTS=()
	IMAGES=
	mkdir "$STORE" "$MNT"
	: >"$WORK/.pids"
	export WORK STORE MNT IMAGES
	local v
	for v in ASAN_OPTIONS TSAN_OPTIONS UBSAN_OPTIONS; do
		export "$v=${!v:+${!v}:}log_path=$WORK/sanitizer"
	done
}

mounted() { grep -qF " ${1:-$MNT} " /proc/self/mountinfo; }

# mount_store [spillfs options...]: returns when the mount serves.
mount_store() {
	MOUNT_OPTS=("$@")
	mount_again
}

# Under -f, with the log in $DAEMON_LOG. Returns when the daemon says READY.
mount_logged() {
	spill_only
	MOUNT_OPTS=("$@")
	DAEMON_LOG=$WORK/log
	mount_again
}

mount_again() {
	DAEMON_LOST=
	if [ -n "$NATIVE" ]; then
		mkdir -p "$MNT"/{buckets,columns,layers,scratch}
		return
	fi
	if [ -n "${DAEMON_LOG:-}" ]; then
		PID=$(py notify "$DAEMON_LOG" "$SPILLFS" -f ${SPILLFS_TEST_OPTS:-} "${MOUNT_OPTS[@]}" "$STORE" "$MNT")
	else
		# fd 3 is bats' own: a daemon that kept it would hold up the whole run
		"$SPILLFS" ${SPILLFS_TEST_OPTS:-} "${MOUNT_OPTS[@]}" "$STORE" "$MNT" 3>&- </dev/null
		PID=$(daemon_pid)
	fi
	echo "$PID" >>"$WORK/.pids"
}

daemon_pid() {
	"$SPILLCTL" info "${1:-$MNT}" | sed -n 's/^daemon pid *//p'
}

umount_store() {
	if [ -n "$NATIVE" ]; then sync; return; fi
	"$SPILLCTL" umount "$MNT"
	refute mounted
	wait_gone "$PID"
}

# alive PID: runs, and is no zombie that nobody has waited for.
alive() { [ -n "$1" ] && grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# wait_gone PID: until that process has ended, whoever is its parent.
wait_gone() { ! alive "$1" || py proc wait "$1"; }

# soon CMD...: succeeds within ten seconds.
soon() {
	local i
	for i in $(seq 200); do
		if "$@" >/dev/null 2>&1; then return; fi
		sleep 0.05
	done
	fail "not in ten seconds: $*"
}

# ends PID...: each ends by itself within a minute, or else all is told and killed as by guarded.
ends() {
	local pid
	for pid; do ! alive "$pid" || guarded 60 "$PYTHON" -S "$LIB/proc.py" wait "$pid" || return 1; done
}

# Kills the daemon as a crash would, and takes the dead mount away.
kill9() {
	[ -n "$NATIVE" ] && return 0
	kill -9 "$PID" 2>/dev/null || true # crash.py may have done it
	wait_gone "$PID"
	detach "$MNT"
	DAEMON_LOST=expected
}

detach() { if [ "$(id -u)" = 0 ]; then umount -l "$1"; else fusermount3 -uz "$1"; fi; }

# remount [options]: the same options as before when none are given.
remount() {
	if [ "$#" -gt 0 ]; then MOUNT_OPTS=("$@"); fi
	if mounted; then umount_store; fi
	mount_again
}

common_setup() {
	setup_work
	mount_store
}
setup() { common_setup; }

# For files whose tests share one mount (mounted by setup_file): a fresh one if the last test killed it.
revive() {
	[ -z "$NATIVE" ] || return 0
	PID=$(tail -n1 "$WORK/.pids")
	if alive "$PID" && mounted; then return; fi
	echo "# the daemon is gone since the last test; mounting afresh" >&3
	if mounted; then detach "$MNT"; fi
	rm -rf "$STORE"
	mkdir "$STORE"
	mount_again
}

# Ends what the test started, in the order that loses nothing: mount, daemon, loop devices, files.
teardown_work() {
	local rc=0 pid m
	PID=$(tail -n1 "$WORK/.pids" 2>/dev/null)
	[ -n "${WORK:-}" ] && [ -d "$WORK" ] || return 0
	cd /
	if [ -z "$NATIVE" ] && mounted "$MNT"; then
		if [ -z "${DAEMON_LOST:-}" ] && ! alive "$PID"; then
			echo "the daemon (pid $PID) died in this test" >&2
			rc=1
		fi
		if alive "$PID"; then timeout 120 "$SPILLCTL" umount "$MNT" >&2 || rc=1; fi
	fi
	while read -r pid; do
		if is_ours "$pid"; then
			if ! timeout 60 "$PYTHON" "$LIB/proc.py" wait "$pid"; then
				echo "pid $pid had to be killed" >&2
				kill -9 "$pid" && wait_gone "$pid"
				rc=1
			fi
		fi
	done <"$WORK/.pids"
	for m in $(awk -v w="$WORK/" 'index($5, w) == 1 { print $5 }' /proc/self/mountinfo | tac); do
		umount -l "$m" || detach "$m" || rc=1
	done
	if [ -n "${DAEMON_LOG:-}" ] && [ -z "${BATS_TEST_COMPLETED:-}" ]; then
		tail -n 40 "$DAEMON_LOG" >&2 || true
	fi
	check_left || rc=1
	for m in "$WORK"/sanitizer.*; do
		[ -s "$m" ] || continue
		cat "$m" >&2
		rc=1
	done
	rm -rf --one-file-system "$WORK" ${IMAGES:+"$IMAGES"} || rc=1
	return $rc
}
teardown() { teardown_work; }

# For files whose tests each work on a copy of one store: keep_pristine and teardown_pristine in setup_file, after the unmount,
# and teardown_file; setup_copy in setup.
keep_pristine() {
	PRISTINE=$WORK
	cp -a --sparse=always "$STORE" "$WORK/pristine"
	export PRISTINE
}
teardown_pristine() {
	WORK=$PRISTINE
	teardown_work
}
setup_copy() {
	spill_only
	setup_work
	rmdir "$STORE"
	cp -a --sparse=always "$PRISTINE/pristine" "$STORE"
}

# Whatever a test has done, its store is in order: unless it says STORE_DAMAGED=1.
check_left() {
	[ -z "$NATIVE" ] && [ -z "${STORE_DAMAGED:-}" ] && [ -e "${STORE:-/}/SPILLFS" ] || return 0
	TMPDIR=$WORK timeout 120 "$SPILLCTL" check -n "$STORE" >"$WORK/check" 2>&1 && return
	cat "$WORK/check" >&2
	return 1
}

# Still the spillfs of this test, not another process that was given its number.
is_ours() { grep -qaF "$WORK" "/proc/$1/cmdline" 2>/dev/null; }

# ---- in tests ----------------------------------------------------------------------------------

# each_kind CMD...: once for each class, in a directory of its own $D; says which one failed.
each_kind() {
	for K in $KINDS; do
		echo "--- $K"
		D=$MNT/$K/t$BATS_TEST_NUMBER
		mkdir -p "$D"
		export K D
		"$@"
	done
}

sha() { sha256sum <"$1" | cut -d' ' -f1; }

# sums DIR: names, sizes and checksums of all that is in it.
sums() {
	(
		cd "$1"
		find . ! -type f -printf '%p %y\n' -o -printf '%p %s\n' | sort
		find . -type f -print0 | sort -z | xargs -0r cksum
	)
}

# same FILE FILE: byte for byte.
same() { cmp "$1" "$2"; }

fail() { echo "$*" >&2; return 1; }

# eq GOT WANTED
eq() { [ "$1" = "$2" ] || fail "got '$1', wanted '$2'"; }

# refute CMD...: the command fails (bash's -e overlooks a plain "! CMD").
refute() { if "$@"; then fail "should have failed: $*"; fi; }

# wait_all: for every background job, and fails if one did.
wait_all() {
	local job bad=0
	for job in $(jobs -p); do wait "$job" || bad=1; done
	return $bad
}

# fails_with TEXT CMD...: the command fails and says TEXT.
fails_with() {
	local text=$1 out
	shift
	if out=$(LC_ALL=C "$@" 2>&1); then fail "should have failed: $*"; return 1; fi
	grep -qF -- "$text" <<<"$out" || fail "should have said '$text': $out"
}

# ctl_fails CODE TEXT ARG...: spillctl exits with CODE and says TEXT; its outputs are in $WORK/out and $WORK/err.
ctl_fails() {
	local code=$1 text=$2 rc=0
	shift 2
	LC_ALL=C "$SPILLCTL" "$@" >"$WORK/out" 2>"$WORK/err" || rc=$?
	eq "$rc" "$code" || { cat "$WORK/err" >&2; return 1; }
	grep -qF -- "$text" "$WORK/err" || fail "should have said '$text': $(cat "$WORK/err")"
}

# Drops what the kernel caches, as far as the user may.
drop_caches() { sync; if [ -w /proc/sys/vm/drop_caches ]; then echo 3 >/proc/sys/vm/drop_caches; fi; }

# stat_value NAME [LABELS]: one figure of .spillfs/stats.
stat_value() {
	awk -v n="$1" -v l="${2:-}" '
		{ name = $1; lab = ""; i = index($1, "{")
		  if (i) { name = substr($1, 1, i - 1); lab = substr($1, i + 1, length($1) - i - 1) }
		  sub(/_total$/, "", name) }
		name == n && (l == "" || lab == l) { print $2; exit }' "$MNT/.spillfs/stats"
}

xattr() { getfattr --only-values --absolute-names -n "user.spillfs.$2" "$1"; }
set_xattr() { setfattr -n "user.spillfs.$2" -v "$3" "$1"; }
blocks() { stat -c %b "$1"; }

# noise BYTES FILE [SEED]: the same incompressible bytes each time; FILE -: to stdout.
noise() {
	need_prog NOISE tests/fs/noise.c
	if [ "$2" = - ]; then "$NOISE" "$1" "${3:-1}"; else "$NOISE" "$1" "${3:-1}" >"$2"; fi
}

# A plain ext4 directory in MODEL, to compare with: made on a loop device where the scratch is not ext4.
model_dir() {
	MODEL=$WORK/model
	mkdir -p "$MODEL"
	case $(stat -f -c %T "$WORK") in ext*) return ;; esac
	require_root
	small_ext4 "$MODEL" 2G
}

# Sets IMAGES to the folder for images of disks: in memory where there is enough, for these disks are written full and synced all the time.
images() {
	local mib
	[ -z "$IMAGES" ] || return 0
	IMAGES=$WORK
	for mib in $(df --output=avail -BM /dev/shm 2>/dev/null | tail -n 1) $(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo); do
		[ "${mib%M}" -ge 4096 ] || return 0
	done
	IMAGES=$(mktemp -d "/dev/shm/spillfs-test${TMPDIR//\//.}.XXXXXX") # tests/run removes what is left
}

# small_ext4 DIR SIZE [FEATURES [FOLDER]]: a fresh ext4 of that size at DIR, in an image in FOLDER, by default IMAGES; teardown
# unmounts, which frees the device. It has no journal but by request (has_journal).
small_ext4() {
	local image
	images
	image=${4:-$IMAGES}/$(basename "$1").img
	require_root
	require_tool mkfs.ext4 e2fsprogs
	truncate -s "$2" "$image"
	mkfs.ext4 -q -F -m 0 -O "${3:-^has_journal}" "$image"
	mkdir -p "$1"
	mount -o loop "$image" "$1" || missing "loop devices cannot be used here"
	chmod 755 "$1"
}

# loop_gone IMAGE: its loop device has let go of it, so that no mount of it is left. A mount namespace that another
# test has made can have a copy of the mount for a moment.
loop_gone() {
	guarded 60 bash -c 'while [ -n "$(losetup -j "$0")" ]; do sleep 0.02; done' "$1"
}

# small_store DIR SIZE [FEATURES [FOLDER]]: STORE is on such an ext4, for the next mount.
small_store() {
	small_ext4 "$@"
	STORE=$1/store
	mkdir "$STORE"
}

# in_group CMD...: in the control group $GROUP.
in_group() { bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@" 3>&-' "$GROUP" "$@"; }
export -f in_group

# make_group ROOT:FILE...: makes a control group GROUP below the first of these roots whose groups have that FILE, the CONTROL.
make_group() {
	local root
	for root; do
		GROUP=${root%:*}/spillfs-test.$$
		CONTROL=$GROUP/${root#*:}
		mkdir "$GROUP" 2>/dev/null || continue
		export GROUP CONTROL
		[ ! -e "$CONTROL" ] || return 0
		rmdir "$GROUP"
	done
	GROUP=
	echo "# SKIPPED, not tested: no control group can be made here" >&3
	skip "no control group"
}

# group BYTES: makes GROUP, of so much memory.
group() {
	make_group /sys/fs/cgroup/memory:memory.limit_in_bytes /sys/fs/cgroup:memory.max
	echo "$1" >"$CONTROL"
}

# freezer PID: makes GROUP, which can be frozen, of that process. freeze, thaw: it stands still, or goes on, when this returns.
freezer() {
	make_group /sys/fs/cgroup/freezer:freezer.state /sys/fs/cgroup:cgroup.freeze /sys/fs/cgroup/unified:cgroup.freeze
	echo "$1" >"$GROUP/cgroup.procs"
}
freeze() { py daemon freeze "$CONTROL"; }
thaw() { py daemon thaw "$CONTROL"; }

remove_group() { [ -z "${GROUP:-}" ] || rmdir "$GROUP"; }

# private_ns CMD...: in a mount namespace of its own, from which no mount spreads, and which holds no mount of other
# tests. Under a plain chroot the root is no mount point, which unshare(1) refuses to make private: then each visible
# mount is.
private_ns() {
	local unshare="unshare -m"
	unshare -m true 2>/dev/null || unshare="unshare -m --propagation unchanged"
	$unshare bash -c '
		own=$1
		shift
		while read -r m type; do
			case $type:$m in
			fuse.spillfs:"$own"/*) ;;
			fuse.spillfs:*) mount --make-private "$m" && umount -l "$m" && continue ;;
			esac
			[ "$0" = "unshare -m" ] || mount --make-private "$m" || exit 1
		done < <(awk "{ for (i = 7; \$i != \"-\"; i++); print \$5, \$(i + 1) }" /proc/self/mountinfo)
		exec "$@"
	' "$unshare" "$WORK" "$@"
}

# ---- real data ---------------------------------------------------------------------------------

# real_data pcm|grid|...: sets DATA to a file of bytes that nobody here generated.
#   pcm.i16     samples of a General MIDI soundfont         (timgm6mb-soundfont)
#   grid.f32    the EGM96 geoid, 15' grid, little-endian    (proj-data)
#   shifts.f32  a grid of shifts and accuracies (NTv2)      (proj-data)
#   words.txt   a word list of 650,000 lines                (wamerican-insane)
#   offsets.u32, lengths.u8: where its lines begin, and how long they are
#   transitions.i64, zones.i32: when clocks are changed, and to which difference from UTC (tzdata)
#   declinations.f64, ascensions.f64, magnitudes.f32, numbers.u32: the Bright Star Catalogue (xplanet)
#   coasts.i16, areas.f64, segments.i32, codes.i32: shorelines in NetCDF (gmt-gshhg-low)
real_data() {
	local dir=$BATS_RUN_TMPDIR/realdata name src
	case $1 in
	pcm) name=pcm.i16 src=/usr/share/sounds/sf2/TimGM6mb.sf2 ;;
	grid) name=grid.f32 src=/usr/share/proj/egm96_15.gtx ;;
	shifts) name=shifts.f32 src=/usr/share/proj/CHENYX06.gsb ;;
	words) name=words.txt src=/usr/share/dict/american-english-insane ;;
	offsets) name=offsets.u32 src=/usr/share/dict/american-english-insane ;;
	lengths) name=lengths.u8 src=/usr/share/dict/american-english-insane ;;
	transitions) name=transitions.i64 src=/usr/share/zoneinfo ;;
	zones) name=zones.i32 src=/usr/share/zoneinfo ;;
	declinations | ascensions) name=$1.f64 src=/usr/share/xplanet/stars/BSC ;;
	magnitudes) name=$1.f32 src=/usr/share/xplanet/stars/BSC ;;
	numbers) name=$1.u32 src=/usr/share/xplanet/stars/BSC ;;
	coasts) name=$1.i16 src=/usr/share/gmt-gshhg/binned_GSHHS_i.nc ;;
	areas) name=$1.f64 src=/usr/share/gmt-gshhg/binned_GSHHS_i.nc ;;
	segments | codes) name=$1.i32 src=/usr/share/gmt-gshhg/binned_GSHHS_i.nc ;;
	*) fail "real_data $1?" ;;
	esac
	[ -r "$src" ] || missing "no $src (contrib/lib.sh lists the Debian packages)"
	DATA=$dir/$name
	[ -s "$DATA" ] && return
	mkdir -p "$dir"
	py realdata "$1" "$src" "$DATA"
}
