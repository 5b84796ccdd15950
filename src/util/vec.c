/*
 * Growing vectors.
 */
#include "util/vec.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int vec_reserve(void *list, size_t *cap, size_t n, size_t elem_bytes)
{
	size_t want = *cap * 2 > n ? *cap * 2 : n;
	void *v;

	if (n <= *cap)
		return 0;
	memcpy(&v, list, sizeof(v)); /* whatever it points to */
	v = reallocarray(v, want, elem_bytes);
	if (!v)
		return -ENOMEM;
	memcpy(list, &v, sizeof(v));
	*cap = want;
	return 0;
}
