/*
 * Surveys of buckets and columns.
 *
 * Invariant: a summary is made and remembered while the inode is held, so that no change comes between.
 */
#include "array/survey.h"

#include <errno.h>

#include "array/array.h"
#include "array/dtype.h"
#include "array/summaries.h"
#include "util/buf.h"

static uint32_t elem_bytes_of(enum summary_type type)
{
	uint32_t bytes;

	return dtype_size(summary_type_name(type), &bytes) ? 1 : bytes;
}

/* The bytes of a stretch that are in the array, at least one. */
static uint32_t length_of(const struct array *a, uint64_t number)
{
	uint64_t left = a->size_bytes - number * SUMMARIES_STRETCH;

	return left < SUMMARIES_STRETCH ? (uint32_t)left : SUMMARIES_STRETCH;
}

/* The summary of a stretch of so many bytes, remembered or made. */
static int summarise(struct array *a, uint64_t number, uint32_t len, struct summary *out)
{
	enum summary_type type = a->params.codec.type;
	uint32_t nelems = len / elem_bytes_of(type);
	void *buf;
	size_t n;
	int err;

	if (summaries_find(a, type, number, nelems, out))
		return 0;
	buf = buf_alloc(len);
	if (!buf)
		return -ENOMEM;
	err = array_read(a, buf, len, number * SUMMARIES_STRETCH, &n);
	if (!err && n < len)
		err = -EIO;
	if (!err)
		summary_of(type, buf, len, out);
	buf_free(buf, len);
	if (!err && summaries_wanted(a))
		summaries_remember(a, number, nelems, out);
	return err;
}

void survey_passed(struct array *a, uint64_t off, uint64_t len)
{
	uint64_t end = off + len, whole = a->size_bytes - a->size_bytes % elem_bytes_of(a->params.codec.type);
	struct summary sum;

	if (!summaries_wanted(a))
		return;
	for (uint64_t k = off / SUMMARIES_STRETCH; k * SUMMARIES_STRETCH < whole; k++) {
		uint64_t stretch_end = (k + 1) * SUMMARIES_STRETCH;

		if (stretch_end > whole)
			stretch_end = whole;
		if (stretch_end > end)
			break;
		if (stretch_end > off && summarise(a, k, length_of(a, k), &sum))
			break;
	}
}

int survey_next(struct array *a, uint64_t from, struct survey_stretch *out)
{
	uint64_t at;
	int err = from > ARRAY_SIZE_MAX / SUMMARIES_STRETCH ? -ENXIO : array_seek(a, from * SUMMARIES_STRETCH, false, &at);

	if (err)
		return err == -ENXIO ? -ENOENT : err;
	*out = (struct survey_stretch){ .number = at / SUMMARIES_STRETCH };
	out->len_bytes = length_of(a, out->number);
	return a->params.codec.type == SUMMARY_NONE ? 0 : summarise(a, out->number, out->len_bytes, &out->sum);
}
