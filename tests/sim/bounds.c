/*
 * See bounds.h.
 */
#include "bounds.h"

#include <errno.h>

#include "callers.h"
#include "client.h"
#include "model.h"
#include "sim.h"
#include "store/meta.h"

#define PAGE_BYTES 4096u
#define INLINE_BYTES 65536u  /* of a column, and no more */
#define BLOCK_BYTES 131072u  /* of a layered array */
#define FRAME_BYTES 4096u    /* that a frame takes besides its block, and more */
#define BUCKET 0u
#define COLUMN 1u
#define PIECE_BYTES 262144u /* of scratch: one that is written to is compressed no more */

/* What counted when the bound was set, or less: that much may go on counting. */
static uint64_t over[CALLERS_MAX][CLASSES][QUOTAS];

static uint64_t round_to(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) / unit * unit;
}

/* The blocks of a layered array of that size that lie in a range, as they are. */
static uint64_t blocks_between(uint64_t off, uint64_t end, uint64_t size)
{
	uint64_t bytes = 0;

	for (uint64_t at = off / BLOCK_BYTES * BLOCK_BYTES; at < end; at += BLOCK_BYTES)
		bytes += (size - at < BLOCK_BYTES ? size - at : BLOCK_BYTES) + FRAME_BYTES;
	return bytes;
}

/* What a write of a range of a file can add; whole: or a reservation, which is of whole pages and blocks. */
static uint64_t most_of_range(unsigned class, uint64_t size, uint64_t off, uint64_t end, bool whole)
{
	if (class == BUCKET)
		return end - off + (whole ? 2 * PAGE_BYTES : 0);
	if (class == COLUMN)
		return round_to(end, PAGE_BYTES) - off / PAGE_BYTES * PAGE_BYTES + (size < INLINE_BYTES ? INLINE_BYTES : 0);
	if (class == CLASS_SCRATCH)
		return round_to(end > size ? end : size, PIECE_BYTES) + INLINE_BYTES + blocks_between(off, end, round_to(end > size ? end : size, BLOCK_BYTES));
	return blocks_between(off, end, whole ? round_to(end > size ? end : size, BLOCK_BYTES) : end > size ? end : size);
}

/* What files of so many bytes take. A block may count twice. */
static uint64_t most_of_file(const struct script *s, unsigned class, uint64_t size)
{
	uint64_t most = class < CLASS_LAYERS ? round_to(size, PAGE_BYTES) : 2 * blocks_between(0, size, size);

	return most + (script_has(s, OP_RESERVE) ? 2 * FILE_BYTES_MAX : 0);
}

/* The bytes that an operation adds at most to what counts in that quota. */
static uint64_t most(const struct script *s, const struct op *o, unsigned which)
{
	const struct content *file = model_file(o->caller, o->slot);
	uint64_t size = file ? file->size_bytes : 0, off = o->kind == OP_APPEND ? size : o->off;
	unsigned class = o->slot / 3;

	if (o->kind == OP_RENAME)
		return which == QUOTA_INNER && o->slot % 3 != 2 && o->to % 3 == 2 ? most_of_file(s, class, size) : 0;
	if (which == QUOTA_INNER && o->slot % 3 != 2)
		return 0;
	switch (o->kind) {
	case OP_WRITE:
	case OP_WALK:
	case OP_APPEND:
		return off + o->len > FILE_BYTES_MAX ? 0 : most_of_range(class, size, off, off + o->len, false);
	case OP_UPLOAD:
		return most_of_range(class, 0, 0, o->len, false);
	case OP_RESERVE:
		return most_of_range(class, size, off, off + o->len, true);
	case OP_TRUNCATE:
		return (class == COLUMN || class == CLASS_SCRATCH) && size < INLINE_BYTES ? INLINE_BYTES : 0;
	default:
		return 0;
	}
}

static uint64_t used_of(struct tree *t, unsigned caller, unsigned class, unsigned which)
{
	char path[PATH_BYTES];
	uint64_t size, held;
	int err;

	caller_quota_dir(caller, class, which, path);
	err = client_quota_used(t, path, &size, &held);
	if (err)
		sim_fail("the quota of %s cannot be read", path);
	return held;
}

static uint64_t used_of_all(struct tree *t)
{
	uint64_t held = 0;

	if (client_held(t, &held))
		sim_fail("the size of the mount cannot be read");
	return held;
}

/* Others may have had more, a moment ago. */
static uint64_t of_others(const struct script *s)
{
	return (s->ncallers - 1) * 2ull * (FILE_BYTES_MAX + BLOCK_BYTES);
}

bool bounds_refuse(struct tree *t, const struct script *s, const struct op *o, int err)
{
	if (err == -ENOSPC)
		return s->size_bytes && most(s, o, QUOTA_OUTER) && used_of_all(t) + most(s, o, QUOTA_OUTER) + of_others(s) > s->size_bytes;
	for (unsigned which = 0; which < QUOTAS && err == -EDQUOT; which++) {
		uint32_t limit = model_quota(o->caller, o->slot / 3, which).stored_bytes;

		if (limit && most(s, o, which) && used_of(t, o->caller, o->slot / 3, which) + most(s, o, which) > limit)
			return true;
	}
	return false;
}

/* A block of each array counts twice for a moment, and what is reserved besides what is written there; not behind a commit. */
static uint64_t excess(const struct script *s, const struct op *o, unsigned class)
{
	bool quiet = s->ncallers == 1 && !script_has_scratch(s) && (o->kind == OP_FSYNC || o->kind == OP_COMMIT);

	return class < CLASS_LAYERS || quiet ? 0 : BLOCK_BYTES + FRAME_BYTES + (script_has(s, OP_RESERVE) ? 2 * FILE_BYTES_MAX : 0);
}

static void check_quota(struct tree *t, const struct script *s, const struct op *o, unsigned class, unsigned which)
{
	uint32_t limit = model_quota(o->caller, class, which).stored_bytes;
	uint64_t *then = &over[o->caller][class][which], now;

	if (!limit) {
		*then = UINT64_MAX;
		return;
	}
	now = used_of(t, o->caller, class, which);
	if (*then == UINT64_MAX || o->kind == OP_BOUND)
		*then = now;
	if (now > (limit > *then ? limit : *then) + excess(s, o, class))
		sim_fail("%s of caller %u, slot %u: %llu bytes are stored below a quota of %u (%llu when it was set)", op_names[o->kind], o->caller, o->slot,
			 (unsigned long long)now, limit, (unsigned long long)*then);
	if (now < *then)
		*then = now;
}

void bounds_check(struct tree *t, const struct script *s, const struct op *o)
{
	for (unsigned k = 0; k < CLASSES * QUOTAS && script_has(s, OP_BOUND); k++)
		check_quota(t, s, o, k / QUOTAS, k % QUOTAS);
	if (s->size_bytes && used_of_all(t) > s->size_bytes + s->ncallers * 3 * excess(s, o, CLASS_LAYERS))
		sim_fail("%s of caller %u, slot %u: %llu bytes are stored in a mount of %llu", op_names[o->kind], o->caller, o->slot,
			 (unsigned long long)used_of_all(t), (unsigned long long)s->size_bytes);
}

void bounds_check_freed(struct tree *t, const struct script *s, unsigned caller)
{
	uint64_t bytes, all = 0;

	for (unsigned class = 0; class < CLASSES; class++) {
		bytes = 0;
		for (unsigned k = 0; k < 3; k++) {
			const struct content *file = model_file(caller, class * 3 + k);

			bytes += file ? most_of_file(s, class, file->size_bytes) : 0;
		}
		if (model_quota(caller, class, QUOTA_OUTER).stored_bytes && used_of(t, caller, class, QUOTA_OUTER) > bytes)
			sim_fail("caller %u has deleted files, and %llu bytes are counted in class %u, not %llu at most", caller,
				 (unsigned long long)used_of(t, caller, class, QUOTA_OUTER), class, (unsigned long long)bytes);
		all += bytes;
	}
	if (s->size_bytes && s->ncallers == 1 && used_of_all(t) > all)
		sim_fail("files were deleted, and %llu bytes are counted, not %llu at most", (unsigned long long)used_of_all(t), (unsigned long long)all);
}

const char *bounds_check_size(struct tree *t, const struct script *s)
{
	uint64_t held = 0;
	struct statvfs st;

	if (!s->size_bytes)
		return NULL;
	if (tree_statfs(t, META_INO_ROOT, &st) || client_held(t, &held))
		return "the size of the mount cannot be read";
	if (st.f_blocks != s->size_bytes / st.f_frsize || st.f_bfree != (held < s->size_bytes ? s->size_bytes - held : 0) / st.f_frsize)
		return "statfs of a mount with a size is not what counts";
	return NULL;
}
