/*
 * Single records of an index that stays encoded, by the frames that its body is stored in.
 *
 * Invariants: (1) nothing is believed before its checksum is verified: that of the index when it is scanned, that of a page
 * when it is read again; (2) pages are in the order of their inos; each holds whole records, the last one perhaps names behind them;
 * (3) a record is what index_decode would make of it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "block/index/inside.h"
#include "util/vec.h"

#define WINDOW_BYTES ((size_t)64 << 10)

/* Records of other types may have any numbers: index_decode passes over them, too. */
static bool known(const struct layer_record *rec)
{
	return rec->type == LAYER_REC_INODE || rec->type == LAYER_REC_GONE;
}

/* The records at the beginning of a decoded page, at most `most`: their number, and the inos at both ends. */
static int page_survey(const uint8_t *p, size_t left, uint64_t most, struct index_page *page)
{
	struct layer_record rec;
	uint32_t n = 0;

	for (; n < most && left >= sizeof(rec); n++) {
		memcpy(&rec, p, sizeof(rec));
		if (rec.len_bytes < sizeof(rec) || rec.len_bytes % 8 || rec.len_bytes > left)
			break;
		if (known(&rec)) {
			page->first_ino = rec.ino < page->first_ino ? rec.ino : page->first_ino;
			page->last_ino = rec.ino;
		}
		p += rec.len_bytes;
		left -= rec.len_bytes;
	}
	page->nrecords = n;
	/* Records fill their page, or they are all. */
	return n == most || (n && !left) ? 0 : -EUCLEAN;
}

static int pages_add(struct index_pages *ps, const struct index_page *page)
{
	if (VEC_RESERVE(ps->v, ps->cap, ps->n + 1))
		return -ENOMEM;
	ps->v[ps->n++] = *page;
	return 0;
}

/* The stored bytes of the frame that begins at `off`: at least its head, and all of it once its length is known. */
struct window {
	uint8_t *p;
	size_t len, cap;
};

static int window_read(struct window *w, const struct index_source *src, uint64_t off, size_t n)
{
	uint64_t left = src->len - off;

	if (n > left)
		n = (size_t)left;
	if (n > w->cap) {
		uint8_t *p = realloc(w->p, n);

		if (!p)
			return -ENOMEM;
		w->p = p;
		w->cap = n;
	}
	w->len = n;
	return src->read(src->ctx, w->p, n, off);
}

/* Most frames are in it at once. A longer one is looked for in windows of twice the length. */
static int window_frame(struct window *w, const struct index_source *src, uint64_t off, uint64_t most, size_t *frame, size_t *raw)
{
	for (size_t n = WINDOW_BYTES;; n *= 2) {
		int err = window_read(w, src, off, n);

		if (err)
			return err;
		if (index_frame_measure(w->p, w->len, most, frame, raw))
			return 0;
		if (w->len < n)
			return -EUCLEAN;
	}
}

/* The page whose frame is in the window, `off` bytes behind the head. */
static int page_scan(const struct window *w, size_t frame, size_t raw, uint64_t off, uint64_t nrecords, struct index_page *out)
{
	struct index_page page = { .first_ino = UINT64_MAX, .off = (uint32_t)off, .len = (uint32_t)frame, .raw = (uint32_t)raw };
	uint8_t *body = malloc(raw);
	int err;

	if (!body)
		return -ENOMEM;
	err = index_frame_decode(w->p, frame, body, raw);
	if (!err)
		err = page_survey(body, raw, nrecords, &page);
	free(body);
	page.xxh64 = XXH64(w->p, frame, 0);
	if (!err)
		*out = page;
	return err;
}

int index_pages_scan(const struct index_source *src, struct index_pages *out)
{
	struct layer_index_head head;
	struct index_pages ps = { 0 };
	struct window w = { 0 };
	uint64_t left, raw_left, off = 0;
	int err = index_head_read(src, &head);

	if (err)
		return err;
	left = head.nrecords;
	raw_left = head.body_bytes;
	while (left && !err) {
		struct index_page page;
		size_t frame = 0, raw = 0;

		err = window_frame(&w, src, sizeof(head) + off, raw_left, &frame, &raw);
		if (!err)
			err = page_scan(&w, frame, raw, off, left, &page);
		if (!err && page.first_ino <= page.last_ino)
			err = pages_add(&ps, &page);
		if (!err) {
			off += page.len;
			raw_left -= page.raw;
			left -= page.nrecords;
		}
	}
	free(w.p);
	if (err) {
		index_pages_fini(&ps);
		return err;
	}
	*out = ps;
	return 0;
}

void index_pages_fini(struct index_pages *ps)
{
	free(ps->v);
	*ps = (struct index_pages){ 0 };
}

const struct index_page *index_pages_find(const struct index_pages *ps, uint64_t ino)
{
	/* The one behind, which begins behind it. */
	size_t next = VEC_LOWER_BOUND(i, ps->n, ps->v[i].first_ino <= ino);

	return next && ino <= ps->v[next - 1].last_ino ? &ps->v[next - 1] : NULL;
}

int index_page_decode(const struct index_page *page, const void *stored, void *out)
{
	if (XXH64(stored, page->len, 0) != page->xxh64)
		return -EUCLEAN;
	return index_frame_decode(stored, page->len, out, page->raw);
}

int index_page_record(const struct index_page *page, const void *decoded, uint64_t ino, struct index_record **out)
{
	const uint8_t *p = decoded;
	struct layer_record rec;

	for (uint32_t n = 0;; n++) {
		if (n == page->nrecords)
			return -ENOENT;
		memcpy(&rec, p, sizeof(rec));
		if (known(&rec) && rec.ino >= ino)
			break;
		p += rec.len_bytes;
	}
	return rec.ino == ino ? index_record_decode(p, out) : -ENOENT;
}
