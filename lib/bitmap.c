/* SPDX-License-Identifier: MIT */
/*
 * bitmap.c - the verbs on (node, name), and what may be done to bitmaps
 *
 * Each verb is one header write in one file.
 */
#include <errno.h>

#include "lib/drive.h"

#define MIN_GRANULARITY 512u
#define MAX_GRANULARITY (1u << 31)

/* ---------------------------------------------------------------- checks */

static int check_name(const char *name, struct qi_error *e)
{
	size_t n = strlen(name);

	if (n >= 1 && n <= QI_NAME_MAX)
		return 0;
	qi_fail(e, EINVAL, "a bitmap's name has 1 to %d bytes", QI_NAME_MAX);
	return n ? qi_stock(e, -EINVAL,
			    "Name length exceeds maximum (%d characters)",
			    QI_NAME_MAX) :
		   qi_stock(e, -EINVAL, "Bitmap name cannot be empty");
}

bool qi_bitmap_is_granularity(uint64_t g)
{
	return g >= MIN_GRANULARITY && g <= MAX_GRANULARITY && !(g & (g - 1));
}

static int check_granularity(uint32_t g, struct qi_error *e)
{
	if (!g || qi_bitmap_is_granularity(g))
		return 0;
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"the granularity must be a power of two from "
				"512 to 2G"),
			"Granularity must be power of 2 and at least 512");
}

/* As in QEMU: the cluster size, from 4K to 64K. */
static uint32_t default_granularity(const struct qi_node *n)
{
	uint64_t g = qi_min(qi_max(n->facts.cluster_size, 4096), 65536);

	return (uint32_t)g;
}

unsigned qi_bitmap_new_bits(const struct qi_node *n, uint32_t granularity)
{
	return (unsigned)__builtin_ctz(granularity ? granularity :
						     default_granularity(n));
}

const char *qi_bitmap_verb_name(enum qi_bitmap_verb v)
{
	static const char *const names[] = { "add", "remove", "clear", "enable",
					     "disable" };

	return names[v];
}

int qi_bitmap_check_place(struct qi_node *n, const char *name, bool record,
			  struct qi_error *e)
{
	int ret = check_name(name, e);

	if (!ret && !n->facts.size)
		ret = qi_fail(e, ESTALE,
			      "'%s' has a disk of 0 bytes, which "
			      "can have no bitmaps",
			      n->path);
	if (!ret)
		ret = record ? qi_node_can_store(n, e) : qi_node_can_hold(n, e);
	return ret && *name && n->format->bitmaps ?
		       qi_stock_context(e, ret,
					"Can't make bitmap '%s' persistent in "
					"'" QI_STOCK_NODE "'",
					name) :
		       ret;
}

int qi_bitmap_check_edit(struct qi_node *n, const struct qi_bitmap_edit *edit,
			 bool record, struct qi_error *e)
{
	int ret = check_granularity(edit->granularity, e);

	return ret ? ret : qi_bitmap_check_place(n, edit->name, record, e);
}

/* ----------------------------------------------------------------- nodes */

int qi_node_refuse_segment(struct qi_node *n, const char *name,
			   const char *instead, struct qi_error *e)
{
	if (qi_graph_is_stock(n->graph))
		return 0;
	if (qi_record_state_of(n) == QI_RECORD_UNKNOWN)
		return qi_fail(e, ESTALE,
			       "cannot change bitmaps of '%s': its "
			       "record of drive bitmaps is damaged or of a "
			       "later version; 'qimg bitmap add --drive DRIVE "
			       "NAME' starts a new one",
			       n->path);
	if (!qi_node_segment(n, name))
		return 0;
	return qi_fail(e, ESTALE,
		       "cannot change bitmap '%s' on node '%s': it is a "
		       "segment of a drive bitmap; use 'qimg bitmap %s'",
		       name, n->path, instead);
}

int qi_stock_no_bitmap(struct qi_error *e, int ret, const char *name)
{
	return qi_stock(e, ret, "Dirty bitmap '%s' not found", name);
}

int qi_stock_bad_bitmap(struct qi_error *e, int ret,
			const struct qi_stored_bitmap *b)
{
	if (!b->in_use)
		return ret;
	return qi_stock(e, ret,
			"Bitmap '%s' is inconsistent and cannot be used\n"
			"Try block-dirty-bitmap-remove to delete this bitmap "
			"from disk",
			b->name);
}

/* The change for one node bitmap; checks that the verb fits its state. */
static int node_change(struct qi_node *n, const struct qi_bitmap_edit *edit,
		       struct qi_bitmap_change *c, struct qi_error *e)
{
	const struct qi_stored_bitmap *f = qi_node_stored_bitmap(n, edit->name);

	*c = (struct qi_bitmap_change){ .name = edit->name };
	if (edit->verb == QI_BITMAP_ADD) {
		if (f)
			return qi_stock(e,
					qi_fail(e, EEXIST,
						"'%s' has a bitmap '%s' "
						"already",
						n->path, edit->name),
					"Bitmap already exists: %s",
					edit->name);
		c->enabled = !edit->disabled;
		c->granularity_bits = qi_bitmap_new_bits(n, edit->granularity);
		return 0;
	}
	if (!f)
		return qi_stock_no_bitmap(
			e,
			qi_fail(e, ENOENT,
				"'%s' has no bitmap '%s'; 'qimg bitmap list "
				"--node %s' shows what it has",
				n->path, edit->name, QI_WORD(n->path)),
			edit->name);
	c->remove = edit->verb == QI_BITMAP_REMOVE;
	c->enabled = edit->verb == QI_BITMAP_CLEAR ?
			     f->enabled :
			     edit->verb == QI_BITMAP_ENABLE;
	c->keep_bits = edit->verb != QI_BITMAP_CLEAR;
	c->granularity_bits = f->granularity_bits;
	if (!f->problem || c->remove ||
	    !(c->keep_bits || qi_graph_is_stock(n->graph)))
		return 0;
	return qi_stock_bad_bitmap(
		e,
		qi_fail(e, ESTALE,
			"cannot %s bitmap '%s' of '%s': %s; 'qimg bitmap clear "
			"--node %s %s' starts it afresh",
			qi_bitmap_verb_name(edit->verb), edit->name, n->path,
			f->problem, QI_WORD(n->path), QI_WORD(edit->name)),
		f);
}

static int check_segment(struct qi_node *n, const struct qi_bitmap_edit *edit,
			 struct qi_error *e)
{
	const char *verb = qi_bitmap_verb_name(edit->verb);
	QI_AUTOFREE char *instead = qi_format_text("%s --drive DRIVE %s", verb,
						   QI_WORD(edit->name));

	if (!instead)
		return qi_no_memory(e);
	/* Whatever it is, it may go. */
	if (qi_graph_is_stock(n->graph) ||
	    (edit->verb == QI_BITMAP_REMOVE &&
	     qi_record_state_of(n) == QI_RECORD_UNKNOWN))
		return 0;
	if (edit->verb == QI_BITMAP_ADD && qi_node_segment(n, edit->name))
		return qi_fail(e, ESTALE,
			       "cannot add bitmap '%s' to node '%s': it has a "
			       "segment of a drive bitmap of that name; choose "
			       "another name",
			       edit->name, n->path);
	return qi_node_refuse_segment(n, edit->name, instead, e);
}

/* The name is that of a bitmap of the drive whose layer or head n is. */
static int check_drive_name(struct qi_node *n, const char *name,
			    struct qi_error *e)
{
	struct qi_drive d = { .path = n->path, .head = n };
	struct qi_drive_bitmap found;
	int ret;

	if (qi_graph_is_stock(n->graph))
		return 0;
	ret = qi_drive_find_bitmap(&d, name, &found, e);
	if (ret)
		return ret == -ENOENT ? 0 : ret;
	return qi_fail(e, EEXIST,
		       "cannot add bitmap '%s' to '%s': a drive bitmap that "
		       "starts in a layer below has that name; choose another "
		       "name",
		       name, n->path);
}

/* An image that can have no bitmaps has none of that name, either. */
static int check_node(struct qi_node *n, const struct qi_bitmap_edit *edit,
		      struct qi_error *e)
{
	int ret = qi_bitmap_check_edit(n, edit, false, e);

	if (ret && edit->verb != QI_BITMAP_ADD)
		return qi_stock_no_bitmap(e, ret, edit->name);
	return ret;
}

int qi_node_bitmap_edit(struct qi_node *n, const struct qi_bitmap_edit *edit,
			struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	struct qi_bitmap_change c;
	int ret = check_node(n, edit, e);

	if (!ret)
		ret = check_segment(n, edit, e);
	if (!ret && edit->verb == QI_BITMAP_ADD)
		ret = check_drive_name(n, edit->name, e);
	if (!ret)
		ret = node_change(n, edit, &c, e);
	if (!ret)
		ret = qi_plan_step(plan,
				   "write the header of '%s': %s node "
				   "bitmap '%s'",
				   n->path, qi_bitmap_verb_name(edit->verb),
				   edit->name);
	if (ret || dry_run)
		return ret;
	return qi_node_store(n, NULL, &c, 1, e);
}
