/*
 * See model.h.
 *
 * Moments are counted by the begins and ends of operations. State i of a caller's names can be what is found at moment t, if the
 * operation that made it had begun by t, and the one that ended it had not ended before t.
 */
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "sched.h"
#include "util/vec.h"

#define STATES_MAX (OPS_MAX + 2)
#define FILES_MAX (CALLERS_MAX * OPS_MAX)
#define MOMENTS_MAX (4 * OPS_MAX + 8)
#define NEVER UINT32_MAX

struct names {
	int file[SLOTS]; /* an index; -1: none */
	bool dir[CLASSES];
	struct quota_set quota[CLASSES][QUOTAS];
	bool shelved[CLASSES]; /* the directory is scratch */
	uint32_t begun, ended; /* the operation that made it */
};

struct file {
	unsigned class;
	struct content **v;
	size_t cap;
	unsigned nversions, nended; /* at most one has not ended */
	unsigned floor;
};

struct caller {
	struct names state[STATES_MAX];
	unsigned nstates, nended, floor;
	/* At the start of its fsync: what that promises when it has ended. */
	unsigned names_then[CALLERS_MAX], *files_then, nfiles_then;
	struct content *kept[SNAPSHOTS_MAX][3];
	int held; /* a file that is open, index + 1; 0: none */
};

static struct {
	unsigned ncallers, nfiles;
	bool is_short;
	uint32_t moment;
	struct caller caller[CALLERS_MAX];
	struct file file[FILES_MAX];
} m;

/* ---- contents ---- */

void model_fill(uint32_t tag, unsigned char *p, size_t n)
{
	uint64_t state = tag, word = 0;

	for (size_t i = 0; i < n; i++) {
		if (i % 8 == 0)
			word = tag % 3 == 0 && i % 4096 ? word : sim_random(&state);
		p[i] = (unsigned char)(word >> (i % 8 * 8));
	}
}

static struct content *copy(const struct content *c, uint32_t size_bytes)
{
	struct content *n = calloc(1, sizeof(*n) + size_bytes + 1);

	*n = *c;
	n->size_bytes = size_bytes;
	n->steps_off = UINT32_MAX;
	memcpy(n->bytes, c->bytes, c->size_bytes < size_bytes ? c->size_bytes : size_bytes);
	return n;
}

static struct file *file_of(unsigned caller, unsigned slot)
{
	const struct caller *c = &m.caller[caller];
	int k = c->state[c->nended - 1].file[slot];

	return k < 0 ? NULL : &m.file[k];
}

static const struct content *newest(const struct file *f)
{
	return f->v[f->nended - 1];
}

static void add_version(struct file *f, struct content *c)
{
	if (VEC_RESERVE(f->v, f->cap, f->nversions + 1))
		abort();
	f->v[f->nversions++] = c;
}

/* A new file of the class. */
static int add_file(unsigned class, uint32_t size_bytes)
{
	struct content *c = calloc(1, sizeof(*c) + size_bytes + 1);
	struct file *f = &m.file[m.nfiles];

	*c = (struct content){ .size_bytes = size_bytes, .mode = 0644, .steps_off = UINT32_MAX };
	*f = (struct file){ .class = class, .nended = 1 };
	add_version(f, c);
	return (int)m.nfiles++;
}

bool content_same(const struct content *a, const struct content *b)
{
	return a->size_bytes == b->size_bytes && !memcmp(a->bytes, b->bytes, a->size_bytes);
}

static bool is_between_calls(const struct content *v, uint32_t size_bytes)
{
	return v->steps_off < size_bytes && size_bytes < v->size_bytes && (size_bytes - v->steps_off) % CLIENT_STEP_BYTES == 0;
}

/* Each byte, and the size, is of one of the versions from..to. A write that has not ended may have got part of the way; a commit that it
 * waited for, because it found no space for the rest, has made that part durable. */
static bool is_mixed(const struct file *f, const struct content *c, unsigned from, unsigned to)
{
	bool size = false;

	for (unsigned k = from; k <= to; k++) {
		bool part = k >= f->nended ? k > 0 : k > from && (m.is_short || is_between_calls(f->v[k], c->size_bytes));

		size |= f->v[k]->size_bytes == c->size_bytes ||
			(part && c->size_bytes > f->v[k - 1]->size_bytes && c->size_bytes < f->v[k]->size_bytes);
	}
	if (!size)
		return false;
	for (uint32_t i = 0; i < c->size_bytes; i++) {
		bool known = false;

		for (unsigned k = to + 1; k-- > from && !known;)
			known = i < f->v[k]->size_bytes && f->v[k]->bytes[i] == c->bytes[i];
		if (!known)
			return false;
	}
	return true;
}

static bool file_is_right(const struct file *f, const struct content *c, unsigned floor)
{
	bool facts = false;

	for (unsigned k = floor; k < f->nversions; k++)
		facts |= f->v[k]->mode == c->mode && f->v[k]->note == c->note && !memcmp(f->v[k]->setting, c->setting, sizeof(c->setting));
	if (!facts)
		return false;
	for (unsigned k = floor; k < f->nversions; k++) {
		if (content_same(f->v[k], c))
			return true;
	}
	if (f->class != CLASS_LAYERS)
		return is_mixed(f, c, floor, f->nversions - 1);
	for (unsigned k = floor; k + 1 < f->nversions; k++) {
		if (is_mixed(f, c, k, k + 1))
			return true;
	}
	return false;
}

/* ---- operations ---- */

void model_begin(unsigned ncallers, bool is_short)
{
	m.ncallers = ncallers;
	m.is_short = is_short;
	for (unsigned c = 0; c < ncallers; c++) {
		m.caller[c].nstates = m.caller[c].nended = 1;
		memset(m.caller[c].state[0].file, 0xff, sizeof(m.caller[c].state[0].file));
	}
	m.moment = 1;
}

static struct names *add_names(struct caller *c)
{
	struct names *n = &c->state[c->nstates++];

	*n = c->state[c->nended - 1];
	n->begun = m.moment;
	n->ended = NEVER;
	return n;
}

/* It has its bytes from the start, or was empty before it had them: an fsync that begins before the upload has ended promises no more. */
static int add_upload(const struct op *o)
{
	int k = add_file(o->slot / 3, m.is_short ? 0 : o->len);
	struct file *f = &m.file[k];

	if (m.is_short)
		add_version(f, copy(f->v[0], o->len));
	model_fill(o->tag, f->v[f->nversions - 1]->bytes, o->len);
	return k;
}

static int start_create(struct caller *c, const struct op *o)
{
	const struct names *now = &c->state[c->nended - 1];
	unsigned class = o->slot / 3;
	int k;

	if (o->slot % 3 == 2 && !now->dir[class])
		return -ENOENT;
	if (o->kind == OP_CREATE && now->file[o->slot] >= 0)
		return -EEXIST;
	k = o->kind == OP_UPLOAD ? add_upload(o) : add_file(class, 0);
	add_names(c)->file[o->slot] = k;
	return 0;
}

static int start_write(struct file *f, uint32_t off, const struct op *o)
{
	uint32_t end = off + o->len;
	struct content *n;

	if (end > FILE_BYTES_MAX)
		return 0;
	n = copy(newest(f), end > newest(f)->size_bytes ? end : newest(f)->size_bytes);
	if (o->kind == OP_WALK)
		types_fill(o, n->bytes + off, o->len);
	else
		model_fill(o->tag, n->bytes + off, o->len);
	if (o->len > CLIENT_STEP_BYTES)
		n->steps_off = off;
	add_version(f, n);
	return 0;
}

static int start_punch(struct file *f, const struct op *o)
{
	struct content *n = copy(newest(f), newest(f)->size_bytes);

	if (o->off < n->size_bytes)
		memset(n->bytes + o->off, 0, o->len < n->size_bytes - o->off ? o->len : n->size_bytes - o->off);
	add_version(f, n);
	return 0;
}

static int start_facts(struct file *f, const struct op *o)
{
	struct content *n = copy(newest(f), newest(f)->size_bytes);

	if (o->kind == OP_TYPE)
		n->setting[types_setting_of(o)] = types_value_of(o);
	else if (o->kind == OP_CHMOD)
		n->mode = 0600 | (o->tag & 077);
	else
		n->note = o->tag | 1;
	add_version(f, n);
	return 0;
}

static int start_data(struct file *f, const struct op *o)
{
	switch (o->kind) {
	case OP_WRITE:
	case OP_WALK:
		return start_write(f, o->off, o);
	case OP_APPEND:
		return start_write(f, newest(f)->size_bytes, o);
	case OP_TRUNCATE:
		add_version(f, copy(newest(f), o->off));
		return 0;
	case OP_PUNCH:
		return start_punch(f, o);
	case OP_TYPE:
	case OP_CHMOD:
	case OP_NOTE:
		return start_facts(f, o);
	default:
		return 0;
	}
}

/* ---- what is scratch ---- */

static bool is_scratch(const struct names *n, unsigned slot)
{
	return slot / 3 == CLASS_SCRATCH || (slot % 3 == 2 && n->shelved[slot / 3]);
}

bool model_is_scratch(unsigned caller, unsigned slot)
{
	const struct caller *c = &m.caller[caller];

	return is_scratch(&c->state[c->nended - 1], slot);
}

static struct names *add_names(struct caller *c);

void model_lose(const struct op *o)
{
	struct caller *c = &m.caller[o->caller];
	struct file *f;

	m.moment++;
	c->nstates = c->nended;
	f = file_of(o->caller, o->slot);
	if (f)
		f->nversions = f->nended;
}

void model_unmount(void)
{
	for (unsigned k = 0; k < m.ncallers; k++) {
		struct caller *c = &m.caller[k];
		struct names *n;

		m.moment++;
		n = add_names(c);
		for (unsigned slot = 0; slot < SLOTS; slot++)
			n->file[slot] = is_scratch(n, slot) ? -1 : n->file[slot];
		n->dir[CLASS_SCRATCH] = false;
		c->state[c->nended++].ended = ++m.moment;
	}
}

/* The directory is empty; -ENOTEMPTY. */
static int start_shelve(struct caller *c, const struct op *o)
{
	unsigned class = o->slot / 3;
	const struct names *now = &c->state[c->nended - 1];

	if (class == CLASS_SCRATCH)
		return 0;
	if (!now->dir[class])
		return -ENOENT;
	if (now->file[class * 3 + 2] >= 0 && now->shelved[class] != (o->tag & 1))
		return -ENOTEMPTY;
	add_names(c)->shelved[class] = o->tag & 1;
	return 0;
}

/* ---- quotas ---- */

static bool crosses(unsigned slot, unsigned to)
{
	return (slot % 3 == 2) != (to % 3 == 2);
}

static unsigned count_names(const struct names *n, int file)
{
	unsigned k = 0;

	for (unsigned slot = 0; slot < SLOTS; slot++)
		k += n->file[slot] == file;
	return k;
}

bool model_quota_op(const struct op *o, unsigned *which, uint32_t *bytes)
{
	const struct caller *c = &m.caller[o->caller];
	const struct names *now = &c->state[c->nended - 1];
	const int *file = &now->file[o->slot / 3 * 3];

	if (o->slot / 3 == CLASS_SCRATCH)
		return false;
	*which = o->tag % QUOTAS;
	*bytes = o->tag / 2 % 4 ? 20000 + o->tag / 8 % 400000 : 0;
	return *which == QUOTA_OUTER || (now->dir[o->slot / 3] && (file[2] < 0 || (file[2] != file[0] && file[2] != file[1])));
}

static int start_quota(struct caller *c, const struct op *o)
{
	uint32_t bytes;
	unsigned which;

	if (model_quota_op(o, &which, &bytes)) {
		struct quota_set *q = &add_names(c)->quota[o->slot / 3][which];

		*(o->kind == OP_QUOTA ? &q->size_bytes : &q->stored_bytes) = bytes;
	}
	return 0;
}

struct quota_set model_quota(unsigned caller, unsigned class, unsigned which)
{
	const struct caller *c = &m.caller[caller];

	return c->state[c->nended - 1].quota[class][which];
}

/* -EXDEV: a file that keeps a name outside would count in the quota of the directory, or the other way round. */
static int check_crossing(const struct names *now, const struct op *o)
{
	const struct quota_set *q = &now->quota[o->slot / 3][QUOTA_INNER];

	/* A directory that is declared scratch counts by itself. */
	if (o->slot / 3 == o->to / 3 && (!crosses(o->slot, o->to) || (!q->size_bytes && !q->stored_bytes)))
		return 0;
	return o->kind == OP_LINK || (o->kind == OP_RENAME && count_names(now, now->file[o->slot]) > 1) ? -EXDEV : 0;
}

/* The sizes of the files of a class that count; held: also of one that is open and has no name. */
static uint64_t used(const struct caller *c, unsigned class, unsigned which, bool held)
{
	const struct names *now = &c->state[c->nended - 1];
	const int *file = &now->file[class * 3];
	uint64_t sum = 0;

	for (unsigned k = which == QUOTA_INNER ? 2 : 0; k < 3; k++) {
		bool again = (k > 0 && file[k] == file[0]) || (k > 1 && file[k] == file[1]);

		sum += file[k] < 0 || again ? 0 : newest(&m.file[file[k]])->size_bytes;
	}
	if (held && c->held && m.file[c->held - 1].class == class && !count_names(now, c->held - 1))
		sum += newest(&m.file[c->held - 1])->size_bytes;
	return sum;
}

/* The bytes that an operation adds to what counts in that quota. */
static uint64_t added(const struct names *now, const struct op *o, unsigned which)
{
	int file = now->file[o->slot];
	uint64_t size = file < 0 ? 0 : newest(&m.file[file])->size_bytes, end = 0;

	if (o->kind == OP_RENAME)
		return which == QUOTA_INNER && crosses(o->slot, o->to) && o->to % 3 == 2 ? size : 0;
	if (which == QUOTA_INNER && o->slot % 3 != 2)
		return 0;
	if (o->kind == OP_UPLOAD)
		return o->len;
	if (o->kind == OP_WRITE || o->kind == OP_WALK || o->kind == OP_APPEND)
		end = (o->kind == OP_APPEND ? size : o->off) + (uint64_t)o->len;
	else if (o->kind == OP_TRUNCATE)
		end = o->off;
	return end > size && (end <= FILE_BYTES_MAX || o->kind == OP_TRUNCATE) ? end - size : 0;
}

void model_quota_due(const struct op *o, int *may, int *must)
{
	const struct caller *c = &m.caller[o->caller];
	const struct names *now = &c->state[c->nended - 1];
	unsigned class = o->slot / 3;

	*may = *must = 0;
	for (unsigned which = 0; which < QUOTAS; which++) {
		uint64_t more = added(now, o, which), limit = now->quota[class][which].size_bytes, goes = 0;

		if (o->kind == OP_RENAME && now->file[o->to] >= 0)
			goes = newest(&m.file[now->file[o->to]])->size_bytes;
		if (!more || !limit)
			continue;
		if (used(c, class, which, true) + more > limit)
			*may = -EDQUOT;
		if (used(c, class, which, false) + more > limit + goes)
			*must = -EDQUOT;
	}
}

void model_let_go(unsigned caller)
{
	m.caller[caller].held = 0;
}

/* ---- names ---- */

static int start_names(struct caller *c, const struct op *o)
{
	const struct names *now = &c->state[c->nended - 1];
	struct names *n;
	int file = now->file[o->slot];

	bool moves = o->kind != OP_UNLINK;

	if ((file < 0 && o->kind != OP_RENAME) || (o->slot % 3 == 2 && !now->dir[o->slot / 3]) || (moves && o->to % 3 == 2 && !now->dir[o->to / 3]))
		return -ENOENT;
	if (moves && is_scratch(now, o->slot) != is_scratch(now, o->to))
		return -EXDEV;
	if (file < 0)
		return -ENOENT;
	if (moves && !is_scratch(now, o->slot) && o->slot / 3 != o->to / 3)
		return -EXDEV;
	if (o->kind == OP_LINK && now->file[o->to] >= 0)
		return -EEXIST;
	/* rename(2) does nothing where both are one file. */
	if (o->kind == OP_RENAME && now->file[o->to] == file)
		return 0;
	if (check_crossing(now, o))
		return -EXDEV;
	n = add_names(c);
	if (o->kind != OP_LINK)
		n->file[o->slot] = -1;
	if (o->kind != OP_UNLINK)
		n->file[o->to] = file;
	return 0;
}

static int start_dir(struct caller *c, const struct op *o)
{
	unsigned class = o->slot / 3;
	const struct names *now = &c->state[c->nended - 1];
	struct names *n;

	if (o->kind == OP_MKDIR && now->dir[class])
		return -EEXIST;
	if (o->kind == OP_RMDIR && !now->dir[class])
		return -ENOENT;
	if (o->kind == OP_RMDIR && now->file[class * 3 + 2] >= 0)
		return -ENOTEMPTY;
	n = add_names(c);
	n->dir[class] = o->kind == OP_MKDIR;
	n->quota[class][QUOTA_INNER] = (struct quota_set){ 0 };
	n->shelved[class] = false;
	return 0;
}

static void start_fsync(struct caller *c)
{
	for (unsigned k = 0; k < m.ncallers; k++)
		c->names_then[k] = m.caller[k].nended - 1;
	free(c->files_then);
	c->nfiles_then = m.nfiles;
	c->files_then = calloc(m.nfiles + 1, sizeof(*c->files_then));
	for (unsigned k = 0; k < m.nfiles; k++)
		c->files_then[k] = m.file[k].nended - 1;
}

static int start(struct caller *c, const struct op *o)
{
	switch (o->kind) {
	case OP_CREATE:
	case OP_UPLOAD:
		return start_create(c, o);
	case OP_RENAME:
	case OP_LINK:
	case OP_UNLINK:
		return start_names(c, o);
	case OP_MKDIR:
	case OP_RMDIR:
		return start_dir(c, o);
	case OP_SHELVE:
		return start_shelve(c, o);
	case OP_QUOTA:
	case OP_BOUND:
		return start_quota(c, o);
	case OP_FSYNC:
	case OP_SNAPSHOT:
	case OP_COMMIT:
		start_fsync(c);
		return 0;
	case OP_WRITE:
	case OP_WALK:
	case OP_TYPE:
	case OP_APPEND:
	case OP_TRUNCATE:
	case OP_RESERVE:
	case OP_PUNCH:
	case OP_CHMOD:
	case OP_NOTE:
	case OP_HOLD:
		return file_of(o->caller, o->slot) ? start_data(file_of(o->caller, o->slot), o) : -ENOENT;
	default:
		return 0;
	}
}

int model_start(const struct op *o)
{
	m.moment++;
	return start(&m.caller[o->caller], o);
}

static unsigned max(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

static void promise(struct caller *c)
{
	for (unsigned k = 0; k < m.ncallers; k++)
		m.caller[k].floor = max(m.caller[k].floor, c->names_then[k]);
	for (unsigned k = 0; k < c->nfiles_then; k++)
		m.file[k].floor = max(m.file[k].floor, c->files_then[k]);
}

void model_end(const struct op *o, int err)
{
	struct caller *c = &m.caller[o->caller];
	struct file *f;

	m.moment++;
	if (err)
		return;
	if (c->nstates > c->nended)
		c->state[c->nended++].ended = m.moment;
	f = file_of(o->caller, o->slot);
	if (f)
		f->nended = f->nversions;
	if (f && o->kind == OP_HOLD)
		c->held = (int)(f - m.file) + 1;
	if (o->kind == OP_FSYNC || o->kind == OP_COMMIT || o->kind == OP_SNAPSHOT)
		promise(c);
}

const char *model_fail(const struct op *o, const struct content *found)
{
	struct caller *c = &m.caller[o->caller];
	struct file *f;
	bool as_it_is;

	m.moment++;
	c->nstates = c->nended;
	f = file_of(o->caller, o->slot);
	if (!f || !found)
		return !f == !found ? NULL : "an operation that has failed has made or removed its file";
	as_it_is = file_is_right(f, found, f->nended - 1);
	add_version(f, copy(found, found->size_bytes));
	f->nended = f->nversions;
	return as_it_is ? NULL : "an operation that has failed leaves what neither was there nor was to be";
}

void model_promise_all(void)
{
	for (unsigned k = 0; k < m.ncallers; k++)
		m.caller[k].floor = m.caller[k].nended - 1;
	for (unsigned k = 0; k < m.nfiles; k++)
		m.file[k].floor = m.file[k].nended - 1;
}

const struct content *model_file(unsigned caller, unsigned slot)
{
	const struct file *f = file_of(caller, slot);

	return f ? newest(f) : NULL;
}

bool model_has_dir(unsigned caller, unsigned class)
{
	const struct caller *c = &m.caller[caller];

	return c->state[c->nended - 1].dir[class];
}

void model_keep(unsigned caller, unsigned snapshot)
{
	for (unsigned k = 0; k < 3; k++) {
		const struct content *now = model_is_scratch(caller, 6 + k) ? NULL : model_file(caller, 6 + k);

		m.caller[caller].kept[snapshot][k] = now ? copy(now, now->size_bytes) : NULL;
	}
}

const struct content *model_kept(unsigned caller, unsigned snapshot, unsigned slot)
{
	return m.caller[caller].kept[snapshot][slot - 6];
}

/* ---- judging ---- */

enum difference { NOTHING, DIRECTORIES, DECLARED, QUOTAS_SET, NAMES, CONTENTS };
static const char *const differences[] = { NULL, "directories", "declared directories", "quotas", "names", "bytes, sizes or facts of a file" };

/* The file that has to be there; -1: none. */
static int file_then(const struct names *n, unsigned slot, enum model_when when)
{
	return when != MODEL_NOW && is_scratch(n, slot) ? -1 : n->file[slot];
}

static bool is_looked_at(const struct names *n, const struct found *f, unsigned slot)
{
	return !f->unreadable[slot] && !(f->scratch_is_lost && is_scratch(n, slot));
}

static enum difference compare_dirs(const struct names *n, const struct found *f, enum model_when when)
{
	for (unsigned k = when == MODEL_PAST ? CLASS_LAYERS : 0; k < DURABLE_CLASSES; k++) {
		if (n->dir[k] != f->dir[k])
			return DIRECTORIES;
	}
	if (when != MODEL_PAST && !f->scratch_is_lost && (when == MODEL_NOW && n->dir[CLASS_SCRATCH]) != f->dir[CLASS_SCRATCH])
		return DIRECTORIES;
	if (when != MODEL_PAST && !f->quotas_unreadable && memcmp(n->shelved, f->shelved, sizeof(n->shelved)))
		return DECLARED;
	if (when != MODEL_PAST && !f->quotas_unreadable && memcmp(n->quota, f->quota, sizeof(n->quota)))
		return QUOTAS_SET;
	return NOTHING;
}

static enum difference compare(const struct names *n, const struct found *f, enum model_when when)
{
	unsigned first = when == MODEL_PAST ? CLASS_LAYERS * 3 : 0, end = when == MODEL_PAST ? first + 3 : SLOTS;
	enum difference d = compare_dirs(n, f, when);

	if (d)
		return d;
	for (unsigned k = first; k < end; k++) {
		if (is_looked_at(n, f, k) && (file_then(n, k, when) >= 0) != (f->file[k] != NULL))
			return NAMES;
	}
	for (unsigned k = first; k < end; k++) {
		int is = file_then(n, k, when);
		const struct file *file = is >= 0 ? &m.file[is] : NULL;

		if (file && f->file[k] && is_looked_at(n, f, k) && !file_is_right(file, f->file[k], when == MODEL_PAST ? 0 : file->floor))
			return CONTENTS;
	}
	return NOTHING;
}

/* Clears the moments at which no state of the caller's is what is found. */
static const char *judge_caller(unsigned k, const struct found *f, enum model_when when, bool *moment)
{
	const struct caller *c = &m.caller[k];
	static bool possible[MOMENTS_MAX];
	enum difference least = NOTHING;
	bool any = false;

	memset(possible, 0, sizeof(possible));
	for (unsigned i = when == MODEL_PAST ? 0 : c->floor; i < c->nstates; i++) {
		uint32_t end = i + 1 < c->nstates ? c->state[i + 1].ended : NEVER;
		enum difference d = compare(&c->state[i], f, when);

		if (d > least)
			least = d;
		if (d)
			continue;
		any = true;
		for (uint32_t t = c->state[i].begun; t < MOMENTS_MAX && t < end; t++)
			possible[t] = true;
	}
	for (uint32_t t = 0; t < MOMENTS_MAX; t++)
		moment[t] &= possible[t];
	return any ? NULL : differences[least];
}

const char *model_judge(const struct found *f, enum model_when when)
{
	static bool moment[MOMENTS_MAX];
	static char text[128];
	bool any = false;

	memset(moment, 1, sizeof(moment));
	for (unsigned k = 0; k < m.ncallers; k++) {
		const char *why = judge_caller(k, &f[k], when, moment);

		if (!why)
			continue;
		snprintf(text, sizeof(text), "caller %u: %s were never so since the last fsync", k, why);
		return text;
	}
	for (uint32_t t = 0; t < MOMENTS_MAX; t++)
		any |= moment[t];
	return any ? NULL : "the names of the callers are of different moments";
}
