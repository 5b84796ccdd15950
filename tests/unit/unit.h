/*
 * A small test framework. Each test runs in a process of its own, so that a failed, crashed or hung test
 * leaves the others alone; UNIT_NOFORK=1 runs all in one process and stops with an abort at the first
 * failure, for debuggers.
 *
 *     UNIT_TEST(pool_reuses_freed_regions) { CHECK_OK(pool_open(...)); CHECK_EQ(n, 3); }
 */
#ifndef SPILLFS_TESTS_UNIT_H
#define SPILLFS_TESTS_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unit_test {
	const char *name;
	void (*run)(void);
	struct unit_test *next;
};

void unit_register(struct unit_test *t);
/* Ends the test; in another thread than the test's it notes the failure and returns. */
void unit_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void unit_check_eq(const char *file, int line, const char *what, long long a, long long b);
void unit_check_ok(const char *file, int line, const char *what, int err);

#define UNIT_TEST(test_name)                                                                  \
	static void unit_run_##test_name(void);                                               \
	__attribute__((constructor)) static void unit_register_##test_name(void)              \
	{                                                                                     \
		static struct unit_test t = { #test_name, unit_run_##test_name, 0 };          \
		unit_register(&t);                                                            \
	}                                                                                     \
	static void unit_run_##test_name(void)

#define CHECK(cond)                                                     \
	do {                                                            \
		if (!(cond))                                            \
			unit_fail(__FILE__, __LINE__, "%s", #cond);     \
	} while (0)
/* Integers. */
#define CHECK_EQ(a, b) \
	unit_check_eq(__FILE__, __LINE__, #a " == " #b, (long long)(a), (long long)(b))
/* 0 or -errno. */
#define CHECK_OK(expr) unit_check_ok(__FILE__, __LINE__, #expr, (expr))

/* xorshift64: *state is the seed, and must not be 0. */
uint64_t unit_rand(uint64_t *state);
void unit_rand_fill(uint64_t *state, void *buf, unsigned long n);

/* The thread sanitizer makes some tests as slow as valgrind does. */
#ifdef __SANITIZE_THREAD__
#define UNIT_TSAN true
#else
#define UNIT_TSAN false
#endif

/* Valgrind has a process's limits, filters and resident size for its own. */
bool unit_in_valgrind(void);
/* n bytes, at least one; the test frees them. */
void *unit_allot(size_t n);

/* A fresh directory ($TMPDIR or /tmp), removed with all in it after the test. The string is valid until the
 * test ends. */
const char *unit_tmpdir(void);
/* The same, opened; the caller closes it. */
int unit_tmpdir_fd(void);

/* util/thread starts `after` more threads, then fails to start n, -EAGAIN; n is 0: it starts all. While no thread that it started runs, or is
 * about to. */
void unit_fail_threads(unsigned after, unsigned n);

#endif
