/*
 * .npy files: headers as NumPy writes them, and read back; what cannot be an array is refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "view/formats/npy.h"
#include "view_world.h"

static const struct {
	const char *dtype, *logical, *shape;
	bool fortran;
	const char *dict;
} headers[] = {
	{ "f64", NULL, "5", false, "{'descr': '<f8', 'fortran_order': False, 'shape': (5,), }" },
	{ "f64", NULL, "()", false, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }" },
	{ "f64", NULL, "3,4", true, "{'descr': '<f8', 'fortran_order': True, 'shape': (3, 4), }" },
	{ "f32", NULL, "0", false, "{'descr': '<f4', 'fortran_order': False, 'shape': (0,), }" },
	{ "f16", NULL, "2,0,3", false, "{'descr': '<f2', 'fortran_order': False, 'shape': (2, 0, 3), }" },
	{ "i8", NULL, "1", false, "{'descr': '|i1', 'fortran_order': False, 'shape': (1,), }" },
	{ "i16", NULL, "1", false, "{'descr': '<i2', 'fortran_order': False, 'shape': (1,), }" },
	{ "i32", NULL, "1", false, "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }" },
	{ "i64", NULL, "1", false, "{'descr': '<i8', 'fortran_order': False, 'shape': (1,), }" },
	{ "u8", NULL, "1", false, "{'descr': '|u1', 'fortran_order': False, 'shape': (1,), }" },
	{ "u16", NULL, "1", false, "{'descr': '<u2', 'fortran_order': False, 'shape': (1,), }" },
	{ "u32", NULL, "1", false, "{'descr': '<u4', 'fortran_order': False, 'shape': (1,), }" },
	{ "u64", NULL, "1", false, "{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }" },
	{ "c64", NULL, "1", false, "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }" },
	{ "c128", NULL, "1", false, "{'descr': '<c16', 'fortran_order': False, 'shape': (1,), }" },
	{ "bool", NULL, "1", false, "{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }" },
	{ "i64", "timestamp[us,UTC]", "9", false, "{'descr': '<M8[us]', 'fortran_order': False, 'shape': (9,), }" },
	{ "i64", "timestamp[ns]", "9", false, "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (9,), }" },
	{ "i64", "duration[ms]", "9", false, "{'descr': '<m8[ms]', 'fortran_order': False, 'shape': (9,), }" },
	{ "i64", "duration[s]", "9", false, "{'descr': '<m8[s]', 'fortran_order': False, 'shape': (9,), }" },
	{ "i32", "date", "9", false, "{'descr': '<i4', 'fortran_order': False, 'shape': (9,), }" },
	{ "pos:u32,lcp:i8", NULL, "7", false,
	  "{'descr': [('pos', '<u4'), ('lcp', '|i1')], 'fortran_order': False, 'shape': (7,), }" },
	{ "x:f64", NULL, "7", false, "{'descr': [('x', '<f8')], 'fortran_order': False, 'shape': (7,), }" },
};

static void check_parsed(const struct view_text *t, const struct dtype *d, const struct logical *l, const struct shape *s)
{
	struct npy_facts f;
	const char *why = "";
	size_t need = 0;

	for (size_t n = 0; n < t->n; n = need) {
		CHECK_EQ(npy_parse(t->s, n, &f, &need, &why), -EAGAIN);
		CHECK(need > n && need <= t->n);
	}
	CHECK_OK(npy_parse(t->s, t->n, &f, &need, &why));
	CHECK_EQ(f.data_off, t->n);
	CHECK(!strcmp(f.dtype, d->text));
	CHECK_EQ(f.shape.ndims, s->ndims);
	CHECK_EQ(f.shape.fortran, s->fortran);
	CHECK(!memcmp(f.shape.dims, s->dims, s->ndims * sizeof(*s->dims)));
	CHECK_EQ(f.logical.kind, l->kind == LOGICAL_DATE ? LOGICAL_NONE : l->kind);
	CHECK_EQ(f.logical.unit, l->unit);
}

UNIT_TEST(npy_headers_as_numpy_writes_them)
{
	static struct view_text t;

	for (size_t k = 0; k < sizeof(headers) / sizeof(*headers); k++) {
		size_t n = strlen(headers[k].dict), total;
		struct logical l = { 0 };
		struct dtype *d;
		struct shape s;

		CHECK_OK(dtype_parse(headers[k].dtype, &d));
		CHECK_OK(shape_parse(headers[k].shape, &s));
		s.fortran = headers[k].fortran;
		if (headers[k].logical)
			CHECK_OK(logical_parse(headers[k].logical, &l));
		npy_header(&t, d, &l, &s);
		total = shape_count(&s) ? 4096 : 128;
		CHECK_EQ(t.n, total);
		CHECK(!memcmp(t.s, total == 4096 ? "\x93NUMPY\x01\x00\xf6\x0f" : "\x93NUMPY\x01\x00\x76\x00", 10));
		CHECK(!memcmp(t.s + 10, headers[k].dict, n));
		CHECK_EQ(strspn(t.s + 10 + n, " "), total - 10 - n - 1);
		CHECK_EQ(t.s[total - 1], '\n');
		check_parsed(&t, d, &l, &s);
		free(d);
	}
}

UNIT_TEST(npy_long_headers_stay_aligned)
{
	static struct view_text t;
	const struct logical none = { 0 };
	struct shape s = { .ndims = 32 };
	char text[DTYPE_TEXT_MAX + 1];
	struct dtype *d;
	size_t n = 0;

	for (unsigned k = 0; k < 32; k++)
		s.dims[k] = k ? 0 : (uint64_t)INT64_MAX / 1000;
	for (unsigned k = 0; n + 10 < sizeof(text); k++)
		n += (size_t)sprintf(text + n, "%sf%u:u8", n ? "," : "", k);
	CHECK_OK(dtype_parse(text, &d));
	npy_header(&t, d, &none, &s);
	CHECK_EQ(t.n % 64, 0);
	check_parsed(&t, d, &none, &s);
	free(d);
	/* The length at which a second page begins is the header's with its newline. */
	for (unsigned k = 0; k < 32; k++)
		s.dims[k] = 1;
	for (n = 10; n < 1000; n++) {
		snprintf(text, sizeof(text), "%0*d:u8", (int)n, 0);
		text[0] = 'a';
		CHECK_OK(dtype_parse(text, &d));
		s.dims[1] = 0;
		npy_header(&t, d, &none, &s);
		CHECK(t.n % 64 == 0 && t.n < n + 700 && t.s[t.n - 1] == '\n');
		check_parsed(&t, d, &none, &s);
		s.dims[1] = 1;
		npy_header(&t, d, &none, &s);
		CHECK(t.n % 4096 == 0 && t.s[t.n - 1] == '\n');
		check_parsed(&t, d, &none, &s);
		free(d);
	}
}

#define ENTRIES(descr, order, shape) "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"
#define TYPE(descr) ENTRIES(descr, "False", "(5,)")
#define SHAPE(shape) ENTRIES("'<f8'", "False", shape)

static int parse_dict(const char *dict, unsigned version, struct npy_facts *f, const char **why)
{
	size_t n = strlen(dict), head = version == 1 ? 10 : 12, need = 0;
	uint8_t *p = malloc(head + n);
	int err;

	memcpy(p, "\x93NUMPY", 6);
	p[6] = (uint8_t)version;
	p[7] = 0;
	for (size_t k = 8; k < head; k++)
		p[k] = (uint8_t)(n >> 8 * (k - 8));
	memcpy(p + head, dict, n);
	err = npy_parse(p, head + n, f, &need, why);
	if (!err)
		CHECK_EQ(f->data_off, head + n);
	free(p);
	return err;
}

UNIT_TEST(npy_takes_what_numpy_takes)
{
	static const struct {
		const char *dict, *dtype, *shape;
	} taken[] = {
		{ "{\"shape\":(5L,6L),\"fortran_order\":True,\"descr\":\"=f4\"}", "f32", "5,6" },
		{ " {\t'fortran_order' :\nFalse , 'descr':'<i2','shape' : ( 5 , ) } \n", "i16", "5" },
		{ TYPE("'f8'"), "f64", "5" },
		{ TYPE("'>i1'"), "i8", "5" },
		{ TYPE("'<b1'"), "bool", "5" },
		{ TYPE("[('a', '<u4'), (\"b\", '|u1',),]"), "a:u32,b:u8", "5" },
		{ SHAPE("()"), "f64", "()" },
		{ SHAPE("(0,)"), "f64", "0" },
		{ SHAPE("(1152921504606846975,)"), "f64", "1152921504606846975" },
		{ ENTRIES("'|u1'", "False", "(9223372036854775807,)"), "u8", "9223372036854775807" },
		{ SHAPE("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)"), "f64",
		  "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1" },
	};

	for (size_t k = 0; k < sizeof(taken) / sizeof(*taken); k++) {
		for (unsigned version = 1; version <= 3; version++) {
			char shape[SHAPE_TEXT_MAX];
			const char *why = "";
			struct npy_facts f;
			int err = parse_dict(taken[k].dict, version, &f, &why);

			if (err)
				unit_fail(__FILE__, __LINE__, "%s: %s", taken[k].dict, why);
			shape_text(&f.shape, shape);
			CHECK(!strcmp(f.dtype, taken[k].dtype) && !strcmp(shape, taken[k].shape));
		}
	}
}

UNIT_TEST(npy_refuses_the_rest)
{
	static const char *const refused[] = {
		"", "{", "{}", "5", "[]", "{'descr': '<f8'}", "{'descr': '<f8', 'fortran_order': False}",
		"{'descr': '<f8', 'descr': '<f8', 'fortran_order': False, 'shape': (5,), }",
		"{'descr': '<f8', 'fortran_order': False, 'shape': (5,), 'more': 1}",
		"{'descr': '<f8' 'fortran_order': False, 'shape': (5,)}",
		"{'descr': '<f8', 'fortran_order': False, 'shape': (5,), ,}",
		"{'descr': '<f8', 'fortran_order': False, 'shape': (5,), } x",
		"{'descr': '<f8', 'fortran_order': False, 'shape': (5,), # }\n}",
		"{'descr': '<f8', 'fortran_order': 0, 'shape': (5,)}",
		"{'descr': '<f8', 'fortran_order': Falsey, 'shape': (5,)}",
		"{'descr: '<f8', 'fortran_order': False, 'shape': (5,)}",
		"{'descr': '<f8', 'fortran_order': False, 'shape': (5,",
		SHAPE("5"), SHAPE("(5)"), SHAPE("[5]"), SHAPE("(,)"), SHAPE("(-5,)"), SHAPE("(5,,6)"), SHAPE("(5 6)"), SHAPE("(5l,)"), SHAPE("(5,)\r"),
		SHAPE("(05,)"), SHAPE("(0x5,)"), SHAPE("(5.0,)"), SHAPE("(1_0,)"), SHAPE("(None,)"), SHAPE("((5,),)"),
		SHAPE("(9223372036854775808,)"), SHAPE("(99999999999999999999999,)"), SHAPE("(1152921504606846976,)"),
		SHAPE("(4294967296, 4294967296)"), SHAPE("(4294967296, 0, 4294967296)"), SHAPE("(9223372036854775807, 0)"),
		SHAPE("(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)"),
		TYPE("''"), TYPE("'<'"), TYPE("'|O'"), TYPE("'O'"), TYPE("'|S5'"), TYPE("'<U5'"), TYPE("'|V4'"),
		TYPE("'>f8'"), TYPE("'>M8[us]'"), TYPE("'<f16'"), TYPE("'<c32'"), TYPE("'<i3'"), TYPE("'<b2'"), TYPE("'<f'"),
		TYPE("'<M8'"), TYPE("'<M8[D]'"), TYPE("'<M8[us'"), TYPE("'<M8[25s]'"), TYPE("'<m8[]'"), TYPE("'<<f8'"),
		TYPE("'<f8 '"), TYPE("'<f8' ''"), TYPE("'\\x3cf8'"), TYPE("b'<f8'"), TYPE("u'<f8'"), TYPE("None"),
		TYPE("[]"), TYPE("[('a')]"), TYPE("['a']"), TYPE("[('a', '<f8'"), TYPE("[('a', '<f8']"), TYPE("('<f8', (2,))"),
		TYPE("[('', '|V4')]"), TYPE("[('', '<f8')]"), TYPE("[('a', '<f8', (2,))]"), TYPE("[(('t', 'a'), '<f8')]"),
		TYPE("[('a', [('b', '<f8')])]"), TYPE("[('a', '<M8[us]')]"), TYPE("[('a', '|O')]"), TYPE("[('a', '>f8')]"),
		TYPE("[('a', '<f8'), ('a', '<f8')]"), TYPE("[('a b', '<f8')]"), TYPE("[('1', '<f8')]"),
		TYPE("[('a,b', '<f8')]"), TYPE("[('a:u8,b', '<f8')]"), TYPE("[('\xc3\xa4', '<f8')]"),
		TYPE("[('a', '<f8') ('b', '<f8')]"), TYPE("{'names': ['a'], 'formats': ['<f8'], 'offsets': [0]}"),
	};

	for (size_t k = 0; k < sizeof(refused) / sizeof(*refused); k++) {
		const char *why = NULL;
		struct npy_facts f;

		if (parse_dict(refused[k], 1 + k % 3, &f, &why) != -EINVAL || !why)
			unit_fail(__FILE__, __LINE__, "taken: %s", refused[k]);
	}
}

UNIT_TEST(npy_refuses_a_wrong_start_early)
{
	static const struct {
		const char *p;
		size_t n;
		int err;
		size_t need;
	} starts[] = {
		{ "", 0, -EAGAIN, 8 },		      { "\x93NUM", 4, -EAGAIN, 8 },
		{ "PK", 2, -EINVAL, 0 },	      { "\x93NUMPY\x04", 7, -EINVAL, 0 },
		{ "\x93NUMPY\x01\x01", 8, -EINVAL, 0 }, { "\x93NUMPY\x01\x00", 8, -EAGAIN, 10 },
		{ "\x93NUMPY\x02\x00", 8, -EAGAIN, 12 }, { "\x93NUMPY\x01\x00\x76\x00", 10, -EAGAIN, 128 },
		{ "\x93NUMPY\x02\x00\x00\x00\x10\x00", 12, -EAGAIN, 12 + (1 << 20) },
		{ "\x93NUMPY\x02\x00\x01\x00\x10\x00", 12, -EINVAL, 0 },
		{ "\x93NUMPY\x03\x00\xff\xff\xff\xff", 12, -EINVAL, 0 },
	};

	for (size_t k = 0; k < sizeof(starts) / sizeof(*starts); k++) {
		const char *why = NULL;
		struct npy_facts f;
		size_t need = 0;

		CHECK_EQ(npy_parse(starts[k].p, starts[k].n, &f, &need, &why), starts[k].err);
		CHECK_EQ(need, starts[k].need);
		CHECK((why != NULL) == (starts[k].err == -EINVAL));
	}
}

UNIT_TEST(npy_files)
{
	static const enum array_kind kinds[] = { ARRAY_LAYERED, ARRAY_COLUMN, ARRAY_BUCKET };
	struct world w;

	view_world_open(&w);
	for (size_t k = 0; k < 3 * sizeof(headers) / sizeof(*headers); k++) {
		enum array_kind kind = kinds[k % 3];
		uint32_t elem;
		size_t n, head;
		uint8_t p[4096], *got;
		struct view_input in;
		struct array *a;
		struct view *v;
		struct shape s;
		char path[64];

		CHECK_OK(dtype_size(headers[k / 3].dtype, &elem));
		CHECK_OK(shape_parse(headers[k / 3].shape, &s));
		n = shape_count(&s) * elem;
		for (size_t i = 0; i < n + 3; i++)
			p[i] = !strcmp(headers[k / 3].dtype, "bool") ? i % 3 == 0 : (uint8_t)(i * 7 + 5);
		/* What is no whole row does not show. */
		a = view_world_array(&w, kind, p, n + (n > elem && elem > 3 ? 3 : 0), 0, CODEC_POLICY_AUTO, headers[k / 3].dtype);
		CHECK_OK(view_new(&v));
		in = view_world_input(v, view_world_source(v, a), "x", headers[k / 3].dtype, headers[k / 3].shape);
		in.shape.fortran = headers[k / 3].fortran;
		if (headers[k / 3].logical)
			CHECK_OK(logical_parse(headers[k / 3].logical, &in.logical));
		CHECK_OK(npy_lay(v, &in));
		free((void *)in.dtype);
		got = view_world_read(&w, v, &n);
		head = shape_count(&s) ? 4096 : 128;
		CHECK_EQ(n, head + shape_count(&s) * elem);
		CHECK(!memcmp(got + head, p, n - head));
		CHECK(!memcmp(got + 10, headers[k / 3].dict, strlen(headers[k / 3].dict)));
		snprintf(path, sizeof(path), "npy/%zu.npy", k);
		view_world_save(path, got, n);
		snprintf(path, sizeof(path), "npy/%zu.raw", k);
		view_world_save(path, p, n - head);
		free(got);
		array_close(a);
	}
	world_close(&w);
}
