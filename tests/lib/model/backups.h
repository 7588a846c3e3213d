/* SPDX-License-Identifier: MIT */
/* backups.h - steps that back up the drive by its first bitmap */
#ifndef MODEL_BACKUPS_H
#define MODEL_BACKUPS_H

#include "tests/lib/model/bitmaps.h"

/* Then the repository starts anew: a long life must not fill the disk. */
#define MAX_POINTS 20

static void check_restore(void)
{
	if (!ours(0, "restore", "--force", "--from", "repo", "-O", "raw",
		  "restored.raw"))
		return;
	compare_file("restored.raw", m.guest, m.size);
	if (one_in(6))
		ours(0, "backup", "verify", "--read-data", "repo");
}

static enum outcome back_up(bool full)
{
	struct bitmap *b = &m.bitmap[0];
	bool can = full ||
		   (m.has_point && m.is_continued && !m.has_gap && !b->is_full);
	const char *how = full ? "--full" : "--incremental";
	/* Without a repository there is nothing to look into. */
	int want = can ? 0 : m.has_point ? 6 : 1;

	/* What a foreign commit leaves may do, or be refused. */
	if (!full && m.is_unsure && m.has_point)
		want = OK_OR_REFUSED;
	if (!ours(want, "backup", how, "--drive", drive, "--bitmap", b->name,
		  "--to", "repo"))
		return REFUSED;
	note_start(b);
	m.has_point = m.is_continued = true;
	check_restore();
	return DONE;
}

static enum outcome step_full_backup(void)
{
	if (m.points++ == MAX_POINTS) {
		call("rm", "-rf", "repo");
		m.points = 0;
		m.has_point = false;
	}
	return back_up(true);
}

static enum outcome step_incremental_backup(void)
{
	m.points++;
	return back_up(false);
}

#endif
