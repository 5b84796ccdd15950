/*
 * Errors. Every fallible function returns 0 or -errno and leaves its out-parameters untouched on
 * failure. Only front/ turns codes into replies.
 *
 * Stored bytes that do not match their checksum or their format are reported through err_corrupt:
 * -EUCLEAN travels inside the daemon, the caller of the file system sees EIO, and the log names the
 * object and the byte offset.
 */
#ifndef SPILLFS_UTIL_ERR_H
#define SPILLFS_UTIL_ERR_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

/* No space left. */
static inline bool err_is_full(int err)
{
	return err == -ENOSPC || err == -EDQUOT;
}

/* A want of space that may last: also a file may not become longer. */
static inline bool err_wants_space(int err)
{
	return err_is_full(err) || err == -EFBIG;
}

/* A shortage that may be over in a moment: of space, memory, descriptors. A call that failed with it has changed nothing, and can be
 * tried again. (After a failed sync nobody knows what is on the disk: io/ makes -EIO of that.) EFBIG: the daemon may not
 * make a file so long. */
static inline bool err_is_passing(int err)
{
	return err_wants_space(err) || err == -ENOMEM || err == -EMFILE || err == -ENFILE || err == -EINTR || err == -EAGAIN;
}

/* Waits a moment if err is a want of memory or descriptors (of what time alone may bring); true: try again. *waits, from 0, counts:
 * after some 5 s the answer is false. May be called under locks. */
bool err_wait(int err, unsigned *waits);

/* Does it say what no other of the last 256 reports did? Who meets a damage again and again logs it once. Thread-safe. */
bool err_is_news(const char *report);
/* Logs "corrupt: OBJECT at byte OFF: WHAT", if that is news, and returns -EUCLEAN. Thread-safe, never blocks on locks
 * other than the log's. `what` is a printf format. */
int err_corrupt(const char *object, uint64_t off_bytes, const char *what, ...)
	__attribute__((format(printf, 3, 4)));
/* An error for people: of -EUCLEAN what the calling thread has reported last, "OBJECT at byte OFF: WHAT", else strerror: also of -EUCLEAN
 * that another thread has found, which names nothing. Valid until the thread asks or reports again. */
const char *err_text(int err);
/* The calling thread begins something new: what it has reported before is not why that fails. */
void err_forget(void);
/* For tools: reports go to fn instead of the log, until fn is NULL again. Process-wide; not while other threads may
 * report. */
void err_set_listener(void (*fn)(void *ctx, const char *object, uint64_t off_bytes, const char *text), void *ctx);

#endif
