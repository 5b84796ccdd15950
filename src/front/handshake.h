/*
 * What this libfuse does not know of FUSE_INIT, the first request: the features that the daemon wants besides.
 */
#ifndef SPILLFS_FRONT_HANDSHAKE_H
#define SPILLFS_FRONT_HANDSHAKE_H

#include <stdint.h>

struct fuse_session;

/* Bits of the kernel's protocol (FUSE_INIT's flags), and the request that is watched for. */
struct handshake {
	uint64_t want; /* set by the caller: asked for if offered */
	uint64_t got;  /* offered, and asked for: in force once INIT is answered */
	uint64_t unique;
	int state;
};

/* Watches the session's messages until INIT is answered, which must be before a second thread serves it. Called between
 * fuse_session_mount and the first request; userdata of the session must be found by handshake_of. 0 or -errno. */
int handshake_watch(struct fuse_session *se);
/* The record of the session whose userdata this is. */
struct handshake *handshake_of(void *userdata);

#endif
