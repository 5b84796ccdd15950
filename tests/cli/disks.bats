#!/usr/bin/env bats
# A store on several directories, -o pool=DIR:DIR: what is refused and what it says; the check, the reader without spillfs, a rebuild and a
# follower know them all.
load ../lib/common

setup() {
	spill_only
	setup_work
	A=$WORK/a B=$WORK/b
	mkdir "$A" "$B"
}

# refused CODE TEXT ARGS...: no mount, that exit code, and one line that holds TEXT.
refused() {
	local code=$1 text=$2 rc=0
	shift 2
	LC_ALL=C "$SPILLFS" "$@" "$STORE" "$MNT" 2>"$WORK/err" 3>&- || rc=$?
	cat "$WORK/err"
	eq "$rc" "$code"
	eq "$(wc -l <"$WORK/err")" 1
	grep -qF -- "$text" "$WORK/err"
	refute mounted
}

fill() {
	for i in 1 2 3 4 5 6 7 8; do
		noise 3000000 "$MNT/buckets/f$i" "$i"
		noise 300000 "$MNT/layers/f$i" "$i"
		"$SPILLCTL" commit "$MNT" >/dev/null
	done
	noise 100000 "$MNT/columns/c" 1
	(cd "$MNT" && sha256sum buckets/* layers/* columns/*) >"$WORK/sums"
}

same() { (cd "$MNT" && sha256sum -c --quiet "$WORK/sums"); }

# check_says TEXT: the check says so, whether it may change anything or not, and leaves the store as it is.
check_says() {
	local how code
	for how in -n -y; do
		code=0
		"$SPILLCTL" check $how "$STORE" 2>"$WORK/err" || code=$?
		cat "$WORK/err"
		eq $code 8
		grep -q "$1" "$WORK/err"
	done
}

# files DIR: buckets have data there.
files() { find "$1" -type f -path '*/pool/*' -size +0 | grep -q .; }

@test "what goes where; later mounts know the directories" {
	mount_store -o "pool=$A:$B"
	fill
	files "$A"
	files "$B"
	grep -q 'zst$' <<<"$(find "$A" "$B" -type f)"
	"$SPILLCTL" info "$MNT" | tee "$WORK/info"
	eq "$(grep -c '^directory' "$WORK/info")" 3
	grep -q "^directory 2 .* free: $B$" "$WORK/info"
	eq "$(stat -c %a "$A/pool" "$A/SPILLFS.disk" "$STORE/disks" | tr '\n' ' ')" "700 600 600 "
	remount
	same
	"$SPILLCTL" info "$MNT" | grep -q "^directory 1 "
	remount -o pool=3,commit=1
	same
}

@test "a store without the option is as it was" {
	mount_store -o pool=2
	umount_store
	eq "$(ls "$STORE" | tr '\n' ' ')" "SPILLFS columns layers lock meta.db pool "
	eq "$(head -n 1 "$STORE/SPILLFS")" "spillfs 2"
	# Its mark is made anew also where no layer tells the uuid.
	mount_again
	noise 300000 "$MNT/buckets/f" 1
	umount_store
	rm "$STORE/SPILLFS"
	code=0
	"$SPILLCTL" check --repair "$STORE" || code=$?
	eq $code 1
	eq "$(head -n 1 "$STORE/SPILLFS")" "spillfs 2"
	mount_again
	noise 300000 "$WORK/f" 1
	cmp "$WORK/f" "$MNT/buckets/f"
}

@test "a directory that is not there, empty, or another's is refused by name, and nothing is lost" {
	mount_store -o "pool=$A:$B"
	fill
	umount_store
	mv "$A" "$WORK/away"
	refused 6 "$A: directory of the store $STORE: No such file"
	refute "$SPILLCTL" check --repair -y "$STORE"
	refute "$SPILLCTL" rebuild --force "$STORE"
	mkdir "$A"
	refused 6 "$A: the directory holds nothing of the store $STORE"
	refused 6 "$A: the directory holds nothing of the store $STORE" -o "pool=$A:$B"
	rmdir "$A"
	mv "$B" "$A"
	mv "$WORK/away" "$B"
	refused 3 "$A: it is directory 2 of the store $STORE, where directory 1 should be"
	mv "$B" "$WORK/away"
	mv "$A" "$B"
	mkdir "$WORK/store2" "$A"
	STORE=$WORK/store2 mount_store -o "pool=$A"
	umount_store
	refused 3 "$A: the directory belongs to another store than $STORE"
	mv "$A" "$WORK/a2"
	# At another place it is named.
	mv "$WORK/away" "$WORK/c"
	refused 6 "$A: directory of the store $STORE: No such file"
	mount_store -o "pool=$WORK/c"
	same
	remount -o commit=1
	same
}

@test "what cannot be added" {
	mount_store -o "pool=$A"
	fill
	umount_store
	touch "$B/x"
	refused 3 "$B: neither empty nor a directory of the store $STORE" -o "pool=$B"
	refused 6 "it is the store's own directory" -o "pool=$STORE"
	refused 6 "pool directory $WORK/none: No such file" "--pool=$WORK/none"
	refused 3 "pool directory $B/x: not a directory" "--pool=$B/x"
	refused 1 "option pool: an empty name" "--pool=$A::$B"
	refused 1 "option pool: bad value 'many' (1 to 256, or directories" --pool=many
	refused 1 "with ro its directories are known" -o "ro,pool=$A"
	refused 1 "scratch-only has none" -o "scratch-only,pool=$A"
	# A directory of a store is no store.
	STORE=$A refused 3 "neither empty nor a spillfs store"
	rm "$B/x"
	mount_store -o "pool=$B"
	same
}

@test "the list is lost, or was planted" {
	require_root
	mount_store -o "pool=$A:$B"
	fill
	umount_store
	mv "$STORE/disks" "$WORK/disks"
	refused 6 "$STORE/disks is lost: mount with -o pool= and all directories of the store"
	refute "$SPILLCTL" check "$STORE"
	remount -o "pool=$B:$A"
	same
	umount_store
	cp "$STORE/disks" "$WORK/disks"
	sed -i 's,^mounts,disk 9 /tmp\n&,' "$STORE/disks"
	refused 6 "/tmp: the directory holds nothing of the store"
	sed -i 's,^disk 9.*,disk 9,' "$STORE/disks"
	refused 3 "$STORE/disks: no list of the directories of this store"
	cp "$WORK/disks" "$STORE/disks"
	chown 1234 "$A"
	refused 6 "$A: the directory belongs to user 1234, the store $STORE to user 0"
	refute "$SPILLCTL" check "$STORE"
	remount -o "pool=$A"
	same
	umount_store
	chown 0 "$A"
	# Nothing is followed out of it.
	mv "$A/pool" "$WORK/pool"
	ln -s "$WORK/pool" "$A/pool"
	sums=$(cat "$WORK"/pool/* | sha256sum)
	refuse_rc=0
	"$SPILLFS" "$STORE" "$MNT" 2>"$WORK/err" 3>&- || refuse_rc=$?
	cat "$WORK/err"
	eq "$(cat "$WORK"/pool/* | sha256sum)" "$sums"
	[ "$refuse_rc" != 0 ]
	rm "$A/pool"
	mv "$WORK/pool" "$A/pool"
	remount
	same
}

@test "the mark is lost: its format and uuid are those of the list" {
	mount_store -o "pool=$A:$B"
	fill
	umount_store
	cp "$STORE/SPILLFS" "$WORK/mark"
	rm "$STORE/SPILLFS"
	mv "$A" "$WORK/away"
	refute "$SPILLCTL" check --repair -y "$STORE" 2>"$WORK/err"
	[ ! -e "$STORE/SPILLFS" ]
	mv "$WORK/away" "$A"
	"$SPILLCTL" check --repair -y "$STORE" || [ $? -le 1 ]
	cmp "$WORK/mark" "$STORE/SPILLFS"
	"$SPILLCTL" check "$STORE"
	# Without the list the rest is lost from view, and not given up.
	rm "$STORE/SPILLFS"
	mv "$STORE/disks" "$WORK/disks"
	sums=$(find "$STORE" -type f ! -name lock -exec sha256sum {} + | sort)
	check_says "SPILLFS is lost, and [0-9]* files that meta.db names are not here.*bring disks back"
	eq "$(find "$STORE" -type f ! -name lock -exec sha256sum {} + | sort)" "$sums"
	mv "$WORK/disks" "$STORE/disks"
	cp "$WORK/mark" "$STORE/SPILLFS"
	remount
	same
}

@test "check, spillfs-read, rebuild and a follower see all directories" {
	mount_store -o "pool=$A:$B,layer=1M"
	fill
	mkdir "$MNT/snapshots/s"
	mkdir "$WORK/ro"
	"$SPILLFS" -o ro "$STORE" "$WORK/ro" 3>&-
	daemon_pid "$WORK/ro" >>"$WORK/.pids"
	for i in 1 2 3 4 5 6 7 8; do cmp "$WORK/ro/layers/f$i" "$MNT/layers/f$i"; done
	"$SPILLCTL" umount "$WORK/ro"
	umount_store
	"$SPILLCTL" check --data "$STORE" | tee "$WORK/out"
	grep -q ': clean' "$WORK/out"
	for i in 1 2 3 4 5 6 7 8; do
		"$TOP/contrib/spillfs-read" "$STORE" "f$i" | sha256sum | cut -d' ' -f1 >"$WORK/one"
		grep -q "^$(cat "$WORK/one")  layers/f$i" "$WORK/sums"
	done
	# What is damaged in one of them is found there.
	file=$(find "$A" "$B" -path '*/pool/*' -size +1M | head -n 1)
	cp --sparse=always "$file" "$WORK/pool"
	truncate -s 4096 "$file"
	refute "$SPILLCTL" check "$STORE" >"$WORK/out"
	cat "$WORK/out"
	grep -q "are lost: pool/$(basename "$file") ends before them" "$WORK/out"
	cp --sparse=always "$WORK/pool" "$file"
	"$SPILLCTL" check "$STORE"
	# So are files behind a folder that is not there.
	mv "$A/pool" "$WORK/pool.a"
	refute "$SPILLCTL" check "$STORE" >"$WORK/out"
	cat "$WORK/out"
	for file in "$B"/pool/*; do refute grep -q "pool/$(basename "$file") " "$WORK/out"; done
	mv "$WORK/pool.a" "$A/pool"
	"$SPILLCTL" check "$STORE"
	rm "$STORE/meta.db"
	"$SPILLCTL" rebuild "$STORE"
	mount_store
	grep ' layers/\| columns/' "$WORK/sums" >"$WORK/kept"
	(cd "$MNT" && sha256sum -c --quiet "$WORK/kept")
}

# in_use COMMAND...: fails, and says that the directory A is in use.
in_use() {
	refute "$@" >"$WORK/out" 2>&1 3>&-
	cat "$WORK/out"
	grep -q "$A: .*directory.* in use" "$WORK/out"
}

@test "a copy of the store's own directory uses no directory that the store uses" {
	mount_store -o "pool=$A:$B"
	fill
	"$SPILLCTL" commit "$MNT"
	cp -a "$STORE" "$WORK/copy"
	mkdir "$WORK/mnt2"
	in_use "$SPILLFS" "$WORK/copy" "$WORK/mnt2"
	refute mounted "$WORK/mnt2"
	in_use "$SPILLCTL" check "$WORK/copy"
	in_use "$SPILLCTL" check --repair "$WORK/copy"
	in_use "$SPILLCTL" rebuild --force "$WORK/copy"
	same
	umount_store
	"$SPILLCTL" check --data "$STORE"
	# Two checks may look at the same time.
	exec 8<"$A/SPILLFS.disk"
	flock -s 8
	"$SPILLCTL" check "$STORE"
	in_use "$SPILLCTL" check --repair "$STORE"
	in_use "$SPILLFS" "$STORE" "$MNT"
	exec 8<&-
	remount
	same
}

# older COMMAND...: fails, and says that the copy is older.
older() {
	refute "$@" >"$WORK/out" 2>&1 3>&-
	cat "$WORK/out"
	grep -q "$A: .*used by a newer state of the store" "$WORK/out"
	grep -q "spillctl rebuild --force" "$WORK/out"
}

@test "an older copy of the store's own directory is refused, and a rebuild goes on with it" {
	mount_store -o "pool=$A:$B"
	fill
	umount_store
	cp -a "$STORE" "$WORK/copy"
	remount
	noise 300000 "$MNT/layers/new" 9
	rm "$MNT/layers/f8"
	umount_store
	mkdir "$WORK/mnt2"
	sums=$(find "$A" "$B" -type f -exec sha256sum {} + | sort)
	older "$SPILLFS" "$WORK/copy" "$WORK/mnt2"
	older "$SPILLFS" -o ro "$WORK/copy" "$WORK/mnt2"
	older "$SPILLFS" -o "pool=$A" "$WORK/copy" "$WORK/mnt2"
	refute mounted "$WORK/mnt2"
	older "$SPILLCTL" check "$WORK/copy"
	older "$SPILLCTL" check --repair "$WORK/copy"
	refute "$SPILLCTL" rebuild "$WORK/copy"
	older "$SPILLCTL" check "$WORK/copy"
	eq "$(find "$A" "$B" -type f -exec sha256sum {} + | sort)" "$sums"
	"$SPILLCTL" check --data "$STORE"
	remount
	noise 300000 "$WORK/new" 9
	cmp "$WORK/new" "$MNT/layers/new"
	umount_store
	# The newer one is lost.
	mv "$STORE" "$WORK/lost"
	"$SPILLCTL" rebuild --force "$WORK/copy"
	STORE=$WORK/copy
	"$SPILLCTL" check --data "$STORE"
	mount_again
	noise 300000 "$MNT/layers/more" 10
	umount_store
	older "$SPILLFS" "$WORK/lost" "$WORK/mnt2"
	"$SPILLCTL" check --data "$STORE"
}

@test "check: what a crash has left of a move or of a compaction" {
	mount_store -o "pool=$A:$B"
	fill
	umount_store
	echo left | tee "$A/layers/compact.tmp" "$B/layers/compact.tmp" >"$STORE/layers/compact.tmp"
	"$SPILLCTL" check "$STORE"
	# NAME.moved means nothing beside NAME, wherever that is.
	file=$(cd "$B" && find pool -type f -size +0 | head -n 1)
	echo left >"$A/$file.moved"
	"$SPILLCTL" check "$STORE"
	mv "$B/$file" "$B/$file.moved"
	rm "$A/$file.moved"
	check_says "$file.moved: a file was on its way to another directory"
	cp "$B/$file.moved" "$A/$file"
	cp "$B/$file.moved" "$B/$file"
	check_says "$file is in two directories of the store"
	rm "$A/$file"
	remount
	same
	refute ls "$A/layers/compact.tmp" "$B/layers/compact.tmp" "$STORE/layers/compact.tmp" "$B/$file.moved"
}

@test "rebuild: what it has saved is known to the next one, in whichever directory that is" {
	mount_store -o "pool=$A:$B,layer=1M"
	fill
	umount_store
	file=$(cd "$A" && find layers -name '*.zst' | sort | tail -n 1)
	truncate -s 2000 "$A/$file"
	rm "$STORE/meta.db"
	"$SPILLCTL" rebuild "$STORE" >"$WORK/out" || [ $? -le 4 ]
	cat "$WORK/out"
	[ -e "$A/lost+found/$(basename "$file")" ]
	"$SPILLCTL" rebuild --force "$STORE" >"$WORK/out" || [ $? -le 4 ]
	cat "$WORK/out"
	grep -q "lost+found/$(basename "$file") was moved there by a rebuild before" "$WORK/out"
}

@test "drain: what it says" {
	mount_store -o "pool=$A:$B"
	fill
	refute "$SPILLCTL" drain "$MNT" "$STORE" 2>"$WORK/err"
	grep -q "the store's own directory" "$WORK/err"
	refute "$SPILLCTL" drain "$MNT" "$WORK" 2>"$WORK/err"
	grep -q "not a directory of this store (spillctl info" "$WORK/err"
	"$SPILLCTL" drain "$MNT" "$A" | tee "$WORK/out"
	grep -q "^$A: empty (.* moved); it may be taken away$" "$WORK/out"
	eq "$(find "$A" -type f)" ""
	same
	rm -r "$A"
	remount -o commit=1
	same
	umount_store
	noise 300000 "$MNT.f1" 1
	sed -i 's,^mounts,next 9\n&,' "$STORE/disks"
	"$TOP/contrib/spillfs-read" "$STORE" f1 | cmp - "$MNT.f1"
	mount_again
	"$SPILLCTL" drain "$MNT" "$B"
	eq "$(head -n 1 "$STORE/SPILLFS")" "spillfs 2"
	refute grep -q "^d" "$STORE/disks" # the count of mounts is left
	rm -r "$B"
	remount
	same
	umount_store
	"$SPILLCTL" check --data "$STORE"
}
