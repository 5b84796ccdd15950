/*
 * The settings in effect of a file's array, of whichever world. The meta lock is held.
 */
#ifndef SPILLFS_TREE_SETTING_H
#define SPILLFS_TREE_SETTING_H

struct array_params;
struct inode;
struct settings;

/* The text of a settable user.spillfs attribute (malloc'd), its own or its directory's at the time it was made, or NULL. */
char *setting_text_locked(struct inode *i, const char *name);
/* The element type's text, "" if there is none; *out is malloc'd. */
int setting_dtype_locked(struct inode *i, char **out);
/* All of them; *dtype_out is the element type's text, as above. A value that cannot be read counts as not set. */
int settings_read_locked(struct inode *i, struct settings *out, char **dtype_out);
/* Parameters of the array as its attributes and its name give them. */
int setting_params_locked(struct inode *i, struct array_params *out);

#endif
