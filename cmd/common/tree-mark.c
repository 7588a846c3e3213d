// SPDX-License-Identifier: MIT
/*
 * tree-mark.c - what is worth a look in a tree of images
 */
#include "cmd/common/tree.h"

static const struct {
	const char *name;
	enum qi_colour colour;
	const char *text; /* NULL: it depends on the node */
} marks[QI_MARKS] = {
	[QI_MARK_ORPHAN] = { "orphan", QI_RED, NULL },
	[QI_MARK_PARENT] = { "parent-changed", QI_RED,
			     "the layer below is not the one it was made on" },
	[QI_MARK_UNFINISHED] = { "unfinished", QI_RED, NULL },
	[QI_MARK_FOREIGN] = { "foreign", QI_YELLOW,
			      "made by another tool; what was changed in it is "
			      "estimated" },
	[QI_MARK_UNUSED] = { "unused", QI_YELLOW,
			     "no image rests on this layer; an abandoned "
			     "branch, or left over" },
};

const char *qi_mark_name(enum qi_mark m)
{
	return marks[m].name;
}

enum qi_colour qi_mark_colour(enum qi_mark m)
{
	return marks[m].colour;
}

char *qi_mark_text(const struct qi_tree_node *n, enum qi_mark m)
{
	switch (m) {
	case QI_MARK_ORPHAN:
		return qi_xprintf("its backing file '%s' is not there",
				  n->facts->backing_name);
	case QI_MARK_UNFINISHED:
		return qi_xprintf("%s was interrupted: run the same command "
				  "again",
				  n->unfinished);
	default:
		return qi_xstrdup(marks[m].text);
	}
}

static bool has_drive(const struct qi_tree_node *n)
{
	return n->record.state == QI_RECORD_VALID &&
	       !qi_uuid_is_null(&n->record.drive);
}

/* Was it made on another layer than what it rests on now? */
static bool is_on_other_parent(const struct qi_tree_node *n)
{
	/* Of a backing file that cannot be opened nothing is known. */
	bool is_open = n->facts->backing || !n->facts->backing_name;

	return n->record.state == QI_RECORD_VALID && is_open &&
	       !n->record.parent_is_right;
}

/* One that a link leads to is a head, whatever it was. */
static bool is_unused(const struct qi_tree_node *n)
{
	return has_drive(n) && n->record.frozen && qi_tree_is_top(n) &&
	       (n->is_scanned || n->is_looked_around) &&
	       n->drive == QI_NO_INDEX;
}

void qi_tree_mark(struct qi_tree *t)
{
	size_t i = t->first_root;

	for (; i != QI_NO_INDEX; i = qi_tree_next(t, i)) {
		struct qi_tree_node *n = &t->nodes[i];
		const struct qi_tree_node *below =
			n->parent == QI_NO_INDEX ? NULL : &t->nodes[n->parent];

		n->has_drive_below =
			below && (below->has_drive_below || has_drive(below));
		n->unfinished = n->record.unfinished;
		if (!n->unfinished && n->record.committed)
			n->unfinished = "commit";
		/* On a head it means nothing. */
		if (!n->unfinished && n->record.merging && !qi_tree_is_top(n))
			n->unfinished = "snapshot delete or commit";
		n->marks[QI_MARK_PARENT] = is_on_other_parent(n);
		n->marks[QI_MARK_UNFINISHED] = n->unfinished;
		n->marks[QI_MARK_FOREIGN] = n->record.state == QI_RECORD_NONE &&
					    n->has_drive_below;
		n->marks[QI_MARK_UNUSED] = is_unused(n);
	}
}
