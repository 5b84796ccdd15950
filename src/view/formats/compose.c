/*
 * Composing texts. No state.
 */
#include "view/formats/compose.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void view_text_add(struct view_text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(t->s + t->n, sizeof(t->s) - t->n, fmt, ap);
	va_end(ap);
	assert(n >= 0 && (size_t)n < sizeof(t->s) - t->n);
	t->n += (size_t)n;
}

/* Bytes of the well-formed UTF-8 sequence that a string begins with; 0: none. */
static size_t utf8_len(const unsigned char *s)
{
	unsigned low = 0x80, high = 0xBF; /* of the second byte */
	size_t n = *s < 0x80 ? 1 : *s < 0xC2 ? 0 : *s < 0xE0 ? 2 : *s < 0xF0 ? 3 : *s < 0xF5 ? 4 : 0;

	if (*s == 0xE0)
		low = 0xA0;
	else if (*s == 0xED)
		high = 0x9F; /* no surrogates */
	else if (*s == 0xF0)
		low = 0x90;
	else if (*s == 0xF4)
		high = 0x8F;
	for (size_t i = 1; i < n; i++) {
		if (s[i] < low || s[i] > high)
			return 0;
		low = 0x80;
		high = 0xBF;
	}
	return n;
}

char *view_utf8(const char *name)
{
	const unsigned char *s = (const unsigned char *)name;
	char *text = malloc(3 * strlen(name) + 1), *p = text;

	while (text && *s) {
		size_t len = utf8_len(s);

		p = len ? mempcpy(p, s, len) : p + sprintf(p, "%%%02X", *s);
		s += len ? len : 1;
	}
	if (text)
		*p = '\0';
	return text;
}
