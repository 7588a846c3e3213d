// SPDX-License-Identifier: MIT
/*
 * tree.c - images and drives of some paths, collected to be drawn
 */
#include "cmd/common/tree.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"

/* Make room for one more item of an array. */
#define GROW(array_, count_) \
	((array_) = qi_xrealloc((array_), ((count_) + 1) * sizeof(*(array_))))

static size_t find_node(const struct qi_tree *t, const struct qi_node *n)
{
	for (size_t i = 0; n && i < t->node_count; i++) {
		if (t->nodes[i].node == n)
			return i;
	}
	return QI_NO_INDEX;
}

/* Note n and what is below it. */
static void note_chain(struct qi_tree *t, struct qi_node *n, const char *error)
{
	while (n && find_node(t, n) == QI_NO_INDEX) {
		struct qi_tree_node *new;

		GROW(t->nodes, t->node_count);
		new = &t->nodes[t->node_count++];
		*new = (struct qi_tree_node){
			.node = n,
			.facts = qi_node_facts(n),
			.path = qi_node_facts(n)->path,
			.parent = QI_NO_INDEX,
			.error = error ? qi_xstrdup(error) : NULL,
		};
		if (qi_node_record(n, &new->record) < 0)
			new->record.state = QI_RECORD_UNKNOWN;
		n = new->facts->backing;
		error = NULL;
	}
}

static void note_broken(struct qi_tree *t, const char *path, int ret,
			const struct qi_error *e)
{
	GROW(t->broken, t->broken_count);
	t->broken[t->broken_count++] = (struct qi_tree_broken){
		.path = qi_xstrdup(path),
		.error = qi_xstrdup(e->text),
		.ret = ret,
	};
}

/* --------------------------------------------------------------- links */

/* The node of a file, for overlays that could not be opened with it. */
static size_t find_file(const struct qi_tree *t, const char *path)
{
	struct stat want, st;

	if (stat(path, &want))
		return QI_NO_INDEX;
	for (size_t i = 0; i < t->node_count; i++) {
		if (!stat(t->nodes[i].facts->path, &st) &&
		    st.st_dev == want.st_dev && st.st_ino == want.st_ino)
			return i;
	}
	return QI_NO_INDEX;
}

static bool is_above(const struct qi_tree *t, size_t from, size_t node)
{
	for (; from != QI_NO_INDEX; from = t->nodes[from].parent) {
		if (from == node)
			return true;
	}
	return false;
}

static void link_node(struct qi_tree *t, size_t index)
{
	struct qi_tree_node *n = &t->nodes[index];
	QI_AUTO_TEXT char *path = NULL;

	n->parent = find_node(t, n->facts->backing);
	if (n->parent == QI_NO_INDEX) {
		path = qi_backing_path(n->facts);
		n->parent = path ? find_file(t, path) : QI_NO_INDEX;
	}
	/* Broken images may back each other in a circle. */
	if (is_above(t, n->parent, index))
		n->parent = QI_NO_INDEX;
	if (n->parent != QI_NO_INDEX)
		t->nodes[n->parent].has_overlay = true;
}

/* ------------------------------------------------------------- bitmaps */

static void measure_node_bitmap(struct qi_tree_bitmap *b, struct qi_node *n)
{
	struct qi_ranges *ranges;
	struct qi_error e = { "" };
	int ret = qi_node_bitmap_ranges(n, b->name, &ranges, &e);

	if (ret >= 0) {
		ret = qi_ranges_bytes(ranges, &b->bytes, &e);
		qi_ranges_free(ranges);
	}
	b->known = ret >= 0;
	if (ret < 0)
		b->error = qi_xstrdup(e.text);
}

static void measure_node(struct qi_tree_node *n)
{
	struct qi_bitmap_facts *all = NULL;
	struct qi_error e;
	size_t count = 0;

	n->bitmaps_problem = qi_node_bitmaps_problem(n->node);
	if (n->bitmaps_problem || qi_node_bitmaps(n->node, &all, &count, &e))
		return;
	for (size_t i = 0; i < count; i++) {
		struct qi_tree_bitmap *b;

		GROW(n->bitmaps, n->bitmap_count);
		b = &n->bitmaps[n->bitmap_count++];
		*b = (struct qi_tree_bitmap){
			.name = qi_xstrdup(all[i].name),
			.state = qi_bitmap_state(&all[i]),
			.attachment = all[i].attachment,
			.granularity = all[i].granularity,
		};
		if (!all[i].unreadable && !all[i].in_use)
			measure_node_bitmap(b, n->node);
	}
	free(all);
}

static void measure_drive_bitmap(struct qi_tree_bitmap *b, struct qi_drive *d)
{
	struct qi_error e = { "" };
	struct qi_dirty *dirty;
	int ret = qi_dirty_new(d, b->name, &dirty, &e);

	if (ret >= 0) {
		b->status = qi_layer_status_name(qi_dirty_status(dirty));
		ret = qi_dirty_bytes(dirty, &b->bytes, &e);
		qi_dirty_free(dirty);
	}
	b->known = ret >= 0;
	if (ret < 0)
		b->error = qi_xstrdup(e.text);
}

static void measure_drive(struct qi_tree_drive *d)
{
	struct qi_drive_bitmap *all = NULL;
	struct qi_error e;
	size_t count = 0;

	if (qi_drive_bitmaps(d->drive, &all, &count, &e) < 0)
		return;
	for (size_t i = 0; i < count; i++) {
		struct qi_tree_bitmap *b;

		GROW(d->bitmaps, d->bitmap_count);
		b = &d->bitmaps[d->bitmap_count++];
		*b = (struct qi_tree_bitmap){
			.name = qi_xstrdup(all[i].name),
			.state = all[i].paused ? "paused" : "enabled",
			.attachment = QI_ON_DRIVE,
			.granularity = all[i].granularity,
		};
		measure_drive_bitmap(b, d->drive);
	}
	free(all);
}

/* -------------------------------------------------------------- drives */

/* Whether a drive was noted before; it may have been named otherwise. */
static bool is_known_drive(const struct qi_tree *t, const char *path)
{
	struct stat want, st;

	if (lstat(path, &want))
		return false;
	for (size_t i = 0; i < t->drive_count; i++) {
		if (!lstat(qi_drive_path(t->drives[i].drive), &st) &&
		    st.st_dev == want.st_dev && st.st_ino == want.st_ino)
			return true;
	}
	return false;
}

/* Open the drive at path and note it with its chain. */
static int add_drive(struct qi_tree *t, const char *path, struct qi_error *e)
{
	struct qi_drive *d;
	int ret;

	if (is_known_drive(t, path))
		return 0;
	ret = qi_drive_add(t->graph, path, &t->how, &d, e);
	if (ret < 0)
		return ret;
	note_chain(t, qi_drive_head(d), NULL);
	GROW(t->drives, t->drive_count);
	t->drives[t->drive_count] = (struct qi_tree_drive){
		.drive = d,
		.head = find_node(t, qi_drive_head(d)),
	};
	measure_drive(&t->drives[t->drive_count++]);
	return 0;
}

/* -------------------------------------------------------------- adding */

static bool is_link(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISLNK(st.st_mode);
}

static int add_node(struct qi_tree *t, const char *path, bool alone,
		    struct qi_error *e)
{
	struct qi_node *n;
	size_t index;
	int ret = qi_graph_add(t->graph, path, &t->how, &n, e);

	if (ret < 0)
		return ret;
	note_chain(t, n, NULL);
	index = find_node(t, n);
	/* The name that was given is better than one found in an overlay. */
	t->nodes[index].path = path;
	t->nodes[index].is_alone = alone;
	return 0;
}

static void add_path(struct qi_tree *t, const char *path, bool alone)
{
	struct qi_open how = t->how;
	struct qi_error e = { "" }, again;
	struct qi_node *n;
	int ret = is_link(path) ? add_drive(t, path, &e) :
				  add_node(t, path, alone, &e);

	if (ret >= 0)
		return;
	/* Something below it may be at fault: then show it by itself. */
	how.no_backing = true;
	if (qi_graph_add(t->graph, path, &how, &n, &again) >= 0)
		note_chain(t, n, e.text);
	else
		note_broken(t, path, ret, &e);
}

void qi_tree_add(struct qi_tree *t, const char *path)
{
	add_path(t, path, true);
}

void qi_tree_add_folder(struct qi_tree *t, const char *path)
{
	struct qi_files files = { 0 };
	struct qi_error e = { "" };
	int ret = qi_folder_images(path, &files, &e);

	if (ret < 0) {
		note_broken(t, path, ret, &e);
		return;
	}
	for (size_t i = 0; i < files.count; i++)
		add_path(t, files.path[i], false);
	/* Kept: the nodes point to the names. */
	GROW(t->folders, t->folder_count);
	t->folders[t->folder_count++] = files;
}

/* ----------------------------------------------------------- finishing */

/* Whether a node is a drive by itself: a head that no link points to. */
static bool is_plain_drive(const struct qi_tree *t, size_t index)
{
	const struct qi_tree_node *n = &t->nodes[index];

	if (n->has_overlay || n->hidden.count || n->error || n->record.frozen)
		return false;
	for (size_t i = 0; i < t->drive_count; i++) {
		if (t->drives[i].head == index)
			return false;
	}
	return true;
}

/* Find overlays of a named node that nobody has named. */
static void look_around(struct qi_tree_node *n)
{
	struct qi_error e;

	if (n->has_overlay || !n->is_alone)
		return;
	if (qi_node_dependents(n->node, NULL, &n->hidden, &e) < 0)
		n->hidden = (struct qi_files){ 0 };
}

void qi_tree_finish(struct qi_tree *t)
{
	for (size_t i = 0; i < t->node_count; i++) {
		link_node(t, i);
		measure_node(&t->nodes[i]);
	}
	for (size_t i = 0; i < t->node_count; i++) {
		struct qi_error e = { "" };
		int ret = 0;

		look_around(&t->nodes[i]);
		if (is_plain_drive(t, i))
			ret = add_drive(t, t->nodes[i].path, &e);
		if (ret < 0)
			t->nodes[i].error = qi_xstrdup(e.text);
	}
}

static void free_bitmaps(struct qi_tree_bitmap *b, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(b[i].name);
		free(b[i].error);
	}
	free(b);
}

void qi_tree_free(struct qi_tree *t)
{
	for (size_t i = 0; i < t->drive_count; i++) {
		free_bitmaps(t->drives[i].bitmaps, t->drives[i].bitmap_count);
		qi_drive_free(t->drives[i].drive);
	}
	for (size_t i = 0; i < t->node_count; i++) {
		free_bitmaps(t->nodes[i].bitmaps, t->nodes[i].bitmap_count);
		free(t->nodes[i].error);
		qi_files_free(&t->nodes[i].hidden);
	}
	for (size_t i = 0; i < t->broken_count; i++) {
		free(t->broken[i].path);
		free(t->broken[i].error);
	}
	free(t->drives);
	free(t->nodes);
	free(t->broken);
	for (size_t i = 0; i < t->folder_count; i++)
		qi_files_free(&t->folders[i]);
	free(t->folders);
}
