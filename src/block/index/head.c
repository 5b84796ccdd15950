/*
 * The head of an index, which has the checksum of all, and the zstd frames that its body is stored in.
 *
 * Invariant: no count and no length is believed before the checksum is verified and it is bounded by what can be there.
 */
#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "block/index/inside.h"

/* No zstd frame of n bytes decodes to more than this: a block of 128 KiB takes at least 4 bytes. */
#define BODY_BYTES_MAX(n) ((64u << 10) + 40000 * (uint64_t)(n))

/* Read at once of a source. */
#define SOURCE_BYTES ((size_t)16 << 10)

static const char index_magic[8] = { 'S', 'P', 'I', 'L', 'L', 'I', 'D', 'X' };

static int read_bytes(void *ctx, void *buf, size_t n, uint64_t off)
{
	memcpy(buf, (const uint8_t *)ctx + off, n);
	return 0;
}

struct index_source index_source_of(const void *bytes, size_t n)
{
	return (struct index_source){ read_bytes, (void *)bytes, n };
}

int index_source_hash(const struct index_source *src, const struct layer_index_head *head, uint64_t *out)
{
	struct layer_index_head h = *head;
	uint8_t buf[SOURCE_BYTES];
	XXH64_state_t state;
	uint64_t off = sizeof(h);
	int err = 0;

	h.xxh64 = 0;
	XXH64_reset(&state, 0);
	XXH64_update(&state, &h, sizeof(h));
	while (off < src->len && !err) {
		size_t n = src->len - off < sizeof(buf) ? (size_t)(src->len - off) : sizeof(buf);

		err = src->read(src->ctx, buf, n, off);
		if (!err)
			XXH64_update(&state, buf, n);
		off += n;
	}
	if (!err)
		*out = XXH64_digest(&state);
	return err;
}

void index_head_fill(struct layer_index_head *head, uint64_t nrecords, uint64_t nnames, uint64_t nchain, uint64_t body_bytes,
		     uint64_t raw_bytes)
{
	memcpy(head->magic, index_magic, sizeof(index_magic));
	head->version = LAYER_FORMAT_VERSION;
	head->nrecords = nrecords;
	head->nnames = nnames;
	head->nchain = nchain;
	head->body_bytes = body_bytes;
	head->raw_bytes = raw_bytes;
}

/* The counts and the body that they call for can stand behind stored bytes of this length. */
static bool counts_valid(const struct layer_index_head *head, uint64_t stored)
{
	uint64_t left = head->body_bytes;

	if (left > UINT32_MAX || left > BODY_BYTES_MAX(stored) || !left != !stored)
		return false;
	if (head->nrecords > left / sizeof(struct layer_record))
		return false;
	left -= head->nrecords * sizeof(struct layer_record);
	if (head->nnames > left / sizeof(struct layer_name))
		return false;
	left -= head->nnames * sizeof(struct layer_name);
	return head->nchain <= left / sizeof(uint64_t);
}

int index_head_read(const struct index_source *src, struct layer_index_head *out)
{
	struct layer_index_head head;
	uint64_t hash;
	int err = src->len < sizeof(head) ? -EUCLEAN : src->read(src->ctx, &head, sizeof(head), 0);

	if (err)
		return err;
	if (memcmp(head.magic, index_magic, sizeof(index_magic)) || head.version != LAYER_FORMAT_VERSION ||
	    head.kind < LAYER_SEGMENT || head.kind > LAYER_FULL)
		return -EUCLEAN;
	err = index_source_hash(src, &head, &hash);
	if (!err && (hash != head.xxh64 || !counts_valid(&head, src->len - sizeof(head))))
		err = -EUCLEAN;
	if (!err)
		*out = head;
	return err;
}

bool index_frame_measure(const uint8_t *p, size_t left, uint64_t most, size_t *len_out, size_t *raw_out)
{
	unsigned long long raw;
	uint32_t magic;
	size_t len;

	if (left < sizeof(magic))
		return false;
	memcpy(&magic, p, sizeof(magic));
	raw = ZSTD_getFrameContentSize(p, left);
	len = ZSTD_findFrameCompressedSize(p, left);
	if (magic != ZSTD_MAGICNUMBER || ZSTD_isError(len) || !raw || raw > most)
		return false;
	*len_out = len;
	*raw_out = (size_t)raw;
	return true;
}

int index_frame_decode(const uint8_t *p, size_t len, uint8_t *out, size_t raw)
{
	size_t got = ZSTD_decompress(out, raw, p, len);

	if (got == raw)
		return 0;
	return ZSTD_getErrorCode(got) == ZSTD_error_memory_allocation ? -ENOMEM : -EUCLEAN;
}
