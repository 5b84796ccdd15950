/*
 * The mark of a store.
 */
#include "store/mark.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "util/number.h"

#define VERSION_BEFORE "spillfs "
#define UUID_BEFORE "\nuuid "

int mark_uuid_new(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return -errno;
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	return 0;
}

void mark_uuid_text(const uint8_t u[16], char out[MARK_UUID_TEXT])
{
	snprintf(out, MARK_UUID_TEXT, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2],
		 u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

size_t mark_text(unsigned version, const uint8_t uuid[16], char out[MARK_TEXT_MAX])
{
	char text[MARK_UUID_TEXT];

	mark_uuid_text(uuid, text);
	return (size_t)snprintf(out, MARK_TEXT_MAX, VERSION_BEFORE "%u" UUID_BEFORE "%s\n", version, text);
}

unsigned mark_version(const char *text)
{
	uint64_t n;

	if (strncmp(text, VERSION_BEFORE, strlen(VERSION_BEFORE)))
		return 0;
	text += strlen(VERSION_BEFORE);
	switch (number_scan(&text, &n)) {
	case 0:
		return n > UINT_MAX ? UINT_MAX : (unsigned)n;
	case -ERANGE:
		return UINT_MAX;
	default:
		return 0;
	}
}

int mark_uuid(const char *text, uint8_t uuid[16])
{
	const char *begin = text;
	char again[MARK_TEXT_MAX];
	uint8_t u[16];
	size_t n;

	text = strchr(text, '\n');
	if (!text || strncmp(text, UUID_BEFORE, strlen(UUID_BEFORE)))
		return -EINVAL;
	text += strlen(UUID_BEFORE);
	for (int i = 0; i < 16; i++, text += 2) {
		bool dash = i == 4 || i == 6 || i == 8 || i == 10;
		int byte = dash && *text++ != '-' ? -1 : number_hex_byte(text);

		if (byte < 0)
			return -EINVAL;
		u[i] = (uint8_t)byte;
	}
	/* Only what mark_text writes; the last newline may be missing. */
	n = mark_text(mark_version(begin), u, again);
	if ((*text && *text != '\n') || strncmp(begin, again, n - 1))
		return -EINVAL;
	memcpy(uuid, u, sizeof(u));
	return 0;
}
