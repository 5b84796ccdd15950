/*
 * Is an array read from front to back? The kernel has several requests of one reader at work at once, each of many blocks,
 * and they get here in any order: a read belongs to the stream if it is of a block that was decoded ahead for it, or one
 * that the stream has left not long ago.
 *
 * Any thread may call, without a lock: two at once may get the same blocks to decode ahead.
 */
#ifndef SPILLFS_ARRAY_STREAM_H
#define SPILLFS_ARRAY_STREAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Relaxed atomics, in blocks. */
struct stream {
	_Atomic uint64_t at;     /* where it is: at first before block 0 */
	_Atomic uint64_t ahead;  /* the last block that is decoded ahead */
	_Atomic uint64_t credit; /* those that were read, less those that were left out; 0: not yet a stream */
	_Atomic uint64_t passed; /* blocks before it have been read in passing */
};

void stream_init(struct stream *s);
/* The stream's window, in blocks of so many bytes. */
uint64_t stream_window(uint32_t block_bytes);
/* A read of `block`, to its end or not; the blocks from *first to before *end are to be decoded ahead: about as many as the stream
 * has read so far, up to the window. True: it is a read of a stream. */
bool stream_follow(struct stream *s, uint64_t block, bool to_end, uint64_t window, uint64_t *first, uint64_t *end);
/* `block` was read to its end by a stream. Was it passed for the first time? If not, the kernel asks again for what it
 * was given before, as it has no memory to keep it. */
bool stream_pass(struct stream *s, uint64_t block, uint64_t window);

#endif
