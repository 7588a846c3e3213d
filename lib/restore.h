/* SPDX-License-Identifier: MIT */
/* restore.h - drives on their way out of a repository */
#ifndef QI_RESTORE_H
#define QI_RESTORE_H

#include "lib/drive.h"
#include "lib/repo.h"

/* What belongs to one drive of a restore while it goes on. */
struct qi_restore_job {
	const struct qi_point_drive *from;
	struct qi_node *source;
	struct qi_expected *expected;
	struct qi_create create;
	char *options; /* of that, malloc'd */
	/* In place: */
	struct qi_drive *target;
	struct qi_file *alone; /* of a device: nobody mounts it meanwhile */
	struct qi_hash_compare compare;
};

/* Is there a device? */
bool qi_is_device(const char *path);
int qi_restore_open_target(struct qi_graph *g, const struct qi_restore *r,
			   struct qi_restored *d, struct qi_error *e);
int qi_restore_plan_target(const struct qi_restore *r, struct qi_restored *d,
			   const struct qi_progress *progress,
			   struct qi_error *e);
int qi_restore_write_target(const struct qi_restore *r, struct qi_restored *d,
			    const struct qi_progress *progress,
			    struct qi_error *e);

#endif
