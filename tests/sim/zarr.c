/*
 * See zarr.h. Of the metadata, which are one line without spaces, every key is searched for that a reader needs; a codec that is none of
 * the four below is a failure. Sources: the specifications of Zarr 2 and 3, and numcodecs for the differences and the shuffle.
 */
#include "zarr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "client.h"
#include "sim.h"
#include "types.h"

/* As version 3 orders them: of elements, elements to bytes, and of bytes. */
enum step { STEP_DELTA, STEP_BYTES, STEP_SHUFFLE, STEP_ZSTD, STEPS };

struct zarr {
	unsigned version;
	char path[PATH_BYTES]; /* of the directory */
	const char *meta, *type, *delta_type;
	size_t element_bytes, chunk_bytes, shuffle_bytes;
	bool has[STEPS];
};

static const struct {
	const char *dtype, *v2, *v3;
} types[] = {
	{ "u8", "\"|u1\"", "\"uint8\"" },
	{ "u16", "\"<u2\"", "\"uint16\"" },
	{ "i32", "\"<i4\"", "\"int32\"" },
	{ "i64", "\"<i8\"", "\"int64\"" },
	{ "f64", "\"<f8\"", "\"float64\"" },
	{ "pos:u32,lcp:u32", "[[\"pos\",\"<u4\"],[\"lcp\",\"<u4\"]]", NULL },
	{ "t:i64,p:f64,q:u32", "[[\"t\",\"<i8\"],[\"p\",\"<f8\"],[\"q\",\"<u4\"]]", NULL },
};

static const char *type_name(unsigned version, const struct content *want)
{
	const char *text = types_text(SETTING_DTYPE, want->setting[SETTING_DTYPE]);

	for (size_t k = 0; k < sizeof(types) / sizeof(*types); k++) {
		if (!strcmp(types[k].dtype, text))
			return version == 2 ? types[k].v2 : types[k].v3;
	}
	sim_fail("this reader of Zarr has no type %s", text);
}

bool zarr_shows(unsigned version, const struct content *want)
{
	return type_name(version, want);
}

/* ---- metadata ---- */

/* What follows the key, from `p` on. */
static const char *value_of(const struct zarr *z, const char *p, const char *key)
{
	char quoted[40];
	const char *at;

	snprintf(quoted, sizeof(quoted), "\"%s\":", key);
	at = strstr(p, quoted);
	if (!at)
		sim_fail("%s: no %s: %s", z->path, key, z->meta);
	return at + strlen(quoted);
}

static bool begins(const char *p, const char *with)
{
	return !strncmp(p, with, strlen(with));
}

static void expect(const struct zarr *z, const char *key, const char *value)
{
	if (!begins(value_of(z, z->meta, key), value))
		sim_fail("%s: %s is not %s: %s", z->path, key, value, z->meta);
}

static size_t number(const struct zarr *z, const char *p, const char *key)
{
	p = value_of(z, p, key);
	return strtoul(*p == '[' ? p + 1 : p, NULL, 10);
}

static enum step step_of(const struct zarr *z, const char *name)
{
	static const char *const names[2][STEPS] = {
		{ "\"delta\"", "", "\"shuffle\"", "\"zstd\"" },
		{ "\"numcodecs.delta\"", "\"bytes\"", "\"numcodecs.shuffle\"", "\"zstd\"" },
	};

	for (unsigned k = 0; k < STEPS; k++) {
		const char *known = names[z->version - 2][k];

		if (*known && begins(name, known))
			return k;
	}
	sim_fail("%s: codec %.30s is not known: %s", z->path, name, z->meta);
}

/* Takes the codecs that stand in [p, end), behind those that were taken before. */
static void take_codecs(struct zarr *z, const char *p, const char *end)
{
	const char *key = z->version == 2 ? "\"id\":" : "\"name\":";

	while ((p = strstr(p, key)) && p < end) {
		enum step s = step_of(z, p += strlen(key));

		for (unsigned later = s; later < STEPS; later++) {
			if (z->has[later])
				sim_fail("%s: codecs out of order: %s", z->path, z->meta);
		}
		z->has[s] = true;
		if (s == STEP_DELTA && !begins(value_of(z, p, "dtype"), z->delta_type))
			sim_fail("%s: differences of another type than %s: %s", z->path, z->delta_type, z->meta);
		if (s == STEP_BYTES && z->element_bytes > 1 && !begins(value_of(z, p, "endian"), "\"little\""))
			sim_fail("%s: not little-endian: %s", z->path, z->meta);
		if (s == STEP_SHUFFLE)
			z->shuffle_bytes = number(z, p, "elementsize");
	}
}

/* Behind the bracket that closes what opens at p; p itself, if nothing does (null). */
static const char *end_of(const char *p)
{
	unsigned depth = 0;

	do {
		depth += *p == '[' || *p == '{';
		depth -= depth && (*p == ']' || *p == '}');
	} while (depth && *++p);
	return p;
}

static void take_meta(struct zarr *z, size_t count)
{
	static const char *const lists[2][2] = { { "filters", "compressor" }, { "codecs", NULL } };
	bool old = z->version == 2;
	char shape[32];

	snprintf(shape, sizeof(shape), "[%zu]", count);
	expect(z, "zarr_format", old ? "2" : "3");
	expect(z, "shape", shape);
	expect(z, old ? "dtype" : "data_type", z->type);
	for (unsigned k = 0; k < 2 && lists[z->version - 2][k]; k++) {
		const char *p = value_of(z, z->meta, lists[z->version - 2][k]);

		take_codecs(z, p, end_of(p));
	}
	if (!old && !z->has[STEP_BYTES])
		sim_fail("%s: no codec makes bytes: %s", z->path, z->meta);
	z->chunk_bytes = number(z, z->meta, old ? "chunks" : "chunk_shape") * z->element_bytes;
	if (!z->chunk_bytes)
		sim_fail("%s: chunks of no length: %s", z->path, z->meta);
}

/* ---- chunks ---- */

/* Byte k of element i stands in plane k. */
static void unshuffle(const struct zarr *z, unsigned char *p, unsigned char *spare)
{
	size_t w = z->shuffle_bytes, n = w ? z->chunk_bytes / w : 0;

	if (!n || z->chunk_bytes % w)
		sim_fail("%s: no shuffle of %zu bytes by %zu", z->path, z->chunk_bytes, w);
	memcpy(spare, p, z->chunk_bytes);
	for (size_t k = 0; k < w; k++) {
		for (size_t i = 0; i < n; i++)
			p[i * w + k] = spare[k * n + i];
	}
}

/* Each element but the first is less the one before, modulo its width: little-endian numbers, added with carries. */
static void sum_up(const struct zarr *z, unsigned char *p)
{
	size_t w = z->element_bytes;

	for (size_t at = w; at < z->chunk_bytes; at += w) {
		unsigned carry = 0;

		for (size_t k = 0; k < w; k++) {
			carry += p[at + k] + p[at + k - w];
			p[at + k] = (unsigned char)carry;
			carry >>= 8;
		}
	}
}

/* One chunk is whole, but the last, which has zeros behind its end. */
static void check_chunk(const struct zarr *z, unsigned k, const unsigned char *p, size_t n, const unsigned char *want, size_t len)
{
	unsigned char *bytes = malloc(z->chunk_bytes), *spare = malloc(z->chunk_bytes);

	if (z->has[STEP_ZSTD] && ZSTD_getFrameContentSize(p, n) != z->chunk_bytes)
		sim_fail("%s: chunk %u is no frame of %zu bytes", z->path, k, z->chunk_bytes);
	if (z->has[STEP_ZSTD] ? ZSTD_decompress(bytes, z->chunk_bytes, p, n) != z->chunk_bytes : n != z->chunk_bytes)
		sim_fail("%s: chunk %u has not %zu bytes", z->path, k, z->chunk_bytes);
	if (!z->has[STEP_ZSTD])
		memcpy(bytes, p, n);
	if (z->has[STEP_SHUFFLE])
		unshuffle(z, bytes, spare);
	if (z->has[STEP_DELTA])
		sum_up(z, bytes);
	if (memcmp(bytes, want, len))
		sim_fail("%s: chunk %u is not what was written", z->path, k);
	for (size_t i = len; i < z->chunk_bytes; i++) {
		if (bytes[i])
			sim_fail("%s: chunk %u: behind the end are no zeros", z->path, k);
	}
	free(bytes);
	free(spare);
}

static int compare_chunks(struct tree *t, const struct zarr *z, const struct content *want, size_t whole)
{
	for (size_t at = 0, len; at < whole; at += len) {
		unsigned k = (unsigned)(at / z->chunk_bytes);
		char chunk[PATH_BYTES + 16];
		unsigned char *p;
		size_t n;
		int err;

		snprintf(chunk, sizeof(chunk), "%s/%s%u", z->path, z->version == 2 ? "" : "c/", k);
		err = client_read(t, chunk, &p, &n);
		if (err)
			return err;
		len = whole - at < z->chunk_bytes ? whole - at : z->chunk_bytes;
		check_chunk(z, k, p, n, want->bytes + at, len);
		free(p);
	}
	return 0;
}

int zarr_compare(struct tree *t, unsigned version, const char *path, const struct content *want)
{
	struct zarr z = { .version = version, .type = type_name(version, want), .delta_type = type_name(2, want), .element_bytes = types_bytes(want) };
	size_t count = want->size_bytes / z.element_bytes, n;
	char meta[PATH_BYTES + 16];
	unsigned char *p;
	int err;

	snprintf(z.path, sizeof(z.path), "views/%s/%.60s.zarr", version == 2 ? "zarr2" : "zarr", path);
	snprintf(meta, sizeof(meta), "%s/%s", z.path, version == 2 ? ".zarray" : "zarr.json");
	err = client_read(t, meta, &p, &n);
	if (err)
		return err;
	if (!n || p[n - 1] != '\n')
		sim_fail("%s: no line", meta);
	p[n - 1] = '\0';
	z.meta = (char *)p;
	take_meta(&z, count);
	err = compare_chunks(t, &z, want, count * z.element_bytes);
	free(p);
	return err;
}
