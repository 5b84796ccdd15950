/*
 * Numbers in text.
 */
#include "util/number.h"

#include <errno.h>
#include <string.h>

int number_scan(const char **text, uint64_t *out)
{
	const char *at = *text;
	uint64_t n = 0;

	if (*at < '0' || *at > '9')
		return -EINVAL;
	for (; *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
			return -ERANGE;
	}
	*text = at;
	*out = n;
	return 0;
}

int number_parse(const char *text, uint64_t *out)
{
	uint64_t n;
	int err = number_scan(&text, &n);

	if (err)
		return err;
	if (*text)
		return -EINVAL;
	*out = n;
	return 0;
}

int number_size(const char *text, uint64_t *out)
{
	static const char units[] = "KMGTkmgt";
	const char *unit;
	unsigned shift = 0;
	uint64_t n;
	int err = number_scan(&text, &n);

	if (err)
		return err;
	unit = *text ? strchr(units, *text) : NULL;
	if (unit) {
		shift = 10 * ((unsigned)(unit - units) % 4 + 1);
		text++;
	}
	if (*text)
		return -EINVAL;
	if (n > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*out = n << shift;
	return 0;
}

int number_of_name(const char *name, unsigned width, const char *suffix, uint64_t *out)
{
	const char *end = name;
	uint64_t n;

	if (number_scan(&end, &n) || n > INT64_MAX || strcmp(end, suffix))
		return -EINVAL;
	if (end - name < width || (end - name > width && *name == '0'))
		return -EINVAL;
	*out = n;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int number_hex_byte(const char *text)
{
	int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);

	return low < 0 ? -1 : high << 4 | low;
}
