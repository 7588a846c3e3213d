// SPDX-License-Identifier: MIT
/*
 * tree-text.c - a tree of images for people
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/tree.h"

/* Pieces of the lines that connect nodes */
struct strokes {
	const char *fork, *corner, *bar, *gap;
};
static const struct strokes utf8_strokes = { "├─ ", "└─ ", "│  ", "   " };
static const struct strokes ascii_strokes = { "|- ", "`- ", "|  ", "   " };

/* What stands in front of the lines of a node, and what of it at each depth. */
struct margin {
	const struct strokes *strokes;
	char *text;
	size_t *lengths, depths;
};

static void draw_line(const char *prefix, enum qi_colour colour,
		      const char *what, const char *text)
{
	QI_AUTO_TEXT char *safe = qi_safe(text);

	printf("%s%s%s: %s%s\n", prefix, qi_colour(colour), what, safe,
	       qi_colour(QI_PLAIN));
}

static void draw_bitmap(const char *prefix, const struct qi_measured *b)
{
	QI_AUTO_TEXT char *name = qi_safe(b->name);
	char step[QI_HUMAN], dirty[QI_HUMAN];

	printf("%sbitmap %s%s%s on %s: %s, granularity %s", prefix,
	       qi_colour(b->colour == QI_PLAIN ? QI_GREEN : b->colour), name,
	       qi_colour(QI_PLAIN),
	       b->attachment == QI_ON_DRIVE ? "drive" : "node", b->state,
	       qi_human_size(step, b->granularity));
	if (b->known)
		printf(", %s dirty", qi_human_size(dirty, b->bytes));
	if (b->status)
		printf(", %s", b->status);
	if (b->reason) {
		QI_AUTO_TEXT char *reason = qi_safe(b->reason);

		printf(" %s(%s)%s", qi_colour(b->colour), reason,
		       qi_colour(QI_PLAIN));
	}
	putchar('\n');
	if (b->error)
		draw_line(prefix, QI_RED, "error", b->error);
}

static void draw_drive(const char *prefix, const struct qi_tree_drive *d)
{
	QI_AUTO_TEXT char *path = qi_safe(qi_drive_path(d->drive));
	QI_AUTO_TEXT char *inner = qi_xprintf("%s   ", prefix);

	printf("%sdrive %s%s%s%s", prefix, qi_colour(QI_BOLD), path,
	       qi_colour(QI_PLAIN),
	       qi_drive_is_link(d->drive) ? " (link)" : "");
	for (size_t i = 0; i < d->others.count; i++) {
		QI_AUTO_TEXT char *other = qi_safe(d->others.path[i]);

		printf(", also %s%s%s (link)", qi_colour(QI_BOLD), other,
		       qi_colour(QI_PLAIN));
	}
	putchar('\n');
	for (size_t i = 0; i < d->bitmap_count; i++)
		draw_bitmap(inner, &d->bitmaps[i]);
}

/* The record of an overlay has the tag of the snapshot that is below it. */
static void draw_tags(const struct qi_tree *t, const struct qi_tree_node *n)
{
	size_t i = n->first_overlay;

	for (; i != QI_NO_INDEX; i = t->nodes[i].next_overlay) {
		const struct qi_tree_node *above = &t->nodes[i];
		QI_AUTO_TEXT char *tag = NULL;

		/* One that rests on another layer now tells nothing. */
		if (above->record.state != QI_RECORD_VALID ||
		    !above->record.tag[0] || above->record.committed ||
		    above->marks[QI_MARK_PARENT] ||
		    above->marks[QI_MARK_UNUSED])
			continue;
		tag = qi_safe(above->record.tag);
		printf(", snapshot %s", tag);
	}
}

static void draw_name(const struct qi_tree *t, const struct qi_tree_node *n)
{
	QI_AUTO_TEXT char *path = qi_safe(n->path);
	char size[QI_HUMAN], disk[QI_HUMAN];

	printf("%s%s%s: %s, %s, %s on disk", qi_colour(QI_BOLD), path,
	       qi_colour(QI_PLAIN), n->facts->format,
	       qi_human_size(size, n->facts->size),
	       qi_human_size(disk, n->facts->disk_size));
	if (n->record.state == QI_RECORD_UNKNOWN)
		printf(", %srecord unknown%s", qi_colour(QI_RED),
		       qi_colour(QI_PLAIN));
	if (n->record.frozen)
		printf(", frozen");
	if (n->record.shared)
		printf(", shared");
	draw_tags(t, n);
	putchar('\n');
}

static void draw_marks(const char *prefix, const struct qi_tree_node *n)
{
	for (enum qi_mark m = 0; m < QI_MARKS; m++) {
		QI_AUTO_TEXT char *text = NULL;

		if (!n->marks[m])
			continue;
		text = qi_mark_text(n, m);
		draw_line(prefix, qi_mark_colour(m), qi_mark_name(m), text);
	}
	/* Of an orphan that is all there is to say. */
	if (n->error && !n->marks[QI_MARK_ORPHAN])
		draw_line(prefix, QI_RED, "error", n->error);
	if (n->bitmaps_problem)
		draw_line(prefix, QI_RED, "error", n->bitmaps_problem);
}

static void draw_details(const struct qi_tree *t, const struct qi_tree_node *n,
			 const char *prefix)
{
	draw_marks(prefix, n);
	for (size_t i = 0; i < n->hidden.count; i++) {
		QI_AUTO_TEXT char *text =
			qi_xprintf("its overlay %s", n->hidden.path[i]);

		draw_line(prefix, QI_PLAIN, "not shown", text);
	}
	for (size_t i = 0; i < n->bitmap_count; i++) {
		/* Segments are told as the bitmaps of their drive. */
		if (n->bitmaps[i].attachment == QI_ON_NODE)
			draw_bitmap(prefix, &n->bitmaps[i]);
	}
	if (n->drive != QI_NO_INDEX)
		draw_drive(prefix, &t->drives[n->drive]);
}

/* --------------------------------------------------------------- margin */

/* Put text where the margin of a depth ends; the next depth ends after it. */
static void margin_set(struct margin *m, size_t depth, const char *text)
{
	size_t at, end;

	if (depth + 2 > m->depths) {
		size_t depths = 2 * depth + 64;

		m->lengths =
			qi_xrealloc(m->lengths, depths * sizeof(*m->lengths));
		/* No stroke has more than eight bytes. */
		m->text = qi_xrealloc(m->text, 8 * depths + 1);
		if (!m->depths)
			m->lengths[0] = 0;
		m->depths = depths;
	}
	at = m->lengths[depth];
	end = at + strlen(text);
	memcpy(m->text + at, text, end - at + 1);
	m->lengths[depth + 1] = end;
}

static void draw_node(const struct qi_tree *t, const struct qi_tree_node *n,
		      struct margin *m)
{
	const struct strokes *s = m->strokes;
	bool is_last = n->next_overlay == QI_NO_INDEX;
	size_t depth = n->depth;

	/* Roots stand side by side: their depth takes no room. */
	if (depth)
		margin_set(m, depth, is_last ? s->corner : s->fork);
	else
		margin_set(m, depth, "");
	fputs(m->text, stdout);
	draw_name(t, n);
	if (depth)
		margin_set(m, depth, is_last ? s->gap : s->bar);
	margin_set(m, depth + 1,
		   n->first_overlay == QI_NO_INDEX ? s->gap : s->bar);
	draw_details(t, n, m->text);
}

static void draw_broken(const struct qi_tree_broken *b)
{
	QI_AUTO_TEXT char *path = qi_safe(b->path);

	printf("%s%s%s:\n", qi_colour(QI_BOLD), path, qi_colour(QI_PLAIN));
	draw_line("   ", QI_RED, b->target ? "broken link" : "error", b->error);
}

void qi_tree_print_text(const struct qi_tree *t)
{
	struct margin m = {
		.strokes = qi_is_utf8() ? &utf8_strokes : &ascii_strokes,
	};
	size_t i = t->first_root;

	for (; i != QI_NO_INDEX; i = qi_tree_next(t, i))
		draw_node(t, &t->nodes[i], &m);
	free(m.text);
	free(m.lengths);
	for (i = 0; i < t->broken_count; i++) {
		if (t->node_count)
			draw_broken(&t->broken[i]);
		else
			qi_say_error("%s", t->broken[i].error);
	}
}
