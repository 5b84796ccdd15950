/*
 * util/: ranks, workers, buffers, log, counters. Numbers are the invariants of the file under test.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "unit.h"
#include "util/buf.h"
#include "util/chore.h"
#include "util/clock.h"
#include "util/err.h"
#include "util/lock.h"
#include "util/log.h"
#include "util/number.h"
#include "util/stats.h"
#include "util/thread.h"
#include "util/vec.h"
#include "util/work.h"

/* What fn writes to stderr, and how its process ends. */
static int run_child(void (*fn)(void), char *text, size_t size)
{
	struct rlimit no_core = { 0, 0 };
	int fds[2], status;
	size_t n = 0;
	ssize_t r;
	pid_t pid;

	CHECK_EQ(pipe(fds), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		fn();
		_exit(0);
	}
	CHECK(pid > 0);
	close(fds[1]);
	while (n < size - 1 && (r = read(fds[0], text + n, size - 1 - n)) > 0)
		n += r;
	text[n] = '\0';
	close(fds[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static struct lock low, high, high2;
static struct rwlock rw;

static void locks_init(void)
{
	lock_init(&low, RANK_META);
	lock_init(&high, RANK_CACHE);
	lock_init(&high2, RANK_CACHE);
	rwlock_init(&rw, RANK_INODE);
}

static void locks_fini(void)
{
	lock_fini(&low);
	lock_fini(&high);
	lock_fini(&high2);
	rwlock_fini(&rw);
}

UNIT_TEST(lock_ranks_rise)
{
	locks_init();
	CHECK(lock_none_held());
	rwlock_shared(&rw);
	lock_acquire(&low);
	lock_acquire(&high);
	lock_acquire_nested(&high2);
	lock_release(&high); /* any order of release */
	rwlock_release(&rw);
	lock_release(&low);
	lock_release(&high2);
	CHECK(lock_none_held());
	locks_fini();
}

#ifdef SPILLFS_DEBUG
static void violate_order(void)
{
	lock_acquire(&high);
	lock_acquire(&low);
}

static void violate_equal(void)
{
	lock_acquire(&high);
	lock_acquire(&high2);
}

static void violate_rwlock(void)
{
	lock_acquire(&low);
	rwlock_shared_nested(&rw);
}

static void violate_wait(void)
{
	pthread_cond_t c;

	lock_cond_init(&c);
	lock_acquire(&low);
	lock_acquire(&high);
	lock_wait_ms(&low, &c, 1);
}

static void violate_release(void)
{
	lock_release(&low);
}

UNIT_TEST(lock_violation_aborts) /* 1, 2, 3 */
{
	static const struct {
		void (*fn)(void);
		const char *first, *second;
	} cases[] = {
		{ violate_order, "taking RANK_META", "holding RANK_CACHE" },
		{ violate_equal, "taking RANK_CACHE", "holding RANK_CACHE" },
		{ violate_rwlock, "taking RANK_INODE", "holding RANK_META" },
		{ violate_wait, "waiting on RANK_META", "RANK_CACHE" },
		{ violate_release, "not held, RANK_META", "nothing" },
	};
	char text[4096];

	locks_init();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int status = run_child(cases[i].fn, text, sizeof(text));

		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		CHECK(strstr(text, cases[i].first));
		CHECK(strstr(text, cases[i].second));
	}
	locks_fini();
}
#endif

UNIT_TEST(lock_wait_times_out)
{
	pthread_cond_t c;
	int64_t began;

	locks_init();
	lock_cond_init(&c);
	lock_acquire(&low);
	began = clock_monotonic_ns();
	CHECK_EQ(lock_wait_ms(&low, &c, 30), -ETIMEDOUT);
	CHECK(clock_monotonic_ns() - began >= 29 * 1000000);
	lock_release(&low);
	pthread_cond_destroy(&c);
	locks_fini();
}

/* ---- clock and threads ---- */

static bool converts(int64_t ns, int64_t s, long rest)
{
	struct timespec ts = clock_timespec(ns);

	return ts.tv_sec == s && ts.tv_nsec == rest && clock_ns(ts) == ns;
}

UNIT_TEST(clock_converts_exactly)
{
	CHECK(converts(0, 0, 0));
	CHECK(converts(1, 0, 1));
	CHECK(converts(1500000000, 1, 500000000));
	CHECK(converts(-1, -1, 999999999));
	CHECK(converts(-1000000000, -1, 0));
	CHECK(converts(-1000000001, -2, 999999999));
	CHECK(converts(-2500000000, -3, 500000000));
	CHECK(converts(INT64_MAX, 9223372036, 854775807));
	CHECK(converts(INT64_MIN, -9223372037, 145224192));
	CHECK(converts(INT64_MIN + 1, -9223372037, 145224193));
	CHECK_EQ(clock_ns((struct timespec){ .tv_sec = 9223372036, .tv_nsec = 854775808 }), INT64_MAX);
	CHECK_EQ(clock_ns((struct timespec){ .tv_sec = -9223372037, .tv_nsec = 145224191 }), INT64_MIN);
	CHECK_EQ(clock_ns((struct timespec){ .tv_sec = INT64_MAX, .tv_nsec = 999999999 }), INT64_MAX);
	CHECK_EQ(clock_ns((struct timespec){ .tv_sec = INT64_MIN, .tv_nsec = 999999999 }), INT64_MIN);
}

/* A clock that stands still but for sleeps and timed waits, which end at once. */
static int64_t still_ns;

static int64_t still_read(void)
{
	return still_ns;
}

static void still_sleep(int64_t ns)
{
	still_ns += ns;
}

static int still_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until_ns)
{
	(void)c, (void)m;
	still_ns = until_ns;
	return ETIMEDOUT;
}

UNIT_TEST(clock_can_be_replaced)
{
	static const struct clock_ops still = { still_read, still_read, still_sleep, still_wait };
	int64_t began = clock_monotonic_ns(), now = clock_now_ns();
	unsigned waits = 0;
	pthread_cond_t c;

	clock_replace(&still);
	still_ns = 5;
	CHECK_EQ(clock_now_ns(), 5);
	clock_sleep_ns(3600 * CLOCK_SECOND_NS);
	CHECK_EQ(clock_monotonic_ns(), 3600 * CLOCK_SECOND_NS + 5);
	locks_init();
	lock_cond_init(&c);
	lock_acquire(&low);
	CHECK_EQ(lock_wait_ms(&low, &c, 3600000), -ETIMEDOUT);
	lock_release(&low);
	CHECK_EQ(clock_now_ns(), 7200 * CLOCK_SECOND_NS + 5);
	while (err_wait(-ENOMEM, &waits))
		;
	CHECK(clock_now_ns() > 7203 * CLOCK_SECOND_NS);
	pthread_cond_destroy(&c);
	locks_fini();
	clock_replace(NULL);
	CHECK(clock_monotonic_ns() >= began && clock_monotonic_ns() - began < 60 * CLOCK_SECOND_NS);
	CHECK(clock_now_ns() - now < 60 * CLOCK_SECOND_NS);
}

static void *look_at_myself(void *arg)
{
	sigset_t set;

	CHECK_EQ(stats_read(STAT_THREADS), 1);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &set));
	CHECK(sigismember(&set, SIGTERM) && sigismember(&set, SIGUSR1));
	/* The name is given by the one who starts it. */
	for (int tries = 0; tries < 1000 && strcmp(arg, "a long name of "); tries++) {
		CHECK_OK(pthread_getname_np(pthread_self(), arg, 32));
		clock_sleep_ns(1000000);
	}
	return NULL;
}

UNIT_TEST(threads_have_a_name_and_are_counted)
{
	char name[32] = "";
	sigset_t before, after;
	pthread_t t;

	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &before));
	CHECK_OK(thread_start("a long name of a thread", look_at_myself, name, &t));
	thread_join(t);
	CHECK_OK(pthread_sigmask(SIG_BLOCK, NULL, &after));
	CHECK(!strcmp(name, "a long name of "));
	CHECK_EQ(sigismember(&before, SIGTERM), sigismember(&after, SIGTERM));
	CHECK_EQ(stats_read(STAT_THREADS), 0);
}

/* ---- chores ---- */

static atomic_uint nbits;

static int64_t do_bit(void *ctx)
{
	(void)ctx;
	atomic_fetch_add(&nbits, 1);
	return CHORE_DONE;
}

/* Nobody waits for work that no thread does, also not the end. */
UNIT_TEST(a_chore_is_started_again)
{
	struct chore c;

	unit_fail_threads(0, 2);
	chore_init(&c, "chore", do_bit, NULL);
	chore_wake(&c);
	chore_stop(&c);
	CHECK_EQ(atomic_load(&nbits), 0);
	chore_init(&c, "chore", do_bit, NULL);
	chore_wake(&c);
	chore_wake(&c);
	while (!atomic_load(&nbits))
		sched_yield();
	chore_stop(&c);
	unit_fail_threads(0, 0);
	CHECK_EQ(atomic_load(&nbits), 1);
	CHECK_EQ(stats_read(STAT_THREADS), 0);
}

/* ---- work ---- */

struct job {
	struct work work;
	int id;
};

static struct lock job_lock;
static pthread_cond_t job_cond;
static int job_order[64], job_count, job_open;
static atomic_int job_total;

static void job_block(struct work *w)
{
	(void)w;
	lock_acquire(&job_lock);
	while (!job_open)
		lock_wait(&job_lock, &job_cond);
	lock_release(&job_lock);
}

static void job_note(struct work *w)
{
	lock_acquire(&job_lock);
	job_order[job_count++] = ((struct job *)w)->id;
	lock_release(&job_lock);
}

UNIT_TEST(work_urgent_first_then_in_order) /* 1, 3 */
{
	struct job blocker = { .work.run = job_block }, jobs[40];
	struct work_pool *p;

	lock_init(&job_lock, RANK_ARRAY);
	lock_cond_init(&job_cond);
	CHECK_OK(work_pool_new(1, "test", &p));
	CHECK_EQ(work_pool_nthreads(p), 1);
	work_submit(p, &blocker.work, WORK_URGENT);
	for (int i = 0; i < 40; i++) {
		jobs[i] = (struct job){ .work.run = job_note, .id = i };
		work_submit(p, &jobs[i].work, i % 2 ? WORK_URGENT : WORK_BACKGROUND);
	}
	lock_acquire(&job_lock);
	job_open = 1;
	pthread_cond_broadcast(&job_cond);
	lock_release(&job_lock);
	work_pool_free(p); /* drains */
	CHECK_EQ(job_count, 40);
	for (int i = 0; i < 20; i++) {
		CHECK_EQ(job_order[i], 2 * i + 1);
		CHECK_EQ(job_order[20 + i], 2 * i);
	}
	pthread_cond_destroy(&job_cond);
	lock_fini(&job_lock);
}

static void job_free_self(struct work *w)
{
	atomic_fetch_add(&job_total, 1);
	free(w);
}

UNIT_TEST(work_jobs_free_themselves) /* 2 */
{
	struct work_pool *p;

	CHECK_EQ(work_pool_new(0, "none", &p), -EINVAL);
	for (int round = 0; round < 20; round++) {
		CHECK_OK(work_pool_new(4, "a name longer than the kernel takes", &p));
		for (int i = 0; i < 250; i++) {
			struct work *w = malloc(sizeof(*w));

			w->run = job_free_self;
			work_submit(p, w, i % 3 ? WORK_URGENT : WORK_BACKGROUND);
		}
		work_pool_free(p);
	}
	CHECK_EQ(atomic_load(&job_total), 20 * 250);
}

/* ---- buffers ---- */

UNIT_TEST(buf_aligned_and_recycled)
{
	static const size_t sizes[] = { 0, 1, 4096, 4097, 65536, 65537, 1 << 20, (4 << 20) + 1 };

	for (int round = 0; round < 3; round++) {
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
			char *p = buf_alloc(sizes[i]), *q = buf_alloc(sizes[i]);

			CHECK(p && q && p != q);
			CHECK_EQ((uintptr_t)p % 4096, 0);
			CHECK_EQ((uintptr_t)q % 4096, 0);
			memset(p, 0x11, sizes[i]);
			memset(q, 0x22, sizes[i]);
			for (size_t k = 0; k < sizes[i]; k++)
				if (p[k] != 0x11)
					CHECK_EQ(k, -1);
			buf_free(p, sizes[i]);
			buf_free(q, sizes[i]);
		}
	}
	buf_free(NULL, 4096);
	buf_trim();
}

static size_t rss_bytes(void)
{
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	CHECK(f && fscanf(f, "%*u %lu", &pages) == 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
UNIT_TEST(buf_memory_goes_back) /* 1, 2, 3 */
{
	static const size_t sizes[] = { 4 << 10, 64 << 10, 32 << 10, 1 << 20, 16 << 20, 256 << 10 };
	const size_t total = 128 << 20, slack = 6 << 20;
	size_t before;
	void **bufs;

	if (unit_in_valgrind())
		return;
	bufs = calloc(total / sizes[0], sizeof(*bufs));
	CHECK(bufs);
	before = rss_bytes();
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		size_t n = total / sizes[s];

		for (size_t i = 0; i < n; i++) {
			bufs[i] = buf_alloc(sizes[s]);
			CHECK(bufs[i]);
			memset(bufs[i], 1, sizes[s]);
		}
		for (size_t i = 0; i < n; i++) /* every other one first: nothing is at an end */
			buf_free(bufs[(i * 2) % n + (i * 2 >= n)], sizes[s]);
		CHECK(rss_bytes() < before + (16 << 20) + slack);
	}
	buf_trim();
	CHECK(rss_bytes() < before + slack);
	free(bufs);
}
#endif

static void *buf_hammer(void *arg)
{
	uint64_t seed = (uintptr_t)arg;
	struct {
		unsigned char *p;
		size_t n;
	} held[16] = { { 0 } };

	for (int i = 0; i < 3000; i++) {
		int k = unit_rand(&seed) % 16;

		if (held[k].p) {
			CHECK_EQ(held[k].p[0], (unsigned char)(uintptr_t)arg);
			CHECK_EQ(held[k].p[held[k].n - 1], (unsigned char)(uintptr_t)arg);
			buf_free(held[k].p, held[k].n);
		}
		held[k].n = (size_t)1 << (unit_rand(&seed) % 21);
		held[k].p = buf_alloc(held[k].n);
		held[k].p[0] = held[k].p[held[k].n - 1] = (uintptr_t)arg;
	}
	for (int k = 0; k < 16; k++)
		buf_free(held[k].p, held[k].p ? held[k].n : 0);
	return NULL;
}

UNIT_TEST(buf_many_threads)
{
	pthread_t t[8];

	(void)rss_bytes;
	for (uintptr_t i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&t[i], NULL, buf_hammer, (void *)(i + 1)), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	buf_trim();
}

UNIT_TEST(buf_is_zero_every_position)
{
	unsigned char b[200];

	for (size_t n = 0; n <= sizeof(b); n++) {
		memset(b, 0, sizeof(b));
		CHECK(buf_is_zero(b, n));
		for (size_t i = 0; i < sizeof(b); i++) {
			b[i] = 0x80;
			CHECK_EQ(buf_is_zero(b, n), i >= n);
			b[i] = 0;
		}
	}
}

/* ---- log, err, stats ---- */

static void log_some(void)
{
	char longest[3000];

	log_init(LOG_TO_STDERR, LOG_LEVEL_WARN);
	log_info("not shown");
	errno = EXDEV;
	log_warn("a\nname\x1b[1m");
	if (errno != EXDEV)
		log_error("errno lost");
	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	log_error("%s", longest);
	if (err_corrupt("layers/00000001.zst", 4096, "bad %s", "magic") != -EUCLEAN)
		log_error("wrong code");
	if (stats_read(STAT_CORRUPTIONS) != 1)
		log_error("not counted");
}

UNIT_TEST(log_one_line_each)
{
	char text[8192], *line2, *line3;

	CHECK_EQ(run_child(log_some, text, sizeof(text)), 0);
	CHECK(strncmp(text, "spillfs: warning: a?name?[1m\n", 29) == 0);
	line2 = text + 29;
	CHECK(strncmp(line2, "spillfs: error: xxx", 19) == 0);
	line3 = strchr(line2, '\n') + 1;
	CHECK(line3 - line2 <= 1024 && line3 - line2 > 1000);
	CHECK(strcmp(line3, "spillfs: error: corrupt: layers/00000001.zst at byte 4096: bad magic\n") == 0);
}

static void *report_b(void *arg)
{
	CHECK(!strcmp(err_text(-EUCLEAN), strerror(EUCLEAN))); /* what another thread has found is not its own */
	CHECK_EQ(err_corrupt("b", 0, "is damaged"), -EUCLEAN);
	CHECK(!strcmp(err_text(-EUCLEAN), "b: is damaged"));
	return arg;
}

UNIT_TEST(damages_at_once_name_their_own_files)
{
	pthread_t t;

	CHECK_EQ(err_corrupt("a", 7, "is %s", "damaged"), -EUCLEAN);
	CHECK_OK(thread_start("b", report_b, NULL, &t));
	thread_join(t);
	CHECK(!strcmp(err_text(-EUCLEAN), "a at byte 7: is damaged"));
	CHECK(!strcmp(err_text(-EIO), strerror(EIO)));
	err_forget();
	CHECK(!strcmp(err_text(-EUCLEAN), strerror(EUCLEAN)));
}

UNIT_TEST(stats_add_and_sub)
{
	stats_add(STAT_DIRTY_BYTES, 10);
	stats_sub(STAT_DIRTY_BYTES, 3);
	CHECK_EQ(stats_read(STAT_DIRTY_BYTES), 7);
}

UNIT_TEST(util_vectors_grow)
{
	uint32_t *v = NULL;
	size_t cap = 0, n = 0;

	CHECK_OK(VEC_RESERVE(v, cap, 1));
	CHECK_EQ(cap, 1);
	for (; n < 1000; n++) {
		CHECK_OK(VEC_RESERVE(v, cap, n + 1));
		CHECK(cap > n && cap <= 2 * n + 1);
		v[n] = (uint32_t)n;
	}
	for (size_t i = 0; i < n; i++)
		CHECK_EQ(v[i], i);
	free(v);
}

UNIT_TEST(util_vectors_stay_sorted)
{
	uint64_t seed = 1;
	unsigned v[100];
	size_t n = 0;

	while (n < 100) {
		unsigned x = (unsigned)(unit_rand(&seed) % 1000);

		VEC_INSERT(v, n, VEC_LOWER_BOUND(i, n, v[i] < x), x);
		for (size_t i = 1; i < n; i++)
			CHECK(v[i - 1] <= v[i]);
	}
	while (n) {
		size_t at = n == 1 ? 0 : n / 2;
		unsigned next = at + 1 < n ? v[at + 1] : 0;

		VEC_REMOVE(v, n, at);
		CHECK(at == n || v[at] == next);
	}
}

/* Every vector of up to 9 rising numbers with repetitions, and every number looked for; then numbers at the ends of their range. */
UNIT_TEST(util_lower_bound_of_sorted_vectors)
{
	static const uint64_t ends[] = { 0, 0, 1, UINT64_MAX - 1, UINT64_MAX, UINT64_MAX };
	unsigned v[9];

	for (unsigned n = 0; n <= 9; n++) {
		for (unsigned steps = 0; steps < 1u << n; steps++) {
			for (unsigned k = 0, at = 1; k < n; k++, at += steps >> k & 1)
				v[k] = at;
			for (unsigned key = 0; key <= 11; key++) {
				size_t want = 0;

				while (want < n && v[want] < key)
					want++;
				CHECK_EQ(VEC_LOWER_BOUND(i, n, v[i] < key), want);
			}
		}
	}
	CHECK_EQ(VEC_LOWER_BOUND(i, 6, ends[i] <= 0), 2);
	CHECK_EQ(VEC_LOWER_BOUND(i, 6, ends[i] < UINT64_MAX), 4);
	CHECK_EQ(VEC_LOWER_BOUND(i, 6, ends[i] <= UINT64_MAX), 6);
	CHECK_EQ(VEC_LOWER_BOUND(i, (size_t)1 << 63, i < ((size_t)1 << 63) - 2), ((size_t)1 << 63) - 2);
	CHECK_EQ(VEC_LOWER_BOUND(i, SIZE_MAX, i < SIZE_MAX - 1), SIZE_MAX - 1);
}

/* In order: one look. */
UNIT_TEST(util_lower_bound_looks_at_the_last_first)
{
	unsigned looks = 0;

	CHECK_EQ(VEC_LOWER_BOUND(i, 1000, (looks++, i < 2000)), 1000);
	CHECK_EQ(looks, 1);
	CHECK_EQ(VEC_LOWER_BOUND(i, 1000, (looks++, i < 500)), 500);
	CHECK(looks < 13);
}

UNIT_TEST(util_numbers_in_text)
{
	const char *text = "12,3";
	uint64_t n = 7;

	CHECK_OK(number_parse("18446744073709551615", &n));
	CHECK(n == UINT64_MAX);
	CHECK_OK(number_parse("007", &n));
	CHECK_EQ(number_parse("18446744073709551616", &n), -ERANGE);
	CHECK_EQ(number_parse("18446744073709551620", &n), -ERANGE);
	CHECK_EQ(number_parse("99999999999999999999", &n), -ERANGE);
	CHECK_EQ(number_parse("", &n), -EINVAL);
	CHECK_EQ(number_parse("-1", &n), -EINVAL);
	CHECK_EQ(number_parse(" 1", &n), -EINVAL);
	CHECK_EQ(number_parse("1x", &n), -EINVAL);
	CHECK_EQ(n, 7);
	CHECK_OK(number_scan(&text, &n));
	CHECK_EQ(n, 12);
	CHECK_EQ(number_scan(&text, &n), -EINVAL);
	CHECK_EQ(*text, ',');
	CHECK_EQ(number_hex_byte("0f"), 15);
	CHECK_EQ(number_hex_byte("Fa9"), 250);
	CHECK_EQ(number_hex_byte("f"), -1);
	CHECK_EQ(number_hex_byte("fg"), -1);
	CHECK_EQ(number_hex_byte(""), -1);
}

UNIT_TEST(util_numbers_have_one_name)
{
	static const char *const others[] = {
		"", "7", "007", "+7", "-7", " 07", "07 ", "07.zs", "07.zstx", "0x7.zst", "7.zst", "007.zst", "9223372036854775808.zst",
		"18446744073709551623.zst",
	};
	char name[32];
	uint64_t n = 7;

	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		CHECK_EQ(number_of_name(others[i], 2, ".zst", &n), -EINVAL);
	CHECK_EQ(number_of_name("00", 1, "", &n), -EINVAL);
	CHECK_EQ(n, 7);
	for (uint64_t want = 0;; want = want * 10 + 9) {
		snprintf(name, sizeof(name), "%02llu.zst", (unsigned long long)want);
		CHECK_OK(number_of_name(name, 2, ".zst", &n));
		CHECK_EQ(n, want);
		if (want > INT64_MAX / 100)
			break;
	}
	CHECK_OK(number_of_name("0", 1, "", &n));
	CHECK_EQ(n, 0);
	CHECK_OK(number_of_name("9223372036854775807", 1, "", &n));
	CHECK_EQ(n, INT64_MAX);
}
