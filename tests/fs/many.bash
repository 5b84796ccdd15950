# For many.bats and many-long.bats: processes of their own folders, compared with ext4 (fsops.c), and at the same time
# others on shared files (fsshared.c), on ext4 and each kind.

many_setup() {
	setup_work
	spill_only
	need_prog FSOPS tests/fs/fsops.c tests/fs/{fscompare,fsmany,fsways,fsways_ops}.c
	need_prog FSSHARED tests/fs/fsshared.c tests/fs/fsways.c
	model_dir
	export FSOPS FSSHARED
	seed=${MANY_SEED:-1}
}

# many SEED PROCESSES OPERATIONS SECONDS: in folders of that seed, of one mount; what is there is the same after a remount.
# "$WORK/counted" has how many operations were compared, and how many actions were done on shared files.
many() {
	local d own=() shared=() seed=$1
	for d in "$MODEL" "$MNT"/{buckets,columns,layers}; do
		mkdir "$d/own$seed" "$d/shared$seed"
		own+=("$d/own$seed")
		shared+=("$d/shared$seed")
	done
	guarded $((200 + 4 * $4)):100 bash -c '"$FSOPS" -j "$1" -p "$MNT/columns" -s "$2" -n "$3" -i 500 "${@:5:4}" & first=$!
		"$FSSHARED" -j "$1" -s "$2" -t "$4" "${@:9}" & second=$!
		wait $first; a=$?
		wait $second; b=$?
		exit $((a | b))' - "$2" "$seed" "$3" "$4" "${own[@]}" "${shared[@]}" >"$WORK/said" || { cat "$WORK/said"; return 1; }
	awk '/operations each in/ { print $1 * $3 * ($7 - 1), 0 } / actions in / { print 0, $3 }' "$WORK/said" >>"$WORK/counted"
	for d in "${shared[@]:1}"; do sums "$d"; done >"$WORK/before"
	remount
	for d in "${shared[@]:1}"; do sums "$d"; done >"$WORK/after"
	same "$WORK/before" "$WORK/after"
	guarded 100 "$FSOPS" -c -p "$MNT/columns" -s "$seed" "${own[@]}"
	rm -r "${own[@]}" "${shared[@]}"
}

tell_many() {
	tell "$(awk '{ own += $1; shared += $2 }
		END { printf "%d operations compared with ext4, %d actions on shared files", own, shared }' "$WORK/counted")"
	tell_peaks
}
