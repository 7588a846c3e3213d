/* SPDX-License-Identifier: MIT */
/*
 * fill.c - bits from elsewhere for a bitmap that is there
 *
 * Bits are only ever added, widened to the granularity of the bitmap that gets
 * them, by one header write of the node, or of the drive's head.
 */
#include <errno.h>
#include <unistd.h>

#include "lib/fill.h"

/* ------------------------------------------------------------- addresses */

struct qi_node *qi_address_node(const struct qi_bitmap_address *a)
{
	return a->drive ? a->drive->head : a->node;
}

const char *qi_address_kind(const struct qi_bitmap_address *a)
{
	return a->drive ? "drive" : "node";
}

const char *qi_address_path(const struct qi_bitmap_address *a)
{
	return a->drive ? a->drive->path : a->node->path;
}

/* ---------------------------------------------------------------- filling */

static int no_bitmap(const struct qi_bitmap_address *to, struct qi_error *e)
{
	return qi_stock_no_bitmap(
		e,
		qi_fail(e, ENOENT,
			"%s '%s' has no bitmap '%s'; 'qimg bitmap add --%s %s "
			"%s' makes one",
			qi_address_kind(to), qi_address_path(to), to->name,
			qi_address_kind(to), QI_WORD(qi_address_path(to)),
			QI_WORD(to->name)),
		to->name);
}

/* Whoever says that all is dirty cannot say what was added. */
static int check_set(struct qi_drive *d, const char *name, struct qi_error *e)
{
	struct qi_dirty *s;
	enum qi_layer_status status;
	int ret = qi_dirty_new(d, name, &s, e);

	if (ret)
		return ret;
	status = qi_dirty_status(s);
	qi_dirty_free(s);
	if (status != QI_LAYER_FULL)
		return 0;
	return qi_fail(e, ESTALE,
		       "bitmap '%s' of drive '%s' takes the whole disk as "
		       "dirty already; 'qimg bitmap clear --drive %s %s' "
		       "starts it afresh",
		       name, d->path, QI_WORD(d->path), QI_WORD(name));
}

static int check_drive(const struct qi_bitmap_address *to, struct qi_error *e)
{
	struct qi_drive_bitmap now;
	int ret = qi_drive_check(to->drive, e);

	if (!ret)
		ret = qi_drive_find_bitmap(to->drive, to->name, &now, e);
	if (ret)
		return ret == -ENOENT ? no_bitmap(to, e) : ret;
	ret = qi_drive_check_conflicts(to->drive, to->name, e);
	return ret ? ret : check_set(to->drive, to->name, e);
}

static int check_node(const struct qi_bitmap_address *to, const char *instead,
		      struct qi_error *e)
{
	const struct qi_stored_bitmap *f =
		qi_node_stored_bitmap(to->node, to->name);
	const char *path = to->node->path;
	int ret = qi_node_refuse_segment(to->node, to->name, instead, e);

	if (ret)
		return ret;
	if (!f)
		return no_bitmap(to, e);
	if (!f->problem)
		return 0;
	return qi_stock_bad_bitmap(
		e,
		qi_fail(e, ESTALE,
			"cannot add to bitmap '%s' of '%s': %s; 'qimg bitmap "
			"clear --node %s %s' starts it afresh",
			to->name, path, f->problem, QI_WORD(path),
			QI_WORD(to->name)),
		f);
}

int qi_bitmap_check_fill(const struct qi_bitmap_address *to,
			 const char *instead, struct qi_error *e)
{
	int ret = qi_bitmap_check_place(qi_address_node(to), to->name,
					to->drive, e);

	if (ret)
		return ret;
	return to->drive ? check_drive(to, e) : check_node(to, instead, e);
}

/* The change keeps its bits, or has some; now it also has `added`. */
static int add_bits(struct qi_bitmap_change *c, struct qi_node *n,
		    struct qi_ranges *added)
{
	struct qi_ranges *in[2] = { c->bits, added }, *all;
	int ret = 0;

	if (c->keep_bits)
		ret = qi_ranges_bitmap(&in[0], n,
				       (size_t)qi_node_find_bitmap(n, c->name));
	c->keep_bits = false;
	c->bits = NULL;
	if (ret) {
		qi_ranges_free(added);
		return ret;
	}
	ret = qi_ranges_union(&all, in, 2);
	return ret ? ret : qi_ranges_clip(&c->bits, all, n->facts.size);
}

static int fill_drive(const struct qi_bitmap_address *to,
		      struct qi_ranges *added, struct qi_error *e)
{
	struct qi_head_edit w;
	struct qi_drive_bitmap now;
	struct qi_bitmap_change *c = NULL;
	int ret = qi_head_edit_begin(&w, to->drive, e);

	if (!ret)
		ret = qi_drive_find_bitmap(to->drive, to->name, &now, e);
	if (!ret)
		ret = qi_head_edit_keep(&w, &now, &c, e);
	if (ret) {
		qi_ranges_free(added);
	} else {
		c->name = to->name;
		if (add_bits(c, w.node, added))
			ret = qi_no_memory(e);
	}
	if (!ret)
		ret = qi_head_edit_store(&w, e);
	qi_head_edit_clear(&w);
	return ret;
}

static int fill_node(const struct qi_bitmap_address *to,
		     struct qi_ranges *added, struct qi_error *e)
{
	const struct qi_stored_bitmap *f =
		qi_node_stored_bitmap(to->node, to->name);
	struct qi_bitmap_change c = { .name = to->name,
				      .enabled = f->enabled,
				      .keep_bits = true,
				      .granularity_bits = f->granularity_bits };
	int ret = add_bits(&c, to->node, added);

	if (ret)
		return qi_no_memory(e);
	ret = qi_node_store(to->node, NULL, &c, 1, e);
	qi_ranges_free(c.bits);
	return ret;
}

int qi_bitmap_fill(const struct qi_bitmap_address *to, struct qi_ranges *added,
		   struct qi_error *e)
{
	return to->drive ? fill_drive(to, added, e) : fill_node(to, added, e);
}

/* ------------------------------------------------------------------ merge */

static bool has_bitmap(const struct qi_bitmap_address *into, const char *name)
{
	struct qi_drive_bitmap now;

	if (into->drive)
		return !qi_drive_find_bitmap(into->drive, name, &now, NULL);
	return qi_node_find_bitmap(into->node, name) >= 0;
}

int qi_bitmap_source(struct qi_graph *g, const struct qi_bitmap_address *into,
		     const char *text, struct qi_bitmap_address *out,
		     struct qi_error *e)
{
	const struct qi_open how = { .access = QI_ACCESS_READ,
				     .no_backing = true };
	const char *colon = strchr(text, ':');

	*out = *into;
	out->name = text;
	if (has_bitmap(into, text))
		return 0;
	for (; colon; colon = strchr(colon + 1, ':')) {
		QI_AUTOFREE char *path = strndup(text, (size_t)(colon - text));

		if (!path)
			return qi_no_memory(e);
		if (access(path, F_OK))
			continue;
		*out = (struct qi_bitmap_address){ .name = colon + 1 };
		return qi_graph_add(g, path, &how, &out->node, e);
	}
	/* It is missing, which is found when all is locked. */
	return 0;
}

static int source_ranges(const struct qi_bitmap_address *s,
			 struct qi_ranges **out, struct qi_error *e)
{
	struct qi_dirty *dirty;
	int ret;

	if (!s->drive)
		return qi_node_bitmap_ranges(s->node, s->name, out, e);
	ret = qi_dirty_new(s->drive, s->name, &dirty, e);
	if (ret)
		return ret;
	ret = qi_dirty_ranges(dirty, out);
	qi_dirty_free(dirty);
	return ret ? qi_no_memory(e) : 0;
}

/* QEMU's own limit, of bitmaps that are there. */
static int check_stock_source(const struct qi_node *to, struct qi_node *from,
			      const char *name, struct qi_error *e)
{
	if (qi_node_find_bitmap(from, name) < 0 ||
	    from->facts.size == to->facts.size)
		return 0;
	qi_fail(e, EINVAL, "the disks have different sizes");
	return qi_stock(e, -EINVAL,
			"Bitmaps are of different sizes (destination size is "
			"%llu, source size is %llu) and can't be merged",
			(unsigned long long)to->facts.size,
			(unsigned long long)from->facts.size);
}

static int check_source(const struct qi_bitmap_merge *m,
			const struct qi_bitmap_address *s, struct qi_error *e)
{
	const struct qi_node *to = qi_address_node(&m->into);
	struct qi_node *from = qi_address_node(s);

	if (qi_graph_is_stock(to->graph))
		return check_stock_source(to, from, s->name, e);
	if (!s->drive && qi_node_segment(s->node, s->name))
		return qi_fail(e, ESTALE,
			       "bitmap '%s' on node '%s' is a segment of a "
			       "drive bitmap, which alone says little; 'qimg "
			       "bitmap move --drive DRIVE %s --to-node %s' "
			       "makes a node bitmap of the whole",
			       s->name, s->node->path, QI_WORD(s->name),
			       QI_WORD(s->node->path));
	if (from->facts.size <= to->facts.size)
		return 0;
	return qi_fail(e, ESTALE,
		       "cannot merge bitmap '%s' of '%s': its disk of %llu "
		       "bytes is larger than that of '%s', %llu bytes",
		       s->name, from->path,
		       (unsigned long long)from->facts.size, to->path,
		       (unsigned long long)to->facts.size);
}

static int merged_ranges(const struct qi_bitmap_merge *m,
			 struct qi_ranges **out, struct qi_error *e)
{
	struct qi_ranges **in =
		calloc(m->count + 1, sizeof(struct qi_ranges *));
	size_t used = 0;
	int ret = in ? 0 : qi_no_memory(e);

	for (size_t i = 0; i < m->count && !ret; i++) {
		ret = check_source(m, &m->sources[i], e);
		if (!ret)
			ret = source_ranges(&m->sources[i], &in[used], e);
		used += !ret;
	}
	if (!ret && qi_ranges_union(out, in, used))
		ret = qi_no_memory(e);
	else if (ret)
		qi_ranges_collect(out, in, used, ret);
	free(in);
	return ret;
}

static int plan_merge(const struct qi_bitmap_merge *m, struct qi_plan *plan)
{
	int ret = 0;

	for (size_t i = 0; i < m->count && !ret; i++)
		ret = qi_plan_step(plan, "read bitmap '%s' of %s '%s'",
				   m->sources[i].name,
				   qi_address_kind(&m->sources[i]),
				   qi_address_path(&m->sources[i]));
	return ret ? ret :
		     qi_plan_step(plan,
				  "write the header of '%s': add what %s to "
				  "bitmap '%s' of %s '%s'",
				  qi_address_node(&m->into)->path,
				  m->count > 1 ? "they have" : "it has",
				  m->into.name, qi_address_kind(&m->into),
				  qi_address_path(&m->into));
}

int qi_bitmap_merge(const struct qi_bitmap_merge *m, struct qi_plan *plan,
		    bool dry_run, struct qi_error *e)
{
	struct qi_ranges *all = NULL;
	QI_AUTOFREE char *instead = qi_format_text(
		"merge --drive DRIVE --into %s SOURCE", m->into.name);
	int ret = instead ? qi_bitmap_check_fill(&m->into, instead, e) :
			    qi_no_memory(e);

	if (!ret)
		ret = merged_ranges(m, &all, e);
	if (ret)
		return ret;
	if (plan_merge(m, plan))
		ret = qi_no_memory(e);
	if (ret || dry_run) {
		qi_ranges_free(all);
		return ret;
	}
	return qi_bitmap_fill(&m->into, all, e);
}

/* --------------------------------------------------------------- populate */

static int allocated_in_chain(struct qi_node *head, struct qi_ranges **out)
{
	struct qi_ranges **in = calloc(qi_chain_depth(head),
				       sizeof(struct qi_ranges *)),
			 *all;
	size_t used = 0;
	int ret = in ? 0 : -ENOMEM;

	for (struct qi_node *n = head; n && !ret; n = n->facts.backing) {
		ret = qi_ranges_clusters(&in[used], n);
		used += !ret;
	}
	ret = qi_ranges_collect(&all, in, used, ret);
	free(in);
	return ret ? ret : qi_ranges_clip(out, all, head->facts.size);
}

/* Found by units of this size, so that no clean one gets a bit. */
static uint64_t unit_of(const struct qi_bitmap_address *into)
{
	struct qi_drive_bitmap now = { .granularity = 0 };

	if (!into->drive)
		return 1ull << qi_node_stored_bitmap(into->node, into->name)
				       ->granularity_bits;
	qi_drive_find_bitmap(into->drive, into->name, &now, NULL);
	return now.granularity;
}

/* Past the end of the image all is new. */
static int differing(const struct qi_bitmap_populate *p, struct qi_ranges **out)
{
	struct qi_node *n = qi_address_node(&p->into);
	uint64_t size = n->facts.size;
	uint64_t both = qi_min(size, p->image->facts.size);
	struct qi_ranges *in[2];
	int ret = qi_ranges_one(&in[0], 0, both);

	if (!ret)
		ret = qi_ranges_differing(&in[0], NULL, n, p->image,
					  unit_of(&p->into), in[0],
					  &p->progress);
	if (ret)
		return ret;
	ret = qi_ranges_one(&in[1], both, size - both);
	return qi_ranges_collect(out, in, 1 + !ret, ret);
}

/* A stream that knows how much went through it. */
struct counted {
	struct qi_ranges base;
	struct qi_ranges *in;
	uint64_t *bytes;
};

static int counted_next(struct qi_ranges *r, struct qi_range *out,
			struct qi_error *e)
{
	struct counted *c = qi_container_of(r, struct counted, base);
	int ret = qi_ranges_next(c->in, out, e);

	if (ret > 0)
		*c->bytes += out->len;
	return ret;
}

static void counted_free(struct qi_ranges *r)
{
	struct counted *c = qi_container_of(r, struct counted, base);

	qi_ranges_free(c->in);
	free(c);
}

static int populating_ranges(const struct qi_bitmap_populate *p,
			     uint64_t *bytes, struct qi_ranges **out)
{
	struct counted *c = calloc(1, sizeof(*c));
	int ret = c ? 0 : -ENOMEM;

	if (!ret && p->image)
		ret = differing(p, &c->in);
	else if (!ret && p->into.drive)
		ret = allocated_in_chain(p->into.drive->head, &c->in);
	else if (!ret)
		ret = qi_ranges_clusters(&c->in, p->into.node);
	if (ret) {
		free(c);
		return ret;
	}
	c->base = (struct qi_ranges){ .next = counted_next,
				      .free = counted_free };
	c->bytes = bytes;
	*out = &c->base;
	return 0;
}

static int plan_populate(const struct qi_bitmap_populate *p,
			 struct qi_plan *plan)
{
	int ret = 0;

	if (p->image)
		ret = qi_plan_step(plan, "compare %s '%s' with '%s'",
				   qi_address_kind(&p->into),
				   qi_address_path(&p->into), p->image->path);
	return ret ? ret :
		     qi_plan_step(plan,
				  "write the header of '%s': add what %s to "
				  "bitmap '%s' of %s '%s'",
				  qi_address_node(&p->into)->path,
				  p->image ? "differs" : "is allocated",
				  p->into.name, qi_address_kind(&p->into),
				  qi_address_path(&p->into));
}

int qi_bitmap_populate(const struct qi_bitmap_populate *p, struct qi_plan *plan,
		       bool dry_run, uint64_t *bytes, struct qi_error *e)
{
	struct qi_ranges *all = NULL;
	struct qi_range x;
	QI_AUTOFREE char *instead =
		qi_format_text("populate --drive DRIVE %s%s %s",
			       p->image ? "--differs-from " : "--allocated",
			       p->image ? p->image->path : "", p->into.name);
	int ret = instead ? qi_bitmap_check_fill(&p->into, instead, e) :
			    qi_no_memory(e);

	*bytes = 0;
	if (!ret && p->image)
		ret = qi_chain_check_readable(qi_address_node(&p->into), e);
	if (!ret && p->image)
		ret = qi_chain_check_readable(p->image, e);
	if (!ret && plan_populate(p, plan))
		ret = qi_no_memory(e);
	if (!ret && populating_ranges(p, bytes, &all))
		ret = qi_no_memory(e);
	if (ret)
		return ret;
	if (!dry_run)
		return qi_bitmap_fill(&p->into, all, e);
	while ((ret = qi_ranges_next(all, &x, e)) > 0)
		;
	qi_ranges_free(all);
	return ret;
}
