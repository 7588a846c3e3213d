/* SPDX-License-Identifier: MIT */
/* commit.h - what other operations want of the commit of a head */
#ifndef QI_COMMIT_H
#define QI_COMMIT_H

#include "lib/drive.h"

/*
 * Remove old heads of drive links that an ended run has committed into the
 * present one; only one made by the snapshot `tag`, if not NULL. 1: found one.
 */
int qi_commit_finish(struct qi_drive *d, const char *tag, struct qi_plan *plan,
		     bool dry_run, struct qi_change *out, struct qi_error *e);
/* qi_commit_drive() without a look at runs that were ended. */
int qi_commit_layers(struct qi_drive *d, const struct qi_commit *c,
		     struct qi_plan *plan, bool dry_run, struct qi_change *out,
		     struct qi_error *e);

#endif
