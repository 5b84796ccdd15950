/*
 * front/payload: where the parts of a request are once it is read. A file takes the place of the device.
 */
#include <linux/fuse.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "front/payload.h"
#include "unit.h"

#define HEAD_BYTES (sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in))
#define ROOM_BYTES (PAYLOAD_MAX_BYTES + 4096) /* libfuse's buffer */
#define LONGEST (HEAD_BYTES + PAYLOAD_MAX_BYTES)

static char *request, *page; /* what is read, and memory for a buffer that begins anywhere in its first page */

static void setup(void)
{
	uint64_t seed = 7;

	request = malloc(LONGEST);
	page = aligned_alloc(4096, ROOM_BYTES + 4096);
	CHECK(request && page);
	unit_rand_fill(&seed, request, LONGEST);
}

static void teardown(void)
{
	free(request);
	free(page);
}

/* Reads a request of n bytes to page + at. Returns where a write's bytes are. */
static const char *pass(uint32_t opcode, size_t n, size_t at)
{
	FILE *f = tmpfile();

	CHECK(f);
	memcpy(request + offsetof(struct fuse_in_header, opcode), &opcode, sizeof(opcode));
	CHECK_EQ(fwrite(request, 1, n, f), n);
	rewind(f);
	CHECK_EQ(payload_read(fileno(f), page + at, ROOM_BYTES), n);
	fclose(f);
	return payload_find(page + at + HEAD_BYTES);
}

static bool begins_page(const char *p)
{
	return !((uintptr_t)p % 4096);
}

UNIT_TEST(payload_of_a_write)
{
	const size_t begins[] = { 0, 16, 2000, 4096 - HEAD_BYTES };
	const size_t lengths[] = { HEAD_BYTES + 1, HEAD_BYTES + 4096, LONGEST };

	setup();
	for (size_t i = 0; i < 12; i++) {
		size_t at = begins[i / 3], n = lengths[i % 3];
		const char *bytes = pass(FUSE_WRITE, n, at);

		CHECK(begins_page(bytes));
		CHECK(!memcmp(page + at, request, HEAD_BYTES));
		CHECK(!memcmp(bytes, request + HEAD_BYTES, n - HEAD_BYTES));
	}
	teardown();
}

/* Its bytes would not fit behind the page's end, so they stay where libfuse looks. */
UNIT_TEST(payload_without_room)
{
	const size_t at = 4096 - HEAD_BYTES + 16;

	setup();
	CHECK(pass(FUSE_WRITE, LONGEST, at) == page + at + HEAD_BYTES);
	CHECK(!memcmp(page + at, request, LONGEST));
	teardown();
}

UNIT_TEST(payload_of_others)
{
	const size_t lengths[] = { sizeof(struct fuse_in_header), HEAD_BYTES, HEAD_BYTES + 1, 70000, LONGEST };

	setup();
	for (size_t i = 0; i < 5; i++) {
		pass(FUSE_WRITE, HEAD_BYTES + 100, 16);
		CHECK(pass(FUSE_SETXATTR, lengths[i], 16) == page + 16 + HEAD_BYTES);
		CHECK(!memcmp(page + 16, request, lengths[i]));
	}
	teardown();
}

UNIT_TEST(payload_read_fails)
{
	setup();
	pass(FUSE_WRITE, HEAD_BYTES + 100, 16);
	CHECK_EQ(payload_read(-1, page + 16, ROOM_BYTES), -1);
	CHECK(payload_find(page) == page);
	teardown();
}
