/*
 * array/acl: the bytes of POSIX ACLs, against what ext4 does with the same (posix_acl.c of the kernel; the perms tests ask ext4 itself).
 */
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>
#include <string.h>

#include "array/acl.h"
#include "unit.h"

#define ENTRIES_MAX 8

struct sample {
	struct posix_acl_xattr_header head;
	struct posix_acl_xattr_entry e[ENTRIES_MAX];
	size_t n;
};

/* Text as getfacl prints it, shortened: u::7 u:5:6 g::4 m::5 o::0. */
static struct sample parse(const char *text)
{
	struct sample s = { .head.a_version = POSIX_ACL_XATTR_VERSION };

	for (; *text; text += strcspn(text, " "), text += *text == ' ') {
		struct posix_acl_xattr_entry *e = &s.e[s.n++];
		const char *id = strchr(text, ':') + 1;
		bool named = *id != ':';

		CHECK(s.n <= ENTRIES_MAX);
		e->e_tag = *text == 'u' ? (named ? ACL_USER : ACL_USER_OBJ) : *text == 'g' ? (named ? ACL_GROUP : ACL_GROUP_OBJ) :
			   *text == 'm' ? ACL_MASK : ACL_OTHER;
		e->e_id = named ? (unsigned)strtoul(id, NULL, 10) : (unsigned)ACL_UNDEFINED_ID;
		e->e_perm = (unsigned short)strtoul(strchr(id, ':') + 1, NULL, 8);
	}
	return s;
}

static size_t bytes(const struct sample *s)
{
	return sizeof(s->head) + s->n * sizeof(*s->e);
}

static void check_same(const struct sample *s, const char *text)
{
	const struct sample want = parse(text);

	CHECK_EQ(s->n, want.n);
	for (size_t i = 0; i < want.n; i++) {
		CHECK_EQ(s->e[i].e_tag, want.e[i].e_tag);
		CHECK_EQ(s->e[i].e_perm, want.e[i].e_perm);
		CHECK_EQ(s->e[i].e_id, want.e[i].e_id);
	}
}

UNIT_TEST(acl_names)
{
	CHECK(acl_is_name("system.posix_acl_access") && acl_is_name("system.posix_acl_default"));
	CHECK(!acl_is_name("system.posix_acl") && !acl_is_name("user.posix_acl_access") && !acl_is_name(""));
}

UNIT_TEST(acl_check_takes_what_the_kernel_takes)
{
	static const char *const good[] = { "u::7 g::5 o::5", "u::7 g::5 m::7 o::5", "u::6 u:1:7 g::4 m::6 o::0",
					    "u::6 g::4 g:2:7 m::6 o::0", "u::0 u:1:0 u:2:0 g::0 g:1:0 m::0 o::0" };
	static const char *const bad[] = { "", "u::7", "u::7 g::5", "g::5 o::5", "u::7 o::5", "m::7", "u::6 u:1:7 g::4 o::0", "u::6 g::4 g:2:7 o::0" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		struct sample s = parse(good[i]);

		CHECK_OK(acl_check(&s, bytes(&s)));
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct sample s = parse(bad[i]);

		CHECK_EQ(acl_check(&s, bytes(&s)), -EINVAL);
	}
}

/* Every length and a wrong version; what follows the value may not be read. */
UNIT_TEST(acl_check_refuses_bad_bytes)
{
	struct sample s = parse("u::6 u:1:7 g::4 m::6 o::0");

	for (size_t n = 0; n < bytes(&s); n++) {
		char *exact = malloc(n ? n : 1);

		CHECK(exact);
		memcpy(exact, &s, n);
		CHECK_EQ(acl_check(exact, n), -EINVAL);
		free(exact);
	}
	CHECK_EQ(acl_check(&s, bytes(&s) + 1), -EINVAL);
	for (unsigned version = 0; version < 5; version++) {
		s.head.a_version = version;
		CHECK_EQ(acl_check(&s, bytes(&s)), version == POSIX_ACL_XATTR_VERSION ? 0 : -EINVAL);
	}
}

/* As posix_acl_equiv_mode: the group's bits are the mask's where there is one; an ACL that is no more than a mode is none. */
UNIT_TEST(acl_to_mode_is_as_ext4_does)
{
	static const struct {
		const char *text;
		mode_t before, after;
		bool more;
	} rows[] = {
		{ "u::7 g::5 o::1", 0100000, 0100751, false },
		{ "u::0 g::0 o::0", 0107777, 0107000, false },
		{ "u::6 g::4 m::7 o::0", 0100644, 0100670, true },
		{ "u::6 u:1:7 g::4 m::0 o::4", 0100666, 0100604, true },
		{ "u::7 g::7 g:5:7 m::3 o::7", 0042777, 0042737, true },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct sample s = parse(rows[i].text);
		mode_t mode = rows[i].before;

		CHECK_EQ(acl_to_mode(&s, bytes(&s), &mode), rows[i].more);
		CHECK_EQ(mode, rows[i].after);
	}
}

/* chmod changes owner, mask and others; named entries stay, and so does the group where there is a mask (__posix_acl_chmod_masq). */
UNIT_TEST(acl_after_chmod_is_as_ext4_does)
{
	struct sample s = parse("u::6 u:1:7 g::5 g:3:2 m::6 o::0"), plain = parse("u::7 g::7 o::7");
	mode_t mode = 0;

	acl_from_mode(&s, bytes(&s), 0100753, false);
	check_same(&s, "u::7 u:1:7 g::5 g:3:2 m::5 o::3");
	CHECK(acl_to_mode(&s, bytes(&s), &mode));
	CHECK_EQ(mode, 0753);
	acl_from_mode(&plain, bytes(&plain), 0100640, false);
	check_same(&plain, "u::6 g::4 o::0");
}

/* A directory that shows a file: whoever may read may search. */
UNIT_TEST(acl_of_a_directory_view_can_be_searched)
{
	struct sample s = parse("u::6 u:1:6 u:2:2 g::4 m::6 o::0");

	acl_from_mode(&s, bytes(&s), 040750, true);
	check_same(&s, "u::7 u:1:7 u:2:2 g::5 m::5 o::0");
}

UNIT_TEST(acl_show_has_the_bits_of_the_mode)
{
	struct sample s = parse("u::0 u:1:7 g::4 m::0 o::7"), d = parse("u::7 g::5 o::5");

	CHECK_OK(acl_show(ACL_ACCESS, &s, bytes(&s), 0100640));
	check_same(&s, "u::6 u:1:7 g::4 m::4 o::0");
	CHECK_OK(acl_show(ACL_DEFAULT, &d, bytes(&d), 0100000));
	check_same(&d, "u::7 g::5 o::5");
	CHECK_EQ(acl_show(ACL_ACCESS, &s, bytes(&s) - 1, 0100640), -EIO);
}

/* posix_acl_create_masq: the ACL loses what the mode of open or mkdir has not, and the mode what the ACL has not. */
UNIT_TEST(acl_begin_is_as_ext4_does)
{
	static const struct {
		const char *text, *after;
		mode_t before, mode;
		bool more;
	} rows[] = {
		{ "u::7 g::5 o::5", "u::6 g::4 o::4", 0100666, 0100644, false },
		{ "u::7 u:1:7 g::5 m::7 o::5", "u::6 u:1:7 g::5 m::6 o::4", 0100666, 0100664, true },
		{ "u::7 u:1:7 g::5 m::7 o::5", "u::7 u:1:7 g::5 m::0 o::0", 0040700, 0040700, true },
		{ "u::0 g::0 m::0 o::0", "u::0 g::0 m::0 o::0", 0100777, 0100000, true },
		{ "u::7 g::7 o::7", "u::7 g::7 o::7", 0043777, 0043777, false },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct sample s = parse(rows[i].text);
		mode_t mode = rows[i].before;

		CHECK_EQ(acl_begin(&s, bytes(&s), &mode), rows[i].more);
		CHECK_EQ(mode, rows[i].mode);
		check_same(&s, rows[i].after);
	}
}
