/*
 * The signal thread.
 *
 * Invariants:
 * 1. The four signals are blocked in every thread; only this one takes them, by sigwaitinfo, so
 *    that it may lock, log and wait.
 * 2. A detach never closes the session's descriptor: open files go on being served.
 * 3. The kernel writes back what it holds while the loop still serves, and is told nothing once the loop is to end.
 * 4. A second signal is taken when the work of the first is done.
 * 5. The loop is woken until it has ended: fuse_session_exit alone does not interrupt a sleeping
 *    read, and one signal could come between the loop's check and its sleep.
 */
#include "front/stop.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "front/daemon.h"
#include "front/front.h"
#include "front/mount.h"
#include "front/warden.h"
#include "tree/tree.h"
#include "util/clock.h"
#include "util/log.h"
#include "util/thread.h"

#define PAUSE_NS (20 * 1000 * 1000)

enum stage { STARTING, SERVING, OVER };

struct stop {
	pthread_t thread, loop;
	sigset_t signals;
	atomic_int stage;
	struct warden *warden;
	struct tree *tree;
	struct front *front;
	struct mount *mount;
};

static void wake_only(int sig)
{
	(void)sig;
}

static void die_by(int sig)
{
	sigset_t one;

	signal(sig, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, sig);
	pthread_sigmask(SIG_UNBLOCK, &one, NULL);
	raise(sig);
}

static void commit_all(struct stop *s)
{
	int err;

	front_gather(s->front);
	err = tree_sync(s->tree);
	if (err < 0)
		log_error("cannot make everything durable: %s", strerror(-err));
}

static void end_loop(struct stop *s)
{
	front_ending(s->front);
	fuse_session_exit(front_session(s->front));
	while (atomic_load(&s->stage) != OVER) {
		pthread_kill(s->loop, SIGUSR1);
		clock_sleep_ns(PAUSE_NS);
	}
}

static void *stop_main(void *arg)
{
	struct stop *s = arg;
	bool detached = false;

	for (;;) {
		int sig = sigwaitinfo(&s->signals, NULL);
		int stage = atomic_load(&s->stage);

		if (stage == OVER)
			return NULL;
		if (sig == SIGCHLD && stage == SERVING)
			warden_look(s->warden);
		if (sig < 0 || sig == SIGCHLD)
			continue;
		if (stage == STARTING) {
			die_by(sig);
			continue;
		}
		log_info("%s: %s", strsignal(sig), detached ? "ending" : "unmounting");
		daemon_stopping();
		if (!detached && mount_detach(s->mount) == 0) {
			detached = true;
			commit_all(s);
			continue;
		}
		commit_all(s);
		end_loop(s);
		return NULL;
	}
}

int stop_new(struct warden *w, struct stop **out)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGCHLD };
	struct sigaction wake = { .sa_handler = wake_only }, old;
	struct stop *s = calloc(1, sizeof(*s));
	int err;

	if (!s)
		return -ENOMEM;
	sigaction(SIGUSR1, &wake, NULL);
	sigemptyset(&s->signals);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* nohup ignores SIGHUP for us; that stands. */
		if (signals[i] == SIGHUP && sigaction(SIGHUP, NULL, &old) == 0 && old.sa_handler == SIG_IGN)
			continue;
		sigaddset(&s->signals, signals[i]);
	}
	s->warden = w;
	s->loop = pthread_self();
	atomic_init(&s->stage, STARTING);
	pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
	err = thread_start("stop", stop_main, s, &s->thread);
	if (err < 0) {
		free(s);
		return err;
	}
	*out = s;
	return 0;
}

void stop_arm(struct stop *s, struct tree *tree, struct front *f, struct mount *m)
{
	s->tree = tree;
	s->front = f;
	s->mount = m;
	atomic_store(&s->stage, SERVING);
	pthread_kill(s->thread, SIGCHLD); /* it may have ended before */
}

void stop_free(struct stop *s)
{
	if (!s)
		return;
	atomic_store(&s->stage, OVER);
	pthread_kill(s->thread, SIGTERM);
	thread_join(s->thread);
	free(s);
}
