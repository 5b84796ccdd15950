/*
 * try: what each codec and filter would make of a file, before one is chosen.
 *
 * The file may lie anywhere. It is read, and encoded and decoded in this process; nothing is asked of a daemon and nothing is changed.
 *
 * Invariants: (1) each row is tried with just the texts that the two attributes take; (2) the blocks are those that the file would have in
 * layers/, or some of them, spread evenly; those of zeros are left out, since they take nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "array/setting.h"
#include "tool/text.h"
#include "tool/tool.h"
#include "tool/trial.h"
#include "util/buf.h"

/* More than that of a file is not read. */
#define SAMPLE_BYTES (4u << 20)
#define NCOLUMNS 6

struct subject {
	const char *path;
	int fd;
	uint64_t size_bytes;
	char dtype[DTYPE_TEXT_MAX + 1]; /* "": none */
	struct array_params params;
	uint64_t nblocks; /* of the file */
	size_t nzero, n;  /* of those that were read */
	struct trial_block *blocks;
};

/* Values of the two attributes. */
static const struct {
	const char *codec, *filter;
} rows[] = {
	{ "auto", "auto" },
	{ "auto", "none" },
	{ "auto", "shuffle" },
	{ "auto", "delta" },
	{ "auto", "delta+shuffle" },
	{ "auto", "delta+zigzag+shuffle" },
	{ "auto", "scale" },
	{ "auto", "scale+shuffle" },
	{ "auto", "scale+delta+shuffle" },
	{ "auto", "scale+delta+zigzag+shuffle" },
	{ "auto", "pack" },
	{ "auto", "delta+pack" },
	{ "auto", "scale+pack" },
	{ "auto", "scale+delta+pack" },
	{ "auto", "record" },
	{ "none", "none" },
	{ "pack", "auto" },
	{ "zstd:-7", "auto" },
	{ "zstd:-1", "auto" },
	{ "zstd:1", "auto" },
	{ "zstd:9", "auto" },
	{ "zstd:19", "auto" },
};
#define NROWS (sizeof(rows) / sizeof(*rows))

/* ---- the file ---- */

/* The type that was asked for, or that the file has, or that its name gives. False: there is no such type. */
static bool find_dtype(struct subject *s, const char *asked)
{
	uint32_t bytes;
	ssize_t n;

	if (asked) {
		if (dtype_size(asked, &bytes))
			return false;
		strcpy(s->dtype, asked);
		return true;
	}
	n = fgetxattr(s->fd, SPILLFS_XATTR_DTYPE, s->dtype, DTYPE_TEXT_MAX);
	s->dtype[n > 0 ? n : 0] = '\0';
	if (!*s->dtype || dtype_size(s->dtype, &bytes))
		strcpy(s->dtype, dtype_of_name(s->path) ? dtype_of_name(s->path) : "");
	return true;
}

/* As the file's shape and block size say, also those that it has from its directory. */
static void find_params(struct subject *s)
{
	struct settings settings = SETTINGS_DEFAULT;
	const char *name;
	char value[SHAPE_TEXT_MAX + 1];

	for (unsigned k = 1; (name = setting_name(k)); k++) {
		ssize_t n = fgetxattr(s->fd, name, value, sizeof(value) - 1);

		if (n < 0)
			continue;
		value[n] = '\0';
		setting_parse(name, value, &settings);
	}
	settings_params(&settings, s->dtype, &s->params);
	s->nblocks = s->size_bytes / s->params.block_bytes + (s->size_bytes % s->params.block_bytes != 0);
}

/* Block k of the file. -ENODATA: the file has become shorter. */
static int read_block(struct subject *s, uint64_t k, void *data, size_t len)
{
	uint64_t off = k * s->params.block_bytes;

	for (size_t done = 0; done < len;) {
		ssize_t n = pread(s->fd, (char *)data + done, len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENODATA;
		done += (size_t)n;
	}
	return 0;
}

/* Takes the block into the list, unless it is zeros. */
static int take_block(struct subject *s, uint64_t k)
{
	size_t len = s->params.block_bytes;
	void *data;
	int err;

	if (k == s->nblocks - 1)
		len = (size_t)(s->size_bytes - k * s->params.block_bytes);
	data = malloc(len);
	if (!data)
		return -ENOMEM;
	err = read_block(s, k, data, len);
	if (err || buf_is_zero(data, len)) {
		free(data);
		s->nzero += !err;
		return err;
	}
	s->blocks[s->n++] = (struct trial_block){ data, len, settings_lead(&s->params, k) };
	return 0;
}

static int take_blocks(struct subject *s)
{
	uint64_t most = SAMPLE_BYTES / s->params.block_bytes, n;
	int err = 0;

	most = most ? most : 1;
	n = s->nblocks < most ? s->nblocks : most;
	s->blocks = calloc(n ? n : 1, sizeof(*s->blocks));
	if (!s->blocks)
		return -ENOMEM;
	for (uint64_t i = 0; i < n && !err; i++)
		err = take_block(s, n > 1 ? i * (s->nblocks - 1) / (n - 1) : 0);
	return err;
}

/* ---- the table ---- */

static bool params_of_row(const struct subject *s, size_t row, struct codec_params *out)
{
	struct settings settings = SETTINGS_DEFAULT;
	struct array_params p;

	setting_parse_codec(rows[row].codec, rows[row].filter, &settings);
	settings_params(&settings, s->dtype, &p);
	*out = p.codec;
	return p.codec.policy == CODEC_POLICY_AUTO || codec_suits(&p.codec);
}

/* With a filter that was asked for, where it was not taken; else those that were chosen. */
static void note_of(const struct codec_params *p, const struct trial *t, size_t n, char *out, size_t cap)
{
	size_t len = 0, fits = 0;

	*out = '\0';
	if (p->policy != CODEC_POLICY_AUTO) {
		for (size_t k = 0; k < t->nuses; k++)
			fits += t->uses[k].steps == (uint8_t)p->policy ? t->uses[k].nblocks : 0;
		if (fits < n)
			snprintf(out, cap, "fits %zu of %zu blocks", fits, n);
		return;
	}
	for (size_t k = 0; k < t->nuses && len < cap; k++) {
		len += (size_t)snprintf(out + len, cap - len, "%s%s", k ? ", " : "takes ", t->uses[k].filter);
		if (t->nuses > 1 && len < cap)
			len += (size_t)snprintf(out + len, cap - len, " (%zu)", t->uses[k].nblocks);
	}
}

static int print_trial(const struct subject *s, const struct text_column *columns, size_t row)
{
	char stored[24], encode[24], decode[24], note[TRIAL_USES_MAX * (CODEC_DESCRIPTION_MAX + 16)];
	struct codec_params p;
	struct trial t;
	int err;

	if (!params_of_row(s, row, &p))
		return 0;
	err = trial_run(&p, s->blocks, s->n, &t);
	if (err)
		return err;
	note_of(&p, &t, s->n, note, sizeof(note));
	snprintf(stored, sizeof(stored), "%.4f", (double)t.stored_bytes / (double)t.raw_bytes);
	snprintf(encode, sizeof(encode), t.encode_gbs < 0.1 ? "%.3f" : "%.2f", t.encode_gbs);
	snprintf(decode, sizeof(decode), t.decode_gbs < 0.1 ? "%.3f" : "%.2f", t.decode_gbs);
	text_row(stdout, columns, NCOLUMNS, (const char *[]){ rows[row].codec, rows[row].filter, stored, encode, decode, note });
	fflush(stdout);
	return 0;
}

static void print_subject(const struct subject *s)
{
	printf("%s: %s, %s in %" PRIu64 " blocks of %s\n", s->path, *s->dtype ? s->dtype : "no element type (option -t gives one)",
	       text_size(s->size_bytes).s, s->nblocks, text_size(s->params.block_bytes).s);
	if (s->n + s->nzero < s->nblocks)
		printf("tried with %zu of the blocks, spread evenly\n", s->n + s->nzero);
	if (s->nzero)
		printf("%zu blocks are zeros: they take nothing, and are left out below\n", s->nzero);
}

/* Rows appear one by one, since high levels take their time. */
static int print_table(const struct subject *s)
{
	static const char *const titles[NCOLUMNS] = { "codec", "filter", "stored", "encode", "decode", "" };
	static const char *const widest[NCOLUMNS] = { "", "", "0.0000", "00.00", "00.00", " " };
	struct text_column columns[NCOLUMNS];
	int err = 0;

	for (size_t k = 0; k < NCOLUMNS; k++)
		columns[k] = (struct text_column){ .before = "  ", .right = k >= 2 && k <= 4 };
	text_fit(columns, NCOLUMNS, titles);
	text_fit(columns, NCOLUMNS, widest);
	for (size_t row = 0; row < NROWS; row++)
		text_fit(columns, NCOLUMNS, (const char *[]){ rows[row].codec, rows[row].filter, "", "", "", "" });
	fputs("stored: part of the bytes; encode, decode: GB/s of one core\n\n", stdout);
	text_row(stdout, columns, NCOLUMNS, titles);
	for (size_t row = 0; row < NROWS && !err; row++)
		err = print_trial(s, columns, row);
	return err;
}

static enum tool_exit run_subject(struct subject *s)
{
	int err = take_blocks(s);

	if (err == -ENODATA)
		return tool_fail(TOOL_FAILED, "%s became shorter while it was read", s->path);
	if (!err) {
		print_subject(s);
		if (s->n)
			err = print_table(s);
	}
	if (err == -EUCLEAN)
		return tool_fail(TOOL_FAILED, "%s: a block did not come back as it was; please report this", s->path);
	return err ? tool_fail(TOOL_FAILED, "%s: %s", s->path, strerror(-err)) : TOOL_OK;
}

static enum tool_exit try_file(struct subject *s, const char *type)
{
	enum tool_exit code;
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return tool_fail(TOOL_FAILED, "%s: %s", s->path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return tool_fail(TOOL_FAILED, "%s is %s, not a file", s->path, S_ISDIR(st.st_mode) ? "a directory" : "something else");
	if (!st.st_size)
		return tool_fail(TOOL_FAILED, "%s is empty: there is nothing to try", s->path);
	s->size_bytes = (uint64_t)st.st_size;
	if (!find_dtype(s, type))
		return tool_fail(TOOL_USAGE, "'%s' is no element type: it is one of i8 to i64, u8 to u64, f16 to f64, c64, c128, bool, "
				 "or a record as pos:u32,lcp:u32", type);
	find_params(s);
	code = run_subject(s);
	for (size_t i = 0; i < s->n; i++)
		free((void *)s->blocks[i].data);
	free(s->blocks);
	return code;
}

enum tool_exit cmd_try(const struct tool_call *call)
{
	/* A FIFO would wait for a writer. */
	struct subject s = { .path = call->args[0], .fd = open(call->args[0], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY) };
	enum tool_exit code;

	if (s.fd < 0)
		return tool_fail(TOOL_FAILED, "%s: %s", s.path, strerror(errno));
	code = try_file(&s, tool_value(call, 't'));
	close(s.fd);
	return code;
}
