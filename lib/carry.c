/* SPDX-License-Identifier: MIT */
/*
 * carry.c - drive bitmaps when layers become one
 *
 * The layers that go have segments, or count by what they have allocated. All
 * that goes into the segment of the layer that stays; where a bitmap starts in
 * one of them, or is full, it starts in that layer now, with its bits.
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

/* Is it `into`, or will nothing of it be left below that? */
static bool is_merged(const struct qi_carry *c, const struct qi_node *layer)
{
	const struct qi_node *old = c->drive.head->facts.backing;

	/* Down to a layer of the chain: those above it. Else: all. */
	return !qi_node_is_in_chain(c->base, old) ||
	       !qi_node_is_in_chain(layer, c->base);
}

/* The record of `into`, to be changed. */
static int want_record(struct qi_carry *c, struct qi_error *e)
{
	const struct qi_drive into = { .path = c->into->path, .head = c->into };
	struct qi_uuid drive = qi_drive_uuid(&c->drive);
	int ret = c->record ? 0 : qi_drive_head_record(&into, &c->record, e);

	if (!ret && !qi_uuid_is_null(&drive))
		c->record->drive = drive;
	return ret;
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

		/* Before it is overwritten, where it is that of `into`. */
		if (from && is_merged(c, n))
			smallest = qi_min(smallest, from->min_size);
		if (is_merged(c, n))
			smallest = qi_min(smallest, n->facts.size);
		if (n == c->into && c->smallest)
			smallest = qi_min(smallest, c->smallest);
		if (from && !found)
			*b = *from;
		found |= from != NULL;
	}
	b->min_size = qi_min(b->min_size, smallest);
}

/*
 * Their data is lost: besides what changed since the start, all that they hide
 * reads as it did before them, which may be before the start.
 */
static int discarded_ranges(const struct qi_carry *c, const struct qi_dirty *s,
			    struct qi_ranges **out)
{
	struct qi_node *head = c->drive.head;
	struct qi_ranges *in[2];
	int ret = qi_dirty_ranges(s, &in[0]);

	if (ret)
		return ret;
	ret = qi_ranges_above(&in[1], head, c->base,
			      qi_max(head->facts.size, c->base->facts.size));
	return qi_ranges_collect(out, in, 1 + !ret, ret);
}

/* What the layers have that become one. */
static int merged_ranges(const struct qi_carry *c, const char *name,
			 const struct qi_layer *layers, size_t count,
			 struct qi_ranges **out)
{
	struct qi_ranges **in = calloc(count, sizeof(struct qi_ranges *));
	size_t used = 0;
	int ret = in ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && !ret; i++) {
		if (!is_merged(c, layers[i].node))
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
	if (moves && c->discards)
		return discarded_ranges(c, s, &x->bits);
	return moves ? qi_dirty_ranges(s, &x->bits) :
		       merged_ranges(c, bitmap->name, layers, count, &x->bits);
}

static int check_place(const struct qi_carry *c, const char *name,
		       struct qi_error *e)
{
	struct qi_node *n = c->into;
	int ret = qi_node_can_store(n, e);

	if (ret || qi_node_find_bitmap(n, name) < 0 ||
	    qi_drive_owns(&c->drive, n, name))
		return ret;
	return qi_fail(e, EEXIST,
		       "'%s' has a node bitmap '%s', and the drive bitmap of "
		       "that name needs its place; first give it another name "
		       "with 'qimg bitmap move --node %s --to-node %s --as NEW "
		       "%s', or 'qimg bitmap remove --node %s %s'",
		       n->path, name, QI_WORD(n->path), QI_WORD(n->path),
		       QI_WORD(name), QI_WORD(n->path), QI_WORD(name));
}

/* A drive bitmap of which some part is in layers that go. */
static int keep_bitmap(struct qi_carry *c, const struct qi_drive_bitmap *bitmap,
		       struct qi_error *e)
{
	struct qi_dirty *s;
	const struct qi_layer *layers;
	bool touched, moves;
	size_t count;
	int ret = qi_dirty_new(&c->drive, bitmap->name, &s, e);

	if (ret)
		return ret;
	layers = qi_dirty_layers(s, &count);
	touched = qi_dirty_status(s) == QI_LAYER_FULL || c->discards;
	moves = qi_dirty_status(s) == QI_LAYER_FULL ||
		is_merged(c, layers[count - 1].node);
	for (size_t i = 0; i < count; i++)
		touched |= layers[i].node != c->into &&
			   is_merged(c, layers[i].node);
	if (touched && !c->discards)
		ret = check_place(c, bitmap->name, e);
	if (touched && !ret)
		ret = want_record(c, e);
	if (touched && !ret && add_edit(c, bitmap, s, moves))
		ret = qi_no_memory(e);
	qi_dirty_free(s);
	return ret;
}

/* ------------------------------------------------------------- removals */

/* Does a layer that stays know the name, so that its removal must be said? */
static bool is_known_below(const struct qi_carry *c, const char *name)
{
	return c->base && (qi_drive_segment(&c->drive, c->base, name) ||
			   qi_drive_knows_below(&c->drive, c->base, name));
}

/* The address was removed in layer n, above what else says something of it. */
static int keep_removal(struct qi_carry *c, const struct qi_record_bitmap *from,
			struct qi_error *e)
{
	const char *name = from->name;
	const struct qi_record_bitmap *had =
		qi_drive_segment(&c->drive, c->into, name);
	struct qi_record_bitmap *b;
	struct qi_bitmap_change *x;
	bool has_segment = had && !had->removed &&
			   qi_node_find_bitmap(c->into, name) >= 0;

	if (!had && !is_known_below(c, name))
		return 0;
	if (want_record(c, e))
		return qi_no_memory(e);
	if (!is_known_below(c, name)) {
		qi_record_drop(c->record, name);
	} else {
		b = qi_record_put(c->record, name);
		if (!b)
			return qi_no_memory(e);
		*b = *from;
	}
	if (!has_segment)
		return 0;
	x = qi_edits_add(&c->edits);
	if (!x)
		return qi_no_memory(e);
	x->name = from->name;
	x->remove = true;
	return 0;
}

/* Is there a mention of the name above n? That one counts. */
static bool is_mentioned_above(const struct qi_carry *c,
			       const struct qi_node *n, const char *name)
{
	const struct qi_node *m = c->drive.head;

	for (; m != n; m = m->facts.backing)
		if (qi_drive_segment(&c->drive, m, name))
			return true;
	return false;
}

static int keep_removals(struct qi_carry *c, struct qi_error *e)
{
	int ret = 0;

	for (struct qi_node *n = c->drive.head; n && is_merged(c, n);
	     n = n->facts.backing) {
		const struct qi_record *r = n->record;

		if (n == c->into || qi_record_state_of(n) != QI_RECORD_VALID)
			continue;
		for (size_t i = 0; i < r->count && !ret; i++)
			if (r->bitmaps[i].removed &&
			    qi_drive_segment(&c->drive, n,
					     r->bitmaps[i].name) &&
			    !is_mentioned_above(c, n, r->bitmaps[i].name))
				ret = keep_removal(c, &r->bitmaps[i], e);
	}
	return ret;
}

/* ------------------------------------------------------------ operations */

int qi_carry_plan(struct qi_carry *c, struct qi_error *e)
{
	size_t count;
	int ret = qi_drive_bitmaps(&c->drive, &c->all, &count, e);

	if (!ret && count && !c->discards &&
	    qi_record_state_of(c->into) == QI_RECORD_UNKNOWN)
		ret = qi_fail(e, ESTALE,
			      "the record of '%s' is damaged or of a later "
			      "version, and there are drive bitmaps that it "
			      "would have to take up",
			      c->into->path);
	for (size_t i = 0; i < count && !ret; i++)
		ret = keep_bitmap(c, &c->all[i], e);
	/* Where no record fits, nothing below could be found through it. */
	if (!ret && (c->discards || !qi_node_can_store(c->into, NULL)))
		ret = keep_removals(c, e);
	return ret;
}

int qi_carry_store(struct qi_carry *c, struct qi_error *e)
{
	if (!c->edits.count)
		return 0;
	return qi_node_store(c->into, c->record, c->edits.changes,
			     c->edits.count, e);
}

void qi_carry_clear(struct qi_carry *c)
{
	qi_edits_clear(&c->edits);
	qi_record_free(c->record);
	free(c->all);
	c->record = NULL;
	c->all = NULL;
}
