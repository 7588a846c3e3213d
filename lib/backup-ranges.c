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

static int take_differing(struct qi_backup_source *s, uint64_t unit,
			  struct qi_ranges **out, struct qi_error *e)
{
	struct qi_ranges *r = s->differs;

	s->differs = NULL;
	return qi_ranges_round(out, r, qi_max(unit, QI_HASH_UNIT),
			       s->out->size) ?
		       qi_no_memory(e) :
		       0;
}

int qi_backup_ranges(struct qi_backup_source *s, uint64_t unit,
		     struct qi_ranges **out, struct qi_error *e)
{
	*out = NULL;
	switch (s->out->type) {
	case QI_BACKUP_INCREMENTAL:
		return find_dirty(s, unit, out, e);
	case QI_BACKUP_RESYNC:
		return take_differing(s, unit, out, e);
	default:
		return 0;
	}
}
