/*
 * The list of a store's directories on other disks, and their marks.
 *
 * Invariant: a text that disklist_text writes is the only one that is read: a list that was cut short is none.
 */
#include "store/disklist.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/mark.h"
#include "util/number.h"
#include "util/vec.h"

#define LIST_BEFORE "spillfs-disks 1\nuuid "
#define MARK_BEFORE "spillfs-disk 1\nuuid "
#define MARK_NUMBER "\nnumber "
#define MOUNTS_BEFORE "mounts "
#define UUID_CHARS (MARK_UUID_TEXT - 1)

const char *const disklist_folders[] = { "pool", "layers", NULL };

void disklist_fini(struct disklist *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].path);
	memset(l, 0, sizeof(*l));
}

static unsigned next_number(const struct disklist *l)
{
	unsigned behind = l->n ? l->v[l->n - 1].number + 1 : 1;

	return l->next > behind ? l->next : behind;
}

int disklist_add(struct disklist *l, unsigned number, bool draining, const char *path)
{
	size_t at = l->n;
	char *copy;

	if (l->n == DISKLIST_MAX)
		return -E2BIG;
	if (!number)
		number = next_number(l);
	while (at && l->v[at - 1].number > number)
		at--;
	if (path[0] != '/' || strchr(path, '\n') || (at && l->v[at - 1].number == number))
		return -EINVAL;
	copy = strdup(path);
	if (!copy)
		return -ENOMEM;
	VEC_INSERT(l->v, l->n, at, (struct disklist_row){ number, draining, copy });
	return 0;
}

bool disklist_gave(const struct disklist *l, unsigned number)
{
	return number < next_number(l);
}

struct disklist_row *disklist_find(struct disklist *l, unsigned number)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].number == number)
			return &l->v[i];
	return NULL;
}

struct disklist_row *disklist_find_path(struct disklist *l, const char *path)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i].path, path))
			return &l->v[i];
	return NULL;
}

void disklist_remove(struct disklist *l, unsigned number)
{
	struct disklist_row *row = disklist_find(l, number);

	if (!row)
		return;
	l->next = next_number(l);
	free(row->path);
	VEC_REMOVE(l->v, l->n, (size_t)(row - l->v));
}

/* The uuid in its only spelling. */
static int parse_uuid(const char *text, uint8_t uuid[16])
{
	char mark[MARK_TEXT_MAX];

	if (strlen(text) < UUID_CHARS)
		return -EINVAL;
	snprintf(mark, sizeof(mark), "spillfs 2\nuuid %.*s\n", (int)UUID_CHARS, text);
	return mark_uuid(mark, uuid);
}

/* "disk 3 /path" or "draining 3 /path"; *text is behind its newline then. */
static int parse_row(const char **text, struct disklist *l)
{
	const char *at = *text, *end = strchr(at, '\n');
	bool draining = !strncmp(at, "draining ", 9);
	uint64_t number;
	char *path;
	int err;

	if (!end || (!draining && strncmp(at, "disk ", 5)))
		return -EINVAL;
	at += draining ? 9 : 5;
	if (number_scan(&at, &number) || *at++ != ' ' || !number || number > UINT32_MAX)
		return -EINVAL;
	path = strndup(at, (size_t)(end - at));
	if (!path)
		return -ENOMEM;
	err = disklist_add(l, (unsigned)number, draining, path);
	free(path);
	*text = end + 1;
	return err == -E2BIG ? -EINVAL : err;
}

/* "next 3". */
static int parse_next(const char **text, struct disklist *l)
{
	const char *at = *text + 5;
	uint64_t number;

	if (number_scan(&at, &number) || *at++ != '\n' || number > UINT32_MAX)
		return -EINVAL;
	l->next = (unsigned)number;
	*text = at;
	return 0;
}

/* "mounts 3". */
static int parse_mounts(const char **text, uint64_t *out)
{
	const char *at = *text + strlen(MOUNTS_BEFORE);

	/* The next one has to be a number, too. */
	if (number_scan(&at, out) || *at++ != '\n' || *out == UINT64_MAX)
		return -EINVAL;
	*text = at;
	return 0;
}

static int parse_line(const char **text, struct disklist *l)
{
	if (!strncmp(*text, "next ", 5))
		return parse_next(text, l);
	if (!strncmp(*text, MOUNTS_BEFORE, strlen(MOUNTS_BEFORE)))
		return parse_mounts(text, &l->mounts);
	return parse_row(text, l);
}

int disklist_uuid(const char *text, uint8_t uuid[16])
{
	return strncmp(text, LIST_BEFORE, strlen(LIST_BEFORE)) ? -EINVAL : parse_uuid(text + strlen(LIST_BEFORE), uuid);
}

int disklist_parse(const char *text, const uint8_t uuid[16], struct disklist *out)
{
	struct disklist l = { .n = 0 };
	uint8_t found[16];
	char *again;
	int err = 0;

	if (disklist_uuid(text, found) || memcmp(found, uuid, 16))
		return -EINVAL;
	for (const char *at = text + strlen(LIST_BEFORE) + UUID_CHARS + 1; *at && !err;)
		err = parse_line(&at, &l);
	again = err ? NULL : disklist_text(&l, uuid);
	if (!err)
		err = !again ? -ENOMEM : strcmp(again, text) ? -EINVAL : 0;
	free(again);
	if (err)
		disklist_fini(&l);
	else
		*out = l;
	return err;
}

char *disklist_text(const struct disklist *l, const uint8_t uuid[16])
{
	char uuid_text[MARK_UUID_TEXT], *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	mark_uuid_text(uuid, uuid_text);
	fprintf(f, LIST_BEFORE "%s\n", uuid_text);
	for (size_t i = 0; i < l->n; i++)
		fprintf(f, "%s %u %s\n", l->v[i].draining ? "draining" : "disk", l->v[i].number, l->v[i].path);
	if (l->next > (l->n ? l->v[l->n - 1].number + 1 : 1))
		fprintf(f, "next %u\n", l->next);
	if (l->mounts)
		fprintf(f, MOUNTS_BEFORE "%" PRIu64 "\n", l->mounts);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

size_t disklist_mark_text(const struct disklist_mark *m, char out[DISKLIST_MARK_MAX])
{
	char text[MARK_UUID_TEXT];
	int n;

	mark_uuid_text(m->uuid, text);
	n = snprintf(out, DISKLIST_MARK_MAX, MARK_BEFORE "%s" MARK_NUMBER "%u\n", text, m->number);
	if (m->mounts)
		n += snprintf(out + n, DISKLIST_MARK_MAX - (size_t)n, MOUNTS_BEFORE "%" PRIu64 "\n", m->mounts);
	return (size_t)n;
}

int disklist_mark_parse(const char *text, struct disklist_mark *out)
{
	struct disklist_mark m = { .number = 0 };
	char again[DISKLIST_MARK_MAX];
	uint64_t n;
	const char *at = text + strlen(MARK_BEFORE) + UUID_CHARS;

	if (strncmp(text, MARK_BEFORE, strlen(MARK_BEFORE)) || parse_uuid(text + strlen(MARK_BEFORE), m.uuid) ||
	    strncmp(at, MARK_NUMBER, strlen(MARK_NUMBER)))
		return -EINVAL;
	at += strlen(MARK_NUMBER);
	if (number_scan(&at, &n) || !n || n > UINT32_MAX)
		return -EINVAL;
	m.number = (unsigned)n;
	if (!strncmp(at, "\n" MOUNTS_BEFORE, strlen("\n" MOUNTS_BEFORE))) {
		at++;
		if (parse_mounts(&at, &m.mounts))
			return -EINVAL;
	}
	disklist_mark_text(&m, again);
	if (strcmp(text, again))
		return -EINVAL;
	*out = m;
	return 0;
}
