/*
 * See script.h.
 */
#include "script.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched.h"
#include "types.h"
#include "util/err.h"

const char *const op_names[OP_NKINDS] = {
	"create", "write", "append", "truncate", "reserve", "punch", "rename", "link", "unlink", "mkdir", "rmdir", "chmod",
	"fsync", "snapshot", "unsnapshot", "past", "read", "list", "note", "hold", "view", "upload", "commit", "compact", "follow", "sleep",
	"fill", "quota", "bound", "shelve", "type", "walk", "remount",
};

#define BLOCK_BYTES 131072u /* of a layered array */

/* How often, of 1000 or so. */
static const unsigned weights[OP_NKINDS] = {
	[OP_CREATE] = 90, [OP_WRITE] = 160, [OP_APPEND] = 110, [OP_TRUNCATE] = 60, [OP_RESERVE] = 30, [OP_PUNCH] = 40,
	[OP_RENAME] = 60, [OP_LINK] = 20, [OP_UNLINK] = 50, [OP_MKDIR] = 40, [OP_RMDIR] = 15, [OP_CHMOD] = 25, [OP_FSYNC] = 70,
	[OP_SNAPSHOT] = 15, [OP_UNSNAPSHOT] = 10, [OP_PAST] = 15, [OP_READ] = 110, [OP_LIST] = 40, [OP_NOTE] = 25, [OP_HOLD] = 40,
	[OP_VIEW] = 40, [OP_UPLOAD] = 25, [OP_COMMIT] = 20, [OP_COMPACT] = 10, [OP_FOLLOW] = 15, [OP_SLEEP] = 25, [OP_REMOUNT] = 10,
};

/*
 * What a script is mostly about: a mix adds to a part of the weights. Scripts of odd seeds have none, the others one in turn. `class` is
 * that of all its files; CLASSES: any, but with `few` one. `few`: one caller, and mostly one file, so that its operations meet; `large`:
 * whole blocks are written, cut and punched; `full`: there is little space; `sized`: the mount often has a size; `fails`: some writes find
 * no space; `scratch`: some names are in scratch/, and the disk below that may fail;
 * `shelves`: many are in directories that are declared so.
 */
static const struct mix {
	unsigned class;
	bool plain, few, large, full, sized, fails, scratch, shelves;
	unsigned element; /* drawn: of what is walked */
	uint16_t more[OP_NKINDS];
} mixes[] = {
	/* Regions of pool files are freed and used again. */
	{ .class = 0, .large = true, .more = { [OP_UNLINK] = 200, [OP_TRUNCATE] = 150, [OP_APPEND] = 200, [OP_FSYNC] = 150 } },
	/* Files of columns are cut, and go inline and back. */
	{ .class = 1, .large = true, .more = { [OP_TRUNCATE] = 400, [OP_FSYNC] = 200, [OP_WRITE] = 200 } },
	/* Blocks go, by cuts and punches, and what was before them must not come back. */
	{ .class = 2, .few = true, .large = true, .more = { [OP_TRUNCATE] = 250, [OP_PUNCH] = 200, [OP_WRITE] = 200, [OP_COMMIT] = 150,
		[OP_FSYNC] = 100, [OP_REMOUNT] = 50 } },
	/* Layers die and are compacted, on request and because of a long chain, under open files. */
	{ .class = 2, .few = true, .large = true, .more = { [OP_WRITE] = 400, [OP_COMMIT] = 400, [OP_COMPACT] = 80, [OP_HOLD] = 80,
		[OP_READ] = 250, [OP_SNAPSHOT] = 20, [OP_UNSNAPSHOT] = 20 } },
	/* Views, open and not, of arrays that change; uploads. */
	{ .class = CLASSES, .few = true, .more = { [OP_HOLD] = 250, [OP_VIEW] = 400, [OP_UPLOAD] = 100, [OP_WRITE] = 250 } },
	/* Little space, which others fill and give back. */
	{ .class = CLASSES, .large = true, .full = true, .more = { [OP_FILL] = 150, [OP_APPEND] = 200, [OP_FSYNC] = 100, [OP_SNAPSHOT] = 30 } },
	/* Blocks that find no space when they are flushed. */
	{ .class = 2, .few = true, .large = true, .fails = true, .more = { [OP_WRITE] = 300, [OP_FSYNC] = 150, [OP_READ] = 200 } },
	/* Quotas, over writes, cuts, uploads, and renames and links across them. */
	{ .class = CLASSES, .few = true, .more = { [OP_QUOTA] = 120, [OP_WRITE] = 150, [OP_APPEND] = 150, [OP_TRUNCATE] = 150, [OP_RENAME] = 200, [OP_LINK] = 60,
		[OP_MKDIR] = 80, [OP_UPLOAD] = 60, [OP_UNLINK] = 80, [OP_HOLD] = 30, [OP_FSYNC] = 60, [OP_SNAPSHOT] = 20, [OP_REMOUNT] = 30 } },
	/* Bounds on stored bytes: of directories, and of the mount. */
	{ .class = CLASSES, .few = true, .sized = true, .more = { [OP_BOUND] = 150, [OP_WRITE] = 250, [OP_APPEND] = 150, [OP_TRUNCATE] = 100, [OP_PUNCH] = 60,
		[OP_RENAME] = 100, [OP_MKDIR] = 60, [OP_UPLOAD] = 80, [OP_UNLINK] = 100, [OP_HOLD] = 30, [OP_FSYNC] = 60, [OP_COMMIT] = 60, [OP_SNAPSHOT] = 20,
		[OP_REMOUNT] = 30 } },
	/* Files in scratch/, of which some are not in memory. */
	{ .class = CLASS_SCRATCH, .scratch = true, .large = true, .more = { [OP_WRITE] = 300, [OP_APPEND] = 250, [OP_TRUNCATE] = 100, [OP_PUNCH] = 60, [OP_READ] = 250,
		[OP_RENAME] = 60, [OP_FSYNC] = 80, [OP_SLEEP] = 60, [OP_REMOUNT] = 20 } },
	/* Directories that are declared scratch, and durable again, beside scratch/ and what is durable. */
	{ .class = CLASSES, .scratch = true, .shelves = true, .more = { [OP_SHELVE] = 150, [OP_CREATE] = 100, [OP_WRITE] = 150, [OP_RENAME] = 250, [OP_LINK] = 60,
		[OP_UNLINK] = 60, [OP_MKDIR] = 200, [OP_RMDIR] = 30, [OP_FSYNC] = 80, [OP_SNAPSHOT] = 20, [OP_REMOUNT] = 50 } },
	/* Elements of types and records, which filters change; what is written are such. */
	{ .class = CLASS_LAYERS, .few = true, .large = true, .more = { [OP_TYPE] = 300, [OP_WALK] = 500, [OP_PUNCH] = 40, [OP_TRUNCATE] = 60, [OP_READ] = 250, [OP_VIEW] = 100,
		[OP_COMMIT] = 150, [OP_COMPACT] = 20, [OP_SNAPSHOT] = 20, [OP_FOLLOW] = 20, [OP_REMOUNT] = 50 } },
	/* Names. */
	{ .class = CLASSES, .few = true, .more = { [OP_RENAME] = 300, [OP_LINK] = 100, [OP_UNLINK] = 100, [OP_MKDIR] = 60, [OP_RMDIR] = 60,
		[OP_REMOUNT] = 60 } },
	/* Followers, snapshots, and states of the past. */
	{ .class = 2, .more = { [OP_FOLLOW] = 150, [OP_SNAPSHOT] = 150, [OP_UNSNAPSHOT] = 100, [OP_PAST] = 150, [OP_COMMIT] = 100 } },
};
static const struct mix plain = { .class = CLASSES, .plain = true };
#define MIX_PART 4u /* of a mix are the weights of all */

static unsigned weight(const struct mix *m, unsigned kind)
{
	return m->plain ? weights[kind] : weights[kind] / MIX_PART + m->more[kind];
}

static enum op_kind draw_kind(const struct mix *m, uint64_t *r)
{
	uint64_t sum = 0, at;

	for (unsigned k = 0; k < OP_NKINDS; k++)
		sum += weight(m, k);
	at = sim_random(r) % sum;
	for (unsigned k = 0;; k++) {
		if (at < weight(m, k))
			return (enum op_kind)k;
		at -= weight(m, k);
	}
}

/* Borders of pages and blocks are likely. */
static uint32_t draw_bytes(uint64_t *r, uint32_t most)
{
	static const uint32_t borders[] = { 4096, 65536, 131072, 131072, 196608, 262144 };
	static const unsigned besides[] = { 0, 1, 1, 1, 1, 1, 1, 2 };
	uint64_t x = sim_random(r);
	uint32_t at = borders[x % 6] + besides[(x >> 8) % 8] - 1;

	if (x >> 16 & 1 && at <= most)
		return at;
	return (uint32_t)((x >> 20) % (x >> 17 & 1 ? most : most < 5000 ? most : 5000)) + 1;
}

/* Which names may be there; most operations are to find one. */
static bool there[CALLERS_MAX][SLOTS], dir_there[CALLERS_MAX][CLASSES];

static const bool needs_file[OP_NKINDS] = {
	[OP_WRITE] = true, [OP_APPEND] = true, [OP_TRUNCATE] = true, [OP_RESERVE] = true, [OP_PUNCH] = true, [OP_RENAME] = true,
	[OP_LINK] = true, [OP_UNLINK] = true, [OP_CHMOD] = true, [OP_READ] = true, [OP_NOTE] = true, [OP_HOLD] = true, [OP_VIEW] = true,
	[OP_TYPE] = true, [OP_WALK] = true,
};

static void guide(struct op *o, uint64_t *r)
{
	bool *file = there[o->caller], *dir = &dir_there[o->caller][o->slot / 3];

	if (needs_file[o->kind] && !file[o->slot] && sim_random(r) % 8)
		o->kind = OP_CREATE;
	if ((o->kind == OP_CREATE || o->kind == OP_UPLOAD) && o->slot % 3 == 2 && !*dir)
		o->kind = OP_MKDIR;
	if (o->kind == OP_RMDIR && file[o->slot / 3 * 3 + 2])
		o->kind = OP_READ;
	if (o->kind == OP_MKDIR || o->kind == OP_RMDIR)
		*dir = o->kind == OP_MKDIR;
	if (o->kind == OP_CREATE || o->kind == OP_UPLOAD)
		file[o->slot] = true;
	if (o->kind == OP_UNLINK || o->kind == OP_RENAME)
		file[o->slot] = false;
	if (o->kind == OP_RENAME || o->kind == OP_LINK)
		file[o->to] = true;
}

static void draw_op(struct op *o, const struct mix *m, unsigned ncallers, uint64_t *r)
{
	*o = (struct op){ .kind = draw_kind(m, r), .caller = (unsigned)(sim_random(r) % ncallers), .slot = (unsigned)(sim_random(r) % SLOTS) };
	if (!m->scratch)
		o->slot %= DURABLE_CLASSES * 3;
	if (m->shelves && sim_random(r) % 2)
		o->slot = o->slot / 3 * 3 + 2;
	if (m->class < CLASSES)
		o->slot = m->class * 3 + o->slot % 3;
	if (m->few && sim_random(r) % 8)
		o->slot = o->slot / 3 * 3;
	o->to = o->slot / 3 * 3 + (unsigned)(sim_random(r) % 3);
	if (m->scratch && sim_random(r) % 2)
		o->to = (unsigned)(sim_random(r) % SLOTS);
	o->off = sim_random(r) % 4 ? draw_bytes(r, 200000) : 0;
	o->len = draw_bytes(r, 150000);
	if (m->large && sim_random(r) % 4) {
		o->off = (uint32_t)(sim_random(r) % 3) * BLOCK_BYTES;
		o->len = BLOCK_BYTES;
	}
	if (o->kind == OP_WALK)
		o->off = o->off / TYPES_ALIGN * TYPES_ALIGN;
	if ((o->kind == OP_WALK || o->kind == OP_TYPE) && sim_random(r) % 8)
		o->to = m->element;
	o->tag = (uint32_t)sim_random(r);
	guide(o, r);
}

static void draw_fault(struct disk_fault *f, uint64_t *r)
{
	static const int errors[] = { EIO, EIO, EINTR, EMFILE, ENOSPC };
	static const enum disk_call needs_space[] = { DISK_WRITE, DISK_WRITE, DISK_ALLOCATE, DISK_RENAME };
	uint64_t x = sim_random(r);

	*f = (struct disk_fault){ (x >> 34 & 1) ? DISK_WRITE : (enum disk_call)(x % DISK_NCALLS), (x >> 8) % 60 + 1, x >> 16 & 1 ? 1 : x >> 17 & 1 ? 3 : UINT32_MAX,
				  -errors[(x >> 20) % 5], x >> 30 & 1 };
	if (f->err == -EMFILE)
		f->call = DISK_OPEN;
	if (f->err == -ENOSPC)
		f->call = needs_space[x % 4];
	if (f->call == DISK_SYNC || f->call == DISK_SYNC_DIR)
		f->err = -EIO; /* as io/file.c has it */
}

static void draw_spill_fault(struct disk_fault *f, uint64_t *r)
{
	uint64_t x = sim_random(r);

	*f = (struct disk_fault){ x & 1 ? DISK_SPILL_WRITE : DISK_SPILL_READ, x / 8 % 12 + 1, x & 2 ? 1 : UINT32_MAX, (x & 5) == 5 ? -ENOSPC : -EIO, false };
}

static bool fails_spill(const struct script *s)
{
	return s->fault.call == DISK_SPILL_READ || s->fault.call == DISK_SPILL_WRITE;
}

bool script_breaks(const struct script *s)
{
	return s->fault.nth && !fails_spill(s) && (!err_is_passing(s->fault.err) || s->fault.times > SCRIPT_SHORT_TIMES);
}

bool script_loses_scratch(const struct script *s)
{
	return s->fault.nth && fails_spill(s);
}

bool script_has_scratch(const struct script *s)
{
	for (unsigned i = 0; i < s->nops; i++) {
		if (s->op[i].slot / 3 == CLASS_SCRATCH || s->op[i].kind == OP_SHELVE)
			return true;
	}
	return false;
}

bool script_is_short(const struct script *s)
{
	return !script_breaks(s) && !script_loses_scratch(s) && (s->space_bytes || s->fault.nth);
}

bool script_lacks_space(const struct script *s)
{
	return script_is_short(s) && (s->space_bytes || s->fault.err == -ENOSPC);
}

bool script_has(const struct script *s, enum op_kind kind)
{
	for (unsigned i = 0; i < s->nops; i++) {
		if (s->op[i].kind == kind)
			return true;
	}
	return false;
}

bool script_is_bound(const struct script *s)
{
	return s->size_bytes || script_has(s, OP_QUOTA) || script_has(s, OP_BOUND);
}

void script_draw(struct script *s, uint64_t seed)
{
	uint64_t r = seed ^ 0x5c71f5;
	struct mix m = seed % 2 ? plain : mixes[seed / 2 % (sizeof(mixes) / sizeof(*mixes))];

	if (m.few && m.class == CLASSES)
		m.class = (unsigned)(sim_random(&r) % DURABLE_CLASSES);
	if (m.more[OP_WALK])
		m.element = (unsigned)(sim_random(&r) % SLOTS);
	m.scratch |= sim_random(&r) % 8 == 0 && m.plain;
	memset(there, 0, sizeof(there));
	memset(dir_there, 0, sizeof(dir_there));
	*s = (struct script){ .seed = seed, .ncallers = m.few ? 1 : (unsigned)(sim_random(&r) % CALLERS_MAX) + 1, .cut_every = 6 };
	s->nops = (m.plain ? 8 : 40) + (unsigned)(sim_random(&r) % 60);
	if (sim_random(&r) % 4 == 0)
		s->slow_ns = 50000000;
	if (m.full || sim_random(&r) % 16 == 0)
		s->space_bytes = (6 + sim_random(&r) % 4) << 20;
	if (!s->space_bytes && sim_random(&r) % (m.sized ? 2 : 32) == 0)
		s->size_bytes = 100000 + sim_random(&r) % 700000;
	if (sim_random(&r) % (m.plain ? 4 : 8) == 0)
		draw_fault(&s->fault, &r);
	else if (m.fails)
		s->fault = (struct disk_fault){ DISK_WRITE, sim_random(&r) % 12 + 1, sim_random(&r) % SCRIPT_SHORT_TIMES + 1, -ENOSPC, false };
	if (m.scratch && !m.plain && sim_random(&r) % 3 == 0)
		draw_spill_fault(&s->fault, &r);
	/* A caller that has lost scratch/ does not go on as one does that finds no space. */
	if (script_loses_scratch(s))
		s->space_bytes = 0;
	for (unsigned i = 0; i < s->nops; i++)
		draw_op(&s->op[i], &m, s->ncallers, &r);
}

/* Two files and a directory are there, and durable, before the sequence. */
bool script_short(struct script *s, unsigned n)
{
	unsigned class = n % DURABLE_CLASSES, which = n / DURABLE_CLASSES, first, second;

	if (which >= OP_NSHORT * (OP_NSHORT + 1))
		return false;
	first = which % OP_NSHORT;
	second = which / OP_NSHORT;
	*s = (struct script){ .seed = n + 1, .ncallers = 1, .cut_every = 1 };
	s->op[s->nops++] = (struct op){ .kind = OP_CREATE, .slot = class * 3 };
	s->op[s->nops++] = (struct op){ .kind = OP_WRITE, .slot = class * 3, .len = 70000, .tag = 1 };
	s->op[s->nops++] = (struct op){ .kind = OP_MKDIR, .slot = class * 3 };
	s->op[s->nops++] = (struct op){ .kind = OP_FSYNC, .slot = class * 3 };
	s->op[s->nops++] = (struct op){ .kind = (enum op_kind)first, .slot = class * 3 + (first == OP_CREATE), .to = class * 3 + 2,
					.off = 60000, .len = 9000, .tag = 2 };
	if (second)
		s->op[s->nops++] = (struct op){ .kind = (enum op_kind)(second - 1), .slot = class * 3 + (second == 1), .to = class * 3 + 1,
						.off = 64000, .len = 5000, .tag = 3 };
	s->op[s->nops++] = (struct op){ .kind = OP_FSYNC, .slot = class * 3 };
	return true;
}

/* ---- text ---- */

void script_print(const struct script *s, FILE *out)
{
	fprintf(out, "seed %llu\ncallers %u\nspace %llu\nsize %llu\nslow %llu\nevery %u\ncut %llu\n", (unsigned long long)s->seed, s->ncallers,
		(unsigned long long)s->space_bytes, (unsigned long long)s->size_bytes, (unsigned long long)s->slow_ns, s->cut_every, (unsigned long long)s->cut_at);
	if (s->fault.nth)
		fprintf(out, "fault %s %llu %llu %d %d\n", disk_call_names[s->fault.call], (unsigned long long)s->fault.nth,
			(unsigned long long)s->fault.times, -s->fault.err, s->fault.half);
	for (unsigned i = 0; i < s->nops; i++) {
		const struct op *o = &s->op[i];

		fprintf(out, "op %u %s %u %u %u %u %u\n", o->caller, op_names[o->kind], o->slot, o->to, o->off, o->len, o->tag);
	}
}

static int find_name(const char *name, const char *const *names, int n)
{
	while (n-- > 0 && strcmp(names[n], name))
		;
	return n;
}

static bool read_fault(struct disk_fault *f, const char *line)
{
	unsigned long long nth, times;
	char name[16];
	int err, half, call;

	if (sscanf(line, "fault %15s %llu %llu %d %d", name, &nth, &times, &err, &half) != 5)
		return false;
	call = find_name(name, disk_call_names, DISK_NCALLS);
	*f = (struct disk_fault){ (enum disk_call)call, nth, times, -err, half };
	return call >= 0;
}

static bool read_op(struct script *s, const char *line)
{
	struct op *o = &s->op[s->nops];
	char name[16];
	int kind;

	if (s->nops == OPS_MAX || sscanf(line, "op %u %15s %u %u %u %u %u", &o->caller, name, &o->slot, &o->to, &o->off, &o->len, &o->tag) != 7)
		return false;
	kind = find_name(name, op_names, OP_NKINDS);
	if (kind < 0 || o->caller >= CALLERS_MAX || o->slot >= SLOTS || o->to >= SLOTS)
		return false;
	o->kind = (enum op_kind)kind;
	s->nops++;
	return true;
}

static bool read_line(struct script *s, const char *line)
{
	unsigned long long v;
	char word[16];

	if (line[0] == '#' || line[0] == '\n')
		return true;
	if (!strncmp(line, "op ", 3))
		return read_op(s, line);
	if (!strncmp(line, "fault ", 6))
		return read_fault(&s->fault, line);
	if (sscanf(line, "%15s %llu", word, &v) != 2)
		return false;
	if (!strcmp(word, "seed"))
		s->seed = v;
	else if (!strcmp(word, "callers") && v && v <= CALLERS_MAX)
		s->ncallers = (unsigned)v;
	else if (!strcmp(word, "space"))
		s->space_bytes = v;
	else if (!strcmp(word, "size"))
		s->size_bytes = v;
	else if (!strcmp(word, "slow"))
		s->slow_ns = v;
	else if (!strcmp(word, "every"))
		s->cut_every = (unsigned)v;
	else if (!strcmp(word, "cut"))
		s->cut_at = v;
	else
		return false;
	return true;
}

bool script_read(struct script *s, FILE *in)
{
	char line[256];

	*s = (struct script){ .ncallers = 1 };
	while (fgets(line, sizeof(line), in)) {
		if (!read_line(s, line)) {
			fprintf(stderr, "sim: not understood: %s", line);
			return false;
		}
	}
	return true;
}
