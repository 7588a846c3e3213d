/* SPDX-License-Identifier: MIT */
/*
 * repair.c - what is repaired, in which order
 *
 * Order of writes; each step is durable before the next begins:
 *
 * 1. Tables that cannot stay (impossible entries, L2 tables that are data as
 *    well, snapshots and bitmaps that cannot be) are written, corrected, to
 *    the end of the file, where nothing is. One header write switches all of
 *    them, and marks the image corrupt until the last step.
 * 2. Refcounts are corrected in place, each on its own. When blocks are lost
 *    or used for something else, all are made anew at the end of the file,
 *    the table after them, and one header write switches.
 * 3. Copied flags are corrected in place, by what refcounts now say.
 * 4. One header write clears the corrupt and the dirty bit.
 *
 * An end before a switch leaves a longer file and nothing else; after it,
 * something that the same command finishes. Nothing that was in the file
 * before is written over but refcounts and flags; what tables no longer refer
 * to becomes a leak, which is freed in step 2.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "formats/qcow2/check.h"

/* A repair can bring to light what was hidden before. */
#define MAX_ROUNDS 4

void qcow2_repair_say(struct qcow2_repair *r, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	r->changes++;
	if (!r->out->finding || r->changes > QI_CHECK_MESSAGES)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	r->out->finding(r->out->arg, text);
}

int qcow2_repair_append(struct qcow2_repair *r, const void *data, uint64_t len,
			uint64_t *off, struct qi_error *e)
{
	uint64_t padded = qi_round_up(len, r->q->cluster_size);
	QI_AUTOFREE uint8_t *tail = NULL;
	uint64_t whole = qi_round_down(len, r->q->cluster_size);
	int ret = 0;

	*off = r->end;
	if (r->end + padded > QCOW2_OFFSET_MASK)
		return qi_fail(e, EFBIG, "'%s' is too large", r->q->file->path);
	if (whole)
		ret = qi_file_write(r->q->file, r->end, whole, data, e);
	if (!ret && whole < len) {
		tail = calloc(1, r->q->cluster_size);
		if (!tail)
			return qi_no_memory(e);
		memcpy(tail, (const uint8_t *)data + whole, len - whole);
		ret = qi_file_write(r->q->file, r->end + whole,
				    r->q->cluster_size, tail, e);
	}
	r->end += padded;
	return ret;
}

/* What memory has of the tables is not what the disk has. */
static int reload(struct qcow2 *q, struct qi_error *e)
{
	qcow2_cache_forget(q->l2);
	free(q->l1);
	q->l1 = NULL;
	qcow2_refcounts_close(q);
	qcow2_bitmaps_free(q);
	return qcow2_bitmaps_load(q, e);
}

static void fix_header(struct qcow2_repair *r)
{
	struct qcow2_header *h = &r->q->h;

	if (h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA &&
	    !qcow2_has_data_file(r->q)) {
		h->autoclear &= ~(uint64_t)QCOW2_AUTOCLEAR_RAW_DATA;
		r->changed = true;
	}
	if (!h->snapshot_count &&
	    !qi_is_aligned(h->snapshots_offset, r->q->cluster_size)) {
		h->snapshots_offset = 0;
		r->changed = true;
	}
}

static int fix_tables(struct qcow2 *q, struct qi_check *out,
		      const struct qcow2_checker *found, bool *changed,
		      struct qi_error *e)
{
	struct qcow2_repair r = { .q = q,
				  .out = out,
				  .clashes = &found->clashes,
				  .move_l1 = found->l1_is_shared };
	uint64_t end = q->file->size;
	int ret;

	r.file_end = qcow2_file_end(q);
	/* A region may end in the cluster after the last. */
	r.end = (qcow2_clusters(q, q->file->size) + 1) << q->h.cluster_bits;
	fix_header(&r);
	ret = qcow2_repair_tables(&r, e);
	if (!ret)
		ret = qcow2_repair_snapshots(&r, e);
	if (!ret)
		ret = qcow2_repair_bitmaps(&r, e);
	*changed = r.changed;
	/* Nothing refers to what was appended; it must not become data. */
	if (ret && q->file->size > end && !q->file->is_device)
		qi_file_resize(q->file, end, NULL);
	if (ret || !r.changed)
		return ret;
	/* Until the refcounts know of the new tables nobody may write. */
	if (q->h.version > 2)
		q->h.incompatible |= QCOW2_INCOMPAT_CORRUPT;
	q->h.autoclear &= QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW_DATA;
	ret = qcow2_header_commit(q, e);
	return ret ? ret : reload(q, e);
}

static int fix_refcounts(struct qcow2 *q, struct qi_check *out,
			 enum qcow2_fix fix, struct qi_error *e)
{
	struct qi_check ignored = { .finding = out->finding, .arg = out->arg };
	uint64_t total = qcow2_clusters(q, q->file->size) + 1;
	struct qcow2_checker c;
	int ret = qcow2_checker_init(&c, q, &ignored, total, e);

	while (!ret && qcow2_checker_next(&c)) {
		/* What is wrong with entries was said before. */
		c.is_quiet = true;
		ret = qcow2_check_count(&c, e);
		c.is_quiet = false;
		if (!ret)
			ret = qcow2_check_compare(&c, fix, e);
	}
	qcow2_checker_free(&c);
	return ret ? ret : qi_file_sync(q->file, e);
}

static int fix_flags(struct qcow2 *q, struct qi_check *out, bool shared,
		     uint64_t *fixed, struct qi_error *e)
{
	struct qi_check ignored = { .finding = out->finding, .arg = out->arg };
	uint64_t total = qcow2_clusters(q, q->file->size) + 1;
	struct qcow2_checker c;
	int ret = qcow2_checker_init(&c, q, &ignored, total, e);

	while (!ret && qcow2_checker_next(&c)) {
		c.is_quiet = true;
		ret = qcow2_check_count(&c, e);
		if (!ret)
			ret = qcow2_check_compare(&c, QCOW2_FIX_NONE, e);
		c.is_quiet = false;
		if (!ret)
			ret = qcow2_fix_copied(&c, shared, fixed, e);
	}
	qcow2_checker_free(&c);
	return ret ? ret : qi_file_sync(q->file, e);
}

/* What one pass found. */
struct state {
	struct qi_check counts;
	uint64_t copied;
	bool refcounts_wrong, refcount_zero, needs_rebuild, is_blind;
};

/* Refcounts, then flags. *before is brought up to date. */
static int fix_counts(struct qcow2 *q, struct qi_check *out,
		      struct state *before, uint64_t *flags, struct qi_error *e)
{
	bool all = out->repair == QI_REPAIR_ALL;
	bool may_fix_flags = all;
	int ret = 0;

	if (!all && (before->refcount_zero || before->needs_rebuild ||
		     before->is_blind)) {
		/* Leaks may be in use after all. */
		out->errors++;
		return qi_fail(e, EIO,
			       "it cannot be told what is a leak in '%s'; "
			       "'qimg check -r all %s' repairs what hides it",
			       q->file->path, QI_WORD(q->file->path));
	}
	if (before->needs_rebuild && all)
		ret = qcow2_rebuild_refcounts(q, e);
	else if (before->refcounts_wrong)
		ret = fix_refcounts(q, out,
				    all ? QCOW2_FIX_ALL : QCOW2_FIX_LEAKS, e);
	/* Flags follow refcounts that are right, and nothing else. */
	if (!all)
		may_fix_flags = before->counts.corruptions == before->copied;
	if (!ret && may_fix_flags &&
	    (before->copied || before->refcounts_wrong ||
	     before->needs_rebuild))
		ret = fix_flags(q, out, all, flags, e);
	return ret ? ret : reload(q, e);
}

static int look(struct qcow2 *q, const struct qi_check *out, bool is_quiet,
		struct qcow2_checker *c, struct state *s, struct qi_error *e)
{
	bool all = out->repair == QI_REPAIR_ALL, l1_is_shared;
	struct qcow2_clashes clashes;
	int ret;

	s->counts =
		(struct qi_check){ .finding = out->finding, .arg = out->arg };
	ret = qcow2_check_pass(c, q, &s->counts, is_quiet, all, e);
	s->copied = c->copied;
	s->refcounts_wrong = c->refcounts_wrong;
	s->refcount_zero = c->refcount_zero;
	s->is_blind = c->is_blind;
	s->needs_rebuild = c->needs_rebuild || (all && c->block_outside);
	/* Of a pass only the findings are needed any longer. */
	clashes = c->clashes;
	l1_is_shared = c->l1_is_shared;
	c->clashes = (struct qcow2_clashes){ 0 };
	qcow2_checker_free(c);
	*c = (struct qcow2_checker){ .clashes = clashes,
				     .l1_is_shared = l1_is_shared };
	return ret;
}

/* One round; *again: something was changed since *now was looked at. */
static int repair_round(struct qcow2 *q, struct qi_check *out, bool is_quiet,
			struct state *first, struct state *now, uint64_t *flags,
			bool *again, struct qi_error *e)
{
	struct qcow2_checker c;
	uint64_t fixed = *flags;
	bool tables = false;
	int ret = look(q, out, is_quiet, &c, now, e);

	if (!is_quiet)
		*first = *now;
	if (!ret && out->repair == QI_REPAIR_ALL)
		ret = fix_tables(q, out, &c, &tables, e);
	free(c.clashes.cluster);
	if (!ret && tables) {
		ret = look(q, out, true, &c, now, e);
		free(c.clashes.cluster);
	}
	if (!ret && (now->refcounts_wrong || now->needs_rebuild || now->copied))
		ret = fix_counts(q, out, now, flags, e);
	*again = tables || now->refcounts_wrong || now->needs_rebuild ||
		 *flags != fixed;
	return ret;
}

/* What was wrong and no longer is. Counts can grow on the way. */
static uint64_t less(uint64_t before, uint64_t after)
{
	return before > after ? before - after : 0;
}

static int clear_bits(struct qcow2 *q, struct qi_error *e)
{
	const uint64_t bits = QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_CORRUPT;

	if (!(q->h.incompatible & bits))
		return 0;
	q->h.incompatible &= ~bits;
	return qcow2_header_commit(q, e);
}

int qcow2_check_repair(struct qcow2 *q, struct qi_check *out,
		       struct qi_error *e)
{
	struct state first = { .copied = 0 }, last = first;
	struct qcow2_checker c;
	uint64_t flags = 0;
	bool again = true;
	int ret = 0;

	for (unsigned i = 0; i < MAX_ROUNDS && again && !ret; i++)
		ret = repair_round(q, out, i > 0, &first, &last, &flags, &again,
				   e);
	if (ret)
		return ret;
	if (again) {
		ret = look(q, out, true, &c, &last, e);
		free(c.clashes.cluster);
	}
	if (!ret && !last.counts.errors && !last.counts.corruptions)
		ret = clear_bits(q, e);
	last.counts.repair = out->repair;
	last.counts.leaks_fixed = less(first.counts.leaks, last.counts.leaks);
	/* Flags that were wrong because of a refcount are not counted twice. */
	last.counts.corruptions_fixed =
		less(first.counts.corruptions - first.copied,
		     last.counts.corruptions - last.copied) +
		flags;
	*out = last.counts;
	return ret;
}
