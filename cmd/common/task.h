/* SPDX-License-Identifier: MIT */
/*
 * task.h - what a subcommand of `qimg bitmap` was told to change
 */
#ifndef QIMG_TASK_H
#define QIMG_TASK_H

#include <jansson.h>

#include "lib/qimg.h"

struct qi_bitmap_task {
	const char *drive, *node; /* paths; one is NULL */
	const char *name;
	bool strict, dry_run, quiet;
	int output, wait, progress;
};

/*
 * Add the drive (to be freed) or node to g; it is the address then, with the
 * name. Nothing is locked yet.
 */
int qi_bitmap_task_open(const struct qi_bitmap_task *t, struct qi_graph *g,
			const struct qi_open *how,
			struct qi_bitmap_address *out, struct qi_drive **drive,
			struct qi_error *e);
/* "bitmap 'NAME' of drive 'PATH'", as it can be printed. Freed by the caller.
 */
char *qi_bitmap_task_text(const struct qi_bitmap_task *t);
/*
 * Print a plan, or that it was done: `text` for people, or JSON with the
 * members of `more`, whose reference is taken. Returns the exit code.
 */
int qi_bitmap_task_report(const struct qi_bitmap_task *t,
			  const struct qi_plan *plan, const char *action,
			  json_t *more, const char *text);

/* The subcommands; they return the exit code. image NULL: --allocated. */
int qi_bitmap_run_merge(const struct qi_bitmap_task *t, char **sources,
			size_t count);
int qi_bitmap_run_populate(const struct qi_bitmap_task *t, const char *image);
int qi_bitmap_run_move(const struct qi_bitmap_task *t, const char *to_drive,
		       const char *to_node, const char *as);

#endif
