/* SPDX-License-Identifier: MIT */
/* merge.c - the content of layers into one below them */
#include <errno.h>

#include "lib/mark.h"
#include "lib/merge.h"

/* --------------------------------------------------------------- checks */

int qi_node_refuse_bitmap(struct qi_node *n, const char *what,
			  struct qi_error *e)
{
	const char *own = qi_node_own_bitmap(n);

	if (!own)
		return 0;
	return qi_fail(e, ESTALE,
		       "'%s' has the node bitmap '%s', and this "
		       "would %s; first move it with 'qimg bitmap move --node "
		       "%s --to-node FILE %s', or 'qimg bitmap remove --node "
		       "%s %s'",
		       n->path, own, what, QI_WORD(n->path), QI_WORD(own),
		       QI_WORD(n->path), QI_WORD(own));
}

int qi_node_refuse_internal(struct qi_node *n, const char *what,
			    struct qi_error *e)
{
	struct qi_internal_snapshot *all;
	size_t count;
	int ret = qi_internal_snapshots(n, &all, &count, e);

	if (!ret && count)
		ret = qi_fail(e, ESTALE,
			      "'%s' has the internal snapshot '%s', and this "
			      "would %s; 'qimg snapshot -d %s %s' removes it, "
			      "if it is not wanted any more",
			      n->path, all[0].name, what, QI_WORD(all[0].name),
			      QI_WORD(n->path));
	qi_internal_snapshots_free(all, count);
	return ret;
}

int qi_node_check_loss(struct qi_node *n, struct qi_error *e)
{
	int ret = qi_node_refuse_bitmap(n, "delete it", e);

	return ret ? ret : qi_node_refuse_internal(n, "delete it", e);
}

/* The layer whose backing file n is. */
static struct qi_node *layer_above(const struct qi_merge *m,
				   const struct qi_node *n)
{
	struct qi_node *above = m->drive.head;

	while (above->facts.backing != n)
		above = above->facts.backing;
	return above;
}

static struct qi_carry carry_of(const struct qi_merge *m)
{
	return (struct qi_carry){ .drive = m->drive,
				  .into = m->base,
				  .base = m->base->facts.backing,
				  .smallest = m->smallest };
}

/* What the base gets after the data; it can store a record. */
static int plan_take_over(const struct qi_merge *m, struct qi_carry *c,
			  bool is_head, struct qi_error *e)
{
	int ret = qi_carry_plan(c, e);

	if (ret)
		return ret;
	if (!c->record && qi_record_copy(&c->record, m->base->record))
		return qi_no_memory(e);
	c->record->drive = qi_drive_uuid(&m->drive);
	c->record->committed = false;
	c->record->frozen = c->record->frozen && !is_head;
	return 0;
}

/* Will the bitmaps of the drive find their place, and the record its room? */
static int check_bitmaps(struct qi_merge *m, struct qi_error *e)
{
	struct qi_carry c = carry_of(m);
	int ret;

	if (!m->takes_over || qi_node_can_store(m->base, NULL))
		ret = qi_carry_plan(&c, e);
	else
		ret = plan_take_over(m, &c, false, e);
	if (!ret && m->takes_over && c.record)
		ret = qi_node_check_room(m->base, c.record, c.edits.count, e);
	qi_carry_clear(&c);
	return ret;
}

/* What a drive, or another, knows of the base. */
static int check_record(const struct qi_merge *m, struct qi_error *e)
{
	const struct qi_node *base = m->base;

	if (qi_graph_is_stock(base->graph))
		return 0;
	if (qi_node_is_of_other(&m->drive, base))
		return qi_fail(e, ESTALE,
			       "cannot merge into '%s': it belongs to another "
			       "drive; 'qimg stream --drive %s' makes this one "
			       "independent of it",
			       base->path, QI_WORD(m->drive.path));
	if (qi_record_state_of(base) == QI_RECORD_VALID && base->record->shared)
		return qi_fail(e, ESTALE,
			       "cannot merge into '%s': clones were made on "
			       "it; when none is left, 'qimg clone --unshare "
			       "%s' says so",
			       base->path, QI_WORD(base->path));
	if (qi_record_state_of(base) == QI_RECORD_UNKNOWN)
		return qi_fail(e, ESTALE,
			       "cannot merge into '%s': its record is damaged "
			       "or of a later version",
			       base->path);
	return 0;
}

static int check_growth(const struct qi_merge *m, struct qi_error *e)
{
	int ret = m->base->format->resize->check(m->base,
						 m->drive.head->facts.size, e);

	return ret ? qi_stock(e, ret, "Block job failed: %s", strerror(-ret)) :
		     0;
}

int qi_merge_check(struct qi_merge *m, struct qi_error *e)
{
	struct qi_node *base = m->base;
	int ret = check_record(m, e);

	if (ret)
		return ret;
	if (base->facts.size < m->drive.head->facts.size &&
	    !base->format->resize)
		return qi_fail(e, ENOTSUP,
			       "cannot merge into '%s': an image in %s format "
			       "cannot grow",
			       base->path, base->format->name);
	ret = qi_node_check_edit(base, false, e);
	if (!ret && base->facts.size < m->drive.head->facts.size)
		ret = check_growth(m, e);
	if (!ret && !qi_graph_is_stock(base->graph))
		ret = check_bitmaps(m, e);
	return ret ? ret :
		     qi_node_check_dependents(base, layer_above(m, base),
					      "merge into", e);
}

/* ---------------------------------------------------------------- marks */

struct segment {
	struct qi_merge *m;
	const char *name;
};

static int add_of_layer(void *arg, struct qi_node *n, struct qi_ranges **out)
{
	const struct segment *s = arg;

	return qi_layer_ranges(&s->m->drive, n, s->name, out);
}

/* What the layers above add to a segment, and where they hide the base. */
static int segment_ranges(struct qi_merge *m, const char *name,
			  struct qi_ranges **out)
{
	struct segment s = { m, name };

	return qi_ranges_layers(out, m->drive.head, m->base,
				m->drive.head->facts.size, add_of_layer, &s);
}

/* Everything in the base that records writes gets what will be written. */
static int add_of_layers(void *arg, const struct qi_stored_bitmap *b,
			 struct qi_ranges **out)
{
	struct qi_merge *m = arg;
	bool segment = qi_drive_owns(&m->drive, m->base, b->name);
	int ret;

	if (!b->enabled && !segment)
		return 0;
	ret = segment ? segment_ranges(m, b->name, out) :
			qi_ranges_above(out, m->drive.head, m->base,
					m->drive.head->facts.size);
	return ret ? ret : 1;
}

/*
 * The record of the base with the mark that a merge into it has begun; NULL
 * where the base has no record and gets none.
 */
static int merging_record(const struct qi_merge *m, struct qi_record **out,
			  struct qi_error *e)
{
	bool has_one = qi_record_state_of(m->base) == QI_RECORD_VALID;

	*out = NULL;
	if ((!has_one && !m->takes_over) || qi_node_can_store(m->base, NULL))
		return 0;
	if (qi_record_copy(out, m->base->record))
		return qi_no_memory(e);
	if (!has_one)
		(*out)->parent = qi_node_uuid(m->base->facts.backing);
	(*out)->merging = true;
	return 0;
}

/* A disk that grows is not that of the snapshot any more, either. */
static int grow(struct qi_merge *m, uint64_t size, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;
	int ret = merging_record(m, &r, e);

	if (!ret && r)
		ret = qi_node_store(m->base, r, NULL, 0, e);
	return ret ? ret : qi_node_grow(m->base, size, e);
}

/* What records writes is marked, and with it that the merge has begun. */
static int mark(struct qi_merge *m, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;
	struct qi_marks marks;
	int ret = merging_record(m, &r, e);

	if (ret)
		return ret;
	if (!r)
		return qi_node_mark(m->base, add_of_layers, m, e);
	ret = qi_marks_make(&marks, m->base, add_of_layers, m, e);
	if (!ret)
		ret = qi_node_store(m->base, r, marks.changes, marks.count, e);
	qi_marks_clear(&marks);
	return ret;
}

/* ----------------------------------------------------------------- data */

/*
 * The head ends inside a unit of a longer base: that unit gets the end of the
 * head and keeps the rest.
 */
static int copy_tail(struct qi_merge *m, struct qi_writer *w,
		     struct qi_error *e)
{
	uint64_t size = m->drive.head->facts.size;
	uint64_t off = qi_round_down(size, w->unit), host, got;
	size_t len = (size_t)(size - off);
	QI_AUTOFREE uint8_t *buf = qi_alloc_aligned(w->unit);
	int ret = buf ? 0 : qi_no_memory(e);

	if (!ret)
		ret = qi_read(m->drive.head, off, len, buf, e);
	if (!ret)
		ret = qi_read(m->base, size, w->unit - len, buf + len, e);
	if (!ret)
		ret = w->ops->place(w, off, w->unit, &host, &got, e);
	return ret ? ret : qi_file_write(w->file, host, w->unit, buf, e);
}

static int ranges_to_copy(struct qi_merge *m, uint64_t unit, uint64_t size,
			  struct qi_ranges **out)
{
	struct qi_ranges *mapped;
	int ret = qi_ranges_above(&mapped, m->drive.head, m->base,
				  m->drive.head->facts.size);

	return ret ? ret : qi_ranges_round(out, mapped, unit, size);
}

static int copy_data(struct qi_merge *m, struct qi_error *e)
{
	uint64_t size = m->drive.head->facts.size;
	struct qi_copy copy = { .src = m->drive.head,
				.threads = m->threads,
				.progress = m->progress };
	int ret = m->base->format->edit(m->base, &copy.writer, e);
	bool tail;

	if (ret)
		return ret;
	tail = m->base->facts.size > size &&
	       !qi_is_aligned(size, copy.writer->unit);
	if (ranges_to_copy(m, copy.writer->unit,
			   tail ? qi_round_down(size, copy.writer->unit) : size,
			   &copy.ranges))
		ret = qi_no_memory(e);
	else
		ret = qi_copy_run(&copy, &m->stats, e);
	if (!ret && tail)
		ret = copy_tail(m, copy.writer, e);
	if (!ret)
		ret = copy.writer->ops->finish(copy.writer, e);
	qi_ranges_free(copy.ranges);
	copy.writer->ops->free(copy.writer);
	return ret;
}

int qi_merge_plan_copy(const struct qi_merge *m, bool alone,
		       struct qi_plan *plan)
{
	struct qi_node *head = m->drive.head;
	struct qi_ranges *r;
	uint64_t bytes;
	int ret;

	if (!plan)
		return 0;
	ret = qi_ranges_above(&r, head, alone ? head->facts.backing : m->base,
			      head->facts.size);
	if (ret)
		return ret;
	ret = qi_ranges_sum(r, &bytes, NULL);
	qi_ranges_free(r);
	/* What cannot be read is found, and told, by the operation. */
	if (ret)
		bytes = 0;
	return qi_plan_copy(plan, head->path, m->base->path, &bytes);
}

int qi_merge_run(struct qi_merge *m, struct qi_error *e)
{
	uint64_t size = m->drive.head->facts.size;
	int ret = 0;

	m->smallest = m->base->facts.size;
	if (m->base->facts.size < size)
		ret = grow(m, size, e);
	if (!ret)
		ret = mark(m, e);
	if (!ret)
		ret = copy_data(m, e);
	return ret || m->takes_over ? ret : qi_node_end_merge(m->base, e);
}

/* -------------------------------------------------------------- records */

int qi_merge_take_over(struct qi_merge *m, bool is_head, struct qi_error *e)
{
	struct qi_carry c = carry_of(m);
	int ret;

	if (qi_node_can_store(m->base, NULL))
		return 0;
	ret = plan_take_over(m, &c, is_head, e);
	if (!ret)
		ret = qi_node_store(m->base, c.record, c.edits.changes,
				    c.edits.count, e);
	qi_carry_clear(&c);
	return ret;
}

/* Has a layer that came down got a part of what was above it still? */
static bool is_any_merging(const struct qi_merge *m)
{
	const struct qi_node *n = m->drive.head;

	while (n != m->base && !qi_node_is_merging(n))
		n = n->facts.backing;
	return n != m->base;
}

int qi_merge_end(const struct qi_merge *m, bool is_head, struct qi_error *e)
{
	return !is_head && is_any_merging(m) ? 0 :
					       qi_node_end_merge(m->base, e);
}

int qi_node_end_merge(struct qi_node *n, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	if (!qi_node_is_merging(n))
		return 0;
	if (qi_record_copy(&r, n->record))
		return qi_no_memory(e);
	r->merging = false;
	return qi_node_store(n, r, NULL, 0, e);
}
