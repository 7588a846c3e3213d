/* SPDX-License-Identifier: MIT */
/* internal.c - internal snapshots of one image */
#include <errno.h>

#include "lib/graph.h"

void qi_internal_snapshots_free(struct qi_internal_snapshot *all, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free(all[i].id);
		free(all[i].name);
	}
	free(all);
}

int qi_internal_snapshots(struct qi_node *n, struct qi_internal_snapshot **out,
			  size_t *count, struct qi_error *e)
{
	*out = NULL;
	*count = 0;
	return n->format->snapshots ?
		       n->format->snapshots->list(n, out, count, e) :
		       0;
}

/* A name goes before an id that looks the same; QEMU has it the other way. */
static int find(const struct qi_internal_snapshot *all, size_t count,
		const char *name, bool id_first, size_t *which)
{
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < count; i++)
			if (!strcmp(pass == id_first ? all[i].name : all[i].id,
				    name)) {
				*which = i;
				return 0;
			}
	return -ENOENT;
}

int qi_internal_snapshot_edit(struct qi_node *n, enum qi_internal_verb verb,
			      const char *name, struct qi_error *e)
{
	const struct qi_snapshot_ops *ops = n->format->snapshots;
	struct qi_internal_snapshot *all;
	size_t count, which = 0;
	int ret;

	if (!ops)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"'%s' is in %s format, which has no "
					"internal snapshots",
					n->path, n->format->name),
				"Block driver does not support snapshots");
	ret = qi_node_check_writable(n, e);
	if (ret)
		return ret;
	if (verb == QI_INTERNAL_CREATE)
		return ops->create(n, name, e);
	ret = ops->list(n, &all, &count, e);
	if (ret)
		return ret;
	if (find(all, count, name,
		 verb == QI_INTERNAL_APPLY && qi_graph_is_stock(n->graph),
		 &which))
		ret = qi_stock(e,
			       qi_fail(e, ENOENT,
				       "'%s' has no internal snapshot '%s'",
				       n->path, name),
			       "Failed to load snapshot: %s", strerror(ENOENT));
	else if (verb == QI_INTERNAL_APPLY)
		ret = ops->apply(n, which, e);
	else
		ret = ops->remove(n, which, e);
	qi_internal_snapshots_free(all, count);
	return ret;
}

/* ------------------------------------------------------ one to be read */

void qi_snapshot_choice_clear(struct qi_snapshot_choice *c)
{
	free((char *)c->id);
	free((char *)c->name);
	free((char *)c->name_or_id);
}

int qi_snapshot_choice_copy(struct qi_snapshot_choice *to,
			    const struct qi_snapshot_choice *c)
{
	to->id = c->id ? strdup(c->id) : NULL;
	to->name = c->name ? strdup(c->name) : NULL;
	to->name_or_id = c->name_or_id ? strdup(c->name_or_id) : NULL;
	to->keeps_size = c->keeps_size;
	return (c->id && !to->id) || (c->name && !to->name) ||
			       (c->name_or_id && !to->name_or_id) ?
		       -ENOMEM :
		       0;
}

static bool is_text_equal(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

bool qi_snapshot_choice_is_equal(const struct qi_snapshot_choice *a,
				 const struct qi_snapshot_choice *b)
{
	return is_text_equal(a->id, b->id) && is_text_equal(a->name, b->name) &&
	       is_text_equal(a->name_or_id, b->name_or_id) &&
	       a->keeps_size == b->keeps_size;
}

int qi_node_check_snapshot(const struct qi_node *n, struct qi_error *e)
{
	if (!qi_is_snapshot(&n->snapshot) || n->format->opens_snapshots)
		return 0;
	return qi_stock(e,
			qi_fail(e, ENOTSUP,
				"'%s' is in %s format, which has no internal "
				"snapshots",
				n->path, n->format->name),
			"Failed to load snapshot: Block format '%s' used by "
			"device '' does not support temporarily loading "
			"internal snapshots",
			n->format->name);
}
