/*
 * Capabilities, no_new_privs, and a filter of system calls (seccomp).
 *
 * Invariants:
 *  1. What is given up is not needed for unmounting by a signal, for passthrough, or for what a log, a commit or a follower does.
 *  2. Where fusermount3 unmounts, which is set-user-ID, programs can be run and can gain privilege.
 */
#include "front/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_SECCOMP
#include <sched.h>
#include <seccomp.h>
#include <sys/socket.h>
#endif

#include "util/log.h"

#define LAST_CAPABILITY 63
#define BIT(n) (1ull << (n))

/* DAC_OVERRIDE, FOWNER, LEASE: files of a store that is another user's. SYS_RESOURCE: oom_score_adj, and quotas that do not hold
 * for root. SYS_ADMIN: mounting, unmounting, passthrough. SYS_PTRACE: whether a caller is in the first user namespace (cred.h). */
#define NEEDED (BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_LEASE) | BIT(CAP_SYS_RESOURCE) | BIT(CAP_SYS_ADMIN) | BIT(CAP_SYS_PTRACE))

static int get_capabilities(uint64_t *effective, uint64_t *permitted)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct v[2];

	if (syscall(SYS_capget, &head, v) < 0)
		return -errno;
	*effective = v[0].effective | (uint64_t)v[1].effective << 32;
	*permitted = v[0].permitted | (uint64_t)v[1].permitted << 32;
	return 0;
}

/* None is inheritable. */
static int set_capabilities(uint64_t effective, uint64_t permitted)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct v[2] = {
		{ .effective = (uint32_t)effective, .permitted = (uint32_t)permitted },
		{ .effective = (uint32_t)(effective >> 32), .permitted = (uint32_t)(permitted >> 32) },
	};

	return syscall(SYS_capset, &head, v) < 0 ? -errno : 0;
}

/* As mnt_unmount decides. */
static bool unmounts_by_itself(void)
{
	uint64_t effective, permitted;

	return geteuid() == 0 && !get_capabilities(&effective, &permitted) && (effective & BIT(CAP_SYS_ADMIN));
}

/* A program that is run gets no more than this process has: fusermount3 of an unprivileged user has to. */
static void bound_programs(void)
{
	for (int c = 0; c <= LAST_CAPABILITY; c++) {
		if (!(NEEDED & BIT(c)))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0); /* an unknown one: EINVAL */
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		log_warn("no_new_privs is not set: %s", strerror(errno));
}

void confine_privileges(void)
{
	uint64_t effective, permitted;
	int err = get_capabilities(&effective, &permitted);

	if (!err && unmounts_by_itself())
		bound_programs();
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (!err)
		err = set_capabilities(effective & NEEDED, permitted & NEEDED);
	if (err)
		log_warn("capabilities that are not needed are kept: %s", strerror(-err));
}

void confine_wholly(void)
{
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	set_capabilities(0, 0);
}

#ifdef HAVE_SECCOMP

/* Those that this machine or this libseccomp has not are left out. */
static const char *const refused[] = {
	/* other programs and processes */
	"execve", "execveat", "fork", "vfork", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd",
	"pidfd_send_signal", "kcmp", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tkill",
	/* mounts and namespaces; umount2 is for the end */
	"mount", "move_mount", "open_tree", "open_tree_attr", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "pivot_root", "chroot", "setns",
	"unshare", "swapon", "swapoff", "open_by_handle_at", "quotactl", "quotactl_fd", "acct",
	/* the kernel */
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "bpf", "perf_event_open", "userfaultfd",
	"io_uring_setup", "io_uring_enter", "io_uring_register", "add_key", "request_key", "keyctl", "iopl", "ioperm", "modify_ldt", "personality", "syslog",
	"settimeofday", "clock_settime", "clock_adjtime", "adjtimex", "sethostname", "setdomainname", "vhangup", "lookup_dcookie",
	"fanotify_init",
	/* another user */
	"setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset",
	/* the net */
	"bind", "listen", "accept", "accept4",
};

static int refuse(scmp_filter_ctx filter, const char *name)
{
	int number = seccomp_syscall_resolve_name(name);

	return number == __NR_SCMP_ERROR || number < 0 ? 0 : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
}

/* Threads are made by clone, processes never; clone3 hides which: without it the C library takes clone. Sockets are for syslog(3) and
 * the service manager. Signals go to this process. */
static int refuse_by_arguments(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp process = { .op = SCMP_CMP_MASKED_EQ, .datum_a = CLONE_THREAD };
	const struct scmp_arg_cmp network = { .op = SCMP_CMP_NE, .datum_a = AF_UNIX };
	const struct scmp_arg_cmp others = { .op = SCMP_CMP_NE, .datum_a = (uint64_t)getpid() };
	int err = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, &process);

	if (!err)
		err = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0, NULL);
	if (!err)
		err = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 1, &network);
	if (!err)
		err = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(kill), 1, &others);
	if (!err)
		err = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(tgkill), 1, &others);
	return err;
}

/* Other threads run already. */
static int load_filter(scmp_filter_ctx filter)
{
	int err = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);

	for (size_t k = 0; k < sizeof(refused) / sizeof(*refused) && !err; k++)
		err = refuse(filter, refused[k]);
	if (!err)
		err = refuse_by_arguments(filter);
	return err ? err : seccomp_load(filter);
}

void confine_calls(void)
{
	scmp_filter_ctx filter;
	int err;

	if (!unmounts_by_itself())
		return;
	filter = seccomp_init(SCMP_ACT_ALLOW);
	err = filter ? load_filter(filter) : -ENOMEM;
	if (err)
		log_warn("system calls are not filtered: %s", strerror(-err));
	seccomp_release(filter);
}

#else

void confine_calls(void)
{
	log_info("system calls are not filtered: this spillfs was built without libseccomp, or with a sanitizer");
}

#endif
