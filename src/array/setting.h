/*
 * The xattrs user.spillfs.* that can be set (spillfs.h lists them): their names, and the one parser of their texts.
 */
#ifndef SPILLFS_ARRAY_SETTING_H
#define SPILLFS_ARRAY_SETTING_H

#include <stdbool.h>

#include "array/array.h"
#include "array/dtype.h"
#include "block/codec.h"

/* The values of one array's settings. The element type stays a text: dtype.h reads it. */
struct settings {
	struct shape shape; /* with the order */
	struct logical logical;
	uint32_t block_bytes;      /* 0: not set */
	bool consume;              /* readers free what they have read */
	bool direct;               /* writers go around the kernel's cache */
	bool cold;                 /* what leaves the memory of scratch/ is compressed */
	struct codec_params codec; /* but elem_bytes and type */
};

/* An array without attributes has these. */
#define SETTINGS_DEFAULT ((struct settings){ .shape.ndims = 1, .codec = { .level = 3, .policy = CODEC_POLICY_AUTO } })

/* The names, the element type first; NULL behind the last. Values are parsed in their order. */
const char *setting_name(unsigned k);
/* Puts one value into *out, which may be NULL. -EINVAL: not a value of this setting; -ENODATA: there is no setting of this name. */
int setting_parse(const char *name, const char *value, struct settings *out);

/* The same for the values of user.spillfs.codec and user.spillfs.filter together. */
int setting_parse_codec(const char *codec, const char *filter, struct settings *out);

/* How an array with these settings and this element type ("": it has none) is stored: in blocks of whole rows of its shape, so that blocks can be
 * chunks of an array of several dimensions, if no size is set. */
void settings_params(const struct settings *s, const char *dtype, struct array_params *out);

/* Bytes before the first record that begins in this block; 0 where elements are no records. */
uint16_t settings_lead(const struct array_params *p, uint64_t block);

/* The bound that a quota attribute of a directory (SPILLFS_XATTR_QUOTA, _LOGICAL) says, in bytes. -EINVAL: not a size, or 0; -ENODATA: another
 * attribute. out may be NULL. */
int setting_quota(const char *name, const char *value, uint64_t *out);

/* The value of SPILLFS_XATTR_DURABLE. -EINVAL: neither "yes" nor "no"; -ENODATA: another attribute. out may be NULL. */
int setting_durable(const char *name, const char *value, bool *out);

/* Is it one of these, which a directory has by itself: not listed, and not passed on to what is made in it? */
bool setting_is_of_directory(const char *name);

/* Where a store keeps what a file has of its directory, not of its own: "spillfs.codec" for "user.spillfs.codec". NULL for
 * what is not kept so: what says what the elements are belongs to the file itself, and is copied with it. The result is
 * a part of name. */
const char *setting_inherited_name(const char *name);
/* Is this the name of such a row? It is no name that anybody sees. */
bool setting_is_inherited(const char *name);

#endif
