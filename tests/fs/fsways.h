/*
 * Ways to read and write a file besides read and write: several parts at once by Linux's aio or io_uring (raw system calls: no
 * library is needed), and one range by any way. For one thread of each process.
 */
#ifndef TESTS_FSWAYS_H
#define TESTS_FSWAYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PARTS_MAX 4u

struct part {
	void *buf;
	size_t len;
	int64_t off;
	int64_t ret; /* out: bytes, or -errno */
};

enum way { WAY_CALL, WAY_VECTOR, WAY_AIO, WAY_URING, WAY_MAPPED, WAYS };

extern const char *const way_names[WAYS];

/* All parts at once; returns when all have ended. Ends the program when the kernel takes none. */
void ways_aio(int fd, bool write, struct part *parts, unsigned n);
void ways_uring(int fd, bool write, struct part *parts, unsigned n);
bool ways_has_uring(void);

/* Bytes or -errno. WAY_MAPPED: the range is within the file, and fd is open for reading and writing. */
int64_t ways_write(enum way way, int fd, const void *buf, size_t len, int64_t off);
int64_t ways_read(enum way way, int fd, void *buf, size_t len, int64_t off);
/* O_DIRECT for this open file, from here on. 0 or -errno. */
int ways_set_direct(int fd, bool on);

#endif
