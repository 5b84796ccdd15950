/*
 * Thrift's compact protocol.
 *
 * Invariants:
 *  1. Ids of fields rise within a struct; so a header is mostly one byte, the distance to the last id and the type.
 *  2. Numbers are zigzag varints, lengths plain ones.
 *  3. The view has all of it when the outermost struct has ended.
 */
#include "view/formats/thrift.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "view/inside.h"
#include "view/formats/compose.h"

#define SHORT_MAX 14 /* of distances and list lengths: they share a byte with the type */

static void flush(struct thrift *t)
{
	view_put(t->view, t->ahead, t->nahead);
	t->nahead = 0;
}

static void put(struct thrift *t, const void *p, size_t len)
{
	if (len > sizeof(t->ahead) - t->nahead)
		flush(t);
	if (len > sizeof(t->ahead)) {
		view_put(t->view, p, len);
		return;
	}
	if (len)
		memcpy(t->ahead + t->nahead, p, len);
	t->nahead += len;
}

static void put_byte(struct thrift *t, uint8_t x)
{
	if (t->nahead == sizeof(t->ahead))
		flush(t);
	t->ahead[t->nahead++] = x;
}

static void put_varint(struct thrift *t, uint64_t x)
{
	uint8_t buf[10];
	size_t n = 0;

	for (; x > 0x7f; x >>= 7)
		buf[n++] = (uint8_t)(x | 0x80);
	buf[n++] = (uint8_t)x;
	put(t, buf, n);
}

static void put_zigzag(struct thrift *t, int64_t x)
{
	put_varint(t, ((uint64_t)x << 1) ^ (x < 0 ? UINT64_MAX : 0));
}

static void put_id(struct thrift *t, int id, enum thrift_type type)
{
	int *last = &t->last[t->depth], distance = id - *last;

	if (!id)
		return;
	assert(distance > 0);
	if (distance <= SHORT_MAX + 1) {
		put_byte(t, (uint8_t)(distance << 4 | (int)type));
	} else {
		put_byte(t, (uint8_t)type);
		put_zigzag(t, id);
	}
	*last = id;
}

void thrift_begin(struct thrift *t, struct view *v)
{
	t->view = v;
	t->depth = 0;
	t->last[0] = 0;
	t->nahead = 0;
}

void thrift_struct(struct thrift *t, int id)
{
	put_id(t, id, THRIFT_STRUCT);
	assert(t->depth + 1 < THRIFT_DEPTH_MAX);
	t->last[++t->depth] = 0;
}

void thrift_end(struct thrift *t)
{
	put_byte(t, 0);
	if (t->depth)
		t->depth--;
	else
		flush(t);
}

void thrift_empty(struct thrift *t, int id)
{
	thrift_struct(t, id);
	thrift_end(t);
}

void thrift_list(struct thrift *t, int id, enum thrift_type type, size_t n)
{
	put_id(t, id, THRIFT_LIST);
	if (n <= SHORT_MAX) {
		put_byte(t, (uint8_t)(n << 4 | type));
	} else {
		put_byte(t, (uint8_t)(0xf0 | type));
		put_varint(t, n);
	}
}

void thrift_bool(struct thrift *t, int id, bool x)
{
	assert(id);
	put_id(t, id, x ? THRIFT_TRUE : THRIFT_FALSE);
}

void thrift_i8(struct thrift *t, int id, int8_t x)
{
	put_id(t, id, THRIFT_I8);
	put_byte(t, (uint8_t)x);
}

void thrift_i32(struct thrift *t, int id, int32_t x)
{
	put_id(t, id, THRIFT_I32);
	put_zigzag(t, x);
}

void thrift_i64(struct thrift *t, int id, int64_t x)
{
	put_id(t, id, THRIFT_I64);
	put_zigzag(t, x);
}

void thrift_binary(struct thrift *t, int id, const void *p, size_t len)
{
	put_id(t, id, THRIFT_BINARY);
	put_varint(t, len);
	put(t, p, len);
}

void thrift_string(struct thrift *t, int id, const char *s)
{
	char *text = view_utf8(s);

	if (text)
		thrift_binary(t, id, text, strlen(text));
	else
		view_fail(t->view, -ENOMEM);
	free(text);
}
