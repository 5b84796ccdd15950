/*
 * Answers to operations. The only place where -errno becomes a reply.
 */
#ifndef SPILLFS_FRONT_ANSWER_H
#define SPILLFS_FRONT_ANSWER_H

#include "front/inside.h"

/* An answer that can wait: an error, or what `reply` sends. */
struct answer {
	int err; /* 0, or -errno: then nothing below counts */
	void (*reply)(fuse_req_t req, struct answer *a); /* NULL: success has nothing to say */
	union {
		struct tree_attr attr;
		size_t size_bytes;
		struct {
			struct tree_file *file;
			struct fuse_file_info info;
			uint32_t backing; /* passthrough.h */
		} open;
	};
};

void answer_err(fuse_req_t req, int err);
void answer_now(fuse_req_t req, struct answer *a);
/* As answer_now, once the kernel has been told what else the operation has changed (told.h); the answer is copied. If memory is
 * out it does not wait. */
void answer_when_told(fuse_req_t req, struct answer *a);
void answer_err_when_told(fuse_req_t req, int err);

/* Replies of an answer. answer_entry: its attr were looked up, and counted. */
void answer_entry(fuse_req_t req, struct answer *a);
void answer_attr(fuse_req_t req, struct answer *a);

/* The part of a reply that is of a name which was looked up as a; with -o uid=, gid= and umask= applied. */
void answer_fill_entry(const struct front *f, const struct tree_attr *a, struct fuse_entry_param *e);

#endif
