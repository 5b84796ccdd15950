/*
 * The bytes of an index in memory, by a writer whose sink is a buffer.
 */
#include "encode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
	uint8_t *p;
	size_t len, cap;
};

static int append_bytes(void *ctx, const void *from, size_t n)
{
	struct bytes *b = ctx;

	if (b->cap - b->len < n) {
		size_t cap = b->len + n + b->cap / 2;
		uint8_t *p = realloc(b->p, cap);

		if (!p)
			return -ENOMEM;
		b->p = p;
		b->cap = cap;
	}
	memcpy(b->p + b->len, from, n);
	b->len += n;
	return 0;
}

int index_encode(const struct index *ix, struct layer_index_head *head, void **out, size_t *len_out)
{
	struct bytes b = { 0 };
	struct index_source src;
	struct index_writer *w;
	int err = index_writer_new(head->layer, (struct index_sink){ append_bytes, &b }, &w);

	if (err)
		return err;
	err = append_bytes(&b, head, sizeof(*head));
	if (!err)
		err = index_write(w, ix);
	if (!err)
		err = index_writer_end(w, ix->chain, ix->nchain, head);
	index_writer_free(w);
	if (err) {
		free(b.p);
		return err;
	}
	src = index_source_of(b.p, b.len);
	index_source_hash(&src, head, &head->xxh64);
	memcpy(b.p, head, sizeof(*head));
	*out = b.p;
	*len_out = b.len;
	return 0;
}
