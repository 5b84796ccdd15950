/*
 * Inode numbers and worlds.
 */
#include "tree/realm.h"

#include "store/meta.h"
#include "store/store.h"
#include "tree/inode.h"

static_assert(META_INO_END <= REALM_CONTROL_BASE && META_INO_SCRATCH == REALM_SCRATCH_BIT, "rows have none of the other worlds' numbers");

static enum realm_id id_of(const struct tree *t, uint64_t ino)
{
	if (ino & REALM_VIEWS_BIT)
		return REALM_VIEWS;
	if (ino & REALM_PAST_BIT)
		return REALM_PAST;
	if (ino & REALM_SCRATCH_BIT) /* in a tree of its own they are live */
		return t->scratch ? REALM_SCRATCH : REALM_LIVE;
	if (ino >= REALM_CONTROL_BASE || (ino >= REALM_CONTROL_FIRST && ino <= REALM_CONTROL_LAST))
		return REALM_CONTROL;
	return ino == META_INO_ROOT && t->store->config.follow ? REALM_CONTROL : REALM_LIVE;
}

const struct realm_ops *realm_of(const struct tree *t, uint64_t ino)
{
	return t->realms[id_of(t, ino)];
}

struct tree *realm_tree(struct tree *t, uint64_t ino)
{
	return id_of(t, ino) == REALM_SCRATCH ? t->scratch : t;
}

bool tree_is_view(uint64_t ino)
{
	return ino & REALM_VIEWS_BIT;
}
