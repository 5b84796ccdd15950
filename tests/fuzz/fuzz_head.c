/*
 * Fuzz target: a store that a follower opens, with any layers/HEAD, and any file in layers/refs/. A byte each for the lengths of HEAD and of
 * the name, HEAD, the name, and the text of the ref. The follower shows a state that is there, and the names whose texts can be read.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "fuzz.h"
#include "fuzz_world.h"
#include "store/layers.h"
#include "store/ref.h"

static struct io_dir *disk;
static uint64_t newest; /* of the store as it was */

static void put(const char *path, const void *p, size_t n)
{
	struct io *f;

	CHECK_OK(io_open(disk, path, IO_CREATE, &f));
	CHECK_OK(io_truncate(f, 0));
	if (n)
		CHECK_OK(io_pwrite(f, p, n, 0));
	io_close(f);
}

static void open_follower(struct world *w)
{
	struct store_config config = world_config;
	struct io_dir *dir;

	config.follow = true;
	CHECK_OK(io_mem_again(disk, &dir));
	CHECK_OK(world_open_dir(w, dir, &config));
}

/* What the first 127 bytes say: a reader of small files takes no more. */
static char *text_of(const uint8_t *p, size_t n)
{
	struct fuzz_input in = { p, n < 127 ? n : 127 };

	return fuzz_text(&in, '\0');
}

static void check_newest(struct world *w, const char *head)
{
	uint64_t named, got = layers_newest_sealed(w->store->layers);
	struct layers_info info;

	CHECK(got <= newest);
	if (!*head || ref_head_parse(head, &named))
		CHECK(got == 0);
	else if (!layers_next_sealed(w->store->layers, named, &info) && info.number == named)
		CHECK(got == named);
}

static void check_ref(struct world *w, const char *name, const char *text)
{
	char path[300];
	struct layers_snapshot s = { .name = "" };
	unsigned char *bytes;
	uint64_t layer = 0;
	int64_t time_ns = 0;
	size_t n;
	int err = *name == '@' ? -EINVAL : ref_parse(text, &layer, &time_ns);

	while (!layers_snapshot_next(w->store->layers, s.name, &s))
		CHECK(*s.name != '@');
	CHECK(*name == '@' || !layers_snapshot_find(w->store->layers, name, &s) == (!err && layer));
	CHECK(err || !layer || (s.layer == layer && s.time_ns == time_ns));
	snprintf(path, sizeof(path), "snapshots/%s/layers/a.i32", name);
	if (!world_read(w, path, &bytes, &n))
		free(bytes);
}

static bool is_file_name(const char *name)
{
	return *name && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/');
}

static void try_store(const uint8_t *head, size_t head_len, const char *name, const uint8_t *ref, size_t ref_len)
{
	char path[sizeof("layers/refs/") + 256], *head_text = text_of(head, head_len), *ref_text = text_of(ref, ref_len);
	bool is_name = is_file_name(name);
	struct world w;

	snprintf(path, sizeof(path), "layers/refs/%s", name);
	put("layers/HEAD", head, head_len);
	if (is_name)
		put(path, ref, ref_len);
	open_follower(&w);
	check_newest(&w, head_text);
	if (is_name && layers_newest_sealed(w.store->layers))
		check_ref(&w, name, ref_text);
	CHECK_OK(world_close(&w));
	if (is_name)
		CHECK_OK(io_unlink(disk, path));
	free(head_text);
	free(ref_text);
}

static void begin(void)
{
	struct world w;

	disk = fuzz_world_disk();
	open_follower(&w);
	newest = layers_newest_sealed(w.store->layers);
	CHECK(newest);
	CHECK_OK(world_close(&w));
	CHECK_OK(io_unlink(disk, "layers/refs/first"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size }, of_name;
	size_t head_max = fuzz_number(&in, 1), name_max = fuzz_number(&in, 1), head_len, name_len, ref_len;
	uint8_t *head = fuzz_bytes(&in, head_max, &head_len), *bytes = fuzz_bytes(&in, name_max, &name_len), *ref;
	char *name;

	if (!disk)
		begin();
	of_name = (struct fuzz_input){ bytes, name_len };
	name = fuzz_text(&of_name, '\0');
	ref = fuzz_bytes(&in, in.n, &ref_len);
	try_store(head, head_len, name, ref, ref_len);
	free(head);
	free(bytes);
	free(name);
	free(ref);
	return 0;
}
