/* SPDX-License-Identifier: MIT */
/* foreign.h - steps that QEMU's tools do behind the drive's back */
#ifndef MODEL_FOREIGN_H
#define MODEL_FOREIGN_H

#include "tests/lib/model/layers.h"

/* -------------------------------------------------------------- writing */

#define MAX_REQUESTS 6

/* A command line for qemu-io in the making. */
struct requests {
	const char *argv[32];
	size_t n, count;
	char text[MAX_REQUESTS][64];
};

/*
 * A few requests of a guest, which the model takes as done; a discard need
 * not be, so it is for those who honour it.
 */
static void add_requests(struct requests *r, bool discards)
{
	size_t count = 1 + below(4);

	while (count--) {
		char *text = r->text[r->count++];
		uint64_t kind = below(discards ? 5 : 4);
		uint64_t unit = kind == 4 ? CLUSTER : SECTOR;
		uint64_t units = m.size / unit, off = below(units);
		uint64_t len =
			qi_min(1 + below(one_in(3) ? 40 : 300), units - off);
		int value = kind >= 3 ? 0 : 1 + (int)below(255);
		char pattern[24];

		if (unit == CLUSTER)
			len = qi_min(len, 6);
		snprintf(pattern, sizeof(pattern), "write -P %d", value);
		snprintf(text, sizeof(r->text[0]), "%s %llu %llu",
			 kind == 4 ? "discard" :
			 kind == 3 ? "write -z" :
				     pattern,
			 (unsigned long long)(off * unit),
			 (unsigned long long)(len * unit));
		r->argv[r->n++] = "-c";
		r->argv[r->n++] = text;
		note_write(off * unit, len * unit, value);
	}
}

static void start_requests(struct requests *r, const char *format)
{
	*r = (struct requests){
		.argv = { "qemu-io", "-f", format, "-d", "unmap" }, .n = 5
	};
}

static void add_word(struct requests *r, const char *word)
{
	r->argv[r->n++] = word;
}

/* Killed after them, or not. */
static void write_as_guest(bool killed)
{
	struct requests r;
	int code;

	start_requests(&r, "qcow2");
	add_requests(&r, true);
	if (killed) {
		add_word(&r, "-c");
		add_word(&r, "flush");
		add_word(&r, "-c");
		add_word(&r, "sigraise 9");
	}
	add_word(&r, drive);
	code = call_argv(r.argv);
	if (code != (killed ? 128 + 9 : 0))
		fail("qemu-io: exit code %d", code);
}

/* The head was not closed: what its bitmaps have is lost. */
static void note_killed(void)
{
	note_foreign();
	m.is_torn = true;
	for (size_t i = 0; i < NODE_BITMAPS; i++) {
		struct node_bitmap *b = &m.node_bitmap[i];

		if (b->exists && !strcmp(b->path, head()->path))
			b->lost = true;
	}
}

static enum outcome step_write(void)
{
	write_as_guest(false);
	return DONE;
}

static enum outcome step_killed_write(void)
{
	write_as_guest(true);
	note_killed();
	return DONE;
}

/* --------------------------------------------------------------- layers */

/*
 * Another tool has put `top` on the head, which may have got another name: it
 * becomes the drive.
 */
static void take_overlay(const char *top)
{
	char base[32];

	if (m.is_link) {
		point_link_at(top);
		return;
	}
	new_name(base, "base");
	move_file(drive, base);
	foreign("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b",
		base, top);
	move_file(top, drive);
}

/* Any size, any clusters up to those of the drive. */
static enum outcome step_overlay(void)
{
	uint64_t size = one_in(3) ? random_size() : m.size;
	char top[32], option[32];

	if (m.layers == MAX_LAYERS)
		return NO_SENSE;
	new_name(top, "top");
	snprintf(option, sizeof(option), "cluster_size=%u",
		 CLUSTER >> 2 * below(3));
	foreign("qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b",
		head()->path, "-o", option, top, text_of(size));
	take_overlay(top);
	push_layer("");
	find_layers();
	note_size(size);
	note_foreign();
	return DONE;
}

/* Does a foreign tool that drops layers lose what the model relies on? */
static bool may_drop_layers(void)
{
	for (size_t i = 0; i < DRIVE_BITMAPS; i++)
		if (m.bitmap[i].was_paused)
			return false;
	return m.layers > 1;
}

/* May it commit the head, which goes? */
static bool may_commit(void)
{
	int base = (int)m.layers - 2;

	return may_drop_layers() && !is_cloned(base, base) &&
	       m.layer[base]->size == m.size && !node_bitmap_of(m.layers - 1);
}

/* The head is committed into `base`, which takes its place. */
static void take_committed(void)
{
	char base[64], top[64];

	snprintf(base, sizeof(base), "%s", m.layer[m.layers - 2]->path);
	snprintf(top, sizeof(top), "%s", head()->path);
	if (m.is_link)
		point_link_at(base);
	remove_file(top);
	if (!m.is_link)
		move_file(base, drive);
	note_commit(m.layers - 2);
	keep_bitmaps();
	/* The base is still marked as frozen, if it has a record. */
	m.is_marked = true;
	if (!failed && one_in(2) && !call(qimg, "clone", "--unshare", drive))
		m.is_marked = false;
}

/* The base's bitmaps record it, the head's are lost. */
static enum outcome step_foreign_commit(void)
{
	if (!may_commit())
		return NO_SENSE;
	foreign("qemu-img", "commit", "-q", "-f", "qcow2", "-d", drive);
	take_committed();
	return DONE;
}

/* The head's bitmaps record it, those of the layers that go are lost. */
static enum outcome step_foreign_rebase(void)
{
	int base;

	if (!may_drop_layers())
		return NO_SENSE;
	base = (int)below(m.layers - 1) - 1;
	if (base < 0)
		foreign("qemu-img", "rebase", "-f", "qcow2", "-b", "", drive);
	else
		foreign("qemu-img", "rebase", "-f", "qcow2", "-F", "qcow2",
			"-b", m.layer[base]->path, drive);
	if (failed)
		return DONE;
	/* The layer above a snapshot knows its tag, and is gone. */
	if (base >= 0)
		*m.layer[base]->tag = '\0';
	note_base(base);
	head()->is_broken = true;
	keep_bitmaps();
	return DONE;
}

/* A clone's own header names it. */
static bool has_clone_on(int layer)
{
	for (size_t i = 0; i < CLONES; i++)
		if (m.clone[i].exists && m.clone[i].rests_on == layer)
			return true;
	return false;
}

/*
 * A layer gets another name, or a copy takes its place: nothing that matters
 * has changed.
 */
static enum outcome step_rename_layer(void)
{
	unsigned i = (unsigned)below(m.layers);
	struct layer *l = m.layer[i];
	bool copies = has_clone_on((int)i);
	char path[32];

	if (i + 1 == m.layers || (copies && node_bitmap_of(i)))
		return NO_SENSE;
	new_name(path, "moved");
	if (copies)
		foreign("cp", l->path, path);
	else
		move_file(l->path, path);
	foreign("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b",
		path, m.layer[i + 1]->path);
	for (size_t k = 0; k < CLONES && copies; k++)
		if (m.clone[k].rests_on == (int)i)
			m.clone[k].rests_on--;
	find_layers();
	return DONE;
}

/* ------------------------------------------------- snapshots in the head */

static enum outcome step_inner_create(void)
{
	struct inner *s = &m.inner;

	if (s->exists)
		return NO_SENSE;
	snprintf(s->name, sizeof(s->name), "i%u", ++m.serial);
	foreign(any_tool(), "snapshot", "-c", s->name, drive);
	s->exists = true;
	s->size = m.size;
	memcpy(s->content, m.guest, MAX_SIZE);
	return DONE;
}

static enum outcome step_inner_apply(void)
{
	const struct inner *s = &m.inner;

	if (!s->exists)
		return NO_SENSE;
	if (one_in(2)) {
		if (!ours(0, "snapshot", "-a", s->name, drive))
			return REFUSED;
	} else if (call("qemu-img", "snapshot", "-a", s->name, drive)) {
		/* There are bitmaps, mostly. */
		return REFUSED;
	}
	excuse_node_bitmaps(m.layers - 1, s->content);
	note_content(s->content, s->size);
	return DONE;
}

static enum outcome step_inner_delete(void)
{
	if (!m.inner.exists)
		return NO_SENSE;
	foreign(any_tool(), "snapshot", "-d", m.inner.name, drive);
	m.inner.exists = false;
	return DONE;
}

#endif
