/* SPDX-License-Identifier: MIT */
/* onto.c - an image comes to rest on another backing node */
#include <errno.h>
#include <stdio.h>

#include "lib/onto.h"

int qi_node_rest_on(struct qi_node *n, const struct qi_node *base,
		    struct qi_record *r, const char *name, const char *format,
		    bool dry_run, struct qi_error *e)
{
	if (r)
		r->parent = qi_node_uuid(base);
	return qi_node_set_backing(n, name, format, r, dry_run, e);
}

/* ----------------------------------------------------------------- data */

/* The first layer below n that is below base, too. */
static struct qi_node *find_common(const struct qi_onto *o)
{
	struct qi_node *n = o->n->facts.backing;

	while (n && !qi_node_is_in_chain(n, o->base))
		n = n->facts.backing;
	return n;
}

/* Units of the image that are to be copied into it. */
static int differing(struct qi_onto *o, uint64_t unit, struct qi_ranges **out)
{
	struct qi_node *old = o->n->facts.backing, *common = find_common(o);
	uint64_t size = o->n->facts.size;
	struct qi_ranges *in[2], *all;
	int ret = qi_ranges_above(&in[0], old, common, size);

	if (ret)
		return ret;
	ret = qi_ranges_above(&in[1], o->base, common, size);
	if (ret) {
		qi_ranges_free(in[0]);
		return ret;
	}
	ret = qi_ranges_union(&all, in, 2);
	if (!ret && o->len)
		ret = qi_ranges_within(&all, all, o->off, o->len);
	return ret ? ret :
		     qi_ranges_differing(out, o->n, old, o->base, unit, all,
					 &o->progress);
}

static int copy_data(struct qi_onto *o, struct qi_error *e)
{
	struct qi_copy copy = { .src = o->n,
				.compress = o->compress,
				.threads = o->threads };
	int ret = o->n->format->edit(o->n, &copy.writer, e);

	if (ret)
		return ret;
	copy.writer->gets_backing = o->name != NULL || o->len;
	if (differing(o, copy.writer->unit, &copy.ranges))
		ret = qi_no_memory(e);
	else
		ret = qi_copy_run(&copy, &o->stats, e);
	if (!ret)
		ret = copy.writer->ops->finish(copy.writer, e);
	qi_ranges_free(copy.ranges);
	copy.writer->ops->free(copy.writer);
	if (ret && e && !e->stock[0])
		qi_stock(e, ret, "Error while writing to COW image: %s",
			 strerror(-ret));
	return ret;
}

static int count(struct qi_onto *o, uint64_t *bytes, struct qi_error *e)
{
	struct qi_ranges *r;
	int ret = differing(o, qi_max(o->n->facts.cluster_size, 512), &r);

	if (ret)
		return qi_no_memory(e);
	ret = qi_ranges_sum(r, bytes, e);
	qi_ranges_free(r);
	return ret;
}

static int plan_bitmaps(const struct qi_onto *o, const char *from,
			struct qi_plan *plan)
{
	if (!o->carry.edits.count)
		return 0;
	return from ? qi_plan_step(plan,
				   "merge the bitmaps of '%s' into those of "
				   "'%s'",
				   from, o->n->path) :
		      qi_plan_step(plan,
				   "merge the bitmaps of the layers that '%s' "
				   "leaves into its own",
				   o->n->path);
}

int qi_onto_plan_steps(struct qi_onto *o, const char *from,
		       struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	uint64_t bytes;
	int ret = dry_run ? count(o, &bytes, e) : 0;

	if (ret)
		return ret;
	ret = plan_bitmaps(o, from, plan);
	if (!ret)
		ret = qi_plan_copy(plan, from, o->n->path,
				   dry_run ? &bytes : NULL);
	if (!ret && !o->len)
		ret = qi_plan_backing(plan, o->n->path, o->name);
	return ret ? qi_no_memory(e) : 0;
}

/* --------------------------------------------------------------- record */

/* The snapshot below the layers that go is below the image now. */
static void change_tag(const struct qi_onto *o, struct qi_record *r)
{
	const struct qi_node *lowest = o->n;

	while (lowest && lowest->facts.backing != o->base)
		lowest = lowest->facts.backing;
	snprintf(r->tag, sizeof(r->tag), "%s",
		 lowest ? qi_node_tag(lowest) : "");
}

/* As the switch leaves it; NULL: the image has none, and needs none. */
static int final_record(struct qi_onto *o, struct qi_record **out,
			struct qi_error *e)
{
	const struct qi_record *now = o->carry.record ? o->carry.record :
							o->n->record;

	*out = NULL;
	/* A journal is worth a record. */
	if (now ? now->state != QI_RECORD_VALID :
		  !o->journal || qi_node_can_store(o->n, NULL))
		return 0;
	if (qi_record_copy(out, now))
		return qi_no_memory(e);
	if (o->journal)
		(*out)->journal = *o->journal;
	change_tag(o, *out);
	return 0;
}

static int set_backing(struct qi_onto *o, bool dry_run, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;
	int ret = final_record(o, &r, e);

	return ret ? ret :
		     qi_node_rest_on(o->n, o->base, r, o->name, o->format,
				     dry_run, e);
}

/* ----------------------------------------------------------- operations */

int qi_onto_plan(struct qi_onto *o, struct qi_error *e)
{
	int ret;

	o->carry = (struct qi_carry){
		.drive = { .path = o->n->path, .head = o->n },
		.into = o->n,
		.base = o->base,
	};
	if (qi_node_is_in_chain(o->n, o->base))
		return qi_fail(e, EINVAL, "'%s' would rest on itself",
			       o->n->path);
	ret = qi_node_check_edit(o->n, o->compress, e);
	if (ret || o->len)
		return ret;
	ret = qi_carry_plan(&o->carry, e);
	if (ret)
		return qi_context(e, ret, "cannot change what '%s' rests on",
				  o->n->path);
	return set_backing(o, true, e);
}

int qi_onto_run(struct qi_onto *o, struct qi_error *e)
{
	int ret;

	if (o->len)
		return copy_data(o, e);
	ret = qi_carry_store(&o->carry, e);
	if (!ret)
		ret = copy_data(o, e);
	if (!ret)
		ret = set_backing(o, false, e);
	if (!ret)
		o->n->facts.backing = o->base;
	return ret;
}

void qi_onto_clear(struct qi_onto *o)
{
	qi_carry_clear(&o->carry);
}
