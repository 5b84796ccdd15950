/*
 * A file whose bytes are encrypted in the file below it, with a key that no other has and that ends with the process. Private to io/.
 *
 * AES-256 in XTS mode (IEEE 1619), in sectors of 4096 bytes: the unit's number is the sector's, in little-endian order. Reading a sector that
 * others have changed, or put back as it was before, is -EUCLEAN (io/sums.h). Sectors that were never written are undefined: the user of
 * the file reads none, and keeps others from a sector while he writes a part of it. Sizes, holes and space are those of the file below.
 */
#ifndef SPILLFS_IO_CIPHER_H
#define SPILLFS_IO_CIPHER_H

#include <stdatomic.h>
#include <stdint.h>

#include "io/io.h"

#define CIPHER_SECTOR 4096u
#define CIPHER_KEY_BYTES 64u

/* In memory that is neither swapped out nor part of a core dump. */
struct cipher_key {
	unsigned char bytes[CIPHER_KEY_BYTES];
};

/* By the system's random numbers. -EPERM: no memory can be locked for it (RLIMIT_MEMLOCK); -ENOMEM. */
int cipher_key_new(struct cipher_key **out);
void cipher_key_free(struct cipher_key *k);

/* Takes over the file below and the key. What its sums take of memory is added to *held_bytes, which lives longer. -EOPNOTSUPP: built without
 * libcrypto; -ENOMEM. */
int cipher_wrap(struct io *below, struct cipher_key *key, _Atomic uint64_t *held_bytes, struct io **out);

#endif
