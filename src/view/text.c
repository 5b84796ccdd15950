/*
 * Composing texts. No state.
 */
#include "view/text.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

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
