// SPDX-License-Identifier: MIT
/*
 * task.c - what subcommands of `qimg bitmap` that change one share
 */
#include "cmd/common/task.h"

#include <stdio.h>

#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

int qi_bitmap_task_open(const struct qi_bitmap_task *t, struct qi_graph *g,
			const struct qi_open *how,
			struct qi_bitmap_address *out, struct qi_drive **drive,
			struct qi_error *e)
{
	struct qi_open chain = *how;
	int ret;

	*out = (struct qi_bitmap_address){ .name = t->name };
	if (!t->drive)
		return qi_graph_add(g, t->node, how, &out->node, e);
	/* A drive is a chain. */
	chain.no_backing = false;
	chain.strict = t->strict;
	ret = qi_drive_add(g, t->drive, &chain, drive, e);
	out->drive = *drive;
	return ret;
}

char *qi_bitmap_task_text(const struct qi_bitmap_task *t)
{
	QI_AUTO_TEXT char *name = qi_safe(t->name);
	QI_AUTO_TEXT char *of = qi_safe(t->drive ? t->drive : t->node);

	return qi_xprintf("bitmap '%s' of %s '%s'", name,
			  t->drive ? "drive" : "node", of);
}

static void print_json(const struct qi_bitmap_task *t,
		       const struct qi_plan *plan, const char *action,
		       json_t *more)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, t->drive ? "drive" : "node",
		       qi_json_text(t->drive ? t->drive : t->node));
	qi_json_member(&j, "bitmap", qi_json_text(t->name));
	qi_json_member(&j, "action", json_string(action));
	for (void *i = json_object_iter(more); i;
	     i = json_object_iter_next(more, i))
		qi_json_member(&j, json_object_iter_key(i),
			       json_incref(json_object_iter_value(i)));
	qi_json_member(&j, "dry-run", json_boolean(t->dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

int qi_bitmap_task_report(const struct qi_bitmap_task *t,
			  const struct qi_plan *plan, const char *action,
			  json_t *more, const char *text)
{
	if (t->output == QI_OUTPUT_JSON)
		print_json(t, plan, action, more);
	else if (t->dry_run)
		qi_print_plan(plan);
	else if (!t->quiet)
		puts(text);
	json_decref(more);
	return QI_EXIT_OK;
}
