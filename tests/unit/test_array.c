/*
 * Element types, shapes and the sparse block map.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "array/blockmap.h"
#include "array/dtype.h"
#include "unit.h"

UNIT_TEST(dtype_sizes)
{
	static const struct {
		const char *text;
		uint32_t bytes; /* 0: refused */
	} cases[] = {
		{ "i8", 1 }, { "f16", 2 }, { "f64", 8 }, { "c128", 16 }, { "bool", 1 }, { "pos:u32,lcp:u32", 8 },
		{ "a:u8,b:i64,c_1:f16", 11 }, { "", 0 }, { "f65", 0 }, { "pos:", 0 }, { ":u32", 0 }, { "1a:u32", 0 },
		{ "a:u32,", 0 }, { ",a:u32", 0 }, { "a:u32;b:u32", 0 }, { "a b:u32", 0 }, { "u32,u32", 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		uint32_t bytes = 0;
		int err = dtype_size(cases[i].text, &bytes);

		CHECK_EQ(err, cases[i].bytes ? 0 : -EINVAL);
		CHECK_EQ(bytes, cases[i].bytes);
	}
}

UNIT_TEST(dtype_from_name)
{
	CHECK(!strcmp(dtype_of_name("prices.f64"), "f64"));
	CHECK(!strcmp(dtype_of_name("a.b.u8"), "u8"));
	CHECK(!dtype_of_name("prices"));
	CHECK(!dtype_of_name("prices.txt"));
	CHECK(!dtype_of_name("f64"));
	CHECK(!dtype_of_name("prices."));
}

UNIT_TEST(dtype_shapes)
{
	static const char *const bad[] = { "", "3,", ",3", "-3", "3, 4", "x", "(3)", "4294967296,4294967296", "9223372036854775808" };
	struct shape s = { 0 };

	CHECK_OK(shape_parse("1", &s));
	CHECK_OK(shape_parse("9223372036854775807", &s));
	CHECK_OK(shape_parse("0,9223372036854775807", &s));
	CHECK_OK(shape_parse("()", &s));
	CHECK_EQ(s.ndims, 0);
	CHECK_EQ(shape_count(&s), 1);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_EQ(shape_parse(bad[i], &s), -EINVAL);
}

UNIT_TEST(dtype_shape_fits)
{
	char text[SHAPE_TEXT_MAX];
	struct shape s;

	CHECK_OK(shape_parse("1000,3,2", &s));
	CHECK_EQ(shape_row(&s), 6);
	shape_fit(&s, 25);
	shape_text(&s, text);
	CHECK(!strcmp(text, "4,3,2"));
	s.fortran = true;
	shape_fit(&s, 25);
	CHECK_EQ(s.dims[2], 2);
	CHECK_EQ(shape_count(&s), 24);
	CHECK_OK(shape_parse("()", &s));
	shape_fit(&s, 1);
	CHECK_EQ(s.ndims, 0);
	shape_fit(&s, 7);
	CHECK_EQ(s.dims[0], 7);
	CHECK_OK(shape_parse("5,0", &s));
	shape_fit(&s, 0);
	CHECK_EQ(s.dims[0], 5);
}

UNIT_TEST(dtype_records)
{
	struct dtype *d;

	CHECK_OK(dtype_parse("pos:u32,lcp:f64,b:bool", &d));
	CHECK_EQ(d->bytes, 13);
	CHECK_EQ(d->nfields, 3);
	CHECK_EQ(d->fields[2].off_bytes, 12);
	CHECK_EQ(d->fields[1].type, DTYPE_F64);
	free(d);
	CHECK_EQ(dtype_parse("a:u8,a:u8", &d), -EINVAL);
}

UNIT_TEST(dtype_logical)
{
	struct logical l;

	CHECK_OK(logical_parse("timestamp[us]", &l));
	CHECK_EQ(l.unit, LOGICAL_US);
	CHECK_OK(logical_parse("timestamp[s,UTC]", &l));
	CHECK(l.utc && l.unit == LOGICAL_S);
	CHECK_OK(logical_parse("duration[ns]", &l));
	CHECK_OK(logical_parse("date", &l));
	CHECK_EQ(logical_parse("duration[ns,UTC]", &l), -EINVAL);
	CHECK_EQ(logical_parse("timestamp", &l), -EINVAL);
	CHECK_EQ(logical_parse("timestamp[h]", &l), -EINVAL);
}

UNIT_TEST(dtype_decimal)
{
	static const char *const bad[] = { "decimal", "decimal(", "decimal()", "decimal(9)", "decimal(9,)", "decimal(,2)", "decimal(0,0)",
					   "decimal(19,2)", "decimal(3,4)", "decimal(9,2", "decimal(9,2)x", "decimal(09,2)", "decimal(9,02)",
					   "decimal(9, 2)", "decimal(-1,0)", "decimal(9,2,UTC)", "decimal(256,0)", "decimal(9,00)" };
	static const struct {
		const char *text, *dtype;
		bool fits;
	} cases[] = { { "decimal(9,2)", "i32", true },  { "decimal(9,2)", "i64", true },  { "decimal(10,2)", "i32", false },
		      { "decimal(18,18)", "i64", true }, { "decimal(1,0)", "u32", false }, { "decimal(1,0)", "i16", false },
		      { "decimal(1,0)", "f64", false },  { "decimal(4,1)", "a:i32", false } };
	struct logical l;

	CHECK_OK(logical_parse("decimal(18,3)", &l));
	CHECK(l.kind == LOGICAL_DECIMAL && l.precision == 18 && l.scale == 3);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK_EQ(logical_parse(bad[i], &l), -EINVAL);
	CHECK(l.precision == 18 && l.scale == 3);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct dtype *d;

		CHECK_OK(logical_parse(cases[i].text, &l));
		CHECK_OK(dtype_parse(cases[i].dtype, &d));
		CHECK_EQ(logical_fits(&l, d), cases[i].fits);
		free(d);
	}
}

UNIT_TEST(blockmap_is_sparse)
{
	static const uint64_t blocks[] = { 0, 255, 256, 1000000, 4294967295ull };
	struct blockmap_entry *e;
	struct blockmap m;
	uint64_t at = 0;
	size_t found = 0;

	blockmap_init(&m);
	CHECK(!blockmap_find(&m, 0));
	CHECK(!blockmap_next(&m, 0, &at, &e));
	for (size_t i = 0; i < 5; i++) {
		CHECK_OK(blockmap_need(&m, blocks[i], &e));
		e->ref.frame_off = blocks[i] + 1;
	}
	CHECK_EQ(blockmap_need(&m, 1ull << 40, &e), -EFBIG);
	for (at = 0; blockmap_next(&m, at, &at, &e); at++) {
		if (!e->ref.frame_off)
			continue;
		CHECK(found < 5);
		CHECK_EQ(at, blocks[found]);
		CHECK_EQ(e->ref.frame_off, at + 1);
		found++;
	}
	CHECK_EQ(found, 5);
	CHECK(!blockmap_find(&m, 500000));
	CHECK(!blockmap_find(&m, 257));
	blockmap_fini(&m);
}

UNIT_TEST(blockmap_is_small)
{
	static const uint64_t blocks[] = { 0, 200, 1000 };
	struct blockmap_entry *e;
	struct blockmap m;

	for (size_t i = 0; i < 3; i++) {
		blockmap_init(&m);
		CHECK_OK(blockmap_need(&m, blocks[i], &e));
		CHECK(blockmap_bytes(&m) <= 160);
		blockmap_fini(&m);
	}
	blockmap_init(&m);
	for (uint64_t b = 0; b < 100000; b++)
		CHECK_OK(blockmap_need(&m, b, &e));
	CHECK(blockmap_bytes(&m) <= 100000 * 80);
	blockmap_fini(&m);
}

/* A store made by an enemy has blocks anywhere. */
UNIT_TEST(blockmap_is_small_wherever_the_blocks_are)
{
	struct blockmap_entry *e;
	struct blockmap m;

	blockmap_init(&m);
	CHECK_OK(blockmap_need(&m, (1ull << 33) - 1, &e));
	CHECK(blockmap_bytes(&m) <= 9u << 20);
	for (uint64_t i = 0; i < 1000; i++)
		CHECK_OK(blockmap_need(&m, i * 8589934, &e));
	CHECK(blockmap_bytes(&m) <= 10u << 20);
	blockmap_fini(&m);
}

/* Entries keep what is in them when the map grows, in whatever order that happens. */
UNIT_TEST(blockmap_grows_anywhere)
{
	struct blockmap_entry *e;
	struct blockmap m;
	uint64_t block = 1;

	blockmap_init(&m);
	for (unsigned i = 0; i < 5000; i++) {
		block = block * 6364136223846793005u + 1442695040888963407u;
		CHECK_OK(blockmap_need(&m, block >> 52, &e));
		CHECK(!e->ref.frame_off || e->ref.frame_off == (block >> 52) + 1);
		e->ref.frame_off = (block >> 52) + 1;
	}
	for (block = 600; block-- > 0;) {
		CHECK_OK(blockmap_need(&m, block, &e));
		e->ref.frame_off = block + 1;
	}
	for (block = 0; blockmap_next(&m, block, &block, &e); block++) {
		CHECK(e == blockmap_find(&m, block));
		CHECK(!e->ref.frame_off || e->ref.frame_off == block + 1);
	}
	CHECK(blockmap_find(&m, 599) && blockmap_find(&m, 0)->ref.frame_off == 1);
	blockmap_fini(&m);
}
