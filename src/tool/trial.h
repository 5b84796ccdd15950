/*
 * A trial: what a codec and a filter make of blocks of an array, in bytes and in time of one core.
 */
#ifndef SPILLFS_TOOL_TRIAL_H
#define SPILLFS_TOOL_TRIAL_H

#include <stddef.h>
#include <stdint.h>

#include "block/codec.h"

struct trial_block {
	const void *data; /* aligned to 8 */
	size_t len_bytes; /* above 0 */
	uint16_t lead_bytes; /* before its first whole record */
};

/* A filter that blocks have got. */
struct trial_use {
	char filter[CODEC_DESCRIPTION_MAX];
	uint8_t steps;
	size_t nblocks;
};
#define TRIAL_USES_MAX 8

struct trial {
	uint64_t raw_bytes, stored_bytes;
	double encode_gbs, decode_gbs; /* 10^9 bytes of the array in a second of processor time */
	struct trial_use uses[TRIAL_USES_MAX]; /* the one of most blocks first; what is behind the last does not show */
	size_t nuses;
};

/* Encodes n > 0 blocks of one array in turn, and decodes them. -ENOMEM, -EIO (library failure), -EUCLEAN: a block has not come back as it was. */
int trial_run(const struct codec_params *p, const struct trial_block *v, size_t n, struct trial *out);

#endif
