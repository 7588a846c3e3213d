/* SPDX-License-Identifier: MIT */
/*
 * tree.h - images and drives of some paths, collected to be drawn
 */
#ifndef QIMG_TREE_H
#define QIMG_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/qimg.h"

#define QI_NO_INDEX SIZE_MAX

/* One bitmap with what is dirty in it. */
struct qi_tree_bitmap {
	char *name;
	const char *state;
	enum qi_attachment attachment;
	uint32_t granularity;
	bool known;	    /* `bytes` is */
	uint64_t bytes;	    /* dirty */
	const char *status; /* drive bitmap: of its dirty set, or NULL */
	char *error;	    /* why bytes is not known, or NULL */
};

struct qi_tree_node {
	struct qi_node *node;
	const struct qi_node_facts *facts;
	const char *path; /* as given, or else that of the facts */
	struct qi_record_facts record;
	size_t parent; /* index of the backing node, or QI_NO_INDEX */
	bool has_overlay;
	bool is_alone;		/* named; its folder was not looked at */
	struct qi_files hidden; /* overlays in its folder, if it is alone */
	char *error;		/* why its chain could not be opened, or NULL */
	const char *bitmaps_problem;
	struct qi_tree_bitmap *bitmaps; /* segments, too */
	size_t bitmap_count;
};

struct qi_tree_drive {
	struct qi_drive *drive;
	size_t head; /* index of a node */
	struct qi_tree_bitmap *bitmaps;
	size_t bitmap_count;
};

/* A path that is no image. */
struct qi_tree_broken {
	char *path, *error;
	int ret;
};

struct qi_tree {
	struct qi_graph *graph;
	struct qi_open how; /* to open images */
	struct qi_tree_node *nodes;
	size_t node_count;
	struct qi_tree_drive *drives;
	size_t drive_count;
	struct qi_tree_broken *broken;
	size_t broken_count;
	struct qi_files *folders; /* that were added */
	size_t folder_count;
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

#endif
