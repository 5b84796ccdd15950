/*
 * The simulation's program: scripts that are replayed, all short ones, random runs. tests/sim/run says how it is
 * called.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"
#include "util/plant.h"

#ifdef SPILLFS_PLANT
enum plant plant;
#endif

struct options {
	uint64_t seed, seconds, runs, cuts;
	char **scripts; /* the last of the arguments */
	bool shorts, no_shrink, twice;
	unsigned every, part, parts;
};

double sim_now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void explain(struct script *s, const struct options *o)
{
	printf("FAILED: repeat by: tests/sim/run --seed %llu --runs 1\n", (unsigned long long)s->seed);
	if (!o->no_shrink && !*o->scripts) {
		sim_shrink(s);
		printf("Shortened; as a file it is replayed by: tests/sim/run FILE\n");
	}
	script_print(s, stdout);
	/* Once more, aloud. */
	fflush(stdout);
	sim_run(s, false, SIM_RUN_SECONDS, NULL);
}

/* twice: and the second time it has to take the same way. */
static bool one(struct script *s, const struct options *o, bool twice)
{
	uint64_t first = 1, second = 2;
	bool good;

	if (o->every)
		s->cut_every = o->every;
	good = sim_run(s, false, SIM_RUN_SECONDS, &first);
	if (good && o->twice && twice) {
		good = sim_run(s, false, SIM_RUN_SECONDS, &second) && first == second;
		if (first != second)
			printf("seed %llu: the same run took two ways: %016llx and %016llx\n", (unsigned long long)s->seed,
			       (unsigned long long)first, (unsigned long long)second);
	}
	if (good)
		return true;
	sim_counts->failures++;
	explain(s, o);
	return false;
}

static bool replay(const struct options *o, const char *path)
{
	static struct script s;
	FILE *f = fopen(path, "r");

	if (!f || !script_read(&s, f)) {
		fprintf(stderr, "sim: %s cannot be read\n", path);
		exit(2);
	}
	fclose(f);
	if (one(&s, o, true))
		return true;
	printf("by %s\n", path);
	return false;
}

static bool all(const struct options *o)
{
	static struct script s;
	bool good = true;
	double end;

	for (char **path = o->scripts; *path; path++)
		good &= replay(o, *path);
	for (unsigned n = o->part; o->shorts && good && script_short(&s, n); n += o->parts)
		good = one(&s, o, true);
	end = sim_now_s() + (double)o->seconds;
	for (uint64_t n = 0; good && (n < o->runs || sim_counts->cuts < o->cuts || (o->seconds && sim_now_s() < end)); n++) {
		script_draw(&s, o->seed + n);
		good = one(&s, o, n < o->runs);
	}
	return good;
}

static void choose_plant(const char *number)
{
#ifdef SPILLFS_PLANT
	plant = (enum plant)atoi(number);
#else
	fprintf(stderr, "sim: without SPILLFS_PLANT there is no fault %s\n", number);
	exit(2);
#endif
}

static void list_plants(void)
{
#ifdef SPILLFS_PLANT
#define PRINT_PLANT(id, text) puts(text);
	PLANTS(PRINT_PLANT)
#endif
	exit(0);
}

static void parse(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{ "seconds", 1, 0, 't' }, { "seed", 1, 0, 's' }, { "runs", 1, 0, 'n' }, { "cuts", 1, 0, 'c' }, { "short", 0, 0, 'a' },
		{ "plant", 1, 0, 'P' }, { "plants", 0, 0, 'L' },
		{ "no-shrink", 0, 0, 'k' }, { "twice", 0, 0, '2' }, { "every", 1, 0, 'e' }, { "part", 1, 0, 'p' }, { 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (c) {
		case 't': o->seconds = strtoull(optarg, NULL, 10); break;
		case 's': o->seed = strtoull(optarg, NULL, 10); break;
		case 'n': o->runs = strtoull(optarg, NULL, 10); break;
		case 'c': o->cuts = strtoull(optarg, NULL, 10); break;
		case 'a': o->shorts = true; break;
		case 'k': o->no_shrink = true; break;
		case '2': o->twice = true; break;
		case 'e': o->every = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'P': choose_plant(optarg); break;
		case 'L': list_plants(); break;
		case 'p': sscanf(optarg, "%u/%u", &o->part, &o->parts); break;
		default: exit(2);
		}
	}
	o->scripts = argv + optind;
}

int main(int argc, char **argv)
{
	struct options o = { .seed = 1, .parts = 1 };
	double begin = sim_now_s(), took;
	bool good;

	/* Addresses must not differ from run to run. */
	if (!(personality(0xffffffff) & ADDR_NO_RANDOMIZE) && personality(ADDR_NO_RANDOMIZE) != -1)
		execv("/proc/self/exe", argv);
	parse(&o, argc, argv);
	sim_counts = mmap(NULL, sizeof(*sim_counts), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	good = all(&o);
	took = sim_now_s() - begin;
	printf("%llu runs, %llu operations (%.0f a second), %llu cuts, %llu of them again while recovering, %llu faults, %llu operations failed and the caller went on, %llu of them succeeded when there was space again, %llu flips, %llu comparisons, %llu checks by spillctl\n",
	       (unsigned long long)sim_counts->runs, (unsigned long long)sim_counts->operations, (double)sim_counts->operations / took,
	       (unsigned long long)sim_counts->cuts, (unsigned long long)sim_counts->recuts, (unsigned long long)sim_counts->faults, (unsigned long long)sim_counts->shorts, (unsigned long long)sim_counts->retried,
	       (unsigned long long)sim_counts->flips, (unsigned long long)sim_counts->checks, (unsigned long long)sim_counts->probes);
	printf("%llu passed, %llu failed\n", (unsigned long long)(sim_counts->runs - sim_counts->failures),
	       (unsigned long long)sim_counts->failures);
	return !good;
}
