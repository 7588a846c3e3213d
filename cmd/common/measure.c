// SPDX-License-Identifier: MIT
/*
 * measure.c - bitmaps with what is dirty in them and how well that is known
 */
#include "cmd/common/measure.h"

#include <stdlib.h>

#include "cmd/common/image.h"
#include "cmd/common/json.h"

enum qi_colour qi_status_colour(enum qi_layer_status status)
{
	switch (status) {
	case QI_LAYER_EXACT:
		return QI_GREEN;
	case QI_LAYER_FULL:
		return QI_RED;
	default:
		return QI_YELLOW;
	}
}

/* Takes the ranges, or the failure to get them. */
static void count_bytes(struct qi_measured *b, struct qi_ranges *ranges,
			int ret, struct qi_error *e)
{
	if (ret >= 0) {
		ret = qi_ranges_bytes(ranges, &b->bytes, e);
		qi_ranges_free(ranges);
	}
	b->known = ret >= 0;
	if (ret < 0)
		b->error = qi_xstrdup(e->text);
}

/* ---------------------------------------------------------------- nodes */

static void measure_stored(struct qi_measured *b, struct qi_node *n,
			   const struct qi_bitmap_facts *f, size_t index)
{
	struct qi_ranges *ranges = NULL;
	struct qi_error e = { "" };
	int ret;

	*b = (struct qi_measured){
		.name = qi_xstrdup(f->name),
		.state = qi_bitmap_state(f),
		.attachment = f->attachment,
		.enabled = f->enabled,
		.anchor = f->anchor,
		.checkpoint = f->checkpoint,
		.granularity = f->granularity,
	};
	if (f->in_use)
		b->reason = qi_xstrdup("a process has the image open for "
				       "writing, or did not close it");
	else if (f->unreadable)
		b->reason = qi_xstrdup(f->problem);
	if (b->reason) {
		b->colour = QI_RED;
		return;
	}
	ret = qi_node_bitmap_ranges_at(n, index, &ranges, &e);
	count_bytes(b, ranges, ret, &e);
}

int qi_measure_node(struct qi_node *n, struct qi_measured **out, size_t *count,
		    struct qi_error *e)
{
	struct qi_bitmap_facts *all = NULL;
	int ret = qi_node_bitmaps(n, &all, count, e);

	*out = NULL;
	if (ret < 0) {
		*count = 0;
		return ret;
	}
	*out = qi_xrealloc(NULL, (*count + 1) * sizeof(**out));
	for (size_t i = 0; i < *count; i++)
		measure_stored(&(*out)[i], n, &all[i], i);
	free(all);
	return 0;
}

/* --------------------------------------------------------------- drives */

/* Why the set is what it is: the first layer that is as bad as the whole. */
static void give_reason(struct qi_measured *b, const struct qi_dirty *dirty)
{
	enum qi_layer_status status = qi_dirty_status(dirty);
	const struct qi_layer *l;
	size_t count, i = 0;

	if (b->gap && status != QI_LAYER_FULL) {
		b->reason = qi_xstrdup("it was paused since it starts: what "
				       "was written then is not in it");
		b->colour = QI_YELLOW;
		return;
	}
	if (status == QI_LAYER_EXACT)
		return;
	l = qi_dirty_layers(dirty, &count);
	while (i + 1 < count && l[i].status != status)
		i++;
	b->reason = qi_xprintf("'%s': %s", qi_node_facts(l[i].node)->path,
			       l[i].reason);
	b->colour = qi_status_colour(status);
}

static void measure_set(struct qi_measured *b, struct qi_drive *d)
{
	struct qi_ranges *ranges = NULL;
	struct qi_error e = { "" };
	struct qi_dirty *dirty;
	int ret = qi_dirty_new(d, b->name, &dirty, &e);

	if (ret < 0) {
		count_bytes(b, NULL, ret, &e);
		return;
	}
	b->status = qi_layer_status_name(qi_dirty_status(dirty));
	b->gap = qi_dirty_has_gap(dirty);
	give_reason(b, dirty);
	ret = qi_dirty_ranges(dirty, &ranges);
	if (ret < 0)
		qi_fail(&e, -ret, "the dirty set cannot be read");
	count_bytes(b, ranges, ret, &e);
	qi_dirty_free(dirty);
}

int qi_measure_drive(struct qi_drive *d, struct qi_measured **out,
		     size_t *count, struct qi_error *e)
{
	struct qi_drive_bitmap *all = NULL;
	int ret = qi_drive_bitmaps(d, &all, count, e);

	*out = NULL;
	if (ret < 0) {
		*count = 0;
		return ret;
	}
	*out = qi_xrealloc(NULL, (*count + 1) * sizeof(**out));
	for (size_t i = 0; i < *count; i++) {
		struct qi_measured *b = &(*out)[i];

		*b = (struct qi_measured){
			.name = qi_xstrdup(all[i].name),
			.state = all[i].paused ? "paused" : "enabled",
			.attachment = QI_ON_DRIVE,
			.of_drive = true,
			.enabled = !all[i].paused,
			.checkpoint = all[i].checkpoint,
			.granularity = all[i].granularity,
		};
		measure_set(b, d);
	}
	free(all);
	return 0;
}

/* ----------------------------------------------------------------- both */

void qi_measured_free(struct qi_measured *all, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(all[i].name);
		free(all[i].reason);
		free(all[i].error);
	}
	free(all);
}

json_t *qi_measured_json(const struct qi_measured *b)
{
	bool drive = b->attachment == QI_ON_DRIVE;
	json_t *o = json_pack("{s:o, s:s, s:s, s:o, s:o, s:o}", "name",
			      qi_json_text(b->name), "attachment",
			      drive ? "drive" : "node", "state", b->state,
			      "granularity", qi_json_uint(b->granularity),
			      "dirty-bytes",
			      b->known ? qi_json_uint(b->bytes) : json_null(),
			      "reason", qi_json_text(b->reason));

	if (drive)
		json_object_set_new(o, "checkpoint",
				    qi_json_uuid(&b->checkpoint));
	if (b->of_drive) {
		json_object_set_new(o, "status", qi_json_text(b->status));
		json_object_set_new(o, "gap", json_boolean(b->gap));
	} else {
		json_object_set_new(o, "enabled", json_boolean(b->enabled));
		if (drive)
			json_object_set_new(o, "anchor",
					    json_boolean(b->anchor));
	}
	if (b->error)
		json_object_set_new(o, "error", qi_json_text(b->error));
	return o;
}
