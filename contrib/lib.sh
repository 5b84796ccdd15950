# Shared by contrib/check and contrib/quickstart; sourced, not run.
# shellcheck shell=bash disable=SC2034

# Debian packages. A new test that needs another one adds it here and nowhere else.
PACKAGES_BUILD="gcc libc6-dev make autoconf automake pkg-config fuse3 libfuse3-dev libzstd-dev
	libsqlite3-dev libxxhash-dev libseccomp-dev libssl-dev"
# Real data and what looks at it: a geodetic grid, a word list.
PACKAGES_DEMO="python3 python3-numpy zstd attr proj-data wamerican-insane"
PACKAGES_TEST="$PACKAGES_DEMO clang valgrind bats timgm6mb-soundfont tzdata xplanet gmt-gshhg-low sqlite3 xxd file psmisc procps
	acl e2fsprogs mount util-linux util-linux-extra python3-zarr python3-numcodecs python3-joblib python3-netcdf4 rsync libarchive-tools"
# Programs of docs/RECIPES.md that the long tests alone run.
PACKAGES_LONG="default-jdk-headless samtools imagemagick"
# What make bench measures beside spillfs. It leaves out what is not there.
PACKAGES_BENCH="bindfs btrfs-progs squashfs-tools squashfuse"
# Node of any origin does (18 or newer); Debian's would not stand beside another.
command -v node >/dev/null || PACKAGES_TEST="$PACKAGES_TEST nodejs"
command -v npm >/dev/null || PACKAGES_TEST="$PACKAGES_TEST npm"

say() {
	printf '\n== %s\n' "$*"
}

die() {
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

packages_missing() { # PACKAGE...
	local p status
	for p in "$@"; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)
		[ "$status" = installed ] || printf '%s ' "$p"
	done
}

# Installs what is not there yet; asks nothing of apt or of root when everything is.
packages_install() { # PACKAGE...
	local missing log
	command -v dpkg-query >/dev/null || die "this needs Debian's dpkg and apt"
	missing=$(packages_missing "$@")
	if [ -z "$missing" ]; then
		echo "all packages are installed"
		return
	fi
	if [ "$(id -u)" -ne 0 ]; then
		die "packages are missing and only root may install them; as root:
    apt-get update && apt-get install --no-install-recommends $missing"
	fi
	echo "installing: $missing"
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of words
	if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get failed, see above"
	fi
	rm -f "$log"
}

# fusermount3 reads /etc/mtab, and a system that was never booted may have none.
mtab_make() {
	[ -e /etc/mtab ] || [ "$(id -u)" -ne 0 ] || ln -s ../proc/self/mounts /etc/mtab
}

# Runs a command whose output matters only when it fails.
quietly() { # LOG COMMAND...
	local log=$1
	shift
	if ! "$@" >"$log" 2>&1 </dev/null; then
		tail -n 40 "$log" | sed 's/^/    | /' >&2
		printf 'failed: %s\nwhole output: %s\n' "$*" "$log" >&2
		return 1
	fi
}
