/* SPDX-License-Identifier: MIT */
/* backup-ranges.c - which parts of a drive a restore point stores */
#include <errno.h>

#include "lib/backup.h"
#include "lib/ranges.h"

/* ----------------------------------------------------------- increments */

/*
 * What an increment stores, in whole units: what is dirty, and where the disk
 * got another size, the chunk in which the smaller one ends.
 */
static int find_dirty(const struct qi_backup_source *s, uint64_t unit,
		      struct qi_ranges **out, struct qi_error *e)
{
	struct qi_ranges *in[2] = { NULL }, *all;
	uint64_t old = qi_hash_tree_size(s->below), size = s->out->size;
	uint64_t last = qi_min(old, size);
	int ret = qi_dirty_ranges(s->dirty, &in[0]);

	if (!ret)
		ret = qi_ranges_one(&in[1], last ? last - 1 : 0,
				    last && old != size);
	ret = qi_ranges_collect(&all, in, 2, ret);
	if (!ret)
		ret = qi_ranges_round(out, all, qi_max(unit, QI_HASH_UNIT),
				      size);
	return ret ? qi_no_memory(e) : 0;
}

/* ------------------------------------------------------------- comparing */

static int find_differing(const struct qi_backup_work *w,
			  struct qi_backup_source *s, uint64_t unit,
			  struct qi_ranges **out, struct qi_error *e)
{
	uint64_t size = s->out->size;
	struct qi_difference d;
	struct qi_ranges *r = NULL;
	int ret = qi_hash_tree_compare(s->below, s->drive->head, size,
				       w->b->threads, &w->b->progress, &d, e);

	if (!ret && (qi_ranges_list(&r, d.ranges, d.count) ||
		     qi_ranges_round(out, r, qi_max(unit, QI_HASH_UNIT), size)))
		ret = qi_no_memory(e);
	s->out->dirty = d.bytes;
	free(d.ranges);
	return ret;
}

int qi_backup_ranges(const struct qi_backup_work *w, struct qi_backup_source *s,
		     uint64_t unit, struct qi_ranges **out, struct qi_error *e)
{
	*out = NULL;
	switch (s->out->type) {
	case QI_BACKUP_INCREMENTAL:
		return find_dirty(s, unit, out, e);
	case QI_BACKUP_RESYNC:
		return find_differing(w, s, unit, out, e);
	default:
		return 0;
	}
}
