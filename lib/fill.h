/* SPDX-License-Identifier: MIT */
/* fill.h - bits that are added to a bitmap that is there */
#ifndef QI_FILL_H
#define QI_FILL_H

#include "lib/drive.h"

/* The image that is written for this address; it decides sizes. */
struct qi_node *qi_address_node(const struct qi_bitmap_address *a);
/* "drive" or "node", and the path, for messages. */
const char *qi_address_kind(const struct qi_bitmap_address *a);
const char *qi_address_path(const struct qi_bitmap_address *a);

/*
 * Is the bitmap there, may it get bits, and can it tell what it has? When it
 * is a segment, 'qimg bitmap INSTEAD' is named.
 */
int qi_bitmap_check_fill(const struct qi_bitmap_address *to,
			 const char *instead, struct qi_error *e);
/*
 * Add all of `added`, which it takes, to a bitmap that was checked: one header
 * write. What is past the end of the disk is left out.
 */
int qi_bitmap_fill(const struct qi_bitmap_address *to, struct qi_ranges *added,
		   struct qi_error *e);

#endif
