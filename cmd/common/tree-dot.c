// SPDX-License-Identifier: MIT
/*
 * tree-dot.c - a tree of images in the language of Graphviz
 *
 * Images are boxes; drives have round corners. What is not there is dashed.
 * Red and orange mean what red and yellow mean on a terminal.
 */
#include <stdio.h>

#include "cmd/common/tree.h"

/* The worse of two. */
static enum qi_colour worse(enum qi_colour a, enum qi_colour b)
{
	if (a == QI_RED || b == QI_RED)
		return QI_RED;
	return a == QI_YELLOW || b == QI_YELLOW ? QI_YELLOW : QI_PLAIN;
}

static const char *colour_name(enum qi_colour c)
{
	/* Yellow on white cannot be read. */
	return c == QI_RED ? "red" : c == QI_YELLOW ? "darkorange" : "black";
}

/* Text inside of a quoted string of the dot language. */
static void put_text(const char *text)
{
	QI_AUTO_TEXT char *safe = qi_safe(text);

	for (const char *c = safe; *c; c++) {
		if (*c == '"' || *c == '\\')
			putchar('\\');
		putchar(*c);
	}
}

/* A line of a label, aligned to the left; its end is put by the next one. */
static void put_line(const char *what, const char *text)
{
	printf("\\l%s: ", what);
	put_text(text);
}

static void put_end(void)
{
	puts("\\l\"];");
}

static void put_bitmaps(const struct qi_measured *b, size_t count,
			enum qi_attachment attachment)
{
	char human[QI_HUMAN];

	for (size_t i = 0; i < count; i++) {
		if (b[i].attachment != attachment)
			continue;
		fputs("\\lbitmap ", stdout);
		put_text(b[i].name);
		printf(": %s", b[i].state);
		if (b[i].known)
			printf(", %s dirty", qi_human_size(human, b[i].bytes));
		if (b[i].status)
			printf(", %s", b[i].status);
		if (b[i].reason)
			put_line("   why", b[i].reason);
	}
}

static enum qi_colour bitmaps_colour(const struct qi_measured *b, size_t count,
				     enum qi_attachment attachment)
{
	enum qi_colour c = QI_PLAIN;

	for (size_t i = 0; i < count; i++)
		if (b[i].attachment == attachment)
			c = worse(c, b[i].colour);
	return c;
}

static enum qi_colour node_colour(const struct qi_tree_node *n)
{
	enum qi_colour c =
		bitmaps_colour(n->bitmaps, n->bitmap_count, QI_ON_NODE);

	if (n->error || n->bitmaps_problem)
		return QI_RED;
	for (enum qi_mark m = 0; m < QI_MARKS; m++)
		if (n->marks[m])
			c = worse(c, qi_mark_colour(m));
	return c;
}

static void put_marks(const struct qi_tree_node *n)
{
	for (enum qi_mark m = 0; m < QI_MARKS; m++) {
		QI_AUTO_TEXT char *text = NULL;

		if (!n->marks[m])
			continue;
		text = qi_mark_text(n, m);
		put_line(qi_mark_name(m), text);
	}
	if (n->error && !n->marks[QI_MARK_ORPHAN])
		put_line("error", n->error);
	if (n->bitmaps_problem)
		put_line("error", n->bitmaps_problem);
}

static void put_node(const struct qi_tree *t, size_t i)
{
	const struct qi_tree_node *n = &t->nodes[i];
	char human[QI_HUMAN];

	printf("\tn%zu [color=%s, label=\"", i, colour_name(node_colour(n)));
	put_text(n->path);
	printf("\\l%s, %s", n->facts->format,
	       qi_human_size(human, n->facts->size));
	if (n->record.frozen)
		printf(", frozen");
	put_bitmaps(n->bitmaps, n->bitmap_count, QI_ON_NODE);
	put_marks(n);
	put_end();
	if (n->parent != QI_NO_INDEX)
		printf("\tn%zu -> n%zu;\n", i, n->parent);
	if (!n->marks[QI_MARK_ORPHAN])
		return;
	printf("\tm%zu [style=dashed, color=red, label=\"", i);
	put_text(n->facts->backing_name);
	put_end();
	printf("\tn%zu -> m%zu [style=dashed, color=red];\n", i, i);
}

static void put_drive(const struct qi_tree *t, size_t i)
{
	const struct qi_tree_drive *d = &t->drives[i];
	enum qi_colour c =
		bitmaps_colour(d->bitmaps, d->bitmap_count, QI_ON_DRIVE);

	printf("\td%zu [style=rounded, color=%s, label=\"drive ", i,
	       colour_name(c));
	put_text(qi_drive_path(d->drive));
	for (size_t k = 0; k < d->others.count; k++)
		put_line("also", d->others.path[k]);
	put_bitmaps(d->bitmaps, d->bitmap_count, QI_ON_DRIVE);
	put_end();
	printf("\td%zu -> n%zu;\n", i, d->head);
}

static void put_broken(const struct qi_tree *t, size_t i)
{
	const struct qi_tree_broken *b = &t->broken[i];

	printf("\tb%zu [style=\"%s\", color=red, label=\"", i,
	       b->target ? "rounded,dashed" : "solid");
	put_text(b->path);
	put_line(b->target ? "broken link" : "error", b->error);
	put_end();
}

void qi_tree_print_dot(const struct qi_tree *t)
{
	puts("digraph qimg {\n\trankdir=BT;\n"
	     "\tnode [shape=box, fontname=\"sans-serif\"];");
	for (size_t i = 0; i < t->node_count; i++)
		put_node(t, i);
	for (size_t i = 0; i < t->drive_count; i++)
		put_drive(t, i);
	for (size_t i = 0; i < t->broken_count; i++)
		put_broken(t, i);
	puts("}");
}
