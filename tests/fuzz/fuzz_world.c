/*
 * See fuzz_world.h.
 */
#include "fuzz_world.h"

#include <stdlib.h>

#include "../hostile/base.h"
#include "../unit/unit.h"

static struct {
	struct image base;
	struct io_dir *disk;
	struct world w;
	bool open, changed;
} kept;

struct io_dir *fuzz_world_disk(void)
{
	if (!kept.base.n)
		base_make(BASE_SEALED, &kept.base);
	return image_to_mem(&kept.base);
}

static void end(void)
{
	CHECK_OK(world_close(&kept.w));
	io_dir_close(kept.disk);
	kept.open = false;
}

struct world *fuzz_world(void)
{
	struct store_config config = world_config;

	if (kept.open && kept.changed)
		end();
	if (kept.open)
		return &kept.w;
	config.threads = 1;
	config.keep = 4;
	kept.disk = fuzz_world_disk();
	world_open(&kept.w, kept.disk, &config);
	tree_keep_acls(kept.w.tree);
	kept.open = true;
	kept.changed = false;
	return &kept.w;
}

void fuzz_world_changed(void)
{
	kept.changed = true;
}

long fuzz_world_read(struct tree_file *f, uint64_t off, size_t len)
{
	unsigned char *buf = malloc(len ? len : 1);
	struct tree_read r;
	size_t at = 0;
	int err = tree_read_begin(f, off, len, 0, &r);

	CHECK(buf);
	if (!err) {
		CHECK(r.n <= TREE_READ_PARTS);
		for (unsigned i = 0; i < r.n && !err; i++) {
			CHECK(r.part[i].len_bytes <= len - at);
			err = lease_copy(&r.part[i], r.how, buf + at);
			at += r.part[i].len_bytes;
		}
		tree_read_end(&r);
	}
	free(buf);
	return err ? err : (long)at;
}
