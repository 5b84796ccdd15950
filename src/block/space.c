/*
 * Free ranges as a treap.
 *
 * Invariants: (1) in order, ranges are sorted, not empty, disjoint and not adjacent; (2) a node's
 * priority is not below its children's; (3) longest is the greatest length in the node's subtree;
 * (4) free_bytes and nranges are the sums over all nodes.
 */
#include "block/space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct space_node {
	struct space_node *left, *right;
	uint64_t off, len;
	uint64_t longest;
	uint32_t prio;
};

void space_init(struct space *s)
{
	memset(s, 0, sizeof(*s));
	s->seed = 0x9e3779b9u;
}

static void node_free_all(struct space_node *t)
{
	while (t) {
		struct space_node *right = t->right;

		node_free_all(t->left);
		free(t);
		t = right;
	}
}

void space_fini(struct space *s)
{
	node_free_all(s->root);
	space_init(s);
}

static uint64_t node_longest(const struct space_node *t)
{
	return t ? t->longest : 0;
}

static struct space_node *node_update(struct space_node *t)
{
	uint64_t max = t->len;

	if (node_longest(t->left) > max)
		max = t->left->longest;
	if (node_longest(t->right) > max)
		max = t->right->longest;
	t->longest = max;
	return t;
}

/* Everything in a lies before everything in b. */
static struct space_node *node_join(struct space_node *a, struct space_node *b)
{
	if (!a)
		return b;
	if (!b)
		return a;
	if (a->prio >= b->prio) {
		a->right = node_join(a->right, b);
		return node_update(a);
	}
	b->left = node_join(a, b->left);
	return node_update(b);
}

/* Splits t into what begins before off and the rest. */
static void node_split(struct space_node *t, uint64_t off, struct space_node **a,
		       struct space_node **b)
{
	if (!t) {
		*a = *b = NULL;
	} else if (t->off < off) {
		node_split(t->right, off, &t->right, b);
		*a = node_update(t);
	} else {
		node_split(t->left, off, a, &t->left);
		*b = node_update(t);
	}
}

static void space_attach(struct space *s, struct space_node *n)
{
	struct space_node *a, *b;

	n->left = n->right = NULL;
	node_update(n);
	node_split(s->root, n->off, &a, &b);
	s->root = node_join(node_join(a, n), b);
	s->free_bytes += n->len;
	s->nranges++;
}

static struct space_node *node_detach(struct space_node *t, const struct space_node *n)
{
	if (t == n)
		return node_join(t->left, t->right);
	if (n->off < t->off)
		t->left = node_detach(t->left, n);
	else
		t->right = node_detach(t->right, n);
	return node_update(t);
}

static void space_detach(struct space *s, struct space_node *n)
{
	s->root = node_detach(s->root, n);
	s->free_bytes -= n->len;
	s->nranges--;
}

/* The last range that begins at or before off and the first that begins behind it. */
static void space_neighbours(const struct space *s, uint64_t off, struct space_node **before,
			     struct space_node **behind)
{
	struct space_node *t = s->root;

	*before = *behind = NULL;
	while (t) {
		if (t->off <= off) {
			*before = t;
			t = t->right;
		} else {
			*behind = t;
			t = t->left;
		}
	}
}

static uint32_t space_random(struct space *s)
{
	s->seed ^= s->seed << 13;
	s->seed ^= s->seed >> 17;
	s->seed ^= s->seed << 5;
	return s->seed;
}

int space_add(struct space *s, uint64_t off, uint64_t len)
{
	struct space_node *before, *behind, *n = NULL;

	space_neighbours(s, off, &before, &behind);
	if ((before && before->off + before->len > off) || (behind && behind->off < off + len))
		return -EEXIST;
	if (before && before->off + before->len == off) {
		n = before;
		space_detach(s, n);
		off = n->off;
		len += n->len;
	}
	if (behind && behind->off == off + len) {
		space_detach(s, behind);
		len += behind->len;
		if (n)
			free(behind);
		else
			n = behind;
	}
	if (!n) {
		n = malloc(sizeof(*n));
		if (!n)
			return -ENOMEM;
		n->prio = space_random(s);
	}
	n->off = off;
	n->len = len;
	space_attach(s, n);
	return 0;
}

uint64_t space_longest(const struct space *s)
{
	return node_longest(s->root);
}

bool space_take(struct space *s, uint64_t want, uint64_t min, uint64_t *off_out, uint64_t *len_out)
{
	uint64_t longest = space_longest(s);
	struct space_node *t = s->root;

	if (!longest || longest < min)
		return false;
	if (want > longest)
		want = longest;
	for (;;) {
		if (node_longest(t->left) >= want)
			t = t->left;
		else if (t->len >= want)
			break;
		else
			t = t->right;
	}
	space_detach(s, t);
	*off_out = t->off;
	*len_out = want;
	if (t->len == want) {
		free(t);
		return true;
	}
	t->off += want;
	t->len -= want;
	space_attach(s, t);
	return true;
}

bool space_remove(struct space *s, uint64_t off, uint64_t len)
{
	struct space_node *n, *behind;

	space_neighbours(s, off, &n, &behind);
	if (!n || n->off != off || n->len != len)
		return false;
	space_detach(s, n);
	free(n);
	return true;
}

struct space_sums {
	uint64_t align, limit, end, free_bytes;
	size_t nranges;
};

static int node_check(const struct space_node *t, struct space_sums *sums)
{
	uint64_t max;

	if (!t)
		return 0;
	if (node_check(t->left, sums))
		return -EUCLEAN;
	if (!t->len || t->off % sums->align || t->len % sums->align)
		return -EUCLEAN;
	if (sums->nranges && t->off <= sums->end)
		return -EUCLEAN;
	if (t->off > sums->limit || t->len > sums->limit - t->off)
		return -EUCLEAN;
	if ((t->left && t->left->prio > t->prio) || (t->right && t->right->prio > t->prio))
		return -EUCLEAN;
	max = t->len > node_longest(t->left) ? t->len : node_longest(t->left);
	max = max > node_longest(t->right) ? max : node_longest(t->right);
	if (max != t->longest)
		return -EUCLEAN;
	sums->end = t->off + t->len;
	sums->free_bytes += t->len;
	sums->nranges++;
	return node_check(t->right, sums);
}

int space_check(const struct space *s, uint64_t align, uint64_t limit)
{
	struct space_sums sums = { .align = align, .limit = limit };

	if (node_check(s->root, &sums))
		return -EUCLEAN;
	return sums.free_bytes == s->free_bytes && sums.nranges == s->nranges ? 0 : -EUCLEAN;
}
