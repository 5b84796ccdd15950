/*
 * Fuzz target: the start of an .npy file. What is accepted is written again and must say the same; and however the bytes
 * arrive, piece by piece, the answer is the same.
 */
#include <errno.h>

#include "fuzz.h"
#include "view/formats/npy.h"

/* A parser that reads behind n is seen by the sanitizer. */
static int parse(const uint8_t *data, size_t n, struct npy_facts *f, size_t *need)
{
	uint8_t *exact = fuzz_copy(data, n);
	const char *why = NULL;
	int err;

	err = npy_parse(exact, n, f, need, &why);
	CHECK(err == 0 || err == -EAGAIN || err == -EINVAL);
	CHECK((err == -EINVAL) == (why != NULL));
	CHECK(err != -EAGAIN || *need > n);
	free(exact);
	return err;
}

static void check_same(const struct npy_facts *a, const struct npy_facts *b)
{
	CHECK(!strcmp(a->dtype, b->dtype) && a->logical.kind == b->logical.kind && a->logical.unit == b->logical.unit);
	CHECK(a->shape.ndims == b->shape.ndims && a->shape.fortran == b->shape.fortran);
	for (unsigned k = 0; k < a->shape.ndims; k++)
		CHECK(a->shape.dims[k] == b->shape.dims[k]);
}

static void round_trip(const struct npy_facts *f)
{
	static struct view_text t;
	struct npy_facts again;
	struct dtype *d;
	size_t need;

	CHECK(!dtype_parse(f->dtype, &d));
	CHECK(logical_fits(&f->logical, d));
	npy_header(&t, d, &f->logical, &f->shape);
	CHECK(t.n % (shape_count(&f->shape) ? NPY_ALIGN : NPY_ALIGN_EMPTY) == 0);
	CHECK(!parse((const uint8_t *)t.s, t.n, &again, &need) && again.data_off == t.n);
	check_same(f, &again);
	free(d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct npy_facts all, some;
	size_t need = 0, want = 0, at;
	int err = parse(data, size, &all, &need), part;

	/* As a program writes it: each time what was asked for, and at last all there is. */
	do {
		at = want < size ? want : size;
		part = parse(data, at, &some, &want);
	} while (part == -EAGAIN && at < size);
	CHECK(part == err && (err != -EAGAIN || want == need));
	if (err)
		return 0;
	CHECK(all.data_off <= size && all.data_off == some.data_off);
	check_same(&all, &some);
	round_trip(&all);
	return 0;
}
