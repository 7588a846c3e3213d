/* SPDX-License-Identifier: MIT */
/* audit.c - has a bitmap missed what was written since a point? */
#include "lib/backup.h"
#include "lib/ranges.h"

struct side {
	struct qi_ranges *ranges;
	struct qi_range at; /* the first that ends after where we are */
};

static int advance(struct side *s, uint64_t pos, struct qi_error *e)
{
	int ret = 0;

	while (ret >= 0 && s->at.off + s->at.len <= pos) {
		ret = qi_ranges_next(s->ranges, &s->at, e);
		if (!ret)
			s->at = (struct qi_range){ UINT64_MAX, 0 };
	}
	return ret < 0 ? ret : 0;
}

/* Where what is so at `pos` on this side ends. */
static uint64_t end_of(const struct side *s, uint64_t pos)
{
	return s->at.off > pos ? s->at.off : s->at.off + s->at.len;
}

/* 1 and what comes next on either side, from *pos on; 0 at the end of both. */
static int next(struct side *differs, struct side *dirty, uint64_t *pos,
		bool has_bitmap, enum qi_audit_kind *kind, struct qi_range *out,
		struct qi_error *e)
{
	int ret = advance(differs, *pos, e);

	if (!ret)
		ret = advance(dirty, *pos, e);
	if (ret < 0)
		return ret;
	*pos = qi_max(*pos, qi_min(differs->at.off, dirty->at.off));
	if (*pos == UINT64_MAX)
		return 0;
	out->off = *pos;
	if (differs->at.off > *pos)
		*kind = QI_AUDIT_SPARE;
	else if (has_bitmap && dirty->at.off > *pos)
		*kind = QI_AUDIT_MISSED;
	else
		*kind = QI_AUDIT_EXPECTED;
	*pos = qi_min(end_of(differs, *pos), end_of(dirty, *pos));
	out->len = *pos - out->off;
	return 1;
}

static int report(struct qi_audit *a, struct qi_ranges *differs,
		  struct qi_ranges *dirty, struct qi_error *e)
{
	struct side one = { .ranges = differs }, other = { .ranges = dirty };
	enum qi_audit_kind kind;
	struct qi_range r;
	uint64_t pos = 0;
	int ret;

	while ((ret = next(&one, &other, &pos, a->bitmap, &kind, &r, e)) > 0) {
		a->bytes[kind] += r.len;
		if (a->finding)
			a->finding(a->arg, kind, &r);
	}
	return ret;
}

static int compare(struct qi_backup_work *w, struct qi_audit *a,
		   struct qi_error *e)
{
	struct qi_backup_source *s = w->sources;
	struct qi_rate rate = QI_RATE(a->rate);
	struct qi_hash_compare c = { .tree = s->below,
				     .node = s->drive->head,
				     .size = s->out->size,
				     .threads = a->threads,
				     .rate = a->rate ? &rate : NULL,
				     .progress = a->progress };
	struct qi_ranges *differs = NULL, *dirty = NULL;
	int ret;

	a->point = &w->r->points[qi_repo_index(w->r, s->out->parent)];
	if (s->dirty)
		ret = qi_backup_ranges(s, QI_HASH_UNIT, &dirty, e);
	else
		ret = qi_ranges_one(&dirty, 0, 0) ? qi_no_memory(e) : 0;
	if (!ret)
		ret = qi_hash_tree_compare(&c, e);
	if (!ret && qi_ranges_list(&differs, c.ranges, c.count))
		ret = qi_no_memory(e);
	if (!ret)
		ret = report(a, differs, dirty, e);
	free(c.ranges);
	qi_ranges_free(differs);
	qi_ranges_free(dirty);
	return ret;
}

int qi_repo_audit(struct qi_repo *r, struct qi_drive *d, struct qi_audit *a,
		  struct qi_error *e)
{
	/* What a backup would do, up to where it begins to write. */
	const struct qi_backup b = {
		.type = a->bitmap ? QI_BACKUP_INCREMENTAL : QI_BACKUP_RESYNC,
		.drives = &d,
		.drive_count = 1,
		.name = a->name,
		.bitmap = a->bitmap,
	};
	struct qi_backup_work w = {
		.r = r, .b = &b, .at = a->point, .only_reads = true
	};
	struct qi_plan plan = { 0 };
	int ret = qi_backup_plan(&w, &plan, e);

	memset(a->bytes, 0, sizeof(a->bytes));
	if (!ret)
		ret = compare(&w, a, e);
	qi_plan_free(&plan);
	qi_backup_work_clear(&w);
	return ret;
}
