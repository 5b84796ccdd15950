/*
 * The xattrs user.spillfs.* that can be set: their names and what they may say (spillfs.h lists them).
 */
#ifndef SPILLFS_ARRAY_SETTING_H
#define SPILLFS_ARRAY_SETTING_H

#include <stdbool.h>

/* -EINVAL: not a value of this setting; -ENODATA: there is no setting of this name. */
int setting_check(const char *name, const char *value);

/* Where a store keeps what a file has of its directory, not of its own: "spillfs.codec" for "user.spillfs.codec". NULL for
 * what is not kept so: what says what the elements are belongs to the file itself, and is copied with it. The result is
 * a part of name. */
const char *setting_inherited_name(const char *name);
/* Is this the name of such a row? It is no name that anybody sees. */
bool setting_is_inherited(const char *name);

#endif
