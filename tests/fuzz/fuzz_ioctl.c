/*
 * Fuzz target: requests by ioctl(2) as libfuse hands them to front/ops/control.c, of the root and of open files of every world. A request is a byte for the
 * file, one for the command, one for caller and flags, two for the room of the answer, one for the length of the argument, and the
 * argument. Each is answered once, with a whole record of its command or an error.
 *
 * The functions of libfuse and of front/ that control.c calls are here; nothing is written back, so that what is deferred runs at
 * once.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "front/answer.h"
#include "front/ops/ops.h"
#include "front/writeback.h"
#include "fuzz.h"
#include "fuzz_world.h"
#include "spillfs.h"

#define REQUESTS_MAX 20
#define STRANGER 54321u

struct request {
	struct fuse_ctx ctx;
	unsigned cmd;
	size_t out_len;
	uint64_t first; /* SPILLFS_IOC_BLOCKS */
	bool of_root;
	int answers;
};

static struct front front;

/* ---- what control.c calls ---- */

static struct request *request_of(fuse_req_t req)
{
	return (struct request *)req;
}

const struct fuse_ctx *fuse_req_ctx(fuse_req_t req)
{
	return &request_of(req)->ctx;
}

void *fuse_req_userdata(fuse_req_t req)
{
	(void)req;
	return &front;
}

void answer_err(fuse_req_t req, int err)
{
	request_of(req)->answers++;
	CHECK(err < 0 && err > -4096);
	CHECK(err != -EFAULT && err != -EUCLEAN && err != -EIO);
}

void *deferred_new(fuse_req_t req, fuse_ino_t ino, size_t size, void (*run)(struct deferred *d))
{
	struct deferred *d = calloc(1, size);

	CHECK(d);
	*d = (struct deferred){ req, ino, run };
	return d;
}

void deferred_run(struct deferred *d)
{
	d->run(d);
	free(d);
}

void deferred_after_file(struct deferred *d)
{
	deferred_run(d);
}

void deferred_after_growth(struct deferred *d)
{
	deferred_run(d);
}

void deferred_after_all(struct deferred *d)
{
	deferred_run(d);
}

static void check_blocks(const struct request *r, const struct spillfs_blocks *b)
{
	uint64_t least = r->first;

	CHECK(b->n <= SPILLFS_BLOCKS_MAX && b->block_bytes);
	for (uint32_t i = 0; i < b->n; i++) {
		CHECK(b->v[i].block >= least && !b->v[i].zero && b->v[i].raw_len <= b->block_bytes);
		least = b->v[i].block + 1;
	}
	CHECK(!b->n || b->first >= least);
}

int fuse_reply_ioctl(fuse_req_t req, int result, const void *buf, size_t size)
{
	struct request *r = request_of(req);
	void *copy = fuzz_copy(buf, size); /* all of it can be read */

	r->answers++;
	CHECK(!result && size == _IOC_SIZE(r->cmd) && size <= r->out_len);
	CHECK(!r->of_root || !r->ctx.uid || r->ctx.uid == geteuid());
	if (r->cmd == SPILLFS_IOC_BLOCKS)
		check_blocks(r, copy);
	if (r->cmd == SPILLFS_IOC_MARK || r->cmd == SPILLFS_IOC_COMMIT || r->cmd == SPILLFS_IOC_COMPACT)
		fuzz_world_changed();
	free(copy);
	return 0;
}

/* ---- open files ---- */

static const struct target {
	const char *path;
	int flags;
} targets[] = {
	{ "", 0 },
	{ "layers/a.i32", O_RDONLY },
	{ "layers/a.i32", O_WRONLY },
	{ "layers/d/b", O_RDWR },
	{ "buckets/runs.u32", O_RDONLY },
	{ "buckets/runs.u32", O_WRONLY },
	{ "buckets/d/holes", O_RDWR },
	{ "columns/big.i64", O_RDWR },
	{ "columns/small", O_RDONLY },
	{ "snapshots/first/layers/a.i32", O_RDONLY },
	{ "views/npy/layers/a.npy", O_RDONLY },
	{ "views/npy/layers/a.npy", O_RDWR },
	{ "views/runs/buckets/runs.u32/000000", O_RDONLY },
	{ "views/parquet/columns/table.parquet", O_RDONLY },
	{ ".spillfs/stats", O_RDONLY },
	{ "deltas/00000001.zst", O_RDONLY },
	{ "layers/d", O_DIRECTORY },
};
#define NTARGETS (sizeof(targets) / sizeof(*targets))

struct opened {
	struct fuse_file_info fi;
	uint64_t ino;
	bool known;
};

static void open_target(struct world *w, const struct target *t, struct opened *out)
{
	static const struct tree_caller me;
	struct tree_file_info info = { .direct = true };
	struct tree_attr a = { .st.st_ino = META_INO_ROOT };
	struct fuzz_input path = { (const uint8_t *)t->path, strlen(t->path) };
	struct tree_file *f;

	*out = (struct opened){ .ino = META_INO_ROOT };
	while (path.n) {
		char *name = fuzz_text(&path, '/');

		CHECK_OK(tree_lookup(w->tree, a.st.st_ino, name, NULL, &a));
		free(name);
	}
	out->known = *t->path;
	out->ino = a.st.st_ino;
	if (S_ISDIR(a.st.st_mode) || !*t->path)
		return;
	CHECK_OK(tree_file_open(w->tree, a.st.st_ino, t->flags, &me, &f, &info));
	out->fi.fh = (uint64_t)(uintptr_t)f;
}

static void close_target(struct world *w, struct opened *o)
{
	if (o->fi.fh)
		tree_file_release((struct tree_file *)(uintptr_t)o->fi.fh);
	if (o->known)
		tree_forget(w->tree, o->ino, 1);
}

static unsigned take_command(struct fuzz_input *in)
{
	static const unsigned known[] = { SPILLFS_IOC_INFO, SPILLFS_IOC_COMMIT, SPILLFS_IOC_COMPACT, (unsigned)SPILLFS_IOC_BLOCKS, SPILLFS_IOC_MARK,
					  SPILLFS_IOC_DRAIN };
	size_t i = fuzz_number(in, 1) % 8;

	return i < 5 ? known[i] : (unsigned)fuzz_number(in, 4);
}

static void request(struct world *w, struct fuzz_input *in)
{
	const struct target *t = &targets[fuzz_number(in, 1) % NTARGETS];
	unsigned cmd = take_command(in), how = (unsigned)fuzz_number(in, 1), flags = 0;
	struct request r = { .cmd = cmd, .out_len = fuzz_number(in, 2), .of_root = !*t->path };
	size_t max = fuzz_number(in, 1), len;
	struct fuse_lowlevel_ops ops = { 0 };
	struct opened o;
	void *arg;

	/* 8: as a program that uses the header. */
	if (how & 8) {
		r.out_len = _IOC_SIZE(cmd);
		max = _IOC_DIR(cmd) & _IOC_WRITE ? _IOC_SIZE(cmd) : 0;
	}
	r.ctx.uid = how & 1 ? STRANGER : how & 2 ? geteuid() : 0;
	arg = fuzz_bytes(in, max, &len);
	if ((how & 8) && len < max) {
		arg = realloc(arg, max);
		CHECK(arg);
		memset((char *)arg + len, 0, max - len);
		len = max;
	}
	if (cmd == SPILLFS_IOC_BLOCKS && len >= sizeof(r.first))
		memcpy(&r.first, arg, sizeof(r.first));
	open_target(w, t, &o);
	flags = (how & 4) || (!o.fi.fh) ? FUSE_IOCTL_DIR : 0;
	ops_fill_control(&ops);
	ops.ioctl((fuse_req_t)&r, o.ino, cmd, NULL, &o.fi, flags, arg, len, r.out_len);
	CHECK_EQ(r.answers, 1);
	close_target(w, &o);
	free(arg);
}

static void wait_for_compaction(struct world *w)
{
	struct spillfs_compact c;

	for (CHECK_OK(tree_compact(w->tree, false, &c)); c.running; CHECK_OK(tree_compact(w->tree, false, &c)))
		usleep(100);
	CHECK(!c.error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	struct world *w = fuzz_world();

	front.tree = w->tree;
	for (int i = 0; in.n && i < REQUESTS_MAX; i++)
		request(w, &in);
	wait_for_compaction(w);
	return 0;
}
