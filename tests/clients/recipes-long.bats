#!/usr/bin/env bats
# docs/RECIPES.md: each recipe is run as it stands there, through a mount, and on a plain directory in its place: the answers are the
# same, the spills have gone through the mount, and nothing is left.
load ../lib/common

setup() {
	spill_only
	setup_work
	mount_store
	mkdir -p "$WORK/bin" "$WORK/plain/mnt/scratch" "$WORK/durable/mnt" "$MNT/buckets/d" "$MNT/columns/d"
	# On the plain side there is no spillctl: a private TMPDIR is made and removed by hand.
	cat >"$WORK/bin/spillctl" <<-'EOF'
		#!/bin/bash
		shift 3
		export TMPDIR=$(mktemp -d "$PWD/mnt/scratch/XXXXXX")
		SQLITE_TMPDIR=$TMPDIR MAGICK_TEMPORARY_PATH=$TMPDIR "$@"
		code=$?
		rm -r "$TMPDIR"
		exit $code
	EOF
	chmod +x "$WORK/bin/spillctl"
	[ "$PYTHON" = python3 ] || ln -s "$PYTHON" "$WORK/bin/python3"
	mkdir "$WORK/ctl"
	ln -s "$SPILLCTL" "$WORK/ctl/spillctl"
}

# recipe NAME: the block of that heading.
recipe() {
	awk -v name="## $1" '/^## / { on = $0 == name } on && /^    / { print substr($0, 5) }' "$TOP/docs/RECIPES.md"
}

# bytes KIND: written to files of that kind so far.
bytes() {
	awk -v name="spillfs_write_bytes_total{kind=\"$1\"}" '$1 == name { print $2 }' "$MNT/.spillfs/stats"
}

# run_recipe NAME: in $WORK, where mnt is the mount.
run_recipe() {
	recipe "$1" >"$WORK/recipe"
	[ -s "$WORK/recipe" ] || fail "no recipe for $1"
	(cd "$WORK" && PATH=$WORK/ctl:$WORK/bin:$PATH bash -e "$WORK/recipe" 3>&-)
}

# run_plain NAME: the same beside it.
run_plain() {
	(cd "$WORK/plain" && PATH=$WORK/bin:$PATH bash -e <(recipe "$1") 3>&-)
}

# run_durable NAME FOLDER: the same in a directory of that folder, in which nothing is left either.
run_durable() {
	ln -s "$MNT/$2/d" "$WORK/durable/mnt/scratch"
	(cd "$WORK/durable" && PATH=$WORK/bin:$PATH bash -e <(recipe "$1") 3>&-)
	eq "$(ls -A "$MNT/$2/d")" ""
}

# wrote KIND MIB BEFORE: so much has gone there since.
wrote() {
	[ "$(bytes "$1")" -ge "$(($3 + $2 * 1048576))" ] || fail "only $(($(bytes "$1") - $3)) bytes were spilled"
}

# spilled KIND MIB BEFORE: the same, and nothing stays there.
spilled() {
	wrote "$@"
	soon is_empty # processes that a program leaves behind keep its directory a moment longer
}
is_empty() { [ -z "$(ls -A "$MNT/scratch")" ]; }

@test "GNU sort" {
	local before
	py proc numbers 1500000 7 | od -A n -v -t d8 -w8 >"$WORK/numbers.txt"
	before=$(bytes bucket)
	run_recipe "GNU sort"
	spilled bucket 20 "$before"
	cp "$WORK/numbers.txt" "$WORK/plain"
	cp "$WORK/numbers.txt" "$WORK/durable"
	run_plain "GNU sort"
	before=$(bytes bucket)
	run_durable "GNU sort" buckets
	wrote bucket 20 "$before"
	cmp "$WORK/sorted.txt" "$WORK/plain/sorted.txt"
	cmp "$WORK/sorted.txt" "$WORK/durable/sorted.txt"
}

# The lines of SQL behind those of the shell, each a question to DuckDB; the last answer.
duck() {
	bash -e <(recipe DuckDB | grep -E '^(mkdir|setfattr) ')
	recipe DuckDB | grep -vE '^(mkdir|setfattr) ' | "$PYTHON" -c 'import json, sys
for line in sys.stdin: print(json.dumps({"sql": line.strip()}))' | node "$TOP/tests/bench/duck.mjs" |
		"$PYTHON" -c 'import json, sys
said = [json.loads(line) for line in sys.stdin]
assert not [s for s in said if "error" in s], said
print(said[-1]["rows"])'
}

@test "DuckDB with a small memory_limit" {
	local before got
	need_clients
	before=$(bytes bucket)
	got=$(cd "$WORK" && duck 3>&-)
	rmdir "$MNT/scratch/duckdb"
	spilled bucket 20 "$before"
	eq "$got" "$(cd "$WORK/plain" && duck 3>&-)"
	ln -s "$MNT/buckets/d" "$WORK/durable/mnt/scratch"
	before=$(bytes bucket)
	eq "$got" "$(cd "$WORK/durable" && duck 3>&-)"
	wrote bucket 20 "$before"
	rmdir "$MNT/buckets/d/duckdb"
}

@test "SQLite: temporary tables and sorts" {
	local before
	before=$(bytes bucket)
	run_recipe SQLite
	spilled bucket 8 "$before"
	run_plain SQLite
	before=$(bytes bucket)
	run_durable SQLite buckets
	wrote bucket 8 "$before"
	[ -s "$WORK/answer.txt" ]
	cmp "$WORK/answer.txt" "$WORK/plain/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/durable/answer.txt"
}

@test "A work database of SQLite" {
	local before
	before=$(bytes bucket)
	run_recipe "A work database of SQLite"
	spilled bucket 3 "$before"
	run_plain "A work database of SQLite"
	before=$(bytes bucket)
	run_durable "A work database of SQLite" buckets
	wrote bucket 3 "$before"
	grep -qx ok "$WORK/answer.txt"
	grep -q '^200000|' "$WORK/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/plain/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/durable/answer.txt"
}

teardown() {
	if [ -e "$WORK/pg/data/postmaster.pid" ]; then stop_postgres "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n1)"; fi
	teardown_work
}

as_postgres() { setpriv --reuid postgres --regid postgres --init-groups env HOME=/tmp "$@" 3>&-; }

@test "PostgreSQL: temp_tablespaces, as its own user" {
	local before bin spilled_by_postgres
	require_root
	bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n1)
	[ -x "$bin/postgres" ] && command -v psql >/dev/null || missing "no PostgreSQL (Debian: postgresql)"
	mkdir "$WORK/pg"
	chown postgres: "$WORK/pg"
	cd "$WORK/pg"
	as_postgres "$bin/initdb" -D "$WORK/pg/data" -A trust >/dev/null
	as_postgres "$bin/pg_ctl" -D "$WORK/pg/data" -w -l "$WORK/pg/log" -o "-c listen_addresses= -c unix_socket_directories=$WORK/pg -c fsync=off" start >/dev/null
	export PGHOST=$WORK/pg PGUSER=postgres PGDATABASE=postgres
	psql -At -c "SELECT count(*), sum(k) FROM (SELECT i::bigint * 7919 % 500009 AS k FROM generate_series(1, 500000) i ORDER BY md5(i::text) OFFSET 1) s" >"$WORK/want"
	before=$(bytes bucket)
	run_recipe PostgreSQL || { stop_postgres "$bin"; fail "$(tail "$WORK/pg/log")"; }
	eq "$(find "$MNT/scratch/postgres" -type f | wc -l)" 0
	psql -q -c "ALTER SYSTEM RESET temp_tablespaces" -c "SELECT pg_reload_conf()" >/dev/null
	psql -q -c "DROP TABLESPACE spill"
	ln -s "$MNT/buckets/d" "$WORK/durable/mnt/scratch"
	spilled_by_postgres=$(bytes bucket)
	(cd "$WORK/durable" && PATH=$WORK/bin:$PATH bash -e <(recipe PostgreSQL) 3>&-) || { stop_postgres "$bin"; fail "$(tail "$WORK/pg/log")"; }
	psql -q -c "ALTER SYSTEM RESET temp_tablespaces" -c "SELECT pg_reload_conf()" >/dev/null
	psql -q -c "DROP TABLESPACE spill"
	stop_postgres "$bin"
	rmdir "$MNT/scratch/postgres" "$MNT/buckets/d/postgres"
	wrote bucket 10 "$spilled_by_postgres"
	spilled bucket 20 "$before"
	eq "$(tail -n 1 "$WORK/answer.txt")" "$(cat "$WORK/want")"
	eq "$(tail -n 1 "$WORK/durable/answer.txt")" "$(cat "$WORK/want")"
}

stop_postgres() { as_postgres "$1/pg_ctl" -D "$WORK/pg/data" -m immediate -w stop >/dev/null; }

@test "joblib: arrays that workers share" {
	local before
	"$PYTHON" -c 'import joblib' 2>/dev/null || missing "joblib for $PYTHON (Debian: python3-joblib)"
	before=$(bytes bucket)
	run_recipe joblib
	eq "$(cat "$WORK/answer.txt")" 7999998000000
	spilled bucket 30 "$before"
	before=$(bytes bucket)
	run_durable joblib buckets
	wrote bucket 30 "$before"
	run_plain joblib
	cmp "$WORK/answer.txt" "$WORK/plain/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/durable/answer.txt"
}

@test "NumPy memmap" {
	local before
	"$PYTHON" -c 'import numpy' 2>/dev/null || missing "numpy for $PYTHON (Debian: python3-numpy)"
	before=$(bytes column)
	run_recipe "NumPy memmap"
	eq "$(cat "$WORK/answer.txt")" "0 3999999 7999998000000"
	spilled column 30 "$before"
	before=$(bytes column)
	run_durable "NumPy memmap" columns
	wrote column 30 "$before"
	run_plain "NumPy memmap"
	cmp "$WORK/answer.txt" "$WORK/plain/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/durable/answer.txt"
}

@test "Java: temporary files with maps" {
	local before
	command -v java >/dev/null && command -v javac >/dev/null || missing "no Java compiler (Debian: default-jdk-headless)"
	before=$(bytes column)
	run_recipe Java
	spilled column 30 "$before"
	run_plain Java
	before=$(bytes column)
	run_durable Java columns
	wrote column 30 "$before"
	[ "$(cat "$WORK/answer.txt")" -gt 0 ]
	cmp "$WORK/answer.txt" "$WORK/plain/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/durable/answer.txt"
}

@test "samtools sort" {
	local before
	command -v samtools >/dev/null || missing "no samtools (Debian: samtools)"
	"$PYTHON" - >"$WORK/reads.sam" <<-'EOF'
		import random
		r = random.Random(5)
		print("@HD\tVN:1.6\tSO:unsorted\n@SQ\tSN:chr1\tLN:100000000")
		for i in range(120000):
		    print("r%d\t0\tchr1\t%d\t60\t100M\t*\t0\t0\t%s\t%s" % (i, r.randrange(1, 90000000), "".join(r.choices("ACGT", k=100)), "I" * 100))
	EOF
	cp "$WORK/reads.sam" "$WORK/plain"
	cp "$WORK/reads.sam" "$WORK/durable"
	before=$(bytes bucket)
	run_recipe "samtools sort"
	spilled bucket 4 "$before"
	run_plain "samtools sort"
	before=$(bytes bucket)
	run_durable "samtools sort" buckets
	wrote bucket 4 "$before"
	eq "$(samtools view "$WORK/sorted.bam" | wc -l)" 120000
	cmp "$WORK/sorted.bam" "$WORK/plain/sorted.bam"
	cmp "$WORK/sorted.bam" "$WORK/durable/sorted.bam"
}

@test "ImageMagick: its disk cache" {
	local before
	ls /usr/bin/convert-im* >/dev/null 2>&1 || missing "no ImageMagick (Debian: imagemagick)"
	before=$(bytes bucket)
	run_recipe ImageMagick
	spilled bucket 20 "$before"
	run_plain ImageMagick
	before=$(bytes bucket)
	run_durable ImageMagick buckets
	wrote bucket 20 "$before"
	eq "$(wc -c <"$WORK/answer.txt")" 65
	cmp "$WORK/answer.txt" "$WORK/plain/answer.txt"
	cmp "$WORK/answer.txt" "$WORK/durable/answer.txt"
}

@test "every recipe has a test" {
	local name
	grep '^## ' "$TOP/docs/RECIPES.md" | cut -c4- | while read -r name; do
		grep -qE "^@test \"$name" "$BATS_TEST_FILENAME" || fail "no test runs the recipe for $name"
	done
}
