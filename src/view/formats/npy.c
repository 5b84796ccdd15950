/*
 * NumPy's .npy files: NEP 1, and lib/format.py of NumPy.
 *
 * Invariants:
 *  1. Data begins at a multiple of NPY_ALIGN, so that mapped elements are aligned as in the array itself.
 *  2. npy_parse takes what npy_header writes, and tells the same facts.
 */
#include "view/formats/npy.h"

#include <assert.h>
#include <inttypes.h>

#include "view/formats.h"

#define PREAMBLE 10u /* magic, version 1.0, length */

static const char *const codes[DTYPE_NSCALARS] = {
	[DTYPE_I8] = "|i1",  [DTYPE_I16] = "<i2", [DTYPE_I32] = "<i4", [DTYPE_I64] = "<i8", [DTYPE_U8] = "|u1",
	[DTYPE_U16] = "<u2", [DTYPE_U32] = "<u4", [DTYPE_U64] = "<u8", [DTYPE_F16] = "<f2", [DTYPE_F32] = "<f4",
	[DTYPE_F64] = "<f8", [DTYPE_C64] = "<c8", [DTYPE_C128] = "<c16", [DTYPE_BOOL] = "|b1",
};

void npy_type(struct view_text *t, enum dtype_scalar s, const struct logical *l)
{
	if (l && s == DTYPE_I64 && (l->kind == LOGICAL_TIMESTAMP || l->kind == LOGICAL_DURATION))
		view_text_add(t, "<%c8[%s]", l->kind == LOGICAL_TIMESTAMP ? 'M' : 'm', logical_unit_name(l->unit));
	else
		view_text_add(t, "%s", codes[s]);
}

static void add_descr(struct view_text *t, const struct dtype *d, const struct logical *l)
{
	view_text_add(t, "%s", d->record ? "[" : "'");
	for (uint32_t k = 0; k < d->nfields; k++) {
		const struct dtype_field *f = &d->fields[k];

		if (d->record)
			view_text_add(t, "%s('%.*s', '", k ? ", " : "", (int)f->name_len, f->name);
		npy_type(t, f->type, d->record ? NULL : l);
		if (d->record)
			view_text_add(t, "')");
	}
	view_text_add(t, "%s", d->record ? "]" : "'");
}

static void add_shape(struct view_text *t, const struct shape *s)
{
	view_text_add(t, "(");
	for (unsigned k = 0; k < s->ndims; k++)
		view_text_add(t, "%s%" PRIu64, k ? ", " : "", s->dims[k]);
	view_text_add(t, "%s)", s->ndims == 1 ? "," : "");
}

void npy_header(struct view_text *t, const struct dtype *d, const struct logical *l, const struct shape *s)
{
	size_t align, total;

	t->n = PREAMBLE;
	view_text_add(t, "{'descr': ");
	add_descr(t, d, l);
	view_text_add(t, ", 'fortran_order': %s, 'shape': ", s->fortran ? "True" : "False");
	add_shape(t, s);
	view_text_add(t, ", }");
	/* Without elements it is as short as NumPy's own: nothing can be mapped that begins where the file ends. */
	align = shape_count(s) ? NPY_ALIGN : NPY_ALIGN_EMPTY;
	total = (t->n + align) / align * align;
	view_text_add(t, "%*s", (int)(total - t->n), "\n");
	/* No type and shape are so long that the length would need the four bytes of version 2.0. */
	static_assert(VIEW_TEXT_MAX - PREAMBLE <= UINT16_MAX, "npy");
	t->s[0] = '\x93';
	for (size_t k = 1; k < 6; k++)
		t->s[k] = "\x93NUMPY"[k];
	t->s[6] = 1;
	t->s[7] = 0;
	t->s[8] = (char)((total - PREAMBLE) & 0xff);
	t->s[9] = (char)((total - PREAMBLE) >> 8);
}

int npy_lay(struct view *v, const struct view_input *in)
{
	struct view_text t;

	npy_header(&t, in->dtype, &in->logical, &in->shape);
	view_put(v, t.s, t.n);
	view_put_data(v, in->source, 0, in->count * in->dtype->bytes);
	return view_end(v);
}
