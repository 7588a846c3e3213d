/* SPDX-License-Identifier: MIT */
/*
 * measure.h - bitmaps with what is dirty in them and how well that is known
 */
#ifndef QIMG_MEASURE_H
#define QIMG_MEASURE_H

#include <jansson.h>

#include "cmd/common/print.h"
#include "lib/qimg.h"

struct qi_measured {
	char *name;
	const char *state;
	enum qi_attachment attachment;
	bool of_drive;		   /* a whole one; else what an image stores */
	bool enabled;		   /* records writes */
	bool anchor;		   /* segment: the record starts here */
	struct qi_uuid checkpoint; /* null of a node's own bitmap */
	uint32_t granularity;	   /* bytes */
	bool known;		   /* `bytes` is */
	uint64_t bytes;		   /* dirty */
	const char *status;	   /* drive: of its set; else NULL */
	bool gap;		   /* drive: was paused since it starts */
	char *reason;		   /* NULL, or why it is not all it should be */
	enum qi_colour colour;	   /* PLAIN, or how bad that is */
	char *error;		   /* why bytes is not known, or NULL */
};

/*
 * All bitmaps in the directory of n, segments too; or all of a drive. A bitmap
 * that cannot be measured is no failure. To be freed, also after a failure.
 */
int qi_measure_node(struct qi_node *n, struct qi_measured **out, size_t *count,
		    struct qi_error *e);
int qi_measure_drive(struct qi_drive *d, struct qi_measured **out,
		     size_t *count, struct qi_error *e);
void qi_measured_free(struct qi_measured *all, size_t count);

/* Keys of qimg-json(7) that all lists of bitmaps have. */
json_t *qi_measured_json(const struct qi_measured *b);
/* How bad a status is. */
enum qi_colour qi_status_colour(enum qi_layer_status status);

#endif
