/*
 * Text as the commands read and print it.
 *
 * Invariants:
 * 1. Nothing that is printed as a name contains a control character.
 * 2. A printed row ends with its last cell that is not empty: no spaces follow.
 */
#include "tool/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/number.h"

static int read_all(int fd, char **out)
{
	size_t n = 0, cap = 0;
	char *text = NULL;
	ssize_t got;

	do {
		if (n + 4096 > cap) {
			char *more = realloc(text, cap = cap * 2 + 8192);

			if (!more) {
				free(text);
				return -ENOMEM;
			}
			text = more;
		}
		got = read(fd, text + n, cap - n - 1);
		if (got < 0 && errno != EINTR) {
			int err = -errno;

			free(text);
			return err;
		}
		n += got > 0 ? (size_t)got : 0;
	} while (got);
	text[n] = '\0';
	*out = text;
	return 0;
}

int text_read_at(int dir, const char *path, char **out)
{
	int fd = openat(dir, path, O_RDONLY | O_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	err = read_all(fd, out);
	close(fd);
	return err;
}

struct text_size text_size(uint64_t bytes)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	struct text_size text;
	double n = (double)bytes;
	size_t u = 0;

	for (; n >= 1023.95 && u < 5; u++)
		n /= 1024;
	snprintf(text.s, sizeof(text.s), u ? "%.1f %s" : "%.0f %s", n, units[u]);
	return text;
}

static bool is_control(unsigned char c)
{
	return c < 0x20 || c == 0x7f;
}

void text_decode(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		int byte = *from == '%' ? number_hex_byte(from + 1) : -1;

		if (byte < 0 || is_control((unsigned char)byte)) {
			*to++ = is_control((unsigned char)*from) ? '?' : *from;
			continue;
		}
		*to++ = (char)byte;
		from += 2;
	}
	*to = '\0';
}

char *text_encode(const char *name)
{
	static const char hex[] = "0123456789ABCDEF";
	bool dots = strstr(name, "..") || name[0] == '.' || (*name && name[strlen(name) - 1] == '.');
	char *out = malloc(strlen(name) * 3 + 1), *to = out;

	if (!out)
		return NULL;
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (!is_control(c) && c != ' ' && c != '%' && c != ',' && !(c == '.' && dots)) {
			*to++ = *name;
			continue;
		}
		*to++ = '%';
		*to++ = hex[c >> 4];
		*to++ = hex[c & 15];
	}
	*to = '\0';
	return out;
}

void text_fit(struct text_column *columns, size_t n, const char *const *cells)
{
	for (size_t i = 0; i < n; i++) {
		int len = (int)strlen(cells[i]);

		if (len > columns[i].width)
			columns[i].width = len;
	}
}

void text_row(FILE *to, const struct text_column *columns, size_t n, const char *const *cells)
{
	bool first = true;

	while (n && !*cells[n - 1])
		n--;
	for (size_t i = 0; i < n; i++) {
		if (!columns[i].width)
			continue;
		if (!first)
			fputs(columns[i].before, to);
		first = false;
		if (columns[i].right)
			fprintf(to, "%*s", columns[i].width, cells[i]);
		else
			fprintf(to, "%-*s", i + 1 < n ? columns[i].width : 0, cells[i]);
	}
	putc('\n', to);
}
