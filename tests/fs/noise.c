/*
 * noise BYTES [SEED]: writes incompressible bytes to standard output, the same for the same seed.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE_WORDS (1 << 17)

/* splitmix64 */
static uint64_t next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static int write_all(const void *buf, size_t size)
{
	for (const char *p = buf, *end = p + size; p < end;) {
		ssize_t n = write(1, p, (size_t)(end - p));

		if (n < 0 && errno != EINTR)
			return -errno;
		p += n > 0 ? n : 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static uint64_t piece[PIECE_WORDS];
	uint64_t left, state;

	if (argc < 2 || argc > 3) {
		fprintf(stderr, "usage: %s BYTES [SEED]\n", argv[0]);
		return 2;
	}
	left = strtoull(argv[1], NULL, 10);
	state = argc > 2 ? strtoull(argv[2], NULL, 10) << 32 : 0;
	while (left > 0) {
		size_t size = left < sizeof(piece) ? (size_t)left : sizeof(piece);
		int err;

		for (size_t i = 0; i < (size + 7) / 8; i++)
			piece[i] = next(&state);
		err = write_all(piece, size);
		if (err) {
			fprintf(stderr, "noise: %s\n", strerror(-err));
			return 1;
		}
		left -= size;
	}
	return 0;
}
