/*
 * Parsing of the command line.
 *
 * Invariants:
 * 1. Every option that is accepted stands in options_table; -h prints the table.
 * 2. An option that is not understood, and a value that is not wholly understood, is refused.
 * 3. If an option is given twice, the last one counts.
 */
#include "front/options.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "io/io.h"
#include "util/number.h"

enum option_type {
	OPT_FLAG,   /* bool: true */
	OPT_UNFLAG, /* bool: false, its default */
	OPT_NUMBER, /* int64_t within min and max */
	OPT_SIZE,   /* the same with a suffix K, M, G or T */
	OPT_OCTAL,  /* the same in octal */
	OPT_CHOICE, /* int64_t: position of the value in arg, "a|b|c" */
	OPT_STRING, /* char * */
	OPT_POOL,   /* int64_t as OPT_NUMBER; with a '/' or ':' in it pool_dirs */
	OPT_PASS,   /* handed to libfuse, which knows it and the kernel's flags */
	OPT_PASS_VALUE,
	OPT_IGNORE, /* said to mount(8) by fstab, or the default anyhow */
	OPT_IGNORE_PREFIX,
};

struct option_row {
	const char *name;
	char letter; /* of an OPT_FLAG: also -x; 0: none */
	enum option_type type;
	size_t field;
	int64_t min, max;
	const char *arg;
	const char *help; /* NULL: the generic mount options */
};

#define FIELD(f) offsetof(struct options, f)
#define SIZE_MAX_BYTES ((int64_t)1 << 50)
#define KIB ((int64_t)1 << 10)
#define MIB ((int64_t)1 << 20)

static const struct option_row options_table[] = {
	{ "help", 'h', OPT_FLAG, FIELD(help), 0, 0, NULL, "print this text" },
	{ "version", 'V', OPT_FLAG, FIELD(version), 0, 0, NULL, "print the version" },
	{ "foreground", 'f', OPT_FLAG, FIELD(foreground), 0, 0, NULL, "stay in the foreground, log to stderr" },
	{ "debug", 'd', OPT_FLAG, FIELD(debug), 0, 0, NULL, "log every request; implies -f" },
	{ "single", 's', OPT_FLAG, FIELD(single), 0, 0, NULL, "serve one request at a time" },
	{ "store", 0, OPT_STRING, FIELD(store), 0, 0, "DIR", "where the data is kept" },
	{ "backing", 0, OPT_CHOICE, FIELD(backing), 0, 0, "auto|buffered|direct", "I/O on the store (auto)" },
	{ "leases", 0, OPT_NUMBER, FIELD(leases), 1, 4096, "N", "aligned buffers for direct I/O (8)" },
	{ "lease_size", 0, OPT_SIZE, FIELD(lease_size), 4 * KIB, 64 * MIB, "SIZE", "moved through one of them at a time (1M)" },
	{ "lease_wait", 0, OPT_CHOICE, FIELD(lease_wait), 0, 0, "block|buffered", "when all are lent (block if direct is asked for)" },
	{ "pool", 0, OPT_POOL, FIELD(pool), 1, 256, "N|DIR:DIR...", "physical files of all buckets (CPUs); further disks" },
	{ "threads", 0, OPT_NUMBER, FIELD(threads), 1, 256, "N", "compression threads (CPUs)" },
	{ "commit", 0, OPT_NUMBER, FIELD(commit), 0, 86400, "SECONDS", "between commits; 0: on request (5)" },
	{ "layer", 0, OPT_SIZE, FIELD(layer), 64 * KIB, SIZE_MAX_BYTES, "SIZE", "seal the open layer at this size (1G)" },
	{ "keep", 0, OPT_NUMBER, FIELD(keep), 1, 1000000, "N", "commits whose state stays in snapshots/@N (1)" },
	{ "compact", 0, OPT_SIZE, FIELD(compact), 0, SIZE_MAX_BYTES, "SIZE", "copied by compaction in a second; 0: no bound (64M)" },
	{ "cache", 0, OPT_SIZE, FIELD(cache), MIB, SIZE_MAX_BYTES, "SIZE", "memory for decoded blocks (256M at most)" },
	{ "dirty", 0, OPT_SIZE, FIELD(dirty), MIB, SIZE_MAX_BYTES, "SIZE", "memory for blocks to be compressed (256M at most)" },
	{ "spill", 0, OPT_SIZE, FIELD(spill), 0, SIZE_MAX_BYTES, "SIZE", "memory for files of scratch/ (a 16th of all)" },
	{ "encrypt", 0, OPT_CHOICE, FIELD(encrypt), 0, 0, "no|ephemeral", "what scratch/ puts on the disk, by a key that is never stored (no)" },
	{ "scratch-only", 0, OPT_FLAG, FIELD(scratch_only), 0, 0, NULL, "no store: a mount that is all scratch; STORE has room for it" },
	{ "size", 0, OPT_SIZE, FIELD(size), MIB, SIZE_MAX_BYTES, "SIZE", "all files together may store this much (no bound)" },
	{ "ro", 0, OPT_FLAG, FIELD(ro), 0, 0, NULL, "follow what another daemon commits under layers/" },
	{ "writeback", 0, OPT_FLAG, FIELD(writeback), 0, 0, NULL, "let the kernel gather small writes (default)" },
	{ "nowriteback", 0, OPT_UNFLAG, FIELD(writeback), 0, 0, NULL, "each write(2) reaches the daemon before it returns" },
	{ "passthrough", 0, OPT_FLAG, FIELD(passthrough), 0, 0, NULL, "let the kernel work on the files of columns; instead of writeback" },
	{ "uid", 0, OPT_NUMBER, FIELD(uid), 0, UINT32_MAX - 1, "N", "show every file as owned by this user" },
	{ "gid", 0, OPT_NUMBER, FIELD(gid), 0, UINT32_MAX - 1, "N", "show every file as owned by this group" },
	{ "umask", 0, OPT_OCTAL, FIELD(umask), 0, 0777, "OCTAL", "permission bits that are never shown" },
	{ "allow_other", 0, OPT_FLAG, FIELD(allow_other), 0, 0, NULL, "let other users in (root: always)" },
	{ "allow_root", 0, OPT_FLAG, FIELD(allow_root), 0, 0, NULL, "let root in, and no other user" },
	{ "default_permissions", 0, OPT_FLAG, FIELD(default_permissions), 0, 0, NULL, "the kernel checks modes (always)" },
	{ "max_read", 0, OPT_NUMBER, FIELD(max_read), 4096, MIB, "BYTES", "largest read request of the kernel" },
	{ "readahead", 0, OPT_SIZE, FIELD(readahead), 0, 64 * MIB, "SIZE", "read by the kernel ahead of a reader; root (512K)" },
	{ "fsname", 0, OPT_STRING, FIELD(fsname), 0, 0, "NAME", "source shown by mount and df (the store)" },
	{ "subtype", 0, OPT_STRING, FIELD(subtype), 0, 0, "NAME", "type shown after \"fuse.\" (spillfs)" },

	{ .name = "rw", .type = OPT_UNFLAG, .field = FIELD(ro) },
	{ .name = "suid", .type = OPT_PASS },
	{ .name = "nosuid", .type = OPT_PASS },
	{ .name = "dev", .type = OPT_PASS },
	{ .name = "nodev", .type = OPT_PASS },
	{ .name = "exec", .type = OPT_PASS },
	{ .name = "noexec", .type = OPT_PASS },
	{ .name = "sync", .type = OPT_PASS },
	{ .name = "async", .type = OPT_PASS },
	{ .name = "dirsync", .type = OPT_PASS },
	{ .name = "noatime", .type = OPT_PASS },
	{ .name = "auto_unmount", .type = OPT_PASS },
	{ .name = "context", .type = OPT_PASS_VALUE, .arg = "CONTEXT" },
	{ .name = "fscontext", .type = OPT_PASS_VALUE, .arg = "CONTEXT" },
	{ .name = "defcontext", .type = OPT_PASS_VALUE, .arg = "CONTEXT" },
	{ .name = "rootcontext", .type = OPT_PASS_VALUE, .arg = "CONTEXT" },

	{ .name = "atime", .type = OPT_IGNORE },
	{ .name = "diratime", .type = OPT_IGNORE },
	{ .name = "nodiratime", .type = OPT_IGNORE },
	{ .name = "relatime", .type = OPT_IGNORE },
	{ .name = "norelatime", .type = OPT_IGNORE },
	{ .name = "strictatime", .type = OPT_IGNORE },
	{ .name = "nostrictatime", .type = OPT_IGNORE },
	{ .name = "lazytime", .type = OPT_IGNORE },
	{ .name = "nolazytime", .type = OPT_IGNORE },
	{ .name = "defaults", .type = OPT_IGNORE },
	{ .name = "auto", .type = OPT_IGNORE },
	{ .name = "noauto", .type = OPT_IGNORE },
	{ .name = "user", .type = OPT_IGNORE },
	{ .name = "nouser", .type = OPT_IGNORE },
	{ .name = "users", .type = OPT_IGNORE },
	{ .name = "owner", .type = OPT_IGNORE },
	{ .name = "group", .type = OPT_IGNORE },
	{ .name = "nofail", .type = OPT_IGNORE },
	{ .name = "_netdev", .type = OPT_IGNORE },
	{ .name = "comment=", .type = OPT_IGNORE_PREFIX },
	{ .name = "user=", .type = OPT_IGNORE_PREFIX },
	{ .name = "x-", .type = OPT_IGNORE_PREFIX },
	{ .name = "X-", .type = OPT_IGNORE_PREFIX },
};

#define OPTIONS_ROWS (sizeof(options_table) / sizeof(options_table[0]))

struct parser {
	struct options *o;
	char *why;
	size_t why_len;
	bool given[OPTIONS_ROWS];
};

#define refuse(p, ...) (snprintf((p)->why, (p)->why_len, __VA_ARGS__), -EINVAL)

static const struct option_row *find_name(const char *text, size_t len)
{
	for (size_t i = 0; i < OPTIONS_ROWS; i++) {
		const struct option_row *row = &options_table[i];

		if (row->type == OPT_IGNORE_PREFIX ? !strncmp(text, row->name, strlen(row->name))
						   : strlen(row->name) == len && !strncmp(text, row->name, len))
			return row;
	}
	return NULL;
}

static const struct option_row *find_letter(char letter)
{
	for (size_t i = 0; i < OPTIONS_ROWS; i++)
		if (options_table[i].letter == letter)
			return &options_table[i];
	return NULL;
}

static int parse_number(const char *text, int base, int64_t *out)
{
	char *end;
	long long n;

	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	errno = 0;
	n = strtoll(text, &end, base);
	if (errno)
		return -ERANGE;
	if (*end)
		return -EINVAL;
	*out = n;
	return 0;
}

static int parse_size(const char *text, int64_t *out)
{
	uint64_t n;
	int err = number_size(text, &n);

	if (!err)
		*out = (int64_t)n;
	return err;
}

static int parse_choice(const char *text, const char *choices, int64_t *out)
{
	size_t len = strlen(text);

	for (int64_t i = 0;; i++) {
		size_t n = strcspn(choices, "|");

		if (n == len && !strncmp(choices, text, n)) {
			*out = i;
			return 0;
		}
		if (!choices[n])
			return -EINVAL;
		choices += n + 1;
	}
}

static void format_size(char *to, size_t len, int64_t bytes)
{
	static const char *const units[] = { "", "K", "M", "G", "T" };
	size_t u = 0;

	for (; u < 4 && bytes && bytes % 1024 == 0; u++)
		bytes /= 1024;
	snprintf(to, len, "%lld%s", (long long)bytes, units[u]);
}

static int set_number(struct parser *p, const struct option_row *row, const char *value, int64_t *field)
{
	char low[32], high[32];
	int64_t n;
	int err = row->type == OPT_SIZE ? parse_size(value, &n) : parse_number(value, row->type == OPT_OCTAL ? 8 : 10, &n);

	if (err == 0 && n >= row->min && n <= row->max) {
		*field = n;
		return 0;
	}
	if (row->type == OPT_OCTAL)
		return refuse(p, "option %s: bad value '%s' (octal, 0 to %llo)", row->name, value,
			      (unsigned long long)row->max);
	if (row->type == OPT_POOL)
		return refuse(p, "option pool: bad value '%s' (%lld to %lld, or directories: /DIR:/DIR, ./DIR)", value, (long long)row->min,
			      (long long)row->max);
	if (row->type == OPT_SIZE) {
		format_size(low, sizeof(low), row->min);
		format_size(high, sizeof(high), row->max);
		return refuse(p, "option %s: bad value '%s' (%s to %s)", row->name, value, low, high);
	}
	return refuse(p, "option %s: bad value '%s' (%lld to %lld)", row->name, value, (long long)row->min,
		      (long long)row->max);
}

static int set_string(struct parser *p, const struct option_row *row, const char *value, char **field)
{
	char *copy;

	if (!*value)
		return refuse(p, "option %s: bad value '' (empty)", row->name);
	copy = strdup(value);
	if (!copy)
		return refuse(p, "out of memory");
	free(*field);
	*field = copy;
	return 0;
}

static int add_passed(struct parser *p, const char *text)
{
	struct options *o = p->o;

	if (o->npassed == OPTIONS_PASSED_MAX)
		return refuse(p, "too many mount options");
	o->passed[o->npassed] = strdup(text);
	if (!o->passed[o->npassed])
		return refuse(p, "out of memory");
	o->npassed++;
	return 0;
}

/* text is the option as written, "name" or "name=value"; value points behind the '=' or is NULL. */
static int set_option(struct parser *p, const struct option_row *row, const char *text, const char *value)
{
	void *field = (char *)p->o + row->field;
	bool takes_value = row->type != OPT_FLAG && row->type != OPT_UNFLAG && row->type != OPT_PASS && row->type != OPT_IGNORE;

	p->given[row - options_table] = true;
	if (row->type == OPT_IGNORE_PREFIX)
		return 0;
	if (takes_value && !value)
		return refuse(p, "option %s needs a value: %s=%s", row->name, row->name, row->arg);
	if (!takes_value && value)
		return refuse(p, "option %s takes no value, but was given '%s'", row->name, value);
	switch (row->type) {
	case OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case OPT_UNFLAG:
		*(bool *)field = false;
		return 0;
	case OPT_NUMBER:
	case OPT_SIZE:
	case OPT_OCTAL:
		return set_number(p, row, value, field);
	case OPT_CHOICE:
		if (parse_choice(value, row->arg, field) < 0)
			return refuse(p, "option %s: bad value '%s' (%s)", row->name, value, row->arg);
		return 0;
	case OPT_STRING:
		return set_string(p, row, value, field);
	case OPT_POOL:
		return strpbrk(value, "/:") ? set_string(p, row, value, &p->o->pool_dirs) : set_number(p, row, value, field);
	case OPT_PASS:
	case OPT_PASS_VALUE:
		return add_passed(p, text);
	default:
		return 0;
	}
}

static int parse_option(struct parser *p, const char *text, const char *dashes)
{
	size_t len = strcspn(text, "=");
	const struct option_row *row = find_name(text, len);

	if (!row)
		return refuse(p, "unknown option '%s%.*s' (spillfs -h lists them)", dashes, (int)len, text);
	return set_option(p, row, text, text[len] ? text + len + 1 : NULL);
}

/* A list for -o. As in libfuse a backslash takes the next character as it is. */
static int parse_list(struct parser *p, const char *list)
{
	char *one = malloc(strlen(list) + 1);
	int err = 0;

	if (!one)
		return refuse(p, "out of memory");
	while (err == 0 && *list) {
		size_t n = 0;

		for (; *list && *list != ','; list++) {
			if (list[0] == '\\' && list[1])
				list++;
			one[n++] = *list;
		}
		one[n] = '\0';
		if (*list)
			list++;
		if (n)
			err = parse_option(p, one, "");
	}
	free(one);
	return err;
}

/* "-fs", "-o list", "-olist"; *i moves on when the next argument is taken. */
static int parse_letters(struct parser *p, int argc, char **argv, int *i)
{
	for (const char *c = argv[*i] + 1; *c; c++) {
		const struct option_row *row;

		if (*c == 'o') {
			if (c[1])
				return parse_list(p, c + 1);
			if (*i + 1 >= argc)
				return refuse(p, "option -o needs a list of options");
			return parse_list(p, argv[++*i]);
		}
		row = find_letter(*c);
		if (!row)
			return refuse(p, "unknown option '-%c' (spillfs -h lists them)", *c);
		*(bool *)((char *)p->o + row->field) = true;
	}
	return 0;
}

static int parse_words(struct parser *p, int argc, char **argv, const char *words[3], int *nwords_out)
{
	bool only_words = false;
	int nwords = 0, err = 0;

	for (int i = 1; i < argc && err == 0; i++) {
		const char *a = argv[i];

		if (!only_words && !strcmp(a, "--"))
			only_words = true;
		else if (!only_words && a[0] == '-' && a[1] == '-')
			err = parse_option(p, a + 2, "--");
		else if (!only_words && a[0] == '-' && a[1])
			err = parse_letters(p, argc, argv, &i);
		else if (nwords == 2)
			err = refuse(p, "too many arguments: '%s' (spillfs [options] [STORE] MOUNTPOINT)", a);
		else
			words[nwords++] = a;
	}
	*nwords_out = nwords;
	return err;
}

static int take_words(struct parser *p, const char *words[3], int nwords)
{
	struct options *o = p->o;
	const char *source = nwords == 2 ? words[0] : "";

	if (o->help || o->version)
		return 0;
	if (nwords == 0)
		return refuse(p, "no mountpoint given (spillfs [options] [STORE] MOUNTPOINT)");
	if (!*words[nwords - 1])
		return refuse(p, "the mountpoint is empty");
	/* fstab must name a source: "none" means that there is none. */
	if (*source && strcmp(source, "none")) {
		if (o->store)
			return refuse(p, "the store is given twice: '%s' and store=%s", source, o->store);
		o->store = strdup(source);
		if (!o->store)
			return refuse(p, "out of memory");
	}
	o->mountpoint = strdup(words[nwords - 1]);
	return o->mountpoint ? 0 : refuse(p, "out of memory");
}

/* An argument that it quotes may hold anything: it stays one line, which drives no terminal. */
static void make_line(char *why)
{
	for (; *why; why++)
		if (iscntrl((unsigned char)*why))
			*why = '?';
}

int options_parse(int argc, char **argv, struct options *out, char *why, size_t why_len)
{
	struct options o = {
		.backing = IO_BACKING_AUTO, .commit = 5, .keep = 1, .compact = 64 * MIB,
		.layer = 1024 * MIB, .cache = -1, .dirty = -1, .spill = -1,
		.lease_wait = -1, .readahead = -1, .uid = -1, .gid = -1, .umask = -1, .writeback = true,
	};
	struct parser p = { .o = &o, .why = why, .why_len = why_len };
	const char *words[3];
	int nwords, err;

	err = parse_words(&p, argc, argv, words, &nwords);
	if (err == 0)
		err = take_words(&p, words, nwords);
	if (err == 0 && o.allow_other && o.allow_root)
		err = refuse(&p, "options allow_other and allow_root exclude each other");
	if (err == 0 && o.passthrough && p.given[find_name("writeback", strlen("writeback")) - options_table])
		err = refuse(&p, "options passthrough and writeback exclude each other: the kernel has one of them for a mount");
	if (err == 0 && o.scratch_only && o.ro)
		err = refuse(&p, "options scratch-only and ro exclude each other: nothing is there to be read");
	if (err == 0 && o.scratch_only && o.passthrough)
		err = refuse(&p, "options scratch-only and passthrough exclude each other: the kernel cannot work on files of scratch");
	if (err == 0 && o.pool_dirs && (o.scratch_only || o.ro))
		err = refuse(&p, "pool=%s is for the mount that writes a store: %s", o.pool_dirs, o.ro ? "with ro its directories are known" :
			     "scratch-only has none");
#ifndef HAVE_LIBCRYPTO
	if (err == 0 && o.encrypt)
		err = refuse(&p, "encrypt=ephemeral: this spillfs was built without libcrypto (Debian: libssl-dev)");
#endif
	if (err < 0) {
		make_line(why);
		options_fini(&o);
		return err;
	}
	o.foreground |= o.debug;
	*out = o;
	return 0;
}

void options_fini(struct options *o)
{
	free(o->store);
	free(o->mountpoint);
	free(o->pool_dirs);
	free(o->fsname);
	free(o->subtype);
	for (size_t i = 0; i < o->npassed; i++)
		free(o->passed[i]);
}

/* The names of one class, wrapped. */
static void print_names(FILE *to, enum option_type first, enum option_type second)
{
	size_t column = 0;

	for (size_t i = 0; i < OPTIONS_ROWS; i++) {
		const struct option_row *row = &options_table[i];
		char text[64];
		size_t len;

		if (row->type != first && row->type != second)
			continue;
		snprintf(text, sizeof(text), "%s%s%s%s", row->name, row->arg ? "=" : "", row->arg ? row->arg : "",
			 row->type == OPT_IGNORE_PREFIX ? "*" : "");
		len = strlen(text);
		if (column && column + len > 76) {
			fputc('\n', to);
			column = 0;
		}
		fprintf(to, "%s%s", column ? " " : "  ", text);
		column += len + (column ? 1 : 2);
	}
	fputc('\n', to);
}

void options_print_help(FILE *to)
{
	fputs("usage: spillfs [options] [STORE] MOUNTPOINT\n\n"
	      "Mounts the store kept in the directory STORE. Without STORE, the directory MOUNTPOINT is the\n"
	      "store itself and is mounted over. An empty directory becomes a new store.\n\n"
	      "Options, each as --name[=value] or in a list: -o name[=value],... (defaults in parentheses):\n",
	      to);
	for (size_t i = 0; i < OPTIONS_ROWS; i++) {
		const struct option_row *row = &options_table[i];
		char left[64], letter[8] = "    ";

		if (!row->help)
			continue;
		if (row->letter)
			snprintf(letter, sizeof(letter), "-%c, ", row->letter);
		snprintf(left, sizeof(left), "%s%s%s%s", letter, row->name, row->arg ? "=" : "",
			 row->arg ? row->arg : "");
		fprintf(to, "  %-33s %s\n", left, row->help);
	}
	fputs("\nMount options handed to the kernel:\n", to);
	print_names(to, OPT_PASS, OPT_PASS_VALUE);
	fputs("\nAccepted, for fstab, without an effect of their own:\n", to);
	print_names(to, OPT_IGNORE, OPT_IGNORE_PREFIX);
	print_names(to, OPT_UNFLAG, OPT_UNFLAG);
	fputs("\nspillctl(1) unmounts, commits and shows statistics. See spillfs(1) for the exit codes.\n", to);
}
