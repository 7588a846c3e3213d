/* SPDX-License-Identifier: MIT */
/*
 * tree.h - images and drives of some paths, collected to be drawn
 */
#ifndef QIMG_TREE_H
#define QIMG_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "cmd/common/index.h"
#include "cmd/common/measure.h"
#include "lib/qimg.h"

/* What is worth a look at a node. */
enum qi_mark {
	QI_MARK_ORPHAN,	    /* its backing file is not there */
	QI_MARK_PARENT,	    /* it was made on another layer */
	QI_MARK_UNFINISHED, /* a command was interrupted */
	QI_MARK_FOREIGN,    /* another tool put it on a drive */
	QI_MARK_UNUSED,	    /* a layer on which nothing rests any more */
	QI_MARKS
};

struct qi_tree_node {
	struct qi_node *node;
	const struct qi_node_facts *facts;
	const char *path; /* as given, or else that of the facts */
	struct qi_record_facts record;
	/* Indices, or QI_NO_INDEX; parent: the backing node */
	size_t parent, first_overlay, next_overlay;
	size_t drive;	 /* of which it is the head */
	unsigned depth;	 /* 0: it has no parent */
	bool is_named;	 /* by itself */
	bool is_scanned; /* its folder was looked at */
	bool is_looked_around;
	struct qi_files hidden; /* overlays in its folder, if only named */
	char *error;		/* why its chain could not be opened, or NULL */
	bool has_drive_below;	/* some layer has the record of one */
	bool marks[QI_MARKS];
	const char *unfinished; /* the command, for that mark */
	const char *bitmaps_problem;
	struct qi_measured *bitmaps; /* segments, too */
	size_t bitmap_count;
};

struct qi_tree_drive {
	struct qi_drive *drive;
	struct qi_files others; /* further links to its head */
	size_t head;		/* index of a node */
	struct qi_measured *bitmaps;
	size_t bitmap_count;
};

/* A path that is no image. */
struct qi_tree_broken {
	char *path, *error;
	char *target; /* of a symbolic link; else NULL */
	int ret;
};

struct qi_tree {
	struct qi_graph *graph;
	struct qi_open how; /* to open images */
	struct qi_tree_node *nodes;
	size_t node_count, first_root;
	struct qi_tree_drive *drives;
	size_t drive_count;
	struct qi_tree_broken *broken;
	size_t broken_count;
	struct qi_files *folders; /* that were added */
	size_t folder_count;
	struct qi_index by_node, by_file, links;
};

/*
 * Add an image, or the images of a folder. Errors become part of the tree,
 * which points to path until it is freed.
 */
void qi_tree_add(struct qi_tree *t, const char *path);
void qi_tree_add_folder(struct qi_tree *t, const char *path);
/* Link nodes, find drives and measure bitmaps, after all was added. */
void qi_tree_finish(struct qi_tree *t);
void qi_tree_free(struct qi_tree *t);

/* Are no overlays of it known? */
bool qi_tree_is_top(const struct qi_tree_node *n);
/* The node after this one, backing files before their overlays. */
size_t qi_tree_next(const struct qi_tree *t, size_t index);

/* Find what is worth a look, but for orphans; the last part of finishing. */
void qi_tree_mark(struct qi_tree *t);
/* In JSON, and in front of its text. */
const char *qi_mark_name(enum qi_mark m);
enum qi_colour qi_mark_colour(enum qi_mark m);
/* What a mark that n has is about. Freed by the caller. */
char *qi_mark_text(const struct qi_tree_node *n, enum qi_mark m);

/* Print the tree in one of three ways. */
void qi_tree_print_text(const struct qi_tree *t);
void qi_tree_print_json(const struct qi_tree *t);
void qi_tree_print_dot(const struct qi_tree *t);

#endif
