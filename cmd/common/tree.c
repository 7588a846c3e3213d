// SPDX-License-Identifier: MIT
/*
 * tree.c - images and drives of some paths, collected to be drawn
 */
#include "cmd/common/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"

/* Make room for one more item of an array; it doubles when it is full. */
#define GROW(array_, count_)                                               \
	do {                                                               \
		if (!((count_) & ((count_)-1)))                            \
			(array_) = qi_xrealloc((array_),                   \
					       (2 * (count_) + 1) *        \
						       sizeof(*(array_))); \
	} while (0)

static size_t find_node(const struct qi_tree *t, const struct qi_node *n)
{
	return n ? qi_index_find(&t->by_node, (uintptr_t)n, 0) : QI_NO_INDEX;
}

/* The node of a file, for overlays that could not be opened with it. */
static size_t find_file(const struct qi_tree *t, const char *path)
{
	struct stat st;

	return stat(path, &st) ?
		       QI_NO_INDEX :
		       qi_index_find(&t->by_file, st.st_dev, st.st_ino);
}

static void note_node(struct qi_tree *t, struct qi_node *n)
{
	struct qi_tree_node *new;
	struct stat st;

	GROW(t->nodes, t->node_count);
	new = &t->nodes[t->node_count];
	*new = (struct qi_tree_node){
		.node = n,
		.facts = qi_node_facts(n),
		.path = qi_node_facts(n)->path,
		.parent = QI_NO_INDEX,
		.first_overlay = QI_NO_INDEX,
		.next_overlay = QI_NO_INDEX,
		.drive = QI_NO_INDEX,
	};
	if (!stat(new->facts->path, &st))
		qi_index_add(&t->by_file, st.st_dev, st.st_ino, t->node_count);
	qi_index_add(&t->by_node, (uintptr_t)n, 0, t->node_count++);
}

/* Note n and what is below it. */
static void note_chain(struct qi_tree *t, struct qi_node *n)
{
	while (n && find_node(t, n) == QI_NO_INDEX) {
		note_node(t, n);
		n = qi_node_facts(n)->backing;
	}
}

static char *link_target(const char *path)
{
	char target[4096];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0)
		return NULL;
	target[n] = '\0';
	return qi_xstrdup(target);
}

static void note_broken(struct qi_tree *t, const char *path, int ret,
			const struct qi_error *e)
{
	GROW(t->broken, t->broken_count);
	t->broken[t->broken_count++] = (struct qi_tree_broken){
		.path = qi_xstrdup(path),
		.error = qi_xstrdup(e->text),
		.target = link_target(path),
		.ret = ret,
	};
}

/* -------------------------------------------------------------- drives */

/* Whether a link was seen before; it may have been named otherwise. */
static bool is_known_link(const struct qi_tree *t, const char *path)
{
	struct stat st;

	return !lstat(path, &st) &&
	       qi_index_find(&t->links, st.st_dev, st.st_ino) != QI_NO_INDEX;
}

static void note_link(struct qi_tree *t, const char *path)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISLNK(st.st_mode))
		qi_index_add(&t->links, st.st_dev, st.st_ino, 0);
}

static void add_name(struct qi_tree_drive *d, const char *path)
{
	GROW(d->others.path, d->others.count);
	d->others.path[d->others.count++] = qi_xstrdup(path);
}

static void note_drive(struct qi_tree *t, struct qi_drive *d)
{
	struct qi_tree_drive *new;
	struct qi_error e;
	size_t head;

	note_chain(t, qi_drive_head(d));
	head = find_node(t, qi_drive_head(d));
	note_link(t, qi_drive_path(d));
	/* Several links to one head are names of one drive. */
	if (t->nodes[head].drive != QI_NO_INDEX) {
		add_name(&t->drives[t->nodes[head].drive], qi_drive_path(d));
		qi_drive_free(d);
		return;
	}
	GROW(t->drives, t->drive_count);
	new = &t->drives[t->drive_count];
	*new = (struct qi_tree_drive){ .drive = d, .head = head };
	/* It fails without memory only. */
	qi_measure_drive(d, &new->bitmaps, &new->bitmap_count, &e);
	t->nodes[head].drive = t->drive_count++;
}

/* Open the drive at path and note it with its chain. */
static int add_drive(struct qi_tree *t, const char *path,
		     const struct qi_open *how, struct qi_node **head,
		     struct qi_error *e)
{
	struct qi_drive *d;
	int ret = qi_drive_add(t->graph, path, how, &d, e);

	if (ret < 0)
		return ret;
	*head = qi_drive_head(d);
	note_drive(t, d);
	return 0;
}

/* -------------------------------------------------------------- adding */

static bool is_link(const char *path)
{
	struct stat st;

	return !lstat(path, &st) && S_ISLNK(st.st_mode);
}

static int add_any(struct qi_tree *t, const char *path,
		   const struct qi_open *how, struct qi_node **out,
		   struct qi_error *e)
{
	int ret = is_link(path) ? add_drive(t, path, how, out, e) :
				  qi_graph_add(t->graph, path, how, out, e);

	if (ret >= 0)
		note_chain(t, *out);
	return ret;
}

/* The chain of n could not be opened: say so at n, and where it ends. */
static void note_failure(struct qi_tree *t, struct qi_node *n, int ret,
			 const struct qi_error *e)
{
	char **error = &t->nodes[find_node(t, n)].error;
	size_t steps = 0, last;

	if (!*error)
		*error = qi_xstrdup(e->text);
	while (qi_node_facts(n)->backing && steps++ < t->node_count)
		n = qi_node_facts(n)->backing;
	last = find_node(t, n);
	if (ret == -ENOENT && !qi_node_facts(n)->backing && last != QI_NO_INDEX)
		t->nodes[last].marks[QI_MARK_ORPHAN] =
			qi_node_facts(n)->backing_name;
}

static void add_path(struct qi_tree *t, const char *path, bool by_scan)
{
	struct qi_open alone = t->how;
	struct qi_error e = { "" }, again;
	struct qi_tree_node *new;
	struct qi_node *n;
	int ret;

	if (is_known_link(t, path))
		return;
	ret = add_any(t, path, &t->how, &n, &e);
	/* Something below it may be at fault: then show it by itself. */
	alone.no_backing = true;
	if (ret < 0 && add_any(t, path, &alone, &n, &again) < 0) {
		note_broken(t, path, ret, &e);
		note_link(t, path);
		return;
	}
	if (ret < 0)
		note_failure(t, n, ret, &e);
	new = &t->nodes[find_node(t, n)];
	/* The name that was given is better than one found in an overlay. */
	if (!is_link(path)) {
		new->path = path;
		new->is_scanned |= by_scan;
	}
	new->is_named |= !by_scan;
}

void qi_tree_add(struct qi_tree *t, const char *path)
{
	add_path(t, path, false);
}

void qi_tree_add_folder(struct qi_tree *t, const char *path)
{
	struct qi_files images = { 0 }, broken = { 0 };
	struct qi_error e = { "" };
	int ret = qi_folder_images(path, &images, &e);

	if (ret >= 0)
		ret = qi_folder_broken_links(path, &broken, &e);
	if (ret < 0)
		note_broken(t, path, ret, &e);
	for (size_t i = 0; i < images.count; i++)
		add_path(t, images.path[i], true);
	for (size_t i = 0; i < broken.count; i++)
		add_path(t, broken.path[i], true);
	qi_files_free(&broken);
	/* Kept: the nodes point to the names. */
	GROW(t->folders, t->folder_count);
	t->folders[t->folder_count++] = images;
}

/* ----------------------------------------------------------- finishing */

static bool is_above(const struct qi_tree *t, size_t from, size_t node)
{
	for (; from != QI_NO_INDEX; from = t->nodes[from].parent) {
		if (from == node)
			return true;
	}
	return false;
}

static size_t find_parent(const struct qi_tree *t, size_t index)
{
	const struct qi_tree_node *n = &t->nodes[index];
	QI_AUTO_TEXT char *path = NULL;
	size_t parent = find_node(t, n->facts->backing);

	if (parent == QI_NO_INDEX) {
		path = qi_backing_path(n->facts);
		parent = path ? find_file(t, path) : QI_NO_INDEX;
	}
	/* Broken images may back each other in a circle. */
	return is_above(t, parent, index) ? QI_NO_INDEX : parent;
}

/* From the last to the first, so that lists have the order of the nodes. */
static void link_nodes(struct qi_tree *t)
{
	for (size_t i = 0; i < t->node_count; i++)
		t->nodes[i].parent = find_parent(t, i);
	t->first_root = QI_NO_INDEX;
	for (size_t i = t->node_count; i-- > 0;) {
		struct qi_tree_node *n = &t->nodes[i];
		size_t *first = n->parent == QI_NO_INDEX ?
					&t->first_root :
					&t->nodes[n->parent].first_overlay;

		n->next_overlay = *first;
		*first = i;
	}
	for (size_t i = t->first_root; i != QI_NO_INDEX;
	     i = qi_tree_next(t, i)) {
		struct qi_tree_node *n = &t->nodes[i];

		if (n->parent != QI_NO_INDEX)
			n->depth = t->nodes[n->parent].depth + 1;
	}
}

size_t qi_tree_next(const struct qi_tree *t, size_t index)
{
	if (t->nodes[index].first_overlay != QI_NO_INDEX)
		return t->nodes[index].first_overlay;
	while (index != QI_NO_INDEX &&
	       t->nodes[index].next_overlay == QI_NO_INDEX)
		index = t->nodes[index].parent;
	return index == QI_NO_INDEX ? index : t->nodes[index].next_overlay;
}

bool qi_tree_is_top(const struct qi_tree_node *n)
{
	return n->first_overlay == QI_NO_INDEX && !n->hidden.count;
}

/* Find overlays of a named node that nobody has named. */
static void look_around(struct qi_tree_node *n)
{
	struct qi_error e;

	if (n->first_overlay != QI_NO_INDEX || !n->is_named || n->is_scanned)
		return;
	n->is_looked_around =
		qi_node_dependents(n->node, NULL, &n->hidden, &e) >= 0;
	if (!n->is_looked_around)
		n->hidden = (struct qi_files){ 0 };
}

/* Whether a node is a drive by itself: a head that no link points to. */
static bool is_plain_drive(const struct qi_tree_node *n)
{
	return qi_tree_is_top(n) && !n->error && !n->record.frozen &&
	       !n->record.committed && n->drive == QI_NO_INDEX;
}

static void finish_node(struct qi_tree *t, size_t index)
{
	struct qi_tree_node *n = &t->nodes[index];
	struct qi_error e = { "" };
	struct qi_node *head;

	/* Now that its chain is open, or will never be. */
	if (qi_node_record(n->node, &n->record) < 0)
		n->record.state = QI_RECORD_UNKNOWN;
	n->bitmaps_problem = qi_node_bitmaps_problem(n->node);
	if (!n->bitmaps_problem)
		qi_measure_node(n->node, &n->bitmaps, &n->bitmap_count, &e);
	look_around(n);
	/* A file that was replaced just now is a new node: n may move. */
	if (is_plain_drive(n) && add_drive(t, n->path, &t->how, &head, &e) < 0)
		t->nodes[index].error = qi_xstrdup(e.text);
}

void qi_tree_finish(struct qi_tree *t)
{
	link_nodes(t);
	for (size_t i = 0; i < t->node_count; i++)
		finish_node(t, i);
	qi_tree_mark(t);
}

void qi_tree_free(struct qi_tree *t)
{
	for (size_t i = 0; i < t->drive_count; i++) {
		struct qi_tree_drive *d = &t->drives[i];

		qi_measured_free(d->bitmaps, d->bitmap_count);
		qi_files_free(&d->others);
		qi_drive_free(d->drive);
	}
	for (size_t i = 0; i < t->node_count; i++) {
		struct qi_tree_node *n = &t->nodes[i];

		qi_measured_free(n->bitmaps, n->bitmap_count);
		free(n->error);
		qi_files_free(&n->hidden);
	}
	for (size_t i = 0; i < t->broken_count; i++) {
		free(t->broken[i].path);
		free(t->broken[i].error);
		free(t->broken[i].target);
	}
	free(t->drives);
	free(t->nodes);
	free(t->broken);
	for (size_t i = 0; i < t->folder_count; i++)
		qi_files_free(&t->folders[i]);
	free(t->folders);
	qi_index_clear(&t->by_node);
	qi_index_clear(&t->by_file);
	qi_index_clear(&t->links);
}
