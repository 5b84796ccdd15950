/*
 * The compressed form of a piece's pages, for the disk of io/piece: one zstd frame of all pages that are data, one after the other, filled
 * with zeros to whole pages. Private to io/.
 *
 * Memory: one context for each caller at a time, 1 MiB to compress and 160 KiB to decompress; a few idle ones are kept. Thread-safe.
 */
#ifndef SPILLFS_IO_PACK_H
#define SPILLFS_IO_PACK_H

#include <stdint.h>

#include "io/frames.h"
#include "util/lock.h"

#define PACKER_IDLE_MAX 4u

struct packer {
	struct lock lock;              /* all below */
	void *idle[2][PACKER_IDLE_MAX]; /* contexts that compress; that decompress */
	unsigned nidle[2];
};

void packer_init(struct packer *k);
void packer_fini(struct packer *k);

/* Compresses the pages `data` of the frame of memory at mem to `to`, which has FRAME_BYTES. *npages: whole pages of the result; 0: it would
 * not be smaller by a sixteenth, which a sample of 16 KiB mostly shows. -ENOMEM. */
int pack(struct packer *k, const unsigned char *mem, uint64_t data, unsigned char *to, unsigned *npages);
/* Puts the pages back where they were; others of mem are left as they are. -EUCLEAN: it is no such form; -ENOMEM. */
int unpack(struct packer *k, const unsigned char *from, unsigned npages, unsigned char *mem, uint64_t data);

#endif
