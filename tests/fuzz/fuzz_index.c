/*
 * Fuzz target: index_decode on any bytes, as they are and with their checksum put right. What is
 * taken must encode again and merge with itself.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/index.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const uint8_t *bytes, size_t size)
{
	struct layer_index_head head, again;
	struct index ix, back;
	void *out;
	size_t len;

	if (index_decode(bytes, size, &head, &ix))
		return;
	if (index_encode(&ix, &head, &out, &len) || len > size ||
	    index_decode(out, len, &again, &back))
		abort();
	free(out);
	if (index_merge(&ix, &back) || index_encode(&ix, &head, &out, &len))
		abort();
	free(out);
	index_fini(&ix);
	index_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t at = offsetof(struct layer_index_head, xxh64);
	uint64_t hash;
	uint8_t *copy;

	decode(data, size);
	if (size < sizeof(struct layer_index_head))
		return 0;
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	memset(copy + at, 0, sizeof(hash));
	hash = XXH64(copy, size, 0);
	memcpy(copy + at, &hash, sizeof(hash));
	decode(copy, size);
	free(copy);
	return 0;
}
