/*
 * array/runs against a model: writers that grow a file, close, go on, and truncate it.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "array/runs.h"
#include "unit.h"

#define WRITERS 3
#define STEPS 20000

static void bounds_are(const struct runs *r, size_t n, ...)
{
	va_list ap;

	va_start(ap, n);
	CHECK_EQ(runs_nbounds(r), n);
	for (size_t k = 0; k < n && k < runs_nbounds(r); k++)
		CHECK_EQ(runs_bound(r, k), va_arg(ap, int));
	va_end(ap);
}

static void grow(struct runs *r, struct runs_writer *w, uint64_t size)
{
	CHECK_OK(runs_reserve(r));
	runs_grew(r, w, size);
}

UNIT_TEST(runs_pending_ends)
{
	struct runs r = { .changed = SIZE_MAX };
	struct runs_writer a = { 0 }, b = { 0 };
	uint64_t begin, end;
	bool made;

	grow(&r, &a, 10);
	bounds_are(&r, 0);
	CHECK_OK(runs_end(&r, &a));
	bounds_are(&r, 1, 10);
	grow(&r, &a, 12); /* goes on */
	bounds_are(&r, 0);
	CHECK_OK(runs_end(&r, &a));
	grow(&r, &b, 20);
	bounds_are(&r, 1, 12);
	grow(&r, &a, 25);
	grow(&r, &b, 30);
	CHECK_OK(runs_end(&r, &a)); /* not the last one */
	bounds_are(&r, 2, 12, 25);
	CHECK_OK(runs_end(&r, &b));
	bounds_are(&r, 3, 12, 25, 30);
	runs_leave(&r, &b, false);
	grow(&r, &b, 33); /* a new one in the same place */
	bounds_are(&r, 3, 12, 25, 30);
	CHECK_EQ(runs_count(&r, 33), 4);
	runs_range(&r, 3, 33, &begin, &end);
	CHECK(begin == 30 && end == 33);
	CHECK_OK(runs_mark(&r, 33, &made));
	CHECK(made);
	CHECK_OK(runs_mark(&r, 33, &made));
	CHECK(!made);
	grow(&r, &b, 40);
	bounds_are(&r, 4, 12, 25, 30, 33);
	CHECK_EQ(runs_count(&r, 40), 5);
	runs_fini(&r);
}

UNIT_TEST(runs_cut_back)
{
	struct runs r = { .changed = SIZE_MAX };
	struct runs_writer a = { 0 }, b = { 0 };
	bool made;

	grow(&r, &a, 10);
	CHECK_OK(runs_mark(&r, 10, &made));
	grow(&r, &a, 20);
	CHECK_OK(runs_mark(&r, 20, &made));
	grow(&r, &b, 30);
	CHECK_OK(runs_end(&r, &b));
	runs_cut(&r, 40); /* nothing is there */
	bounds_are(&r, 3, 10, 20, 30);
	runs_cut(&r, 15);
	bounds_are(&r, 2, 10, 15);
	grow(&r, &b, 18);
	bounds_are(&r, 2, 10, 15);
	runs_cut(&r, 17); /* b goes on */
	grow(&r, &b, 19);
	CHECK_OK(runs_end(&r, &b));
	bounds_are(&r, 3, 10, 15, 19);
	CHECK_OK(runs_end(&r, &a)); /* its end is where it was cut off */
	bounds_are(&r, 3, 10, 15, 19);
	runs_cut(&r, 0);
	bounds_are(&r, 0);
	CHECK_EQ(runs_count(&r, 0), 0);
	grow(&r, &a, 10);
	grow(&r, &b, 20);
	runs_cut(&r, 15); /* behind the end of a, which is open still */
	CHECK_OK(runs_end(&r, &a));
	CHECK_OK(runs_end(&r, &b));
	bounds_are(&r, 2, 10, 15);
	grow(&r, &a, 30);
	grow(&r, &b, 40);
	runs_cut(&r, 20);
	grow(&r, &b, 50);
	CHECK_OK(runs_end(&r, &a));
	bounds_are(&r, 3, 10, 15, 20);
	runs_leave(&r, &a, false);
	runs_leave(&r, &b, false);
	CHECK(!r.writers);
	runs_fini(&r);
}

UNIT_TEST(runs_of_unknown_writers)
{
	struct runs r = { .changed = SIZE_MAX };
	struct runs_writer a = { 0 }, b = { 0 };

	grow(&r, &a, 5);
	CHECK_OK(runs_end_all(&r, &a, 5));
	CHECK_OK(runs_end_all(&r, &b, 8)); /* truncate(2) has made it longer */
	bounds_are(&r, 2, 5, 8);
	grow(&r, &a, 10);
	runs_leave(&r, &a, true);
	bounds_are(&r, 2, 5, 8);
	grow(&r, &b, 12);
	CHECK_OK(runs_end_all(&r, &b, 12));
	bounds_are(&r, 3, 5, 8, 12);
	runs_fini(&r);
}

/* What is stored after any steps is what a crash leaves; what changed is behind `changed`. */
UNIT_TEST(runs_stored_follow)
{
	struct runs r = { .changed = SIZE_MAX };
	struct runs_writer w[WRITERS] = { 0 };
	uint64_t state = 7, size = 0, *stored = calloc(STEPS, sizeof(*stored));
	size_t nstored = 0;

	CHECK(stored);
	for (size_t step = 0; step < STEPS; step++) {
		struct runs_writer *who = &w[unit_rand(&state) % WRITERS];
		size_t n, from;
		const uint64_t *v;

		switch (unit_rand(&state) % 8) {
		case 0:
			size = size - unit_rand(&state) % (size / 4 + 1);
			CHECK_OK(runs_reserve(&r));
			runs_cut(&r, size);
			break;
		case 1:
		case 2:
			CHECK_OK(runs_end(&r, who));
			break;
		case 3:
			CHECK_OK(runs_end_all(&r, who, size));
			break;
		default:
			size += 1 + unit_rand(&state) % 100;
			grow(&r, who, size);
		}
		if (unit_rand(&state) % 3)
			continue;
		from = r.changed;
		v = runs_stored(&r, &n);
		if (from == SIZE_MAX) {
			CHECK_EQ(n, nstored);
			continue;
		}
		CHECK(from <= n && from <= nstored);
		CHECK(!from || !memcmp(v, stored, from * sizeof(*v)));
		memcpy(stored, v, n * sizeof(*v));
		nstored = n;
		r.changed = SIZE_MAX;
		for (size_t k = 0; k < n; k++)
			CHECK(v[k] > (k ? v[k - 1] : 0) && v[k] <= size);
	}
	free(stored);
	runs_fini(&r);
}

UNIT_TEST(runs_loaded)
{
	uint64_t *v = malloc(5 * sizeof(*v));
	struct runs r;

	CHECK(v);
	memcpy(v, ((uint64_t[]){ 10, 20, 20, 30, 40 }), 5 * sizeof(*v));
	runs_load(&r, v, 5, 35); /* the third does not rise */
	bounds_are(&r, 2, 10, 20);
	CHECK_EQ(r.changed, 2);
	runs_fini(&r);
}
