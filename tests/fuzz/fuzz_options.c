/*
 * Fuzz target: the command line of spillfs, a line for each argument. What is refused has one line that says why. What is accepted is within its bounds,
 * and is the same when each option is given twice.
 */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>

#include "front/options.h"
#include "fuzz.h"

#define ARGS_MAX 40

struct line {
	int argc;
	char *argv[2 * ARGS_MAX + 2];
};

static int parse(struct line *l, struct options *out)
{
	char *why = malloc(200);
	int err;

	CHECK(why);
	memset(why, 'x', 200);
	*why = '\0';
	err = options_parse(l->argc, l->argv, out, why, 200);
	CHECK(!err || err == -EINVAL);
	CHECK(memchr(why, '\0', 200) && !err == !*why);
	for (const char *c = why; *c; c++)
		CHECK(!iscntrl((unsigned char)*c));
	free(why);
	return err;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void check_same(const struct options *a, const struct options *b)
{
	CHECK(same_text(a->store, b->store) && same_text(a->mountpoint, b->mountpoint) && same_text(a->fsname, b->fsname) &&
	      same_text(a->subtype, b->subtype));
	CHECK(!memcmp(&a->help, &b->help, offsetof(struct options, backing) - offsetof(struct options, help)));
	CHECK(a->backing == b->backing && a->leases == b->leases && a->lease_size == b->lease_size && a->lease_wait == b->lease_wait &&
	      a->pool == b->pool && a->threads == b->threads && a->commit == b->commit && a->layer == b->layer && a->cache == b->cache &&
	      a->dirty == b->dirty && a->keep == b->keep && a->compact == b->compact);
	CHECK(a->ro == b->ro && a->writeback == b->writeback && a->passthrough == b->passthrough && a->max_read == b->max_read &&
	      a->readahead == b->readahead && a->uid == b->uid && a->gid == b->gid && a->umask == b->umask);
	CHECK(a->allow_other == b->allow_other && a->allow_root == b->allow_root && b->npassed == 2 * a->npassed);
}

static void check_bounds(const struct options *o)
{
	CHECK(o->help || o->version || (o->mountpoint && *o->mountpoint));
	CHECK(!o->fsname || *o->fsname);
	CHECK(o->backing >= 0 && o->backing <= 2 && o->lease_wait >= -1 && o->lease_wait <= 1);
	CHECK(o->leases >= 0 && o->leases <= 4096 && o->pool >= 0 && o->pool <= 256 && o->threads >= 0 && o->threads <= 256);
	CHECK(o->commit >= 0 && o->layer > 0 && o->keep > 0 && o->compact >= 0);
	CHECK(o->cache && o->cache >= -1 && o->dirty && o->dirty >= -1 && o->spill >= -1);
	CHECK(o->uid >= -1 && o->uid < UINT32_MAX && o->gid >= -1 && o->gid < UINT32_MAX && o->umask >= -1 && o->umask <= 0777);
	CHECK(o->npassed <= OPTIONS_PASSED_MAX && !(o->allow_other && o->allow_root));
	for (size_t i = 0; i < o->npassed; i++)
		CHECK(o->passed[i] && *o->passed[i]);
}

/* The last one of an option counts: when all of them come once more, nothing changes. "--" ends the options. */
static void try_twice(const struct line *l, const struct options *o)
{
	struct line twice = { .argc = 1, .argv = { l->argv[0] } };
	struct options again;
	int n = 0;

	for (int i = 1; i < l->argc; i++) {
		if (!strcmp(l->argv[i], "--"))
			return;
		/* The argument of -o is the next one. */
		if (l->argv[i][0] == '-' && l->argv[i][1] && l->argv[i][1] != '-' && strchr(l->argv[i], 'o') == l->argv[i] + strlen(l->argv[i]) - 1)
			return;
	}
	for (int round = 0; round < 2; round++) {
		for (int i = 1; i < l->argc; i++) {
			n = l->argv[i][0] == '-' && l->argv[i][1];
			if (n || round)
				twice.argv[twice.argc++] = l->argv[i];
		}
	}
	if (2 * o->npassed > OPTIONS_PASSED_MAX)
		return;
	CHECK_OK(parse(&twice, &again));
	check_same(o, &again);
	options_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct line l = { .argc = 1, .argv = { "spillfs" } };
	struct options o;

	while (in.n && l.argc <= ARGS_MAX)
		l.argv[l.argc++] = fuzz_text(&in, '\n');
	if (!parse(&l, &o)) {
		check_bounds(&o);
		try_twice(&l, &o);
		options_fini(&o);
	}
	while (l.argc > 1)
		free(l.argv[--l.argc]);
	return 0;
}
