/*
 * Features that the daemon wants and this libfuse does not know, or asks for in one of several ways: they are set in FUSE_INIT,
 * the first request, and in the answers to opens.
 */
#ifndef SPILLFS_FRONT_HANDSHAKE_H
#define SPILLFS_FRONT_HANDSHAKE_H

#include <stdint.h>

#include "front/readers.h"

struct fuse_session;

/* Bits of FUSE_INIT that Debian 12's <linux/fuse.h> does not have; those of flags2 are shifted up. */
#define HANDSHAKE_PASSTHROUGH (1ull << 37)
#define HANDSHAKE_DIRECT_MAPS (1ull << 36) /* what bypasses the cache can be mapped shared */

/* Bits of the kernel's protocol (FUSE_INIT's flags), and the request that is watched for. */
struct handshake {
	uint64_t want; /* set by the caller: asked for if offered */
	uint64_t got;  /* offered, and asked for: in force once INIT is answered */
	uint64_t unique;
	int state;
	struct readers readers; /* of the session; initialized by the caller */
};

/* Watches the session's messages until INIT is answered, which must be before a second thread serves it. Called between
 * fuse_session_mount and the first request; the session's userdata begins with its struct handshake. 0 or -errno. */
int handshake_watch(struct fuse_session *se);
/* The next answer of this thread says, if id is not 0, that the kernel passes the file through to that backing; 0 ends it. */
void handshake_opened(uint32_t id);

#endif
