/* SPDX-License-Identifier: MIT */
/*
 * checked.h - what a check has found, as text, JSON and exit code
 */
#ifndef QIMG_CHECKED_H
#define QIMG_CHECKED_H

#include <jansson.h>

#include "lib/qimg.h"

/* Exit codes of qemu-img check */
enum {
	QI_CHECK_CLEAN = 0,
	QI_CHECK_NOT_DONE = 1,
	QI_CHECK_CORRUPT = 2,
	QI_CHECK_LEAKS = 3,
	QI_CHECK_UNSUPPORTED = 63,
};

/* For qi_check.finding: a line on stderr. */
void qi_checked_finding(void *arg, const char *text);
/*
 * Check, repair if wanted, and check what was repaired; shown: that is said in
 * between.
 */
int qi_checked_run(struct qi_node *n, struct qi_check *check, bool shown,
		   struct qi_error *e);
void qi_checked_text(const struct qi_check *c);
json_t *qi_checked_json(const struct qi_check *c,
			const struct qi_node_facts *facts);
int qi_checked_code(const struct qi_check *c);

#endif
