/* SPDX-License-Identifier: MIT */
/* image.h - making new images, for the operations in lib */
#ifndef QI_IMAGE_H
#define QI_IMAGE_H

#include "lib/copy.h"
#include "lib/temp.h"

/*
 * A new image in the making: a hidden file, another one when its data is kept
 * apart, and the writer that fills them.
 */
struct qi_image {
	struct qi_temp temp;
	struct qi_temp data;
	struct qi_writer *writer;
	uint64_t backing_size; /* QI_NO_OFFSET: it has none, or unchecked */
	const struct qi_format *backing_format;
	bool backing_is_plain; /* all of its file, not a part */
	dev_t backing_dev;
	ino_t backing_ino;
};

int qi_image_start(struct qi_image *img, const char *path,
		   const struct qi_create *c, struct qi_error *e);
/* The same, saying what may be at the name. */
int qi_image_start_as(struct qi_image *img, const char *path,
		      const struct qi_create *c, enum qi_temp_mode mode,
		      struct qi_error *e);
/* The guest view of src into it; c->target tells the format alone. */
int qi_image_fill(struct qi_image *img, struct qi_node *src,
		  const struct qi_convert *c, struct qi_copy_stats *stats,
		  struct qi_error *e);
/* Write the metadata: the hidden file is a complete image now. */
int qi_image_finish(struct qi_image *img, struct qi_error *e);
/* Open the hidden file of one that is finished, in a graph of its own. */
int qi_image_reopen(const struct qi_image *img, const char *format,
		    struct qi_graph **g, struct qi_node **out,
		    struct qi_error *e);
/* Finish if need be, sync, rename: the image appears, its data file first. */
int qi_image_publish(struct qi_image *img, struct qi_error *e);
/*
 * The same of several: all appear, in this order, or none; but what replaced a
 * file by then stays, and the message names it.
 */
int qi_images_publish(struct qi_image *all, size_t count, struct qi_error *e);
void qi_image_discard(struct qi_image *img);
#define QI_AUTOIMAGE __attribute__((cleanup(qi_image_discard)))

#endif
