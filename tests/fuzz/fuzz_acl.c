/*
 * Fuzz target: a mode of two bytes, and the bytes of a POSIX ACL, as a client sends them or a store has them. What is taken is shown, set
 * and inherited without a change of anything but permissions.
 */
#include <errno.h>
#include <linux/posix_acl_xattr.h>

#include "array/acl.h"
#include "fuzz.h"

#define PERMS 0777u

/* Tags, ids and the version are as they were. */
static void check_same(const void *a, const void *b, size_t len)
{
	const struct posix_acl_xattr_header *x = a, *y = b;
	const struct posix_acl_xattr_entry *e = (const void *)(x + 1), *f = (const void *)(y + 1);

	CHECK(x->a_version == y->a_version);
	for (size_t n = (len - sizeof(*x)) / sizeof(*e); n; n--, e++, f++)
		CHECK(e->e_tag == f->e_tag && e->e_id == f->e_id);
}

static void try_mode(const void *acl, size_t len, mode_t mode, bool search)
{
	void *copy = fuzz_copy(acl, len);
	mode_t back = mode ^ PERMS;

	acl_from_mode(copy, len, mode, search);
	CHECK_OK(acl_check(copy, len));
	check_same(acl, copy, len);
	acl_to_mode(copy, len, &back);
	CHECK(back == mode);
	free(copy);
}

static void try_begin(const void *acl, size_t len, mode_t mode)
{
	void *copy = fuzz_copy(acl, len);
	mode_t all = mode, begun = mode, again;

	acl_to_mode(acl, len, &all);
	acl_begin(copy, len, &begun);
	CHECK_OK(acl_check(copy, len));
	check_same(acl, copy, len);
	CHECK(begun == (mode & (all | ~(mode_t)PERMS)));
	again = begun;
	acl_to_mode(copy, len, &again);
	CHECK(again == begun);
	free(copy);
}

static void try_show(const char *name, const void *acl, size_t len, mode_t mode)
{
	void *copy = fuzz_copy(acl, len);
	int err = acl_show(name, copy, len, mode);

	CHECK(err == (acl_check(acl, len) ? -EIO : 0));
	if (!err)
		check_same(acl, copy, len);
	CHECK((!err && !strcmp(name, ACL_ACCESS)) || !memcmp(copy, acl, len));
	free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input in = { data, size };
	mode_t mode = (mode_t)fuzz_number(&in, 2);
	size_t len;
	void *acl = fuzz_bytes(&in, in.n, &len);

	try_show(ACL_ACCESS, acl, len, mode);
	try_show(ACL_DEFAULT, acl, len, mode);
	if (!acl_check(acl, len)) {
		try_mode(acl, len, mode, false);
		try_mode(acl, len, mode, true);
		try_begin(acl, len, mode);
	}
	free(acl);
	return 0;
}
