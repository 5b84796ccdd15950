/*
 * A list of inode numbers.
 */
#include "tree/inos.h"

#include <errno.h>
#include <stdlib.h>

#include "util/vec.h"

int inos_add(struct tree_inos *s, uint64_t ino)
{
	if (VEC_RESERVE(s->v, s->cap, s->n + 1))
		return -ENOMEM;
	s->v[s->n++] = ino;
	return 0;
}
