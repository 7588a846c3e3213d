/* SPDX-License-Identifier: MIT */
/*
 * commit-image.c - one image into a layer below it, as qemu-img does it
 *
 * No drive follows: the image stays the head, and reads as it did at each
 * moment. When all is durable in the layer below, the image is emptied.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/merge.h"
#include "lib/name.h"

/* QEMU takes the name for one beside the image above. */
static bool is_base(const struct qi_node *above, const struct qi_node *n,
		    const char *name)
{
	QI_AUTOFREE char *beside = NULL;

	if (above->backing_name && !strcmp(above->backing_name, name))
		return true;
	if (!qi_graph_is_stock(n->graph))
		return qi_node_is_file(n, name);
	beside = qi_name_file_beside(above->path, name);
	return beside && qi_node_is_file(n, beside);
}

static struct qi_node *find_base(const struct qi_commit_image *c)
{
	struct qi_node *above = c->top, *n = above->facts.backing;

	for (; n && c->base; above = n, n = n->facts.backing)
		if (is_base(above, n, c->base))
			return n;
	return n;
}

static int no_base(const struct qi_commit_image *c, const char *path,
		   struct qi_error *e)
{
	if (c->base && c->top->facts.backing)
		qi_fail(e, ESTALE,
			"did not find '%s' in the backing chain of '%s'",
			c->base, path);
	else
		qi_fail(e, ESTALE, "image '%s' does not have a backing file",
			path);
	return c->base ? qi_stock(e, -ESTALE,
				  "Did not find '%s' in the backing chain of "
				  "'%s'",
				  c->base, path) :
			 qi_stock(e, -ESTALE,
				  "Image does not have a backing file");
}

int qi_commit_open(struct qi_graph *g, const char *path,
		   struct qi_commit_image *c, struct qi_error *e)
{
	const struct qi_open how = { .format = c->format,
				     .access = QI_ACCESS_WRITE };
	int ret = c->top ? 0 : qi_graph_add(g, path, &how, &c->top, e);

	if (ret)
		return ret;
	c->below = find_base(c);
	if (!c->below)
		return no_base(c, path, e);
	qi_node_want(c->below, QI_ACCESS_WRITE);
	return 0;
}

/* What lies between will read something else. */
static int check_between(const struct qi_commit_image *c, struct qi_error *e)
{
	struct qi_node *above = c->top, *n = above->facts.backing;
	int ret = 0;

	if (qi_graph_is_stock(n->graph))
		return 0;
	for (; n != c->below && !ret; above = n, n = n->facts.backing) {
		ret = qi_node_refuse_bitmap(n, "change what it reads", e);
		if (!ret)
			ret = qi_node_check_dependents(
				n, above, "change what is below", e);
	}
	return ret;
}

static int make_plan(const struct qi_commit_image *c, const struct qi_merge *m,
		     bool empties, struct qi_plan *p)
{
	const char *top = c->top->path, *below = c->below->path;
	int ret = 0;

	if (c->below->facts.size < c->top->facts.size)
		ret = qi_plan_step(p, "grow '%s' to %llu bytes", below,
				   (unsigned long long)c->top->facts.size);
	if (!ret)
		ret = qi_plan_step(p,
				   "mark what is written in the bitmaps of "
				   "'%s'",
				   below);
	if (!ret)
		ret = qi_merge_plan_copy(m, false, p);
	if (!ret && empties)
		ret = qi_plan_step(p, "empty '%s'", top);
	return ret;
}

int qi_commit_run(const struct qi_commit_image *c, struct qi_plan *plan,
		  bool dry_run, uint64_t *bytes, struct qi_error *e)
{
	const struct qi_format *f = c->top->format;
	struct qi_merge m = { .drive = { .path = c->top->path, .head = c->top },
			      .base = c->below,
			      .threads = c->threads,
			      .progress = c->progress };
	bool empties = !c->keep && !c->base;
	int ret;

	*bytes = 0;
	if (empties && !f->make_empty)
		return qi_fail(e, ENOTSUP,
			       "cannot empty '%s', which is in %s format; -d "
			       "leaves it as it is",
			       c->top->path, f->name);
	ret = qi_merge_check(&m, e);
	if (!ret)
		ret = check_between(c, e);
	if (!ret && make_plan(c, &m, empties, plan))
		ret = qi_no_memory(e);
	if (ret || dry_run)
		return ret;
	ret = qi_merge_run(&m, e);
	*bytes = m.stats.written + m.stats.zero;
	if (!ret && empties) {
		ret = f->make_empty(c->top, e);
		if (ret)
			qi_context(e, ret,
				   "the data is committed, but '%s' "
				   "could not be emptied",
				   c->top->path);
	}
	return ret;
}
