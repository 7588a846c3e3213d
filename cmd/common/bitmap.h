/* SPDX-License-Identifier: MIT */
/*
 * bitmap.h - bitmaps for people and as JSON
 */
#ifndef QIMG_CMD_BITMAP_H
#define QIMG_CMD_BITMAP_H

#include <jansson.h>

#include "lib/qimg.h"

/* A bitmap in the directory of the image at path. */
json_t *qi_bitmap_json(const char *path, const struct qi_bitmap_facts *b);
/* A bitmap of the drive at path. */
json_t *qi_drive_bitmap_json(const char *path, const struct qi_drive_bitmap *b);

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
