/*
 * The nodes of views/: making them, and answering lookups with them.
 *
 * A node's number follows from its key (key.c). A lookup compares the version of the sources, a number that changes with each edit, with
 * the node's. A node that nobody has open is brought up to date, and the next open drops the kernel's pages. A node that is open is
 * superseded, and the lookup answers with the next number: two versions never share pages. Versions can only be compared for
 * equality, since an array that is loaded anew gets a version from its row.
 *
 * Where the kernel keeps the sizes that it knows (its writeback cache, tree.sizes_stick) a node never changes its size: another
 * version is another node. Listings and stat show one number for all nodes of a view (tree_shown_ino), because cp takes a file whose
 * number changes between stat and open for one that was replaced.
 *
 * Invariant: nodes hold no file of the live tree, so that views keep nothing from being deleted; open ones do.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree/views/inside.h"
#include "tree/views/upload.h"
#include "util/clock.h"
#include "util/plant.h"

static bool same_key(const struct view_key *a, const struct view_key *b)
{
	return a->source == b->source && a->sub == b->sub && a->role == b->role && a->format == b->format;
}

/* A node that is open and shows an older version makes room for another node. */
static bool out_of_date(struct inode *i, uint64_t version)
{
	struct view_inode *n = view_of(i);
	bool old;

	if (atomic_load(&n->superseded))
		return true;
	/* A node that is written in place is never old. */
	if (views_is_live(i) || PLANTED(PLANT_OLD_VIEW))
		return false;
	lock_acquire(&i->attr);
	old = n->known && n->version != version && (i->array || i->tree->sizes_stick);
	lock_release(&i->attr);
	if (old)
		atomic_store(&n->superseded, true);
	return old;
}

static bool is_file(const struct view_key *key)
{
	return !view_role_is_dir(key->role) && key->role != VIEW_NEW;
}

void views_fini(struct inode *i)
{
	struct view_inode *n = view_of(i);

	if (n->node.past)
		inode_put(n->node.past, 1);
	if (n->upload)
		upload_free(n->upload);
	free(n->columns.v);
	free(n->node.name);
}

static int new_node(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, uint64_t generation,
		    struct view_inode **out)
{
	const struct facts row = { .ino = views_number_beside(key, generation), .kind = ARRAY_VIEW, .nlink = 1,
				   .mode = view_role_is_dir(key->role) ? S_IFDIR : S_IFREG };
	struct view_inode *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	inode_init(&n->base, t, REALM_VIEWS, &row);
	n->node.key = *key;
	n->node.dir = dir;
	n->node.name = name ? strdup(name) : NULL;
	if (name && !n->node.name) {
		inode_free(&n->base);
		return -ENOMEM;
	}
	if (views_is_fixed(t, key->source) && !inode_find(t, key->source, &n->node.past))
		inode_ref(n->node.past);
	*out = n;
	return 0;
}

/* The key's inode, with one more reference; or its next one, if the first is open and shows another version of the sources. apart: an
 * inode that no other lookup finds. */
static int node_for(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, uint64_t version, bool apart,
		    struct inode **out)
{
	int err = 0;

	for (uint64_t generation = apart ? VIEWS_APART + atomic_fetch_add(&t->views_apart, 1) : 0; !err; generation++) {
		struct view_inode *made;
		struct inode *i;

		err = new_node(t, key, dir, name, generation, &made);
		if (err)
			break;
		i = inode_get_made(&made->base);
		if (apart ? i == &made->base : same_key(&view_of(i)->node.key, key) && !(is_file(key) && out_of_date(i, version))) {
			*out = i;
			return 0;
		}
		inode_put(i, 1);
	}
	return err;
}

/* Opens the view of a thread that was refused before its lookup is answered, so that the thread's open finds the size in that answer,
 * however fast the array changes. The view stays open until the kernel forgets it. The thread's open reports a failure. */
static void open_apart(struct inode *i, pid_t thread)
{
	struct view_opening o = { .thread = thread };
	int err;

	do {
		err = views_open_begin(i, &o);
		if (!err) {
			rwlock_exclusive(&i->rw);
			err = views_open_end(i, &o);
			rwlock_release(&i->rw);
		}
		if (o.array)
			array_close(o.array);
		o.array = NULL;
	} while (err == -EAGAIN);
	views_part(i->tree, &view_of(i)->node.key, thread); /* until the open that this is for */
}

/* One try: the attributes of a node that was found, which has one more reference. *late_out: it was opened since, and may show less
 * than was there before. */
static int answer_once(struct tree *t, const struct view_node *like, const struct tree_caller *who, bool *late_out,
		       struct tree_attr *out)
{
	const struct view_key *key = &like->key;
	pid_t thread = who ? who->thread : 0;
	bool file = is_file(key), apart = file && views_is_alone(t, key, thread);
	struct view_look look = { 0 };
	struct inode *i;
	int err = file ? views_look(t, like, &look) : 0;

	if (err)
		return err;
	err = node_for(t, key, like->dir, like->name, look.version, apart, &i);
	if (err) {
		views_look_end(&look);
		return err;
	}
	if (apart)
		open_apart(i, thread);
	atomic_store(&view_of(i)->answered_ns, clock_monotonic_ns());
	err = views_attr(i, &look, out);
	views_look_end(&look);
	*late_out = !err && file && out_of_date(i, look.version);
	if (err)
		inode_put(i, 1);
	return err;
}

int views_answer(struct tree *t, const struct view_key *key, uint64_t dir, const char *name, const struct tree_caller *who,
		 struct tree_attr *out)
{
	const struct view_node like = { .key = *key, .dir = dir, .name = (char *)(uintptr_t)name };
	bool late;
	int err = answer_once(t, &like, who, &late, out);

	for (int k = 0; !err && late && k < VIEWS_REPLACED_TRIES; k++) {
		inode_forget(t, out->st.st_ino, 1);
		err = answer_once(t, &like, who, &late, out);
	}
	return err;
}

int views_enter(struct tree *t, uint64_t root, struct tree_attr *out)
{
	return views_answer(t, &(struct view_key){ .source = root, .role = VIEW_TOP }, 0, NULL, NULL, out);
}

int views_make(struct tree *t, uint64_t parent, const struct realm_new *what, struct tree_attr *out)
{
	const char *name = what->name;
	struct inode *dir, *i;
	struct view_key key;
	bool temporary;
	int err = inode_find(t, parent, &dir);

	if (err)
		return err;
	key = (struct view_key){ .source = view_of(dir)->node.key.source, .role = VIEW_NEW, .format = FORMAT_NPY,
				 .sub = atomic_fetch_add(&t->views_made, 1) };
	if (view_of(dir)->node.key.format != FORMAT_NPY || view_of(dir)->node.key.role != VIEW_DIR || views_is_fixed(t, key.source))
		return -EROFS;
	if (!upload_name_is_good(name, &temporary))
		return -EPERM;
	if (!temporary) {
		char array[META_NAME_MAX + 1];

		/* It may be something that has no view. */
		snprintf(array, sizeof(array), "%.*s", (int)(strlen(name) - strlen(view_formats[FORMAT_NPY].suffix)), name);
		err = realm_of(t, key.source)->lookup(t, key.source, array, NULL, out);
		if (!err)
			inode_forget(t, out->st.st_ino, 1);
		if (err != -ENOENT)
			return err ? err : -EEXIST;
	}
	err = node_for(t, &key, key.source, NULL, 0, false, &i);
	if (err)
		return err;
	err = upload_begin(i, name, what->who, what->mode);
	if (!err)
		err = views_getattr(t, i->facts.ino, out);
	if (err)
		inode_put(i, 1);
	return err;
}
