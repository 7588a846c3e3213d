/* SPDX-License-Identifier: MIT */
/* overlay.h - a new, empty layer on top of a node, with a record */
#ifndef QI_OVERLAY_H
#define QI_OVERLAY_H

#include "lib/drive.h"
#include "lib/image.h"

struct qi_overlay {
	const char *path;
	enum qi_temp_mode mode; /* what may be at the path */
	struct qi_node *base;
	const char *base_path; /* where it will be found */
	const char *like;      /* a file whose mode it gets; NULL: the base */
	const struct qi_record *record; /* NULL: none */
	const struct qi_bitmap_change *changes;
	size_t count;
};

/* A complete overlay under a hidden name, to be published; durable then. */
int qi_overlay_write(const struct qi_overlay *o, struct qi_image *img,
		     struct qi_error *e);

#endif
