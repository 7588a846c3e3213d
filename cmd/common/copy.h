/* SPDX-License-Identifier: MIT */
/*
 * copy.h - copying an image into a new one
 */
#ifndef QIMG_COPY_H
#define QIMG_COPY_H

#include "cmd/common/option.h"
#include "lib/qimg.h"

/*
 * qi_convert_image() with progress, and with the options of -o. `what` is the
 * name of the operation. dry_run: only find out whether it can be done.
 */
int qi_copy_image(struct qi_node *source, const char *path, const char *what,
		  struct qi_convert *c, const struct qi_list *options,
		  int progress, bool dry_run, struct qi_copy_stats *stats,
		  struct qi_error *e);

#endif
