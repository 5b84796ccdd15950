/*
 * A list of inode numbers.
 */
#include "tree/inos.h"

#include <errno.h>
#include <stdlib.h>

int inos_add(struct tree_inos *s, uint64_t ino)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 8;
		uint64_t *v = realloc(s->v, cap * sizeof(*v));

		if (!v)
			return -ENOMEM;
		s->v = v;
		s->cap = cap;
	}
	s->v[s->n++] = ino;
	return 0;
}
