/* SPDX-License-Identifier: MIT */
/*
 * change.h - what a command has done to the layers of a drive
 */
#ifndef QIMG_CHANGE_H
#define QIMG_CHANGE_H

#include "lib/qimg.h"

struct qi_change_report {
	const char *drive;
	const char *old_key; /* in JSON, of the head before */
	const char *new_key; /* of the one after; NULL: "head" */
	bool has_bytes;
	int output;
	bool dry_run, quiet;
	/* The line for people; the paths can be printed as they are. */
	void (*print)(const char *drive, const char *old_head,
		      const char *new_head, uint64_t bytes);
};

/* Print it, warnings too; returns the exit code. */
int qi_report_change(const struct qi_change_report *r,
		     const struct qi_change *c, const struct qi_plan *plan);

#endif
