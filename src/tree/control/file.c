/*
 * Open control files: a text that is made at the open, or a sealed layer's bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer.h"
#include "io/io.h"
#include "store/disks.h"
#include "store/layers.h"
#include "store/store.h"
#include "tree/control/control.h"
#include "tree/file.h"
#include "tree/inode.h"
#include "tree/live/passthrough.h"
#include "tree/reading.h"

struct control_file {
	struct tree_file base;
	char *text; /* malloc'd; or a layer: */
	struct layers_slot *slot;
	size_t len;
};

static struct control_file *control_file_of(struct tree_file *f)
{
	return (struct control_file *)f;
}

static char *config_text(struct tree *t)
{
	const struct store_config *c = &t->store->config, *scratch = t->scratch ? &t->scratch->store->config : c;
	const char *why, *way = io_file_backing(t->store->dir, &why);
	static const char *const backing[] = { "auto", "buffered", "direct" };
	bool waits = c->lease_wait == IO_LEASE_WAIT_BLOCK || (c->lease_wait == IO_LEASE_WAIT_DEFAULT && c->backing == IO_BACKING_DIRECT);
	const char *through_why, *through = through_mode(t, &through_why);
	char *text;

	if (asprintf(&text,
		     "uuid %s\nformat %u\nbacking %s\nbacking_in_use %s (%s)\nleases %u\nlease_size %zu\nlease_wait %s\npool %u\nthreads %u\ncommit %u\n"
		     "layer %llu\nkeep %u\ncompact %llu\ncache %zu\ndirty %zu\nspill %llu\nencrypt %s\nfollow %d\npassthrough %s (%s)\n",
		     t->store->uuid_text, t->store->format, backing[c->backing], way, why, c->leases, c->lease_bytes, waits ? "block" : "buffered", c->pool_files,
		     c->threads, c->commit_seconds, (unsigned long long)c->layer_bytes, c->keep,
		     (unsigned long long)c->compact_bytes, c->cache_bytes, c->dirty_bytes, (unsigned long long)scratch->spill_bytes, scratch->scratch && scratch->encrypts ? "ephemeral" : "no", c->follow, through, through_why) < 0)
		return NULL;
	return text;
}

static int make_text(struct tree *t, uint64_t ino, char **out)
{
	char *text = NULL;

	if (control_is_diff(ino))
		return control_diff_text(t, (ino - CONTROL_DIFF_BASE) >> 30, ino & ((1u << 30) - 1), out);
	if (ino == CONTROL_STATS)
		text = control_stats_text(t);
	else if (ino == CONTROL_CONFIG)
		text = config_text(t);
	else if (ino == CONTROL_QUOTAS)
		text = control_quotas_text(t);
	else if (ino == CONTROL_DISKS)
		text = disks_text(t->store);
	else if (ino == CONTROL_LOG)
		text = control_log_text(t);
	else if (ino == CONTROL_VERSION)
		text = strdup("spillfs " SPILLFS_VERSION "\n");
	if (!text)
		return -ENOMEM;
	*out = text;
	return 0;
}

static int open_delta(struct tree *t, uint64_t number, struct control_file *f)
{
	struct layers_info info;
	int err = layers_next_sealed(t->store->layers, number, &info);

	if (err || info.number != number)
		return -ESTALE;
	f->len = info.bytes;
	return layers_get(t->store->layers, info.number, &f->slot);
}

static const struct file_ops control_file_ops;

int control_open(struct tree *t, uint64_t ino, int flags, const struct tree_caller *who, struct tree_file **out,
		 struct tree_file_info *info)
{
	struct control_file *f;
	int err;

	(void)who;
	if ((flags & O_ACCMODE) != O_RDONLY)
		return -EACCES;
	f = control_file_of(file_new(t, ino, flags, &control_file_ops, sizeof(*f)));
	if (!f)
		return -ENOMEM;
	err = control_is_delta(ino) ? open_delta(t, ino - CONTROL_DELTA_BASE, f) : make_text(t, ino, &f->text);
	if (err) {
		free(f);
		return err;
	}
	if (f->text)
		f->len = strlen(f->text);
	info->direct = f->text;
	info->keep_cache = !info->direct;
	*out = &f->base;
	return 0;
}

static void give_back_copy(struct lease *l)
{
	free(l->owner);
}

static int read_control(struct tree_file *base, uint64_t off, size_t len, int flags, struct tree_read *out)
{
	struct control_file *f = control_file_of(base);
	void *buf;
	int err = 0;

	if (off >= f->len)
		len = 0;
	else if (len > f->len - off)
		len = (size_t)(f->len - off);
	buf = malloc(len + 1);
	if (!buf)
		return -ENOMEM;
	if (f->text)
		memcpy(buf, f->text + off, len);
	else if (len)
		err = layer_read(layers_file(f->slot), off, reading_how(flags, false), buf, len);
	if (err) {
		free(buf);
		return err;
	}
	out->part[0] = (struct lease){ .ptr = buf, .len_bytes = len, .give_back = give_back_copy, .owner = buf };
	out->n = 1;
	return 0;
}

static int seek_control(struct tree_file *f, uint64_t off, int whence, uint64_t *out)
{
	return reading_seek_flat(control_file_of(f)->len, off, whence, out);
}

static void release_control(struct tree_file *base)
{
	struct control_file *f = control_file_of(base);

	free(f->text);
	if (f->slot)
		layers_put(base->tree->store->layers, f->slot);
	free(f);
}

static const struct file_ops control_file_ops = {
	.read = read_control,
	.seek = seek_control,
	.release = release_control,
};
