/* SPDX-License-Identifier: MIT */
/*
 * dirty.c - the dirty set of a drive bitmap
 *
 * Walks from the head to the anchor. A layer adds the bits that its own
 * record vouches for, or else its allocation map; where even that is not
 * sound the whole disk is dirty. qimg-drives(7) tells why this is enough.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/drive.h"

struct qi_dirty {
	const struct qi_drive *drive;
	char name[QI_NAME_MAX + 1];
	struct qi_layer *layers;
	size_t count;
	uint64_t min_size; /* of the disk since the start */
	struct qi_uuid checkpoint;
	bool has_gap;
};

const char *qi_layer_status_name(enum qi_layer_status s)
{
	static const char *const names[] = { "exact", "paused", "estimated",
					     "full" };

	return names[s];
}

int qi_node_find_bitmap(struct qi_node *n, const char *name)
{
	const struct qi_stored_bitmap *all;
	size_t count;

	if (!n->format->bitmaps)
		return -1;
	all = n->format->bitmaps->list(n, &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0)
			return (int)i;
	return -1;
}

const char *qi_segment_problem(struct qi_node *n,
			       const struct qi_record_bitmap *b, int *which)
{
	const struct qi_stored_bitmap *f;
	size_t count;

	*which = -1;
	if (!n->format->bitmaps)
		return "its format holds no bitmaps";
	if (n->format->bitmaps->problem(n))
		return n->format->bitmaps->problem(n);
	*which = qi_node_find_bitmap(n, b->name);
	if (*which < 0)
		return "its segment is gone";
	f = &n->format->bitmaps->list(n, &count)[*which];
	if (f->problem)
		return f->problem;
	if (f->enabled == b->paused)
		return b->paused ? "its segment was enabled by another tool" :
				   "its segment was disabled by another tool";
	return NULL;
}

enum qi_layer_status qi_layer_status_of(const struct qi_drive *d,
					struct qi_node *n, const char *name,
					char *reason, size_t reason_len)
{
	const struct qi_record_bitmap *b = qi_drive_segment(d, n, name);
	enum qi_layer_status status = QI_LAYER_ESTIMATED;
	const char *why;
	int which;

	if (qi_record_state_of(n) == QI_RECORD_UNKNOWN) {
		why = "its record is damaged or of a later version";
		status = QI_LAYER_FULL;
	} else if (qi_record_state_of(n) == QI_RECORD_NONE) {
		why = "it was made by another tool and has no record";
	} else if (!b || b->removed) {
		why = "it has no segment of this bitmap";
	} else {
		why = qi_segment_problem(n, b, &which);
		if (!why)
			status = b->paused ? QI_LAYER_PAUSED : QI_LAYER_EXACT;
		else if (b->anchor)
			status = QI_LAYER_FULL;
	}
	if (reason)
		snprintf(reason, reason_len, "%s", why ? why : "");
	return status;
}

int qi_layer_ranges(const struct qi_drive *d, struct qi_node *n,
		    const char *name, struct qi_ranges **out)
{
	switch (qi_layer_status_of(d, n, name, NULL, 0)) {
	case QI_LAYER_FULL:
		return qi_ranges_one(out, 0, n->facts.size);
	case QI_LAYER_ESTIMATED:
		return qi_ranges_clusters(out, n);
	default:
		return qi_ranges_bitmap(out, n,
					(size_t)qi_node_find_bitmap(n, name));
	}
}

/* ------------------------------------------------------------- the walk */

static int add_layer(struct qi_dirty *s, struct qi_node *n)
{
	struct qi_layer *l = realloc(s->layers, (s->count + 1) * sizeof(*l));

	if (!l)
		return -ENOMEM;
	s->layers = l;
	l += s->count++;
	*l = (struct qi_layer){ .node = n };
	l->status = qi_layer_status_of(s->drive, n, s->name, l->reason,
				       sizeof(l->reason));
	return 0;
}

static void make_full(struct qi_layer *l, const char *why)
{
	l->status = QI_LAYER_FULL;
	snprintf(l->reason, sizeof(l->reason), "%s", why);
}

bool qi_node_parent_is_right(const struct qi_node *n)
{
	const struct qi_node *below = n->facts.backing;

	if (qi_record_state_of(n) != QI_RECORD_VALID ||
	    qi_uuid_is_null(&n->record->parent))
		return true;
	return below && qi_record_state_of(below) == QI_RECORD_VALID &&
	       qi_uuid_equal(&below->record->image, &n->record->parent);
}

/*
 * Note what one layer's entry says. False when it is not part of the record
 * that the topmost entry is part of: the layer was changed behind the drive.
 */
static bool take_entry(struct qi_dirty *s, struct qi_layer *l,
		       const struct qi_record_bitmap *b, bool is_first)
{
	if (is_first)
		s->checkpoint = b->checkpoint;
	s->min_size = qi_min(s->min_size, b->min_size);
	s->has_gap |= b->gap || b->paused;
	l->anchor = b->anchor;
	return qi_uuid_equal(&s->checkpoint, &b->checkpoint);
}

/* Is there an entry below n, where the chain is not what it was? */
static bool is_known_below(const struct qi_dirty *s, const struct qi_node *n)
{
	const struct qi_record_bitmap *b = NULL;

	for (n = n->facts.backing; n && !b && !qi_node_is_of_other(s->drive, n);
	     n = n->facts.backing)
		b = qi_drive_segment(s->drive, n, s->name);
	return b && !b->removed;
}

static int walk(struct qi_dirty *s, struct qi_error *e)
{
	bool found = false;

	for (struct qi_node *n = s->drive->head; n; n = n->facts.backing) {
		const struct qi_record_bitmap *b;
		struct qi_layer *l;

		if (qi_node_is_of_other(s->drive, n))
			break;
		b = qi_drive_segment(s->drive, n, s->name);
		if (b && b->removed)
			break;
		if (add_layer(s, n))
			return qi_no_memory(e);
		l = &s->layers[s->count - 1];
		s->min_size = qi_min(s->min_size, n->facts.size);
		if (b && !take_entry(s, l, b, !found)) {
			make_full(l, "its record started at another time");
			return 0;
		}
		found |= b != NULL;
		if (l->anchor && qi_node_parent_is_right(n))
			return 0;
		if (!qi_node_parent_is_right(n)) {
			make_full(l, "the layer below is not the one it was "
				     "made on");
			return found || is_known_below(s, n) ? 0 : -ENOENT;
		}
	}
	if (!found)
		return -ENOENT;
	make_full(&s->layers[s->count - 1],
		  "the layer in which the bitmap starts is gone");
	return 0;
}

int qi_dirty_new(struct qi_drive *d, const char *name, struct qi_dirty **out,
		 struct qi_error *e)
{
	struct qi_dirty *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return qi_no_memory(e);
	s->drive = d;
	s->min_size = d->head->facts.size;
	memcpy(s->name, name, strnlen(name, QI_NAME_MAX));
	ret = walk(s, e);
	if (ret == -ENOENT)
		qi_fail(e, ENOENT,
			"drive '%s' has no bitmap '%s'; 'qimg bitmap "
			"list --drive %s' shows what it has",
			d->path, name, QI_WORD(d->path));
	if (ret) {
		qi_dirty_free(s);
		return ret;
	}
	*out = s;
	return 0;
}

void qi_dirty_free(struct qi_dirty *s)
{
	if (!s)
		return;
	free(s->layers);
	free(s);
}

const struct qi_layer *qi_dirty_layers(const struct qi_dirty *s, size_t *count)
{
	*count = s->count;
	return s->layers;
}

enum qi_layer_status qi_dirty_status(const struct qi_dirty *s)
{
	enum qi_layer_status worst = QI_LAYER_EXACT;

	for (size_t i = 0; i < s->count; i++)
		if (s->layers[i].status > worst)
			worst = s->layers[i].status;
	return worst;
}

struct qi_uuid qi_dirty_checkpoint(const struct qi_dirty *s)
{
	return s->checkpoint;
}

bool qi_dirty_has_gap(const struct qi_dirty *s)
{
	return s->has_gap;
}

/* -------------------------------------------------------------- the set */

int qi_dirty_ranges(const struct qi_dirty *s, struct qi_ranges **out)
{
	uint64_t size = s->drive->head->facts.size;
	struct qi_ranges **in, *all;
	size_t n = 0;
	int ret;

	if (qi_dirty_status(s) == QI_LAYER_FULL)
		return qi_ranges_one(out, 0, size);
	in = calloc(s->count + 1, sizeof(struct qi_ranges *));
	if (!in)
		return -ENOMEM;
	/* What was past the end at some time since the start. */
	ret = qi_ranges_one(&in[n], s->min_size, size - s->min_size);
	n += !ret;
	for (size_t i = 0; i < s->count && !ret; i++) {
		ret = qi_layer_ranges(s->drive, s->layers[i].node, s->name,
				      &in[n]);
		n += !ret;
	}
	if (ret) {
		while (n--)
			qi_ranges_free(in[n]);
	} else {
		ret = qi_ranges_union(&all, in, n);
		if (!ret)
			ret = qi_ranges_clip(out, all, size);
	}
	free(in);
	return ret;
}

int qi_dirty_bytes(const struct qi_dirty *s, uint64_t *out, struct qi_error *e)
{
	struct qi_ranges *r;
	int ret = qi_dirty_ranges(s, &r);

	*out = 0;
	if (ret)
		return qi_no_memory(e);
	ret = qi_ranges_sum(r, out, e);
	qi_ranges_free(r);
	return ret;
}
