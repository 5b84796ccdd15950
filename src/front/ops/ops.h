/*
 * The FUSE operations, by what they are on: each file fills in its own. An operation is decoded, handed to tree/, and answered.
 */
#ifndef SPILLFS_FRONT_OPS_OPS_H
#define SPILLFS_FRONT_OPS_OPS_H

struct fuse_lowlevel_ops;

void ops_fill_attrs(struct fuse_lowlevel_ops *ops);
void ops_fill_control(struct fuse_lowlevel_ops *ops);
void ops_fill_dirs(struct fuse_lowlevel_ops *ops);
void ops_fill_files(struct fuse_lowlevel_ops *ops);
void ops_fill_names(struct fuse_lowlevel_ops *ops);
void ops_fill_xattrs(struct fuse_lowlevel_ops *ops);

#endif
