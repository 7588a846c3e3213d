/* SPDX-License-Identifier: MIT */
/*
 * layers.h - steps of ours on the layers of the drive: snapshots, commits,
 * streams, rebases, clones
 */
#ifndef MODEL_LAYERS_H
#define MODEL_LAYERS_H

#include "tests/lib/model/bitmaps.h"

/* ----------------------------------------------------- what stands in it */

/*
 * A node bitmap on a file that is in the way: elsewhere now, or removed. Of
 * what it was on, the user is asked first, so to speak.
 */
static void clear_the_way(struct node_bitmap *b, bool can_move)
{
	unsigned to = (unsigned)below(m.layers);

	note("# the node bitmap %s is in the way", b->name);
	if (!can_move || to + 1 == m.layers || !move_node_bitmap(b, to))
		remove_node_bitmap(b);
}

/* The name of an internal snapshot in the file of that layer, or NULL. */
static const char *inner_of(unsigned i)
{
	static char name[64];
	json_t *root, *all;

	if (failed ||
	    call("qemu-img", "info", "-U", "--output=json", m.layer[i]->path))
		return NULL;
	root = output_json();
	all = json_object_get(root, "snapshots");
	snprintf(name, sizeof(name), "%s",
		 text_in(json_array_get(all, 0), "name"));
	json_decref(root);
	return *name ? name : NULL;
}

/* A layer from one up to another that has an internal snapshot; -1: none. */
static int inner_between(unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to; i++)
		if (inner_of(i))
			return (int)i;
	return -1;
}

static void remove_inner(unsigned i)
{
	const char *name = inner_of(i);

	if (!name)
		return;
	note("# the internal snapshot %s is in the way", name);
	foreign(any_tool(), "snapshot", "-d", name, m.layer[i]->path);
	if (i + 1 == m.layers)
		m.inner.exists = false;
}

/* A clone rests on a layer from one up to another. */
static bool is_cloned(int from, int to)
{
	for (size_t i = 0; i < CLONES; i++)
		if (m.clone[i].exists && m.clone[i].rests_on >= from &&
		    m.clone[i].rests_on <= to)
			return true;
	return false;
}

/* One of these layers was made a clone on, at some time. */
static bool was_shared(unsigned from, unsigned to)
{
	for (unsigned i = from; i <= to; i++)
		if (m.layer[i]->was_shared)
			return true;
	return false;
}

/* Layers above `top` are not those of the drive any more. */
static void leave_clones(int top)
{
	for (size_t i = 0; i < CLONES; i++)
		if (m.clone[i].rests_on > top)
			m.clone[i].rests_on = top;
}

/*
 * Bitmaps may start in that layer now. Where it does not rest on what it was
 * made on, they are full: whether that was so before they started is not
 * recorded.
 */
static void note_merge(unsigned into)
{
	if (m.layer[into]->is_broken)
		note_foreign();
}

/* ------------------------------------------------------------ snapshots */

/* A node bitmap whose file would get another name; NULL: none. */
static struct node_bitmap *hurt_by_snapshot(void)
{
	return m.is_link || failed ? NULL : node_bitmap_of(m.layers - 1);
}

static void make_snapshot(void)
{
	char tag[16];
	struct node_bitmap *b;

	new_tag(tag);
	while ((b = hurt_by_snapshot()) != NULL) {
		ours(6, "snapshot", "create", "--drive", drive, tag);
		clear_the_way(b, false);
	}
	ours(0, "snapshot", "create", "--drive", drive, tag);
	push_layer(tag);
	find_layers();
}

static enum outcome step_snapshot(void)
{
	if (m.layers == MAX_LAYERS)
		return NO_SENSE;
	make_snapshot();
	return DONE;
}

/* A layer that is a snapshot; -1: there is none. */
static int any_snapshot(void)
{
	unsigned first = (unsigned)below(MAX_LAYERS);

	for (unsigned k = 0; k < MAX_LAYERS; k++) {
		unsigned i = (first + k) % MAX_LAYERS;

		if (i + 1 < m.layers && *m.layer[i]->tag)
			return (int)i;
	}
	return -1;
}

static enum outcome step_revert(void)
{
	int to = any_snapshot();
	struct node_bitmap *b;
	bool unclear;

	if (to < 0)
		return NO_SENSE;
	while (inner_of(m.layers - 1)) {
		ours(6, "snapshot", "revert", "--drive", drive,
		     m.layer[to]->tag);
		remove_inner(m.layers - 1);
	}
	b = node_bitmap_between((unsigned)to + 1, m.layers - 1);
	unclear = b || m.is_marked || is_cloned(to + 1, (int)m.layers - 1) ||
		  was_shared((unsigned)to + 1, m.layers - 1);
	if (!ours(unclear ? OK_OR_REFUSED : 0, "snapshot", "revert", "--drive",
		  drive, m.layer[to]->tag))
		return REFUSED;
	note_content(m.layer[to]->content, m.layer[to]->size);
	drop_layers((unsigned)to + 1, m.layers - 1);
	leave_clones(to);
	m.is_torn = m.is_marked = m.inner.exists = false;
	find_layers();
	return DONE;
}

static enum outcome step_delete(void)
{
	int i = any_snapshot();
	unsigned at = (unsigned)i;
	bool unclear, must_fail;

	if (i < 0)
		return NO_SENSE;
	/* In the upper one, both ways; in the lower one, one of them. */
	must_fail = is_cloned(i, i) || inner_of(at + 1);
	/* Which of the two files stays is not settled; a base may be longer. */
	unclear = inner_of(at) || m.is_marked ||
		  node_bitmap_between(at, at + 1) || is_cloned(i + 1, i + 1) ||
		  was_shared(at, at + 1) ||
		  size_of_layer(at) > size_of_layer(at + 1);
	if (!ours(must_fail ? 6 :
		  unclear   ? OK_OR_REFUSED :
			      0,
		  "snapshot", "delete", "--drive", drive, m.layer[at]->tag)) {
		remove_inner(at + 1);
		return REFUSED;
	}
	note_merge(at);
	excuse_node_bitmaps(at, content_of_layer(at + 1));
	if (at + 2 == m.layers)
		m.is_torn = true; /* or not: what it was merged into may be */
	for (size_t k = 0; k < CLONES; k++)
		m.clone[k].rests_on -= m.clone[k].rests_on > i;
	drop_layers(at, at + 1);
	m.inner.exists = false;
	find_layers();
	return DONE;
}

/* -------------------------------------------------------------- commits */

/* Layers above `to` are in it now. */
static void note_commit(unsigned to)
{
	note_merge(to);
	excuse_node_bitmaps(to, m.guest);
	drop_layers(to + 1, m.layers);
	/* Whether the base is torn is not tracked: a resize may fail. */
	m.is_torn = true;
	m.is_marked = m.inner.exists = false;
	find_layers();
}

/* A node bitmap that a commit into that layer would hurt. */
static struct node_bitmap *hurt_by_commit(unsigned to)
{
	struct node_bitmap *b = node_bitmap_between(to + 1, m.layers - 1);

	/* Where the drive is a plain file, the base gets its name. */
	return b || m.is_link ? b : node_bitmap_of(to);
}

static enum outcome commit_into(unsigned to, const char *option,
				const char *node)
{
	bool may_fail = m.is_marked || was_shared(to, m.layers - 1);
	struct node_bitmap *b = hurt_by_commit(to);
	int inner;

	/* Of those in between, none may have to shrink. */
	for (unsigned i = to; i + 1 < m.layers; i++)
		may_fail |= size_of_layer(i) > size_of_layer(i + 1);
	if (m.layer[to]->size > m.size || is_cloned((int)to, MAX_LAYERS)) {
		ours(6, "commit", "--drive", drive, option, node);
		return REFUSED;
	}
	while (b && !failed) {
		ours(6, "commit", "--drive", drive, option, node);
		clear_the_way(b, m.is_link);
		b = hurt_by_commit(to);
	}
	while ((inner = inner_between(to + 1, m.layers - 1)) >= 0) {
		ours(6, "commit", "--drive", drive, option, node);
		remove_inner((unsigned)inner);
	}
	if (failed || !ours(may_fail ? OK_OR_REFUSED : 0, "commit", "--drive",
			    drive, option, node))
		return REFUSED;
	note_commit(to);
	return DONE;
}

static enum outcome step_commit(void)
{
	if (m.layers > 1)
		return commit_into(m.layers - 2, NULL, NULL);
	ours(6, "commit", "--drive", drive);
	return REFUSED;
}

static enum outcome step_commit_into(void)
{
	unsigned to;

	if (m.layers < 2)
		return NO_SENSE;
	to = (unsigned)below(m.layers - 1);
	return commit_into(to, "--into", m.layer[to]->path);
}

/* ----------------------------------------------------- streams, rebases */

/* The head rests on layer `base` (-1: on none) and reads as before. */
static void note_base(int base)
{
	drop_layers((unsigned)(base + 1), m.layers - 1);
	head()->is_broken = false;
	/* What a snapshot in the head has not allocated is read from below. */
	m.inner.exists = false;
	leave_clones(base);
	find_layers();
}

static enum outcome step_stream(void)
{
	int base = m.layers < 2 || one_in(2) ? -1 : (int)below(m.layers - 1);

	while (base + 2 != (int)m.layers && inner_of(m.layers - 1)) {
		ours(6, "stream", "--drive", drive, base < 0 ? NULL : "--base",
		     base < 0 ? NULL : m.layer[base]->path);
		remove_inner(m.layers - 1);
	}
	ours(0, "stream", "--drive", drive, base < 0 ? NULL : "--base",
	     base < 0 ? NULL : m.layer[base]->path);
	/* Else there was nothing to do, nor to mend. */
	if (base + 2 != (int)m.layers)
		note_base(base);
	return DONE;
}

static enum outcome step_stream_range(void)
{
	uint64_t off = below(m.size / SECTOR) * SECTOR;
	uint64_t len = (1 + below((m.size - off) / SECTOR)) * SECTOR;

	ours(0, "stream", "--drive", drive, "--offset", text_of(off),
	     "--length", text_of(len));
	return DONE;
}

static enum outcome step_rebase(void)
{
	int base;

	if (m.layers < 2)
		return NO_SENSE;
	base = (int)below(m.layers) - 1;
	ours(0, "rebase", "-f", "qcow2", "-F", "qcow2", "-b",
	     base < 0 ? "" : m.layer[base]->path, drive);
	note_base(base);
	return DONE;
}

/* ---------------------------------------------------------------- sizes */

/* A foreign shrink is seen while it lasts: a snapshot makes it last. */
static enum outcome step_resize(void)
{
	uint64_t size = random_size();
	bool shrinks = size < m.size;

	/* Ours notes it, whatever the head is; a frozen one it may refuse. */
	if (one_in(2)) {
		if (shrinks && m.is_marked)
			return NO_SENSE;
		if (ours(0, "resize", "--shrink", drive, text_of(size)))
			note_size(size);
		return DONE;
	}
	if (shrinks && m.layers == MAX_LAYERS)
		return NO_SENSE;
	if (call("qemu-img", "resize", "-f", "qcow2", "--shrink", drive,
		 text_of(size))) {
		if (!m.is_torn)
			fail("qemu-img resize");
		return REFUSED;
	}
	note_size(size);
	if (shrinks)
		make_snapshot();
	return DONE;
}

/* --------------------------------------------------------------- clones */

static struct clone *free_clone(void)
{
	for (size_t i = 0; i < CLONES; i++)
		if (!m.clone[i].exists)
			return &m.clone[i];
	return NULL;
}

static void note_clone(struct clone *c, unsigned on)
{
	c->exists = true;
	c->rests_on = (int)on;
	c->size = m.layer[on]->size;
	memcpy(c->content, m.layer[on]->content, MAX_SIZE);
	m.layer[on]->was_shared = true;
}

static enum outcome clone_snapshot(struct clone *c)
{
	int on = any_snapshot();

	if (on < 0)
		return NO_SENSE;
	ours(0, "clone", "--drive", drive, "--at", m.layer[on]->tag, c->path);
	note_clone(c, (unsigned)on);
	return DONE;
}

/* The drive gets a snapshot first, unless its head is empty. */
static enum outcome step_clone(void)
{
	struct clone *c = free_clone();
	struct node_bitmap *b;
	char tag[16];
	json_t *root;
	bool made;

	if (!c || m.layers == MAX_LAYERS)
		return NO_SENSE;
	new_name(c->path, "clone");
	if (one_in(2))
		return clone_snapshot(c);
	while ((b = hurt_by_snapshot()) != NULL)
		clear_the_way(b, false);
	new_tag(tag);
	if (!ours(0, "clone", "--drive", drive, "--tag", tag, c->path))
		return REFUSED;
	call("qemu-img", "info", "--output=json", c->path);
	root = output_json();
	made = strcmp(text_in(root, "backing-filename"),
		      m.layers > 1 ? m.layer[m.layers - 2]->path : "");
	json_decref(root);
	if (made)
		push_layer(tag);
	find_layers();
	note_clone(c, m.layers - 2);
	return DONE;
}

static enum outcome step_clone_write(void)
{
	struct clone *c = &m.clone[below(CLONES)];
	uint64_t off, len;
	char text[64];
	int value = 1 + (int)below(255);

	if (!c->exists)
		return NO_SENSE;
	off = below(c->size / SECTOR);
	len = 1 + below(qi_min(200, c->size / SECTOR - off));
	snprintf(text, sizeof(text), "write -P %d %llu %llu", value,
		 (unsigned long long)off * SECTOR,
		 (unsigned long long)len * SECTOR);
	foreign("qemu-io", "-f", "qcow2", "-c", text, c->path);
	memset(c->content + off * SECTOR, value, len * SECTOR);
	return DONE;
}

/* The layer that it was made on stays marked until the user says so. */
static void take_mark_off(int on)
{
	if (on < 0 || !m.layer[on]->was_shared || one_in(3))
		return;
	for (size_t i = 0; i < CLONES; i++)
		if (m.clone[i].exists && m.clone[i].rests_on >= on)
			return;
	/* Layers that the drive has left may rest on it, too. */
	if (ours(OK_OR_REFUSED, "clone", "--unshare", m.layer[on]->path))
		m.layer[on]->was_shared = false;
}

static enum outcome step_clone_remove(void)
{
	struct clone *c = &m.clone[below(CLONES)];

	if (!c->exists)
		return NO_SENSE;
	compare_image(c->path, c->content, c->size);
	remove_file(c->path);
	c->exists = false;
	m.has_leftovers = true;
	take_mark_off(c->rests_on);
	return DONE;
}

#endif
