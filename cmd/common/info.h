/* SPDX-License-Identifier: MIT */
/*
 * info.h - what an image is, as text and JSON
 */
#ifndef QIMG_INFO_H
#define QIMG_INFO_H

#include <jansson.h>

#include "lib/qimg.h"

/* What is known of one image, collected before anything is printed. */
struct qi_info {
	struct qi_node *node;
	const struct qi_node_facts *facts;
	char *backing_path;
	struct qi_record_facts record;
	struct qi_bitmap_facts *bitmaps;
	size_t bitmap_count;
	const char *bitmaps_problem;
	struct qi_internal_snapshot *snapshots;
	size_t snapshot_count;
};

/* To be released, good or bad. What is no failure is said as a warning. */
int qi_info_collect(struct qi_info *r, struct qi_node *n, struct qi_error *e);
void qi_info_release(struct qi_info *r);
/* native: with the part that qemu-img does not have. */
void qi_info_text(const struct qi_info *r, bool native);
json_t *qi_info_json(const struct qi_info *r, bool native);

#endif
