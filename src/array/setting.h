/*
 * The xattrs user.spillfs.* that can be set: their names and what they may say (spillfs.h lists them).
 */
#ifndef SPILLFS_ARRAY_SETTING_H
#define SPILLFS_ARRAY_SETTING_H

/* -EINVAL: not a value of this setting; -ENODATA: there is no setting of this name. */
int setting_check(const char *name, const char *value);

#endif
