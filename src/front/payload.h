/*
 * The bytes of a write, at the beginning of a page. They follow 80 bytes of headers, and libfuse before 3.17 reads a request to
 * wherever malloc put its buffer: the kernel copies each of its pages in two parts then, and a direct transfer needs a third copy
 * to be aligned. Behind the headers that buffer has room to spare, which is as much as the bytes have to move.
 */
#ifndef SPILLFS_FRONT_PAYLOAD_H
#define SPILLFS_FRONT_PAYLOAD_H

#include <sys/types.h>

/* The most that a write carries. */
#define PAYLOAD_MAX_BYTES (1u << 20)

/* As read(2) of a request, except that payload_find tells where the bytes of a write are, until this thread reads the next request. */
ssize_t payload_read(int fd, void *buf, size_t len);
/* The bytes of the write that this thread has read, which libfuse looks for at `shown`. */
const char *payload_find(const char *shown);

#endif
