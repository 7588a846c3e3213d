/* SPDX-License-Identifier: MIT */
/*
 * bitmap.h - bitmaps for people and as JSON
 */
#ifndef QIMG_CMD_BITMAP_H
#define QIMG_CMD_BITMAP_H

#include "lib/qimg.h"

/* `qimg bitmap list`: one of drive, node and paths is given. */
struct qi_bitmap_list {
	const char *drive, *node;
	char **paths;
	int path_count;
	bool json, force_share, strict;
};
/* Returns the exit code. */
int qi_bitmap_list(const struct qi_bitmap_list *l);

/* `qimg bitmap show`: one of drive and node is a path, the other is NULL. */
struct qi_bitmap_show {
	const char *drive, *node, *name;
	bool json;
	struct qi_open how;
	int wait;
};
/* Returns the exit code. */
int qi_bitmap_show(const struct qi_bitmap_show *s);

#endif
