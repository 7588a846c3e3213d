/* SPDX-License-Identifier: MIT */
/*
 * point.h - restore points for people and as JSON
 */
#ifndef QIMG_CMD_POINT_H
#define QIMG_CMD_POINT_H

#include <jansson.h>

#include "cmd/common/print.h"
#include "lib/qimg.h"

json_t *qi_point_json(const struct qi_point *p);

/* The table of `qimg backup list`. */
void qi_point_table_head(struct qi_table *t);
void qi_point_table_row(struct qi_table *t, const struct qi_point *p);

/* The line after a backup; dry runs have none. */
void qi_point_summary(const struct qi_point *p);
/*
 * A warning for each drive whose dirty set was not exact, or that --auto could
 * not back up by increment: true if there is one of the latter.
 */
bool qi_point_warn(const struct qi_point *p, bool was_auto);

#endif
