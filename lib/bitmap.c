/* SPDX-License-Identifier: MIT */
/*
 * bitmap.c - the verbs on (node, name) and (drive, name)
 *
 * Each is one header write in one file. A drive verb writes to the head
 * alone: frozen and shared layers stay as they are.
 */
#include <errno.h>

#include "lib/drive.h"

#define DEFAULT_GRANULARITY 65536u
#define MIN_GRANULARITY 512u
#define MAX_GRANULARITY (1u << 31)

/* --------------------------------------------------------------- listing */

static void take_segment(struct qi_bitmap_facts *f, const struct qi_node *n)
{
	const struct qi_record_bitmap *b =
		qi_record_state_of(n) == QI_RECORD_VALID ?
			qi_record_find(n->record, f->name) :
			NULL;

	if (!b || b->removed)
		return;
	f->attachment = QI_ON_DRIVE;
	f->anchor = b->anchor;
	f->paused = b->paused;
	f->checkpoint = b->checkpoint;
	f->min_size = b->min_size;
}

int qi_node_bitmaps(struct qi_node *n, struct qi_bitmap_facts **out,
		    size_t *count, struct qi_error *e)
{
	const struct qi_stored_bitmap *all = NULL;

	*count = 0;
	if (n->format->bitmaps)
		all = n->format->bitmaps->list(n, count);
	*out = calloc(*count + 1, sizeof(**out));
	if (!*out)
		return qi_no_memory(e);
	for (size_t i = 0; i < *count; i++) {
		struct qi_bitmap_facts *f = &(*out)[i];

		f->name = all[i].name;
		f->enabled = all[i].enabled;
		f->in_use = all[i].in_use;
		f->unreadable = all[i].problem && !all[i].in_use;
		f->granularity = 1u << all[i].granularity_bits % 32;
		take_segment(f, n);
	}
	return 0;
}

const char *qi_node_bitmaps_problem(struct qi_node *n)
{
	return n->format->bitmaps ? n->format->bitmaps->problem(n) : NULL;
}

int qi_node_bitmap_ranges(struct qi_node *n, const char *name,
			  struct qi_ranges **out, struct qi_error *e)
{
	int which = qi_node_find_bitmap(n, name);
	size_t count;
	const char *problem;

	if (which < 0)
		return qi_fail(e, ENOENT, "'%s' has no bitmap '%s'", n->path,
			       name);
	problem = n->format->bitmaps->list(n, &count)[which].problem;
	if (problem)
		return qi_fail(e, ESTALE,
			       "bitmap '%s' of '%s' cannot be read: "
			       "%s",
			       name, n->path, problem);
	return qi_ranges_bitmap(out, n, (size_t)which) ? qi_no_memory(e) : 0;
}

static uint32_t segment_granularity(struct qi_node *n, const char *name)
{
	int which = qi_node_find_bitmap(n, name);
	size_t count;

	if (which < 0)
		return 0;
	return 1u
	       << n->format->bitmaps->list(n, &count)[which].granularity_bits %
			  32;
}

/* Of the topmost segment that is there. */
static uint32_t drive_granularity(const struct qi_drive *d, const char *name)
{
	for (struct qi_node *n = d->head; n; n = n->facts.backing) {
		uint32_t g = qi_drive_segment(d, n, name) ?
				     segment_granularity(n, name) :
				     0;

		if (g)
			return g;
	}
	return DEFAULT_GRANULARITY;
}

static bool is_listed(const struct qi_drive_bitmap *all, size_t count,
		      const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0)
			return true;
	return false;
}

int qi_drive_bitmaps(struct qi_drive *d, struct qi_drive_bitmap **out,
		     size_t *count, struct qi_error *e)
{
	struct qi_drive_bitmap *all = NULL;
	struct qi_uuid drive = qi_drive_uuid(d);
	size_t n = 0, kept = 0;

	for (struct qi_node *node = d->head; node; node = node->facts.backing) {
		const struct qi_record *r = node->record;

		/* One that never was a head belongs to no drive. */
		if (qi_record_state_of(node) != QI_RECORD_VALID ||
		    qi_uuid_is_null(&r->drive))
			continue;
		if (!qi_uuid_equal(&r->drive, &drive))
			break;
		for (size_t i = 0; i < r->count; i++) {
			const struct qi_record_bitmap *b = &r->bitmaps[i];
			void *p;

			/* The topmost mention counts, also of a removal. */
			if (is_listed(all, n, b->name))
				continue;
			p = realloc(all, (n + 1) * sizeof(*all));
			if (!p) {
				free(all);
				return qi_no_memory(e);
			}
			all = p;
			memcpy(all[n].name, b->name, sizeof(b->name));
			all[n].paused = b->paused;
			all[n].checkpoint = b->checkpoint;
			all[n++].granularity =
				b->removed ? 0 : drive_granularity(d, b->name);
		}
	}
	for (size_t i = 0; i < n; i++)
		if (all[i].granularity)
			all[kept++] = all[i];
	*out = all;
	*count = kept;
	return 0;
}

/* ---------------------------------------------------------------- checks */

static int check_name(const char *name, struct qi_error *e)
{
	size_t n = strlen(name);

	if (n >= 1 && n <= QI_NAME_MAX)
		return 0;
	return qi_fail(e, EINVAL, "a bitmap's name has 1 to %d bytes",
		       QI_NAME_MAX);
}

static int check_granularity(uint32_t g, struct qi_error *e)
{
	if (!g ||
	    (g >= MIN_GRANULARITY && g <= MAX_GRANULARITY && !(g & (g - 1))))
		return 0;
	return qi_fail(e, EINVAL,
		       "the granularity must be a power of two from "
		       "512 to 2G");
}

/* As in QEMU: the cluster size, from 4K to 64K. */
static uint32_t default_granularity(const struct qi_node *n)
{
	uint64_t g = qi_min(qi_max(n->facts.cluster_size, 4096), 65536);

	return (uint32_t)g;
}

static const char *verb_name(enum qi_bitmap_verb v)
{
	static const char *const names[] = { "add", "remove", "clear", "enable",
					     "disable" };

	return names[v];
}

static unsigned bits_of(uint32_t granularity)
{
	return (unsigned)__builtin_ctz(granularity);
}

/* ----------------------------------------------------------------- nodes */

static int refuse_segment(struct qi_node *n, const char *name,
			  enum qi_bitmap_verb verb, struct qi_error *e)
{
	const struct qi_record_bitmap *b = NULL;

	if (qi_record_state_of(n) == QI_RECORD_UNKNOWN &&
	    verb != QI_BITMAP_REMOVE)
		return qi_fail(e, ESTALE,
			       "cannot change bitmaps of '%s': its "
			       "record of drive bitmaps is damaged or of a "
			       "later version; 'qimg bitmap add --drive DRIVE "
			       "NAME' starts a new one",
			       n->path);
	if (qi_record_state_of(n) == QI_RECORD_VALID)
		b = qi_record_find(n->record, name);
	if (b && !b->removed)
		return qi_fail(e, ESTALE,
			       "cannot %s bitmap '%s' on node '%s': "
			       "it is a segment of a drive bitmap; use 'qimg "
			       "bitmap %s --drive DRIVE %s'",
			       verb_name(verb), name, n->path, verb_name(verb),
			       name);
	return 0;
}

/* The change for one node bitmap; checks that the verb fits its state. */
static int node_change(struct qi_node *n, const struct qi_bitmap_edit *edit,
		       struct qi_bitmap_change *c, struct qi_error *e)
{
	int which = qi_node_find_bitmap(n, edit->name);
	const struct qi_stored_bitmap *f = NULL;
	size_t count;

	*c = (struct qi_bitmap_change){ .name = edit->name };
	if (edit->verb == QI_BITMAP_ADD) {
		if (which >= 0)
			return qi_fail(e, EEXIST,
				       "'%s' has a bitmap '%s' "
				       "already",
				       n->path, edit->name);
		c->enabled = !edit->disabled;
		c->granularity_bits = bits_of(edit->granularity ?
						      edit->granularity :
						      default_granularity(n));
		return 0;
	}
	if (which < 0)
		return qi_fail(e, ENOENT,
			       "'%s' has no bitmap '%s'; 'qimg "
			       "bitmap list --node %s' shows what it has",
			       n->path, edit->name, n->path);
	f = &n->format->bitmaps->list(n, &count)[which];
	c->remove = edit->verb == QI_BITMAP_REMOVE;
	c->enabled = edit->verb == QI_BITMAP_CLEAR ?
			     f->enabled :
			     edit->verb == QI_BITMAP_ENABLE;
	c->keep_bits = edit->verb != QI_BITMAP_CLEAR;
	c->granularity_bits = f->granularity_bits;
	if (f->problem && c->keep_bits && !c->remove)
		return qi_fail(e, ESTALE,
			       "cannot %s bitmap '%s' of '%s': %s; "
			       "'qimg bitmap clear --node %s %s' starts it "
			       "afresh",
			       verb_name(edit->verb), edit->name, n->path,
			       f->problem, n->path, edit->name);
	return 0;
}

static int check_edit(struct qi_node *n, const struct qi_bitmap_edit *edit,
		      bool record, struct qi_error *e)
{
	int ret = check_name(edit->name, e);

	if (!ret)
		ret = check_granularity(edit->granularity, e);
	if (!ret && !n->facts.size)
		ret = qi_fail(e, ESTALE,
			      "'%s' has a disk of 0 bytes, which "
			      "can have no bitmaps",
			      n->path);
	if (!ret)
		ret = record ? qi_node_can_store(n, e) : qi_node_can_hold(n, e);
	return ret;
}

int qi_node_bitmap_edit(struct qi_node *n, const struct qi_bitmap_edit *edit,
			struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	struct qi_bitmap_change c;
	int ret = check_edit(n, edit, false, e);

	if (!ret)
		ret = refuse_segment(n, edit->name, edit->verb, e);
	if (!ret)
		ret = node_change(n, edit, &c, e);
	if (!ret)
		ret = qi_plan_step(plan,
				   "write the header of '%s': %s node "
				   "bitmap '%s'",
				   n->path, verb_name(edit->verb), edit->name);
	if (ret || dry_run)
		return ret;
	return qi_node_store(n, NULL, &c, 1, e);
}

/* ---------------------------------------------------------------- drives */

/*
 * A node bitmap of the same name in any layer is in the way: a commit may
 * have to make a segment there.
 */
static int check_conflicts(struct qi_drive *d, const char *name,
			   struct qi_error *e)
{
	for (struct qi_node *n = d->head; n; n = n->facts.backing) {
		/* Whose bitmap it is cannot be known: it gets replaced. */
		if (n == d->head && qi_record_state_of(n) == QI_RECORD_UNKNOWN)
			continue;
		if (qi_node_find_bitmap(n, name) >= 0 &&
		    !qi_drive_segment(d, n, name))
			return qi_fail(e, EEXIST,
				       "cannot change bitmap '%s' of "
				       "drive '%s': its layer '%s' has a node "
				       "bitmap of that name; choose another "
				       "name, or 'qimg bitmap remove --node %s "
				       "%s'",
				       name, d->path, n->path, n->path, name);
	}
	return 0;
}

static int find_drive_bitmap(struct qi_drive *d, const char *name,
			     struct qi_drive_bitmap *out, struct qi_error *e)
{
	struct qi_drive_bitmap *all;
	size_t count;
	int ret = qi_drive_bitmaps(d, &all, &count, e);

	if (ret)
		return ret;
	ret = -ENOENT;
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0) {
			*out = all[i];
			ret = 0;
		}
	free(all);
	return ret;
}

/* A record below the head, of this drive, that knows the name. */
static bool is_known_below(const struct qi_drive *d, const char *name)
{
	for (struct qi_node *n = d->head->facts.backing; n;
	     n = n->facts.backing)
		if (qi_drive_segment(d, n, name))
			return true;
	return false;
}

static int add_to_drive(struct qi_drive *d, const struct qi_bitmap_edit *edit,
			struct qi_record *r, struct qi_bitmap_change *c,
			struct qi_error *e)
{
	struct qi_record_bitmap *b = qi_record_put(r, edit->name);

	if (!b)
		return qi_no_memory(e);
	b->removed = false;
	b->anchor = true;
	b->paused = b->gap = edit->disabled;
	b->checkpoint = qi_uuid_random();
	b->min_size = d->head->facts.size;
	c->enabled = !edit->disabled;
	c->granularity_bits = bits_of(edit->granularity ?
					      edit->granularity :
					      default_granularity(d->head));
	return 0;
}

static int remove_from_drive(struct qi_drive *d, const char *name,
			     struct qi_record *r, struct qi_bitmap_change *c,
			     struct qi_error *e)
{
	struct qi_record_bitmap *b;

	/* What is in the head by that name need not be ours. */
	c->remove = true;
	if (!qi_drive_segment(d, d->head, name))
		c->name = NULL;
	if (!is_known_below(d, name)) {
		qi_record_drop(r, name);
		return 0;
	}
	b = qi_record_put(r, name);
	if (!b)
		return qi_no_memory(e);
	*b = (struct qi_record_bitmap){ .removed = true };
	memcpy(b->name, name, strlen(name));
	return 0;
}

static int clear_on_drive(struct qi_drive *d, const struct qi_drive_bitmap *now,
			  const struct qi_uuid *checkpoint, struct qi_record *r,
			  struct qi_bitmap_change *c, struct qi_error *e)
{
	struct qi_record_bitmap *b = qi_record_put(r, now->name);

	if (!b)
		return qi_no_memory(e);
	b->anchor = true;
	b->removed = false;
	b->paused = b->gap = now->paused;
	b->checkpoint = checkpoint ? *checkpoint : qi_uuid_random();
	b->min_size = d->head->facts.size;
	c->enabled = !now->paused;
	c->granularity_bits = bits_of(now->granularity);
	return 0;
}

/*
 * Pause or go on. A head without a good segment gets one that says what the
 * head contributes anyway, so that nothing is lost by the change.
 */
static int pause_on_drive(struct qi_drive *d, const struct qi_drive_bitmap *now,
			  bool paused, struct qi_record *r,
			  struct qi_bitmap_change *c, struct qi_error *e)
{
	struct qi_record_bitmap *b = qi_record_find(r, now->name);
	enum qi_layer_status s =
		qi_layer_status_of(d, d->head, now->name, NULL, 0);

	c->enabled = !paused;
	c->granularity_bits = bits_of(now->granularity);
	c->keep_bits = s == QI_LAYER_EXACT || s == QI_LAYER_PAUSED;
	if (!c->keep_bits && qi_layer_ranges(d, d->head, now->name, &c->bits))
		return qi_no_memory(e);
	if (!b) {
		b = qi_record_put(r, now->name);
		if (!b)
			return qi_no_memory(e);
		b->checkpoint = now->checkpoint;
		b->min_size = d->head->facts.size;
	}
	b->paused = paused;
	b->gap |= paused;
	return 0;
}

/* Change the record and the head's segment as the verb wants. */
static int drive_change(struct qi_drive *d, const struct qi_bitmap_edit *edit,
			struct qi_record *r, struct qi_bitmap_change *c,
			struct qi_error *e)
{
	struct qi_drive_bitmap now;
	int ret = find_drive_bitmap(d, edit->name, &now, e);

	*c = (struct qi_bitmap_change){ .name = edit->name };
	if (ret && ret != -ENOENT)
		return ret;
	if (ret && edit->verb != QI_BITMAP_ADD)
		return qi_fail(e, ENOENT,
			       "drive '%s' has no bitmap '%s'; 'qimg bitmap "
			       "list --drive %s' shows what it has",
			       d->path, edit->name, d->path);
	if (!ret && edit->verb == QI_BITMAP_ADD)
		return qi_fail(e, EEXIST,
			       "drive '%s' has a bitmap '%s' already", d->path,
			       edit->name);
	if (edit->verb != QI_BITMAP_REMOVE) {
		ret = check_conflicts(d, edit->name, e);
		if (ret)
			return ret;
	}
	switch (edit->verb) {
	case QI_BITMAP_ADD:
		return add_to_drive(d, edit, r, c, e);
	case QI_BITMAP_REMOVE:
		return remove_from_drive(d, edit->name, r, c, e);
	case QI_BITMAP_CLEAR:
		return clear_on_drive(d, &now, edit->checkpoint, r, c, e);
	default:
		return pause_on_drive(d, &now, edit->verb == QI_BITMAP_DISABLE,
				      r, c, e);
	}
}

/* What one header write of the head changes. */
struct head_edit {
	struct qi_record *r;
	struct qi_drive_bitmap *all; /* owns the names of changes */
	struct qi_bitmap_change *changes;
	size_t count;
};

static void head_edit_clear(struct head_edit *w)
{
	for (size_t i = 0; i < w->count; i++)
		qi_ranges_free(w->changes[i].bits);
	free(w->changes);
	free(w->all);
	qi_record_free(w->r);
}

/* All of the disk is dirty, from here on. */
static int make_full(struct qi_drive *d, const struct qi_drive_bitmap *now,
		     struct head_edit *w, struct qi_error *e)
{
	struct qi_bitmap_change *c = &w->changes[w->count];
	struct qi_record_bitmap *b;
	int ret = check_conflicts(d, now->name, e);

	if (ret)
		return ret;
	b = qi_record_put(w->r, now->name);
	*c = (struct qi_bitmap_change){ .name = now->name,
					.enabled = !now->paused };
	if (!b || qi_ranges_one(&c->bits, 0, d->head->facts.size))
		return qi_no_memory(e);
	w->count++;
	c->granularity_bits = bits_of(now->granularity);
	b->anchor = true;
	b->paused = now->paused;
	b->gap |= now->paused;
	b->checkpoint = now->checkpoint;
	b->min_size = d->head->facts.size;
	return 0;
}

/*
 * The head is on another layer than it was made on. A bitmap that starts now
 * need not mind, so the head gets that parent; the drive's other ones must.
 */
static int adopt_parent(struct qi_drive *d, const char *name,
			struct head_edit *w, struct qi_error *e)
{
	const struct qi_node *below = d->head->facts.backing;
	size_t total;
	int ret = qi_drive_bitmaps(d, &w->all, &total, e);
	void *p = ret ? NULL :
			realloc(w->changes, (total + 1) * sizeof(*w->changes));

	if (!ret && !p)
		ret = qi_no_memory(e);
	if (ret)
		return ret;
	w->changes = p;
	for (size_t i = 0; i < total && !ret; i++)
		if (strcmp(w->all[i].name, name))
			ret = make_full(d, &w->all[i], w, e);
	w->r->parent = below && qi_record_state_of(below) == QI_RECORD_VALID ?
			       below->record->image :
			       (struct qi_uuid){ { 0 } };
	return ret;
}

static int plan_head_edit(struct qi_drive *d, const struct qi_bitmap_edit *edit,
			  struct head_edit *w, struct qi_error *e)
{
	bool starts = edit->verb == QI_BITMAP_ADD ||
		      edit->verb == QI_BITMAP_CLEAR;
	int ret = qi_drive_head_record(d, &w->r, e);

	if (ret)
		return ret;
	w->r->frozen = false;
	w->changes = calloc(1, sizeof(*w->changes));
	if (!w->changes)
		return qi_no_memory(e);
	ret = drive_change(d, edit, w->r, w->changes, e);
	w->count = w->changes->name != NULL;
	if (!ret && starts && !qi_node_parent_is_right(d->head))
		ret = adopt_parent(d, edit->name, w, e);
	return ret;
}

int qi_drive_bitmap_edit(struct qi_drive *d, const struct qi_bitmap_edit *edit,
			 struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	struct head_edit w = { 0 };
	int ret = check_edit(d->head, edit, true, e);

	if (!ret)
		ret = qi_drive_check(d, e);
	if (!ret)
		ret = plan_head_edit(d, edit, &w, e);
	if (!ret)
		ret = qi_plan_step(plan,
				   "write the header of '%s', the head "
				   "of drive '%s': %s bitmap '%s'",
				   d->head->path, d->path,
				   verb_name(edit->verb), edit->name);
	if (!ret && !dry_run)
		ret = qi_node_store(d->head, w.r, w.changes, w.count, e);
	head_edit_clear(&w);
	return ret;
}
