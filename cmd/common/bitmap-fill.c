// SPDX-License-Identifier: MIT
/*
 * bitmap-fill.c - qimg bitmap merge, qimg bitmap populate
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/common/task.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

/* ------------------------------------------------------------------ merge */

static int merge(const struct qi_bitmap_task *t, char **sources, size_t count,
		 struct qi_bitmap_address *from, struct qi_plan *plan,
		 struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	const struct qi_open how = { .access = QI_ACCESS_WRITE,
				     .no_backing = true };
	struct qi_bitmap_merge m = { .sources = from, .count = count };
	int ret = qi_bitmap_task_open(t, g, &how, &m.into, &d, e);

	for (size_t i = 0; i < count && ret >= 0; i++)
		ret = qi_bitmap_source(g, &m.into, sources[i], &from[i], e);
	if (ret >= 0)
		ret = qi_graph_lock(g, t->wait, e);
	return ret < 0 ? ret : qi_bitmap_merge(&m, plan, t->dry_run, e);
}

int qi_bitmap_run_merge(const struct qi_bitmap_task *t, char **sources,
			size_t count)
{
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	QI_AUTO_TEXT char *into = qi_bitmap_task_text(t);
	QI_AUTO_TEXT char *text = NULL;
	struct qi_bitmap_address *from =
		qi_xrealloc(NULL, count * sizeof(*from));
	struct qi_error e = { "" };
	json_t *list = json_array();
	int ret = merge(t, sources, count, from, &plan, &e);

	free(from);
	if (ret < 0) {
		json_decref(list);
		return qi_report(ret, &e);
	}
	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, qi_json_text(sources[i]));
	text = qi_xprintf("merged %zu bitmap%s into %s", count,
			  count == 1 ? "" : "s", into);
	return qi_bitmap_task_report(t, &plan, "merged",
				     json_pack("{s:o}", "sources", list), text);
}

/* --------------------------------------------------------------- populate */

static int populate(const struct qi_bitmap_task *t, const char *image,
		    struct qi_plan *plan, uint64_t *bytes, struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	const struct qi_open how = { .access = QI_ACCESS_WRITE,
				     .no_backing = !image };
	const struct qi_open other = { .access = QI_ACCESS_READ };
	struct qi_bitmap_populate p = { .image = NULL };
	int ret = qi_bitmap_task_open(t, g, &how, &p.into, &d, e);

	if (ret >= 0 && image)
		ret = qi_graph_add(g, image, &other, &p.image, e);
	if (ret >= 0)
		ret = qi_graph_lock(g, t->wait, e);
	if (ret < 0)
		return ret;
	p.progress = qi_progress_start(t->progress, "populate");
	ret = qi_bitmap_populate(&p, plan, t->dry_run, bytes, e);
	qi_progress_end(ret);
	return ret;
}

int qi_bitmap_run_populate(const struct qi_bitmap_task *t, const char *image)
{
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	QI_AUTO_TEXT char *into = qi_bitmap_task_text(t);
	QI_AUTO_TEXT char *other = qi_safe(image ? image : "");
	QI_AUTO_TEXT char *text = NULL;
	struct qi_error e = { "" };
	char human[QI_HUMAN];
	uint64_t bytes = 0;
	int ret = populate(t, image, &plan, &bytes, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	qi_human_size(human, bytes);
	text = image ? qi_xprintf("populated %s: %s differ from '%s'", into,
				  human, other) :
		       qi_xprintf("populated %s: %s are allocated", into,
				  human);
	return qi_bitmap_task_report(t, &plan, "populated",
				     json_pack("{s:o, s:o}", "differs-from",
					       qi_json_text(image), "bytes",
					       qi_json_uint(bytes)),
				     text);
}
