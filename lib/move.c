/* SPDX-License-Identifier: MIT */
/*
 * move.c - a bitmap gets another address
 *
 * Order of writes, each durable before the next: the image that gets the
 * bitmap, with a note of the move; those that had it, the lowest first; the
 * note goes. Until the first one the old address says all, and after it the
 * new one does. Inside one image it is one write.
 */
#include <errno.h>

#include "lib/move.h"

/* ---------------------------------------------------------------- checks */

static int check_addresses(const struct qi_mover *w, struct qi_error *e)
{
	if (w->src != w->dst || !w->from->drive != !w->to->drive ||
	    strcmp(w->from->name, w->to->name))
		return 0;
	return qi_fail(e, EINVAL,
		       "bitmap '%s' has this address already; --as gives it "
		       "another name",
		       w->from->name);
}

static int is_taken(const struct qi_mover *w, const char *has,
		    struct qi_error *e)
{
	return qi_fail(e, EEXIST,
		       "%s '%s' has %s '%s' already; choose another name "
		       "with --as",
		       qi_address_kind(w->to), qi_address_path(w->to), has,
		       w->to->name);
}

/*
 * Those of its name from the head down to the node are taken. One further
 * down would be in the way, and is where the record starts.
 */
static int check_taken_over(const struct qi_mover *w, struct qi_error *e)
{
	const char *name = w->to->name;
	struct qi_node *n = w->src->facts.backing;

	while (n && !qi_node_has_own(n, name))
		n = n->facts.backing;
	if (n)
		return qi_fail(e, EEXIST,
			       "'%s', which is below '%s', has a node bitmap "
			       "'%s', too; take both with 'qimg bitmap move "
			       "--node %s %s --to-drive %s', or choose another "
			       "name with --as",
			       n->path, w->src->path, name, QI_WORD(n->path),
			       QI_WORD(name), QI_WORD(w->to->drive->path));
	for (n = w->dst; n; n = n->facts.backing)
		if (qi_node_segment(n, name) &&
		    !qi_drive_owns(w->to->drive, n, name))
			return qi_drive_check_new_name(w->to->drive, name, e);
	return 0;
}

static int check_drive(const struct qi_mover *w, struct qi_error *e)
{
	struct qi_drive *d = w->to->drive;
	struct qi_drive_bitmap now;
	int ret = qi_drive_check(d, e);

	if (!ret && qi_record_state_of(d->head) == QI_RECORD_UNKNOWN)
		ret = qi_fail(e, ESTALE,
			      "the record of '%s' is damaged or of a later "
			      "version; 'qimg bitmap add --drive %s NAME' "
			      "starts a new one",
			      d->head->path, QI_WORD(d->path));
	if (ret)
		return ret;
	ret = qi_drive_find_bitmap(d, w->to->name, &now, e);
	if (ret != -ENOENT)
		return ret ? ret : is_taken(w, "a bitmap", e);
	if (w->takes_over && !strcmp(w->from->name, w->to->name))
		return check_taken_over(w, e);
	return qi_drive_check_new_name(d, w->to->name, e);
}

/* The segment of the bitmap that is moved makes room for it. */
static bool replaces_segment(const struct qi_mover *w)
{
	return w->goes_down && !strcmp(w->from->name, w->to->name) &&
	       qi_drive_owns(w->from->drive, w->dst, w->to->name);
}

static int check_node(const struct qi_mover *w, struct qi_error *e)
{
	struct qi_drive_bitmap now;
	const char *name = w->to->name;

	if (qi_record_state_of(w->dst) == QI_RECORD_UNKNOWN)
		return qi_node_refuse_segment(w->dst, name, "move", e);
	if (replaces_segment(w))
		return 0;
	if (qi_node_segment(w->dst, name))
		return is_taken(w, "a segment of a drive bitmap", e);
	if (qi_node_find_bitmap(w->dst, name) >= 0)
		return is_taken(w, "a bitmap", e);
	/* A drive's bitmap needs its name in all layers. */
	if (w->goes_down && strcmp(w->from->name, name) &&
	    !qi_drive_find_bitmap(w->from->drive, name, &now, NULL))
		return qi_fail(e, EEXIST,
			       "drive '%s', of which '%s' is a layer, has a "
			       "bitmap '%s'; choose another name with --as",
			       w->from->drive->path, w->dst->path, name);
	return 0;
}

static int check_destination(const struct qi_mover *w, struct qi_error *e)
{
	const struct qi_node *src = w->src, *dst = w->dst;
	bool record = src != dst || w->to->drive || w->from->drive;
	int ret = qi_bitmap_check_place(w->dst, w->to->name, record, e);

	if (!ret)
		ret = w->to->drive ? check_drive(w, e) : check_node(w, e);
	if (!ret)
		ret = qi_mover_check_note(w, e);
	if (ret || w->takes_over || dst->facts.size >= src->facts.size)
		return ret;
	return qi_fail(e, ESTALE,
		       "cannot move bitmap '%s' to '%s': its disk of %llu "
		       "bytes is smaller than that of '%s', %llu bytes",
		       w->from->name, dst->path,
		       (unsigned long long)dst->facts.size, src->path,
		       (unsigned long long)src->facts.size);
}

/* ---------------------------------------------------------------- writes */

/* The new bitmap, of a drive: it starts in the head. */
static int put_on_drive(const struct qi_mover *w, struct qi_head_edit *h,
			struct qi_error *e)
{
	bool renames = w->from->drive && w->src == w->dst;
	struct qi_drive_bitmap old;
	struct qi_bitmap_change *c;
	struct qi_record_bitmap *b;
	int ret = qi_head_edit_start(h, w->to->name, w->paused,
				     w->granularity_bits, &c, e);

	if (!ret)
		ret = qi_mover_ranges(w, &c->bits, e);
	if (!ret && renames)
		ret = qi_drive_find_bitmap(w->from->drive, w->from->name, &old,
					   e);
	if (ret)
		return ret;
	b = qi_record_find(h->record, w->to->name);
	b->gap = w->gap;
	/* The same bitmap of the same drive: backups go on. */
	if (renames)
		b->checkpoint = old.checkpoint;
	return qi_head_edit_adopt(h, w->to->name,
				  renames ? w->from->name : NULL, e);
}

static int put_on_node(const struct qi_mover *w, struct qi_head_edit *h,
		       struct qi_error *e)
{
	struct qi_bitmap_change *c = qi_head_edit_add(h, w->to->name);

	if (!c)
		return qi_no_memory(e);
	c->enabled = !w->paused;
	c->granularity_bits = w->granularity_bits;
	return qi_mover_ranges(w, &c->bits, e);
}

/* What one image loses by the write in which it, or another one, gets it. */
static int take_away(const struct qi_mover *w, struct qi_head_edit *h,
		     struct qi_error *e)
{
	bool stays = !strcmp(w->from->name, w->to->name);
	struct qi_bitmap_change *c;

	if (w->from->drive && (w->src == w->dst || replaces_segment(w))) {
		h->drive = w->from->drive;
		return qi_head_edit_remove(h, w->from->name, stays, e);
	}
	/* The head that takes over a bitmap may have one of its name. */
	if (w->from->drive || stays ||
	    !(w->src == w->dst ||
	      (w->takes_over && qi_node_has_own(w->dst, w->from->name))))
		return 0;
	c = qi_head_edit_add(h, w->from->name);
	if (!c)
		return qi_no_memory(e);
	c->remove = true;
	return 0;
}

/* One write, after which the new address is good. */
static int write_new(const struct qi_mover *w, struct qi_error *e)
{
	struct qi_head_edit h = { .node = w->dst };
	struct qi_drive *d = w->to->drive;
	int ret = 0;

	if (!d && w->src == w->dst)
		d = w->from->drive;
	if (d)
		ret = qi_head_edit_begin(&h, d, e);
	else if (w->src != w->dst && qi_record_copy(&h.record, w->dst->record))
		ret = qi_no_memory(e);
	if (!ret)
		ret = w->to->drive ? put_on_drive(w, &h, e) :
				     put_on_node(w, &h, e);
	if (!ret)
		ret = take_away(w, &h, e);
	if (!ret && w->src != w->dst)
		qi_mover_set_note(w, h.record);
	if (!ret)
		ret = qi_head_edit_store(&h, e);
	qi_head_edit_clear(&h);
	return ret;
}

/* The note needs a name for where the bitmap was. */
static bool needs_id(const struct qi_mover *w)
{
	return w->src != w->dst && !w->from->drive &&
	       qi_record_state_of(w->src) == QI_RECORD_NONE &&
	       !qi_node_can_store(w->src, NULL);
}

static int give_id(struct qi_node *n, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (qi_record_copy(&r, NULL))
		return qi_no_memory(e);
	return qi_node_store(n, r, NULL, 0, e);
}

static int run(const struct qi_mover *w, struct qi_error *e)
{
	int ret = needs_id(w) ? give_id(w->src, e) : 0;

	if (!ret)
		ret = write_new(w, e);
	if (ret || w->src == w->dst)
		return ret;
	ret = qi_mover_remove(w, e);
	if (!ret)
		ret = qi_mover_drop_note(w->dst, e);
	return ret ? qi_context(e, ret,
				"bitmap '%s' is at its new address, but the "
				"move is not finished; run the same command "
				"again",
				w->to->name) :
		     0;
}

/* What goes in of the layers above the node, the lowest one first. malloc'd */
static char *taken_with_it(const struct qi_mover *w)
{
	char *all =
		strdup(w->takes_over && w->src != w->dst ? " together" : "");

	for (struct qi_node *n = w->dst; all && w->takes_over && n != w->src;
	     n = n->facts.backing) {
		char *longer;

		if (qi_mover_takes_whole(n))
			longer = qi_format_text(", all of the disk for '%s'%s",
						n->path, all);
		else if (qi_mover_says_by_bitmap(w, n))
			longer = qi_format_text(
				", bitmap '%s' and what is allocated in '%s'%s",
				w->from->name, n->path, all);
		else
			longer = qi_format_text(", what is allocated in '%s'%s",
						n->path, all);
		free(all);
		all = longer;
	}
	return all;
}

static int make_plan(const struct qi_mover *w, struct qi_plan *p)
{
	QI_AUTOFREE char *with = taken_with_it(w);
	bool inside = w->src == w->dst;
	int ret = with ? 0 : -ENOMEM;

	if (!ret && needs_id(w))
		ret = qi_plan_step(
			p, "write the header of '%s': give the image an id",
			w->src->path);
	if (!ret)
		ret = qi_plan_step(p,
				   "write the header of '%s': %s bitmap '%s' "
				   "of %s '%s'%s %s '%s' of %s '%s'%s",
				   w->dst->path, inside ? "make" : "copy",
				   w->from->name, qi_address_kind(w->from),
				   qi_address_path(w->from), with,
				   inside ? "bitmap" : "to", w->to->name,
				   qi_address_kind(w->to),
				   qi_address_path(w->to),
				   inside ? "" : ", with a note of the move");
	if (ret || inside)
		return ret;
	ret = qi_mover_plan_removal(w, p);
	return ret ? ret :
		     qi_plan_step(p,
				  "write the header of '%s': remove the note "
				  "of the move",
				  w->dst->path);
}

/* ------------------------------------------------------------ operations */

static struct qi_mover mover_of(const struct qi_bitmap_move *m)
{
	struct qi_mover w = { .from = &m->from,
			      .to = &m->to,
			      .src = qi_address_node(&m->from),
			      .dst = qi_address_node(&m->to) };

	w.takes_over = m->from.node && m->to.drive &&
		       qi_node_is_in_chain(w.src, w.dst);
	w.goes_down = m->from.drive && m->to.node &&
		      qi_node_is_in_chain(w.dst, w.src);
	return w;
}

void qi_bitmap_move_prepare(const struct qi_bitmap_move *m)
{
	struct qi_mover w = mover_of(m);
	struct qi_node *note = qi_mover_find_note(&w);

	if (note)
		qi_node_want(note, QI_ACCESS_WRITE);
	for (struct qi_node *n = w.dst; w.takes_over; n = n->facts.backing) {
		if (qi_node_has_own(n, m->from.name))
			qi_node_want(n, QI_ACCESS_WRITE);
		if (n == w.src)
			break;
	}
}

int qi_bitmap_move(const struct qi_bitmap_move *m, struct qi_plan *plan,
		   bool dry_run, struct qi_error *e)
{
	struct qi_mover w = mover_of(m);
	struct qi_node *note = qi_mover_find_note(&w);
	int ret;

	if (note)
		return qi_mover_finish(&w, note, plan, dry_run, e);
	ret = check_addresses(&w, e);
	if (!ret)
		ret = qi_mover_check_source(&w, e);
	if (!ret)
		ret = check_destination(&w, e);
	if (!ret && make_plan(&w, plan))
		ret = qi_no_memory(e);
	return ret || dry_run ? ret : run(&w, e);
}
