/*
 * See views.h. Of a Parquet file the data pages are found by their headers, and hold each element as four bytes.
 */
#include "views.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "sim.h"

#define NPY_ALIGN 64u
#define ELEMENT_BYTES 4u /* of a byte in Parquet */

void views_npy_path(const char *path, const char *ending, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, "views/npy/%.60s.npy%s", path, ending);
}

unsigned char *views_npy_make(uint32_t tag, size_t n, size_t *n_out)
{
	char dict[NPY_ALIGN * 2];
	size_t len = (size_t)snprintf(dict, sizeof(dict), "{'descr': '|u1', 'fortran_order': False, 'shape': (%zu,), }", n);
	size_t head = (10 + len + 1 + NPY_ALIGN - 1) / NPY_ALIGN * NPY_ALIGN;
	unsigned char *p = malloc(head + n + 1);

	memset(p, ' ', head);
	memcpy(p, "\x93NUMPY\1", 8);
	p[7] = 0;
	p[8] = (unsigned char)(head - 10);
	p[9] = (unsigned char)((head - 10) >> 8);
	memcpy(p + 10, dict, len);
	p[head - 1] = '\n';
	model_fill(tag, p + head, n);
	*n_out = head + n;
	return p;
}

static uint64_t read_varint(const unsigned char **p)
{
	uint64_t x = 0;

	for (unsigned shift = 0; shift < 64; shift += 7) {
		x |= (uint64_t)(**p & 0x7f) << shift;
		if (!(*(*p)++ & 0x80))
			break;
	}
	return x;
}

/* Goes behind a page header, whose fields are integers, and those of one struct: the bytes of its page. */
static size_t read_page_header(const unsigned char **p)
{
	uint64_t value, bytes = 0;
	unsigned id = 0, depth = 1;

	while (depth) {
		unsigned head = *(*p)++;

		if (!head) {
			depth--;
			continue;
		}
		id = depth == 1 ? id + (head >> 4) : id;
		if ((head & 15) == 12) {
			depth++;
			continue;
		}
		value = read_varint(p);
		if (depth == 1 && id == 3) /* compressed_page_size, zigzag */
			bytes = value >> 1;
	}
	return bytes;
}

int views_compare_parquet(struct tree *t, const char *path, const struct content *want)
{
	char view[PATH_BYTES];
	const unsigned char *p, *end;
	unsigned char *file;
	size_t n, at = 0;
	uint32_t footer;
	int err;

	snprintf(view, sizeof(view), "views/parquet/%.50s.parquet", path);
	err = client_read(t, view, &file, &n);
	if (err)
		return err;
	if (n < 12 || memcmp(file, "PAR1", 4) || memcmp(file + n - 4, "PAR1", 4))
		sim_fail("%s is no Parquet file", view);
	memcpy(&footer, file + n - 8, sizeof(footer));
	end = file + n - 8 - footer;
	for (p = file + 4; p < end;) {
		size_t bytes = read_page_header(&p);

		for (size_t i = 0; i < bytes; i += ELEMENT_BYTES, at++) {
			if (at >= want->size_bytes || p[i] != want->bytes[at] || p[i + 1] || p[i + 2] || p[i + 3])
				sim_fail("%s: element %zu is not what was written", view, at);
		}
		p += bytes;
	}
	if (at != want->size_bytes)
		sim_fail("%s: %zu elements, not %u", view, at, want->size_bytes);
	free(file);
	return 0;
}
