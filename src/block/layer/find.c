/*
 * A sealed layer's index without the index as a whole: single records, for which its pages are found once, and read through the
 * cache of decoded blocks, where they count and go like these; and all pieces in order.
 *
 * Invariant: a page's key is the file offset of its frame; no block has that, so that neither is taken for the other.
 */
#include <errno.h>
#include <stdlib.h>

#include "block/cache.h"
#include "block/layer/inside.h"
#include "util/err.h"

/* Where the pages begin. */
static uint64_t pages_off(const struct layer *l)
{
	return l->index_off + sizeof(struct layer_skip) + sizeof(struct layer_index_head);
}

static int read_stored(void *ctx, void *buf, size_t n, uint64_t off)
{
	struct layer *l = ctx;

	return layer_pread(l, buf, n, l->index_off + sizeof(struct layer_skip) + off);
}

static struct index_source source(struct layer *l)
{
	return (struct index_source){ read_stored, l, l->table_off - l->index_off - sizeof(struct layer_skip) };
}

/* Says of what is damaged that it is. */
static int told(struct layer *l, int err)
{
	return err == -EUCLEAN ? layer_damage(l, l->index_off, "the index is damaged") : err;
}

static int scan(struct layer *l)
{
	struct index_source src = source(l);
	int err = told(l, index_pages_scan(&src, &l->pages));

	l->has_pages = !err;
	return err;
}

struct page_load {
	struct layer *layer;
	const struct index_page *page;
};

static int load_page(void *ctx, void *dst, size_t size)
{
	struct page_load *load = ctx;
	uint64_t off = pages_off(load->layer) + load->page->off;
	void *stored = malloc(load->page->len);
	int err = stored ? layer_pread(load->layer, stored, load->page->len, off) : -ENOMEM;

	(void)size;
	if (!err) {
		err = index_page_decode(load->page, stored, dst);
		if (err == -EUCLEAN)
			layer_damage(load->layer, off, "the index is damaged");
	}
	free(stored);
	return err;
}

/* The record names no frame that is not there; else it is freed. */
static int believe(struct layer *l, struct index_record *r)
{
	uint64_t ino = r->facts.ino;

	if (!layer_bad_block(l, r, l->head.kind, l->index_off))
		return 0;
	index_record_free(r);
	return layer_damage(l, l->index_off, "a block of inode %llu lies outside the frames", (unsigned long long)ino);
}

/* The record in the page's decoded bytes, as far as layer_load_index would have believed it. */
static int record_of(struct layer *l, const struct index_page *page, const void *decoded, uint64_t ino,
		     struct index_record **out)
{
	struct index_record *r;
	int err = index_page_record(page, decoded, ino, &r);

	if (err == -EUCLEAN)
		layer_damage(l, l->index_off, "the record of inode %llu is damaged", (unsigned long long)ino);
	if (!err)
		err = believe(l, r);
	if (!err)
		*out = r;
	return err;
}

static int find_paged(struct layer *l, struct cache *cache, uint64_t ino, struct index_record **out)
{
	const struct index_page *page;
	struct cache_entry *e;
	int err = l->has_pages ? 0 : scan(l);

	if (err)
		return err;
	page = index_pages_find(&l->pages, ino);
	if (!page)
		return -ENOENT;
	err = cache_get(cache, (struct cache_key){ .layer = l->number, .off_bytes = pages_off(l) + page->off }, page->raw, load_page,
			&(struct page_load){ l, page }, &e);
	if (err)
		return err;
	err = record_of(l, page, cache_data(e), ino, out);
	cache_put(cache, e);
	return err;
}

int layer_with_record(struct layer *l, struct cache *cache, uint64_t ino,
		      int (*each)(void *ctx, const struct index_record *r), void *ctx)
{
	struct index_record *found = NULL;
	const struct index_record *r;
	int err;

	if (layer_has_index(l)) {
		r = index_find(layer_index(l), ino);
		return r ? each(ctx, r) : 0;
	}
	err = find_paged(l, cache, ino, &found);
	if (err)
		return err == -ENOENT ? 0 : err;
	err = each(ctx, found);
	index_record_free(found);
	return err;
}

int layer_read_pieces(struct layer *l, struct index_reader **out)
{
	return told(l, index_reader_new(source(l), out));
}

int layer_next_record(struct layer *l, struct index_reader *r, struct index_record **out)
{
	struct index_record *record;
	int err = told(l, index_reader_record(r, &record));

	if (!err)
		err = believe(l, record);
	if (!err)
		*out = record;
	return err;
}

int layer_next_name(struct layer *l, struct index_reader *r, struct index_name *out)
{
	return told(l, index_reader_name(r, out));
}
