// SPDX-License-Identifier: MIT
/*
 * change.c - what a command has done to the layers of a drive
 */
#include "cmd/common/change.h"

#include <stdio.h>

#include "cmd/common/json.h"
#include "cmd/common/option.h"
#include "cmd/common/print.h"

static void print_json(const struct qi_change_report *r,
		       const struct qi_change *c, const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "drive", qi_json_text(r->drive));
	qi_json_member(&j, r->old_key,
		       qi_json_text(*c->old_head ? c->old_head : NULL));
	qi_json_member(&j, r->new_key ? r->new_key : "head",
		       qi_json_text(c->new_head));
	if (r->has_bytes)
		qi_json_member(&j, "bytes",
			       qi_json_uint(r->dry_run ? plan->bytes :
							 c->bytes));
	qi_json_member(&j, "dry-run", json_boolean(r->dry_run));
	qi_json_member(&j, "nothing-to-do", json_boolean(c->is_nothing));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	if (*c->problem)
		qi_json_member(&j, "problem", qi_json_text(c->problem));
	qi_json_end(&j, 0, NULL);
}

static void print_text(const struct qi_change_report *r,
		       const struct qi_change *c, const struct qi_plan *plan)
{
	QI_AUTO_TEXT char *drive = qi_safe(r->drive);
	QI_AUTO_TEXT char *old = qi_safe(c->old_head);
	QI_AUTO_TEXT char *new = qi_safe(c->new_head);
	QI_AUTO_TEXT char *step = NULL;

	if (c->is_nothing && plan->count) {
		step = qi_safe(plan->steps[plan->count - 1]);
		printf("drive '%s': %s\n", drive, step);
		return;
	}
	r->print(drive, old, new, c->bytes);
}

int qi_report_change(const struct qi_change_report *r,
		     const struct qi_change *c, const struct qi_plan *plan)
{
	if (r->output == QI_OUTPUT_JSON)
		print_json(r, c, plan);
	else if (r->dry_run)
		qi_print_plan(plan);
	else if (!r->quiet)
		print_text(r, c, plan);
	if (!*c->problem)
		return QI_EXIT_OK;
	qi_say_warning("%s", c->problem);
	return QI_EXIT_WARNING;
}
