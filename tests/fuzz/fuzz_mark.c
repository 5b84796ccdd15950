/*
 * Fuzz target: a text as the mark of a store, as layers/HEAD, as a file of layers/refs/, and as the name of a layer. What is taken is
 * written again as it was.
 */
#include <errno.h>

#include "block/layer.h"
#include "fuzz.h"
#include "store/mark.h"
#include "store/ref.h"

/* Behind the uuid a mark may say more, and its last newline may be missing. */
static void try_mark(const char *text)
{
	char again[MARK_TEXT_MAX], uuid_text[MARK_UUID_TEXT];
	unsigned version = mark_version(text);
	uint8_t uuid[16];
	size_t n;

	if (mark_uuid(text, uuid))
		return;
	CHECK(version);
	n = mark_text(version, uuid, again);
	CHECK(n < sizeof(again) && n == strlen(again) && !strncmp(text, again, n - 1));
	mark_uuid_text(uuid, uuid_text);
	CHECK(strstr(again, uuid_text));
}

static void try_names(const char *text)
{
	char again[REF_TEXT_MAX];
	uint64_t layer;
	int64_t time_ns;

	if (!ref_head_parse(text, &layer)) {
		ref_head_text(layer, again);
		CHECK(!strcmp(text, again));
	}
	if (!ref_parse(text, &layer, &time_ns)) {
		ref_text(layer, time_ns, again);
		CHECK(!strcmp(text, again));
	}
	if (!layer_name_parse(text, &layer)) {
		layer_name(layer, again);
		CHECK(!strcmp(text, again));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	char *text = fuzz_text(&in, '\0');

	try_mark(text);
	try_names(text);
	free(text);
	return 0;
}
