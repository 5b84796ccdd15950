/*
 * The view of a caller. No state.
 */
#include "front/caller.h"

#include <linux/capability.h>
#include <string.h>

#include "util/cred.h"

size_t caller_visible_names(pid_t thread, uid_t uid, char *names, size_t len)
{
	int admin = -1;
	size_t kept = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strlen(names + at) + 1;
		bool shown = strncmp(names + at, "trusted.", strlen("trusted."));

		if (!shown && admin < 0)
			admin = cred_is_capable(thread, uid, CAP_SYS_ADMIN);
		if (shown || admin > 0) {
			memmove(names + kept, names + at, n);
			kept += n;
		}
		at += n;
	}
	return kept;
}
