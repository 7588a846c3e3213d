/* SPDX-License-Identifier: MIT */
/*
 * carry.c - drive bitmaps when a layer comes to rest on another one
 *
 * The layers that it leaves behind have segments, or count by what they have
 * allocated. All that goes into the segment of the layer above them; where a
 * bitmap starts in one of them, it starts in that layer now, with its bits.
 */
#include <errno.h>

#include "lib/drive.h"

/* --------------------------------------------------------------- layers */

bool qi_node_is_in_chain(const struct qi_node *n, const struct qi_node *chain)
{
	while (chain && chain != n)
		chain = chain->facts.backing;
	return chain != NULL;
}

/* Will n not rest on `layer` any more, or not as this drive knows it? */
static bool is_dropped(const struct qi_carry *c, const struct qi_node *layer)
{
	const struct qi_node *old = c->drive.head->facts.backing;

	/* Down to a layer of the chain: those in between. Else: all. */
	return !qi_node_is_in_chain(c->base, old) ||
	       !qi_node_is_in_chain(layer, c->base);
}

/* -------------------------------------------------------------- bitmaps */

/* The entry of `name` that counts, and what was the smallest size. */
static void take_entry(const struct qi_carry *c, const char *name,
		       const struct qi_layer *layers, size_t count,
		       struct qi_record_bitmap *b)
{
	uint64_t smallest = UINT64_MAX;
	bool found = false;

	for (size_t i = 0; i < count; i++) {
		const struct qi_node *n = layers[i].node;
		const struct qi_record_bitmap *from =
			qi_drive_segment(&c->drive, n, name);

		if (from && !found) {
			*b = *from;
			found = true;
		}
		if (!i || !is_dropped(c, n))
			continue;
		smallest = qi_min(smallest, n->facts.size);
		if (from) {
			smallest = qi_min(smallest, from->min_size);
			b->gap |= from->gap || from->paused;
		}
	}
	b->min_size = qi_min(b->min_size, smallest);
}

/* What n has, and what the layers have that it leaves behind. */
static int merged_ranges(const struct qi_carry *c, const char *name,
			 const struct qi_layer *layers, size_t count,
			 struct qi_ranges **out)
{
	struct qi_ranges **in = calloc(count, sizeof(struct qi_ranges *));
	size_t used = 0;
	int ret = in ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && !ret; i++) {
		if (i && !is_dropped(c, layers[i].node))
			continue;
		ret = qi_layer_ranges(&c->drive, layers[i].node, name,
				      &in[used]);
		used += !ret;
	}
	ret = qi_ranges_collect(out, in, used, ret);
	free(in);
	return ret;
}

static int add_edit(struct qi_carry *c, const struct qi_drive_bitmap *bitmap,
		    const struct qi_dirty *s, bool moves)
{
	size_t count;
	const struct qi_layer *layers = qi_dirty_layers(s, &count);
	struct qi_record_bitmap *b = qi_record_put(c->record, bitmap->name);
	struct qi_bitmap_change *x = qi_edits_add(&c->edits);

	if (!b || !x)
		return -ENOMEM;
	/* A new entry has no size yet. */
	take_entry(c, bitmap->name, layers, count, b);
	b->anchor = moves;
	b->gap |= qi_dirty_has_gap(s);
	x->name = bitmap->name;
	x->enabled = !bitmap->paused;
	x->granularity_bits = (unsigned)__builtin_ctz(bitmap->granularity);
	return moves ? qi_dirty_ranges(s, &x->bits) :
		       merged_ranges(c, bitmap->name, layers, count, &x->bits);
}

/* A drive bitmap with a part below n that n will not rest on any more. */
static int keep_bitmap(struct qi_carry *c, const struct qi_drive_bitmap *bitmap,
		       struct qi_error *e)
{
	struct qi_dirty *s;
	const struct qi_layer *layers;
	bool drops = false, moves;
	size_t count;
	int ret = qi_dirty_new(&c->drive, bitmap->name, &s, e);

	if (ret)
		return ret;
	layers = qi_dirty_layers(s, &count);
	for (size_t i = 1; i < count; i++)
		drops |= is_dropped(c, layers[i].node);
	moves = is_dropped(c, layers[count - 1].node) ||
		qi_dirty_status(s) == QI_LAYER_FULL;
	if (count == 1 && qi_dirty_status(s) != QI_LAYER_FULL)
		moves = false;
	if (drops || moves) {
		ret = qi_node_can_store(c->drive.head, e);
		if (!ret &&
		    qi_node_find_bitmap(c->drive.head, bitmap->name) >= 0 &&
		    !qi_drive_segment(&c->drive, c->drive.head, bitmap->name))
			ret = qi_fail(
				e, EEXIST,
				"'%s' has a node bitmap '%s', and the "
				"drive bitmap of that name needs its "
				"place; remove it first with 'qimg bitmap "
				"remove --node %s %s'",
				c->drive.head->path, bitmap->name,
				c->drive.head->path, bitmap->name);
		if (!ret && !c->record)
			ret = qi_drive_head_record(&c->drive, &c->record, e);
		if (!ret && add_edit(c, bitmap, s, moves))
			ret = qi_no_memory(e);
	}
	qi_dirty_free(s);
	return ret;
}

/* A removal in a layer that goes still counts for what lies below it. */
static int keep_removals(struct qi_carry *c, struct qi_error *e)
{
	struct qi_uuid drive = qi_drive_uuid(&c->drive);

	for (struct qi_node *n = c->drive.head->facts.backing; n;
	     n = n->facts.backing) {
		const struct qi_record *r = n->record;

		if (qi_record_state_of(n) != QI_RECORD_VALID ||
		    !is_dropped(c, n) || !qi_uuid_equal(&r->drive, &drive))
			continue;
		for (size_t i = 0; i < r->count; i++) {
			struct qi_record_bitmap *b;
			const struct qi_record *have =
				c->record ? c->record : c->drive.head->record;

			if (!r->bitmaps[i].removed ||
			    (have && qi_record_find(have, r->bitmaps[i].name)))
				continue;
			if (!c->record &&
			    qi_drive_head_record(&c->drive, &c->record, e))
				return qi_no_memory(e);
			b = qi_record_put(c->record, r->bitmaps[i].name);
			if (!b)
				return qi_no_memory(e);
			*b = r->bitmaps[i];
		}
	}
	return 0;
}

int qi_carry_plan(struct qi_carry *c, struct qi_error *e)
{
	size_t count;
	int ret = qi_drive_bitmaps(&c->drive, &c->all, &count, e);

	if (!ret && count &&
	    qi_record_state_of(c->drive.head) == QI_RECORD_UNKNOWN)
		ret = qi_fail(e, ESTALE,
			      "cannot rebase '%s': its record is damaged or of "
			      "a later version, and there are drive bitmaps "
			      "below it",
			      c->drive.head->path);
	for (size_t i = 0; i < count && !ret; i++)
		ret = keep_bitmap(c, &c->all[i], e);
	/* Where no record fits, nothing below could be found through it. */
	if (!ret &&
	    qi_node_is_in_chain(c->base, c->drive.head->facts.backing) &&
	    !qi_node_can_store(c->drive.head, NULL))
		ret = keep_removals(c, e);
	return ret;
}

int qi_carry_store(struct qi_carry *c, struct qi_error *e)
{
	if (!c->edits.count)
		return 0;
	return qi_node_store(c->drive.head, c->record, c->edits.changes,
			     c->edits.count, e);
}

void qi_carry_clear(struct qi_carry *c)
{
	qi_edits_clear(&c->edits);
	qi_record_free(c->record);
	free(c->all);
	*c = (struct qi_carry){ 0 };
}
