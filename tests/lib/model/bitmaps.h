/* SPDX-License-Identifier: MIT */
/* bitmaps.h - steps on the bitmaps of the drive and of its nodes */
#ifndef MODEL_BITMAPS_H
#define MODEL_BITMAPS_H

#include "tests/lib/model/compare.h"

static struct bitmap *any_bitmap(void)
{
	return &m.bitmap[below(DRIVE_BITMAPS)];
}

static struct bitmap *other_bitmap(const struct bitmap *b)
{
	return &m.bitmap[b == &m.bitmap[0]];
}

/* -------------------------------------------------------- of the drive */

static void add_bitmap(struct bitmap *b)
{
	ours(0, "bitmap", "add", "--drive", drive, "-g", b->granularity_text,
	     b->name);
	b->granularity = (uint32_t)strtoul(b->granularity_text, NULL, 10);
	b->paused = false;
	note_start(b);
}

static void clear_bitmap(struct bitmap *b)
{
	ours(0, "bitmap", "clear", "--drive", drive, b->name);
	note_start(b);
}

static void add_again(struct bitmap *b)
{
	ours(0, "bitmap", "remove", "--drive", drive, b->name);
	ours(1, "bitmap", "show", "--drive", drive, b->name);
	add_bitmap(b);
}

static enum outcome step_clear(void)
{
	clear_bitmap(any_bitmap());
	return DONE;
}

static enum outcome step_add_again(void)
{
	add_again(any_bitmap());
	return DONE;
}

static enum outcome step_pause(void)
{
	struct bitmap *b = any_bitmap();

	ours(0, "bitmap", b->paused ? "enable" : "disable", "--drive", drive,
	     b->name);
	b->paused = !b->paused;
	b->was_paused = true;
	if (is_backed_up(b))
		m.has_gap = true;
	return DONE;
}

/*
 * Is the bitmap as it was before a foreign tool dropped layers? A head that
 * was alone in knowing it, or that it was enabled, or when it was cleared, is
 * no more. What was its record before that clear may be there, with the id of
 * that checkpoint, so that no backup takes it for the present one.
 */
static bool is_kept(struct bitmap *b)
{
	json_t *root;
	bool kept;

	if (call(qimg, "bitmap", "show", "--output", "json", "--drive", drive,
		 b->name) == 1) {
		add_bitmap(b);
		return true;
	}
	root = output_json();
	kept = !strcmp(text_in(root, "state"), "enabled") &&
	       !strcmp(text_in(root, "checkpoint"), b->checkpoint);
	json_decref(root);
	return kept;
}

/* To be called when the layers that are left may know less. */
static void keep_bitmaps(void)
{
	m.is_unsure = true;
	note_foreign();
	for (size_t i = 0; i < DRIVE_BITMAPS && !failed; i++)
		if (!is_kept(&m.bitmap[i]))
			add_again(&m.bitmap[i]);
}

/* ------------------------------------------------------------ of nodes */

static struct node_bitmap *any_node_bitmap(void)
{
	size_t first = below(NODE_BITMAPS);

	for (size_t k = 0; k < NODE_BITMAPS; k++) {
		struct node_bitmap *b =
			&m.node_bitmap[(first + k) % NODE_BITMAPS];

		if (b->exists && layer_at(b->path) >= 0)
			return b;
	}
	return NULL;
}

static void remove_node_bitmap(struct node_bitmap *b)
{
	ours(0, "bitmap", "remove", "--node", b->path, b->name);
	b->exists = false;
}

static enum outcome step_node_add(void)
{
	struct node_bitmap *b = &m.node_bitmap[m.node_bitmap[0].exists];
	unsigned on = (unsigned)below(m.layers);
	const char *path = m.layer[on]->path;
	struct stat st;

	if (b->exists)
		return NO_SENSE;
	snprintf(b->name, sizeof(b->name), "n%u", ++m.serial);
	snprintf(b->path, sizeof(b->path), "%s", path);
	if (stat(path, &st))
		die(path);
	b->ino = st.st_ino;
	b->disabled = false;
	if (one_in(2))
		ours(0, "bitmap", "add", "--node", path, "-g",
		     one_in(2) ? "512" : "64K", b->name);
	else
		foreign("qemu-img", "bitmap", "-f", "qcow2", "--add", path,
			b->name);
	b->exists = true;
	start_node_bitmap(b);
	/* The name is taken in all of the chain. */
	if (one_in(3))
		ours(1, "bitmap", "add", "--drive", drive, b->name);
	return DONE;
}

static enum outcome step_node_remove(void)
{
	struct node_bitmap *b = any_node_bitmap();

	if (!b)
		return NO_SENSE;
	if (one_in(2)) {
		remove_node_bitmap(b);
		return DONE;
	}
	foreign("qemu-img", "bitmap", "-f", "qcow2", "--remove", b->path,
		b->name);
	b->exists = false;
	return DONE;
}

static enum outcome step_node_clear(void)
{
	struct node_bitmap *b = any_node_bitmap();

	if (!b)
		return NO_SENSE;
	if (b->lost || one_in(2))
		ours(0, "bitmap", "clear", "--node", b->path, b->name);
	else
		foreign("qemu-img", "bitmap", "-f", "qcow2", "--clear", b->path,
			b->name);
	start_node_bitmap(b);
	return DONE;
}

static enum outcome step_node_pause(void)
{
	struct node_bitmap *b = any_node_bitmap();

	if (!b)
		return NO_SENSE;
	if (one_in(2) || b->lost)
		ours(b->lost ? 6 : 0, "bitmap",
		     b->disabled ? "enable" : "disable", "--node", b->path,
		     b->name);
	else
		foreign("qemu-img", "bitmap", "-f", "qcow2",
			b->disabled ? "--enable" : "--disable", b->path,
			b->name);
	if (!b->lost)
		b->disabled = !b->disabled;
	return DONE;
}

/* Everything that the source has is dirty, too, from now on. */
static void take_over(struct node_bitmap *b, const bool dirty[SECTORS])
{
	int layer = layer_at(b->path);
	uint64_t end = size_of_layer((unsigned)layer) / SECTOR;

	for (uint64_t s = 0; s < end; s++)
		b->written[s] |= dirty[s];
}

/* QEMU merges a segment of the drive into it. */
static enum outcome step_node_foreign_merge(void)
{
	struct node_bitmap *b = any_node_bitmap();
	struct bitmap *from = any_bitmap();

	if (!b || b->lost ||
	    call("qemu-img", "bitmap", "-f", "qcow2", "--merge", from->name,
		 b->path, b->name))
		return NO_SENSE;
	return DONE;
}

/* Verbs on nodes do not touch segments. */
static enum outcome step_node_verb(void)
{
	static const char *const verbs[] = { "clear", "remove", "disable",
					     "enable" };
	const struct bitmap *b = any_bitmap();
	uint64_t before = fingerprint();
	int code = call(qimg, "bitmap", verbs[below(4)], "--node", head()->path,
			b->name);

	/* A head made by another tool has no such bitmap. */
	if (code != 6 && !(code == 1 && b->fuzzy))
		fail("a node verb on a segment: exit code %d", code);
	if (fingerprint() != before)
		fail("a node verb has changed a segment");
	return DONE;
}

/* -------------------------------------------- merge, populate and move */

static enum outcome step_merge(void)
{
	struct bitmap *to = any_bitmap(), *from = other_bitmap(to);
	struct node_bitmap *b = any_node_bitmap();
	uint64_t end = m.size / SECTOR;
	char source[128];

	if (b && !b->lost && layer_at(b->path) >= 0 &&
	    size_of_layer((unsigned)layer_at(b->path)) <= m.size) {
		snprintf(source, sizeof(source), "%s:%s", b->path, b->name);
	} else {
		b = NULL;
		snprintf(source, sizeof(source), "%s", from->name);
	}
	if (!ours(to->is_full ? 6 : 0, "bitmap", "merge", "--drive", drive,
		  "--into", to->name, source))
		return REFUSED;
	for (uint64_t s = 0; s < end; s++)
		to->written[s] |= b ? b->dirty[s] : from->dirty[s];
	return DONE;
}

static enum outcome step_node_merge(void)
{
	struct node_bitmap *to = any_node_bitmap();
	struct node_bitmap *from = &m.node_bitmap[to == &m.node_bitmap[0]];
	char source[128];
	bool fits;

	if (!from->exists)
		step_node_add();
	if (!to || to->lost || !from->exists || from->lost ||
	    layer_at(from->path) < 0)
		return NO_SENSE;
	fits = size_of_layer((unsigned)layer_at(from->path)) <=
	       size_of_layer((unsigned)layer_at(to->path));
	snprintf(source, sizeof(source), "%s:%s", from->path, from->name);
	if (!ours(fits ? 0 : 6, "bitmap", "merge", "--node", to->path, "--into",
		  to->name, source))
		return REFUSED;
	take_over(to, from->dirty);
	return DONE;
}

static enum outcome step_node_populate(void)
{
	struct node_bitmap *b = any_node_bitmap();

	if (!b || b->lost)
		return NO_SENSE;
	ours(0, "bitmap", "populate", "--node", b->path, "--allocated",
	     b->name);
	return DONE;
}

static enum outcome step_populate(void)
{
	struct bitmap *b = any_bitmap();
	unsigned i = (unsigned)below(m.layers);
	uint64_t end = m.size / SECTOR;

	if (b->is_full)
		return NO_SENSE;
	if (i == m.layers - 1) {
		ours(0, "bitmap", "populate", "--drive", drive, "--allocated",
		     b->name);
		b->fuzzy = true;
		return DONE;
	}
	ours(0, "bitmap", "populate", "--drive", drive, "--differs-from",
	     m.layer[i]->path, b->name);
	for (uint64_t s = 0; s < end; s++)
		b->written[s] |= s >= m.layer[i]->size / SECTOR ||
				 memcmp(m.guest + s * SECTOR,
					m.layer[i]->content + s * SECTOR,
					SECTOR);
	return DONE;
}

/* From the drive to its head and back: all that was dirty is dirty. */
static enum outcome step_move_round(void)
{
	struct bitmap *b = any_bitmap();
	char name[16];

	snprintf(name, sizeof(name), "n%u", ++m.serial);
	ours(0, "bitmap", "move", "--drive", drive, "--to-node", head()->path,
	     "--as", name, b->name);
	ours(1, "bitmap", "show", "--drive", drive, b->name);
	ours(0, "bitmap", "show", "--node", head()->path, name);
	ours(0, "bitmap", "move", "--node", head()->path, "--to-drive", drive,
	     "--as", b->name, name);
	*b->checkpoint = '\0';
	if (is_backed_up(b))
		m.is_continued = false;
	return DONE;
}

/* True: it is elsewhere now. */
static bool move_node_bitmap(struct node_bitmap *b, unsigned to)
{
	int from = layer_at(b->path);
	static bool dirty[SECTORS];
	struct stat st;

	if (b->lost || from < 0 || (int)to == from ||
	    size_of_layer(to) < size_of_layer((unsigned)from))
		return false;
	if (!ours(0, "bitmap", "move", "--node", b->path, "--to-node",
		  m.layer[to]->path, b->name))
		return false;
	memcpy(dirty, b->dirty, sizeof(dirty));
	snprintf(b->path, sizeof(b->path), "%s", m.layer[to]->path);
	if (stat(b->path, &st))
		die(b->path);
	b->ino = st.st_ino;
	start_node_bitmap(b);
	take_over(b, dirty);
	return true;
}

static enum outcome step_node_move(void)
{
	struct node_bitmap *b = any_node_bitmap();

	if (!b)
		return NO_SENSE;
	return move_node_bitmap(b, (unsigned)below(m.layers)) ? DONE : NO_SENSE;
}

#endif
