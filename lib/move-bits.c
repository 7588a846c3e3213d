/* SPDX-License-Identifier: MIT */
/*
 * move-bits.c - what a bitmap says that gets another address
 *
 * A node bitmap that becomes one of a drive, in whose chain its node is, is
 * taken over with those of its name in the layers above, as libvirt makes
 * them: together they say what changed since the lowest one started.
 */
#include <errno.h>

#include "lib/move.h"

bool qi_node_has_own(struct qi_node *n, const char *name)
{
	return qi_node_find_bitmap(n, name) >= 0 && !qi_node_segment(n, name);
}

/* Then its allocation may have shrunk, by one that was applied. */
static bool has_snapshots(struct qi_node *n)
{
	struct qi_internal_snapshot *all = NULL;
	size_t count = 0;

	if (qi_internal_snapshots(n, &all, &count, NULL))
		return true;
	qi_internal_snapshots_free(all, count);
	return count > 0;
}

bool qi_mover_takes_whole(struct qi_node *n)
{
	return qi_record_state_of(n) == QI_RECORD_UNKNOWN || has_snapshots(n);
}

bool qi_mover_says_by_bitmap(const struct qi_mover *w, struct qi_node *n)
{
	const struct qi_stored_bitmap *b =
		qi_node_stored_bitmap(n, w->from->name);

	return b && b->enabled && !b->problem &&
	       qi_node_has_own(n, w->from->name);
}

/* What one layer adds to a bitmap that is taken over. */
static int of_layer(void *arg, struct qi_node *n, struct qi_ranges **out)
{
	const struct qi_mover *w = arg;
	struct qi_ranges *in[2];
	size_t count = 0;
	int ret = 0;

	if (n != w->src && qi_mover_takes_whole(n))
		return qi_ranges_one(out, 0, n->facts.size);
	if (n == w->src || qi_mover_says_by_bitmap(w, n)) {
		ret = qi_ranges_bitmap(
			&in[0], n,
			(size_t)qi_node_find_bitmap(n, w->from->name));
		count = !ret;
	}
	/* It may have been added when the layer had been written to. */
	if (!ret && n != w->src) {
		ret = qi_ranges_clusters(&in[count], n);
		count += !ret;
	}
	return qi_ranges_collect(out, in, count, ret);
}

/* `in`, and what the disk that gets it has past the end of the other. */
static int with_end(const struct qi_mover *w, struct qi_ranges *in,
		    struct qi_ranges **out)
{
	uint64_t old = w->src->facts.size, size = w->dst->facts.size;
	struct qi_ranges *both[2] = { in }, *all;
	int ret = qi_ranges_one(&both[1], old, size > old ? size - old : 0);

	ret = qi_ranges_collect(&all, both, 1 + !ret, ret);
	return ret ? ret : qi_ranges_clip(out, all, size);
}

static int of_drive(const struct qi_mover *w, struct qi_ranges **out,
		    struct qi_error *e)
{
	struct qi_dirty *s;
	int ret = qi_dirty_new(w->from->drive, w->from->name, &s, e);

	if (ret)
		return ret;
	ret = qi_dirty_ranges(s, out);
	qi_dirty_free(s);
	return ret ? qi_no_memory(e) : 0;
}

int qi_mover_ranges(const struct qi_mover *w, struct qi_ranges **out,
		    struct qi_error *e)
{
	struct qi_ranges *all;
	int ret;

	if (w->takes_over &&
	    qi_ranges_layers(&all, w->dst, w->src->facts.backing,
			     w->dst->facts.size, of_layer, (void *)w))
		ret = qi_no_memory(e);
	else if (w->takes_over)
		ret = 0;
	else if (w->from->drive)
		ret = of_drive(w, &all, e);
	else
		ret = qi_node_bitmap_ranges(w->src, w->from->name, &all, e);
	if (!ret && with_end(w, all, out))
		ret = qi_no_memory(e);
	return ret;
}

/*
 * The layers above dst, which has no segment any more; what the set said of
 * the rest is in the new bitmap.
 */
static int of_layers_above(const struct qi_mover *w, struct qi_ranges **out,
			   struct qi_error *e)
{
	struct qi_drive *d = w->from->drive;
	uint64_t size = d->head->facts.size, smallest = size;
	struct qi_ranges **in;
	struct qi_dirty *s;
	const struct qi_layer *layers;
	size_t count, used = 0;
	int ret = qi_dirty_new(d, w->from->name, &s, e);

	if (ret)
		return ret;
	layers = qi_dirty_layers(s, &count);
	in = calloc(count + 1, sizeof(struct qi_ranges *));
	ret = in ? 0 : -ENOMEM;
	for (size_t i = 0; i < count && layers[i].node != w->dst && !ret; i++) {
		const struct qi_record_bitmap *b =
			qi_drive_segment(d, layers[i].node, w->from->name);

		if (b)
			smallest = qi_min(smallest, b->min_size);
		ret = qi_layer_ranges(d, layers[i].node, w->from->name,
				      &in[used]);
		used += !ret;
	}
	if (!ret) {
		ret = qi_ranges_one(&in[used], smallest, size - smallest);
		used += !ret;
	}
	if (in)
		ret = qi_ranges_collect(out, in, used, ret);
	free(in);
	qi_dirty_free(s);
	return ret ? qi_no_memory(e) : 0;
}

int qi_mover_ranges_since(const struct qi_mover *w, struct qi_ranges **out,
			  struct qi_error *e)
{
	struct qi_ranges *all;
	int ret;

	if (!w->goes_down)
		return qi_mover_ranges(w, out, e);
	ret = of_layers_above(w, &all, e);
	if (!ret && with_end(w, all, out))
		ret = qi_no_memory(e);
	return ret;
}
