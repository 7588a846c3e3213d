/* SPDX-License-Identifier: MIT */
/*
 * stream.c - data of lower layers is pulled up into the head of a drive
 *
 * The whole disk: the head rests on a lower layer, or on none, afterwards; the
 * layers between stay as they are. A range: the head has it, and the chain
 * stays. The guest sees no change, so nothing is dirty by it.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/merge.h"
#include "lib/onto.h"

int qi_stream_prepare(struct qi_drive *d, struct qi_stream *s,
		      struct qi_error *e)
{
	struct qi_node *n = d->head->facts.backing;

	while (s->base && n && !qi_node_is_file(n, s->base))
		n = n->facts.backing;
	if (s->base && !n)
		return qi_fail(e, ESTALE,
			       "'%s' is no layer below the head of drive '%s'; "
			       "'qimg snapshot list --drive %s' shows them",
			       s->base, d->path, QI_WORD(d->path));
	s->node = s->base ? n : NULL;
	qi_node_want(d->head, QI_ACCESS_WRITE);
	return 0;
}

static bool is_range(const struct qi_stream *s)
{
	return s->offset || s->length;
}

static int check(struct qi_drive *d, const struct qi_stream *s,
		 struct qi_onto *o, struct qi_error *e)
{
	uint64_t size = d->head->facts.size;
	int ret = qi_drive_check(d, e);

	if (!ret)
		ret = qi_chain_check_readable(d->head, e);
	if (!ret && !is_range(s) && d->head->facts.backing != s->node)
		ret = qi_node_refuse_internal(d->head, "change what that reads",
					      e);
	if (ret || !is_range(s))
		return ret;
	if (s->offset >= size)
		return qi_fail(e, EINVAL,
			       "offset %llu is past the end of drive '%s', "
			       "which has %llu bytes",
			       (unsigned long long)s->offset, d->path,
			       (unsigned long long)size);
	o->off = s->offset;
	o->len = size - s->offset;
	if (s->length)
		o->len = qi_min(o->len, s->length);
	return 0;
}

static int make_plan(struct qi_drive *d, struct qi_onto *o, struct qi_plan *p,
		     bool dry_run, struct qi_error *e)
{
	const struct qi_node *n = d->head->facts.backing;
	int ret = qi_onto_plan_steps(o, NULL, p, dry_run, e);

	if (ret)
		return ret;
	for (; !ret && !o->len && n && n != o->base; n = n->facts.backing)
		ret = qi_plan_step(p,
				   "leave '%s', which is no layer of the drive "
				   "any more",
				   n->path);
	return ret ? qi_no_memory(e) : 0;
}

static int run(struct qi_drive *d, struct qi_onto *o, struct qi_plan *plan,
	       bool dry_run, struct qi_error *e)
{
	int ret = qi_onto_plan(o, e);

	if (!ret)
		ret = make_plan(d, o, plan, dry_run, e);
	return ret || dry_run ? ret : qi_onto_run(o, e);
}

int qi_stream_drive(struct qi_drive *d, const struct qi_stream *s,
		    struct qi_plan *plan, bool dry_run, struct qi_change *out,
		    struct qi_error *e)
{
	struct qi_onto o = { .n = d->head,
			     .base = s->node,
			     .format = s->node ? s->node->format->name : NULL,
			     .compress = s->compress,
			     .threads = s->threads,
			     .progress = s->progress };
	QI_AUTOFREE char *name = NULL;
	int ret = check(d, s, &o, e);

	*out = (struct qi_change){ .bytes = 0 };
	snprintf(out->old_head, sizeof(out->old_head), "%s",
		 s->node ? s->node->path : "");
	snprintf(out->new_head, sizeof(out->new_head), "%s", d->head->path);
	if (ret)
		return ret;
	out->is_nothing = d->head->facts.backing == s->node;
	if (out->is_nothing)
		return qi_plan_step(plan,
				    s->node ?
					    "nothing: the head rests on '%s'" :
					    "nothing: the head rests on no "
					    "other layer",
				    s->node ? s->node->path : "") ?
			       qi_no_memory(e) :
			       0;
	if (s->node) {
		name = qi_backing_name(s->node->path, d->head->path);
		if (!name)
			return qi_no_memory(e);
		o.name = name;
	}
	ret = run(d, &o, plan, dry_run, e);
	out->bytes = o.stats.written + o.stats.zero;
	qi_onto_clear(&o);
	return ret;
}
