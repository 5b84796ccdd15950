/*
 * Threads that were refused a view because others have it open. Such a thread looks the file up again, and no other open may come in
 * between: each of its lookups of that file gets a node of its own, until it has opened the file or some time has passed. At
 * most VIEWS_ALONE_MAX threads have this; one more ends it for the first.
 */
#include "tree/views/inside.h"
#include "util/clock.h"

#define ALONE_NS (2 * CLOCK_SECOND_NS)

/* The number of a wish: a file and the thread that wants it. The file is identified by its name, even if another array gets the name. */
static uint64_t wish_number(const struct view_key *key, pid_t thread)
{
	struct view_key k = *key;

	if (k.role == VIEW_FILE)
		k.source = 0;
	return views_number_beside(&k, (uint64_t)thread);
}

static struct view_wish *find_wish(struct tree *t, uint64_t number)
{
	for (unsigned k = 0; k < VIEWS_ALONE_MAX; k++) {
		if (atomic_load(&t->alone[k].number) == number)
			return &t->alone[k];
	}
	return NULL;
}

/* Takes a slot that is over, or else the one that ends first. Threads that do this at once agree by the compare-and-swap of its end. */
static struct view_wish *take_wish(struct tree *t, int64_t until_ns)
{
	for (;;) {
		struct view_wish *found = &t->alone[0];
		int64_t first_ns = atomic_load(&found->until_ns);

		for (unsigned k = 1; k < VIEWS_ALONE_MAX; k++) {
			int64_t end_ns = atomic_load(&t->alone[k].until_ns);

			if (end_ns < first_ns) {
				found = &t->alone[k];
				first_ns = end_ns;
			}
		}
		if (atomic_compare_exchange_strong(&found->until_ns, &first_ns, until_ns))
			return found;
	}
}

void views_part(struct tree *t, const struct view_key *key, pid_t thread)
{
	uint64_t number = wish_number(key, thread);
	int64_t until_ns = clock_monotonic_ns() + ALONE_NS;
	struct view_wish *w = find_wish(t, number);

	if (w)
		atomic_store(&w->until_ns, until_ns);
	else
		atomic_store(&take_wish(t, until_ns)->number, number);
}

bool views_is_alone(struct tree *t, const struct view_key *key, pid_t thread)
{
	const struct view_wish *w = find_wish(t, wish_number(key, thread));

	return w && clock_monotonic_ns() < atomic_load(&w->until_ns);
}

void views_parted(struct tree *t, const struct view_key *key, pid_t thread)
{
	uint64_t number = wish_number(key, thread);
	struct view_wish *w = find_wish(t, number);

	if (w && atomic_compare_exchange_strong(&w->number, &number, 0))
		atomic_store(&w->until_ns, 0);
}
