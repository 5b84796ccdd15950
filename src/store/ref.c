/*
 * Reading and writing the names of layers in HEAD and refs/.
 *
 * Invariant: only what the writers here write is taken.
 */
#include "store/ref.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block/layer.h"

/* The layer whose file name the text begins with, n bytes long. */
static int parse_name(const char *text, size_t n, uint64_t *out)
{
	char name[LAYER_NAME_MAX];

	if (n >= sizeof(name))
		return -EINVAL;
	memcpy(name, text, n);
	name[n] = '\0';
	return layer_name_parse(name, out);
}

int ref_head_parse(const char *text, uint64_t *layer_out)
{
	size_t n = strcspn(text, "\n");

	return strcmp(text + n, "\n") ? -EINVAL : parse_name(text, n, layer_out);
}

int ref_parse(const char *text, uint64_t *layer_out, int64_t *time_ns_out)
{
	size_t n = strcspn(text, " ");
	int64_t time_ns = text[n] ? strtoll(text + n + 1, NULL, 10) : 0;
	char again[REF_TEXT_MAX];
	uint64_t layer;
	int err = parse_name(text, n, &layer);

	if (err)
		return err;
	ref_text(layer, time_ns, again);
	if (strcmp(text, again))
		return -EINVAL;
	*layer_out = layer;
	*time_ns_out = time_ns;
	return 0;
}

void ref_head_text(uint64_t layer, char out[REF_TEXT_MAX])
{
	layer_name(layer, out);
	strcat(out, "\n");
}

void ref_text(uint64_t layer, int64_t time_ns, char out[REF_TEXT_MAX])
{
	char name[LAYER_NAME_MAX];

	layer_name(layer, name);
	snprintf(out, REF_TEXT_MAX, "%s %" PRId64 "\n", name, time_ns);
}

void ref_path(const char *name, char out[REF_PATH_MAX])
{
	snprintf(out, REF_PATH_MAX, "layers/refs/%s", name);
}
