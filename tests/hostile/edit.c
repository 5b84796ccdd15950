/*
 * See edit.h. An edit is a row of the table at the end.
 */
#include "edit.h"

#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/meta/vfs.h"
#include "unit/unit.h"

#define EXTRA_MAX 20000u
#define DB_MAX (16u << 20) /* a damaged database may grow without bound */

void edit_tell(struct edit_story *story, const char *fmt, ...)
{
	size_t n = strlen(story->text);
	va_list ap;

	n += (size_t)snprintf(story->text + n, sizeof(story->text) - n, "%s", n ? "; " : "");
	if (n >= sizeof(story->text))
		return;
	va_start(ap, fmt);
	vsnprintf(story->text + n, sizeof(story->text) - n, fmt, ap);
	va_end(ap);
}

uint64_t chance_evil(struct chance *c)
{
	static const uint64_t v[] = { 0, 1, 2, 3, 4, 5, 63, 64, 255, 256, 4095, 4096, 4097, 65535, 65536, 1ull << 20, 1ull << 31,
				      (1ull << 32) - 1, 1ull << 32, 1ull << 40, 1ull << 44, 1ull << 50, 1ull << 61, 1ull << 62,
				      INT64_MAX - 4096, INT64_MAX - 1, INT64_MAX, 1ull << 63, UINT64_MAX - 4096, UINT64_MAX - 1,
				      UINT64_MAX };

	switch (chance_below(c, 4)) {
	case 0:
		return chance_below(c, 300);
	case 1:
		return unit_rand(&c->state) >> chance_below(c, 64);
	default:
		return v[chance_below(c, sizeof(v) / sizeof(*v))];
	}
}

/* ---- files ---- */

static struct image_file *any_file(struct image *im, struct chance *c)
{
	return &im->v[chance_below(c, im->n)];
}

static void flip(struct image *im, struct chance *c, struct edit_story *story)
{
	struct image_file *f = any_file(im, c);

	for (uint64_t n = 1 + chance_below(c, 8); n && f->n; n--) {
		uint64_t bit = chance_below(c, f->n * 8);

		f->bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		edit_tell(story, "%s: bit %llu", f->name, (unsigned long long)bit);
	}
}

static void resize(struct image *im, struct chance *c, struct edit_story *story)
{
	struct image_file *f = any_file(im, c);
	bool grows = chance_below(c, 3) == 0;
	size_t n = grows ? f->n + chance_below(c, EXTRA_MAX) : chance_below(c, f->n + 1);
	uint8_t *v = realloc(f->bytes, n + 1);

	CHECK(v);
	for (size_t i = f->n; i < n; i++)
		v[i] = (uint8_t)(n % 2 ? unit_rand(&c->state) : 0);
	edit_tell(story, "%s: %zu bytes long instead of %zu", f->name, n, f->n);
	f->bytes = v;
	f->n = n;
}

static void swap(struct image *im, struct chance *c, struct edit_story *story)
{
	struct image_file *a = any_file(im, c), *b = any_file(im, c), was = *a;

	edit_tell(story, "%s and %s swapped", a->name, b->name);
	a->bytes = b->bytes;
	a->n = b->n;
	b->bytes = was.bytes;
	b->n = was.n;
}

static void duplicate(struct image *im, struct chance *c, struct edit_story *story)
{
	const struct image_file *a = any_file(im, c), *b = any_file(im, c);

	edit_tell(story, "%s is as %s", b->name, a->name);
	if (a != b)
		image_put(im, b->name, a->bytes, a->n);
}

static void drop(struct image *im, struct chance *c, struct edit_story *story)
{
	struct image_file *f = any_file(im, c);

	edit_tell(story, "%s removed", f->name);
	image_remove(im, f);
}

static void make_directory(struct image *im, struct chance *c, struct edit_story *story)
{
	struct image_file *f = any_file(im, c);

	edit_tell(story, "%s is a directory", f->name);
	f->directory = true;
}

static void add_file(struct image *im, struct chance *c, struct edit_story *story)
{
	static const char *const names[] = { "layers/00000000.zst", "layers/99999999999999999999.zst", "layers/18446744073709551615.zst",
					     "layers/00000099.zst", "layers/0000001.zst", "layers/compact.tmp", "columns/0", "columns/x",
					     "columns/99999999999999999999", "columns/18446744073709551615", "columns/-1", "columns/7",
					     "pool/99", "pool/4294967296", "pool/x", "layers/refs/@1", "layers/refs/..a", "layers/refs/new",
					     "meta.db-journal", "meta.db-shm", "meta.db-wal", "SPILLFS.tmp" };
	const struct image_file *like = any_file(im, c);
	const char *name = names[chance_below(c, sizeof(names) / sizeof(*names))];

	edit_tell(story, "%s as %s", name, like->name);
	if (!image_find(im, name))
		image_put(im, name, like->bytes, like->n);
}

/* HEAD, refs, the mark. */
static void edit_text(struct image *im, struct chance *c, struct edit_story *story)
{
	static const char *const texts[] = { "00000001.zst\n", "00000099.zst\n", "../00000001.zst\n", "00000002.zst 99999999999999999999\n",
					     "18446744073709551615.zst\n", "", "\n", " ", "00000003.zst", "00000003.zst -1\n", "spillfs 2\n",
					     "spillfs 4\nuuid d05fe1b6-663e-4988-ac9c-62f86f8cb64b\n", "spillfs 4294967298\nuuid x\n",
					     "spillfs 2\nuuid -----------------------------------\n", "spillfs -1\n" };
	struct image_file *f = NULL;
	const char *text = texts[chance_below(c, sizeof(texts) / sizeof(*texts))];

	for (int i = 0; i < 100 && (!f || (strcmp(f->name, "SPILLFS") && strcmp(f->name, "layers/HEAD") && strncmp(f->name, "layers/refs/", 12)));
	     i++)
		f = any_file(im, c);
	edit_tell(story, "%s: text %zu", f->name, strlen(text));
	image_put(im, f->name, text, strlen(text));
}

/* ---- meta.db ---- */

/* Bytes of its pages, whose sums are right again. */
static void edit_pages(struct image *im, struct chance *c, struct edit_story *story)
{
	struct image_file *f = image_find(im, "meta.db");

	if (!f || f->n < META_PAGE_BYTES)
		return;
	for (uint64_t n = 1 + chance_below(c, 4); n; n--) {
		size_t page = chance_below(c, f->n / META_PAGE_BYTES), at = chance_below(c, chance_below(c, 2) ? 120 : META_PAGE_BYTES);

		f->bytes[page * META_PAGE_BYTES + at] = (uint8_t)unit_rand(&c->state);
		meta_page_sum(f->bytes + page * META_PAGE_BYTES);
		edit_tell(story, "meta.db: byte %zu of page %zu", at, page);
	}
}

static void put_back(struct io_dir *d, struct image *im, const char *name)
{
	struct image_file *f = image_find(im, name);
	uint8_t *bytes;
	uint64_t size;
	struct io *io;

	if (io_open(d, name, IO_RDONLY, &io)) {
		if (f)
			image_remove(im, f);
		return;
	}
	CHECK_OK(io_size(io, &size, NULL));
	if (size <= DB_MAX) {
		bytes = malloc(size + 1);
		CHECK(bytes);
		CHECK_OK(io_pread(io, bytes, size, 0));
		image_put(im, name, bytes, size);
		free(bytes);
	}
	io_close(io);
}

bool edit_sql(struct image *im, const char *sql)
{
	struct image db = { 0 };
	struct meta_vfs *v = NULL;
	struct io_dir *d;
	int rc, err;

	for (size_t i = 0; i < im->n; i++)
		if (!strncmp(im->v[i].name, "meta.db", 7) && !im->v[i].directory)
			image_put(&db, im->v[i].name, im->v[i].bytes, im->v[i].n);
	d = image_to_mem(&db);
	image_free(&db);
	err = meta_vfs_open(d, "meta.db", SQLITE_OPEN_READWRITE, &v, &rc);
	if (!err)
		err = sqlite3_exec(meta_vfs_db(v), sql, NULL, NULL, NULL);
	if (v)
		meta_vfs_close(v);
	put_back(d, im, "meta.db");
	put_back(d, im, "meta.db-wal");
	io_dir_close(d);
	return !err;
}

static const struct {
	const char *name, *columns[14];
} tables[] = {
	{ "facts", { "value" } },
	{ "inodes", { "kind", "mode", "nlink", "rdev", "size", "stored", "file", "parent", "mtime", "uid", "ino" } },
	{ "names", { "parent", "name", "ino", "cookie" } },
	{ "blobs", { "value", "what", "ino" } },
	{ "xattrs", { "value", "name", "ino" } },
	{ "extents", { "off", "len", "file", "phys", "ino" } },
	{ "layers", { "number", "state", "bytes", "segment", "live", "raw", "stored", "arrays", "commit_number", "chain", "refs" } },
	{ "snapshots", { "name", "layer", "time" } },
};
#define NTABLES (sizeof(tables) / sizeof(*tables))

static void put_value(FILE *to, const char *table, const char *column, struct chance *c)
{
	static const char *const odd[] = { "x'2f'", "x'2e2e'", "x'2e'", "x''", "x'00'", "x'610062'", "x'612f62'", "x'40ff'", "NULL", "'text'",
					   "1e300", "zeroblob(255)", "zeroblob(256)", "zeroblob(70000)", "zeroblob(3000000)", "randomblob(64)",
					   "randomblob(4096)", "x'0100000000000000'", "x'ffffffffffffffff'", "'f64'", "'9999999999,9999999999'",
					   "'4096'", "'1073741824'", "'a:u8,b:f64'", "'-1'" };

	switch (chance_below(c, 6)) {
	case 0:
		fprintf(to, "(SELECT %s FROM %s LIMIT 1 OFFSET %u)", column, table, (unsigned)chance_below(c, 12));
		break;
	case 1:
		fprintf(to, "%s + %lld", column, (long long)chance_below(c, 9000) - 4500);
		break;
	case 2:
		fprintf(to, "CAST(substr(%s, 1 + %u) || x'%016llx' AS BLOB)", column, (unsigned)chance_below(c, 24),
			(unsigned long long)chance_evil(c));
		break;
	case 3:
		fputs(odd[chance_below(c, sizeof(odd) / sizeof(*odd))], to);
		break;
	default:
		fprintf(to, "%lld", (long long)chance_evil(c));
	}
}

/* A value of a row, or of all. */
static void put_update(FILE *to, struct chance *c)
{
	size_t t = chance_below(c, NTABLES), n = 0;
	const char *table = tables[t].name, *column;

	while (n < 14 && tables[t].columns[n])
		n++;
	column = tables[t].columns[chance_below(c, n)];
	fprintf(to, "UPDATE OR IGNORE %s SET %s=", table, column);
	put_value(to, table, column, c);
	if (chance_below(c, 8))
		fprintf(to, " WHERE %s=(SELECT %s FROM %s LIMIT 1 OFFSET %u)", tables[t].columns[0], tables[t].columns[0], table,
			(unsigned)chance_below(c, 16));
}

/* A number of a bucket's extents, of the sizes, of the tree: where numbers have to fit others. */
static void put_aimed(FILE *to, struct chance *c)
{
	uint64_t v = chance_evil(c);

	switch (chance_below(c, 10)) {
	case 0:
		fprintf(to, "INSERT OR IGNORE INTO extents SELECT ino, %lld, len, file, phys FROM extents", (long long)v);
		break;
	case 1:
		fprintf(to, "INSERT OR IGNORE INTO extents SELECT ino, off+1, len, file, phys FROM extents");
		break;
	case 2:
		fprintf(to, "UPDATE inodes SET size=%lld WHERE mode/4096=8", (long long)v);
		break;
	case 3:
		fprintf(to, "UPDATE OR IGNORE names SET ino=(SELECT ino FROM inodes WHERE mode/4096=4 LIMIT 1 OFFSET %u) WHERE cookie%%3=%u",
			(unsigned)chance_below(c, 9), (unsigned)chance_below(c, 3));
		break;
	case 4:
		fprintf(to, "UPDATE OR IGNORE names SET parent=ino WHERE cookie%%4=%u", (unsigned)chance_below(c, 4));
		break;
	case 5:
		fprintf(to, "UPDATE OR IGNORE names SET name=%s WHERE cookie%%4=%u",
			(const char *const[]){ "x'2f'", "x'2e2e'", "x''", "x'6100'", "x'2e'", "x'612f2e2e'" }[chance_below(c, 6)],
			(unsigned)chance_below(c, 4));
		break;
	case 6:
		fprintf(to, "UPDATE inodes SET kind=%lld WHERE ino%%3=%u", (long long)(chance_below(c, 2) ? chance_below(c, 6) : v),
			(unsigned)chance_below(c, 3));
		break;
	case 7:
		fprintf(to, "UPDATE inodes SET mode=%u WHERE ino%%3=%u", (unsigned)(chance_below(c, 16) << 12 | 0644), (unsigned)chance_below(c, 3));
		break;
	case 8:
		fprintf(to, "INSERT OR REPLACE INTO xattrs SELECT ino, 'user.spillfs.%s', CAST('%s' AS BLOB) FROM inodes",
			(const char *const[]){ "dtype", "shape", "order", "logical", "block_size", "codec", "filter" }[chance_below(c, 7)],
			(const char *const[]){ "f64", "4096", "18446744073709551615", "1,1,1,1,1,1,1,1,1,1", "zstd:99", "F", "()",
					       "a:u8,b:i64", "timestamp[ns]", "4611686018427387904,4", "0", "" }[chance_below(c, 12)]);
		break;
	default:
		fprintf(to, "UPDATE blobs SET value=CAST(x'%016llx%016llx' || value AS BLOB) WHERE what=%u",
			(unsigned long long)__builtin_bswap64(v), (unsigned long long)__builtin_bswap64(chance_evil(c)), 1 + (unsigned)chance_below(c, 4));
	}
}

static void put_schema(FILE *to, struct chance *c)
{
	static const char *const sql[] = {
		"CREATE TRIGGER t AFTER INSERT ON names BEGIN INSERT INTO names(parent, name, ino) VALUES(new.parent, randomblob(8), new.ino); END",
		"CREATE TRIGGER t BEFORE INSERT ON inodes BEGIN SELECT count(*) FROM (WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM r) SELECT x FROM r); END",
		"CREATE TRIGGER t AFTER INSERT ON facts BEGIN DELETE FROM facts; END",
		"ALTER TABLE names RENAME TO n; CREATE VIEW names AS WITH RECURSIVE r(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM r) SELECT x AS cookie, 2 AS parent, x'61' AS name, x AS ino FROM r",
		"ALTER TABLE inodes RENAME TO i; CREATE VIEW inodes AS SELECT * FROM i",
		"DROP TABLE extents; CREATE TABLE extents(ino, off, len, file, phys)",
		"DROP TABLE names; CREATE TABLE names(cookie, parent, name, ino)",
		"DROP INDEX names_name", "DROP INDEX names_ino", "DROP TABLE blobs", "DROP TABLE layers", "DROP TABLE facts",
		"ALTER TABLE xattrs ADD COLUMN x DEFAULT 1",
		"DROP TABLE blobs; CREATE TABLE blobs(ino INTEGER, what INTEGER, value GENERATED ALWAYS AS (zeroblob(1000000000)), PRIMARY KEY(ino, what))",
		"DROP TABLE xattrs; CREATE TABLE xattrs(ino, name, value)", "PRAGMA user_version=9", "PRAGMA application_id=1",
	};

	fputs(sql[chance_below(c, sizeof(sql) / sizeof(*sql))], to);
}

static void edit_rows(struct image *im, struct chance *c, struct edit_story *story)
{
	char *sql;
	size_t n;
	FILE *to;

	for (uint64_t k = 1 + chance_below(c, 3); k; k--) {
		uint64_t how = chance_below(c, 20);

		to = open_memstream(&sql, &n);
		CHECK(to);
		if (how == 0)
			fprintf(to, "DELETE FROM %s WHERE rowid%%3=%u", tables[1 + chance_below(c, 4)].name, (unsigned)chance_below(c, 3));
		else if (how == 1)
			put_schema(to, c);
		else if (how < 8)
			put_aimed(to, c);
		else
			put_update(to, c);
		CHECK(!fclose(to));
		edit_tell(story, "%s", sql);
		if (!edit_sql(im, sql))
			edit_tell(story, "(failed)");
		free(sql);
	}
}

/* ---- layers ---- */

static void edit_any_layer(struct image *im, struct chance *c, struct edit_story *story)
{
	for (int tries = 0; tries < 100; tries++) {
		struct image_file *f = any_file(im, c);
		size_t n = strlen(f->name);

		if (!strncmp(f->name, "layers/", 7) && n > 4 && !strcmp(f->name + n - 4, ".zst") && edit_layer(im, f, c, story))
			return;
	}
}

static const struct {
	unsigned weight;
	void (*run)(struct image *im, struct chance *c, struct edit_story *story);
} edits[] = {
	{ 3, flip },      { 3, resize },      { 1, swap },       { 1, duplicate },  { 1, drop },
	{ 1, make_directory }, { 2, add_file },    { 2, edit_text },  { 3, edit_pages }, { 14, edit_rows },
	{ 14, edit_any_layer },
};

void edit_store(struct image *im, struct chance *c, struct edit_story *story)
{
	unsigned total = 0;

	*story = (struct edit_story){ "" };
	for (size_t i = 0; i < sizeof(edits) / sizeof(*edits); i++)
		total += edits[i].weight;
	for (uint64_t n = 1 + chance_below(c, 2); n; n--) {
		unsigned at = (unsigned)chance_below(c, total), i = 0;

		while (at >= edits[i].weight)
			at -= edits[i++].weight;
		if (im->n)
			edits[i].run(im, c, story);
	}
}
