// SPDX-License-Identifier: MIT
/*
 * bitmap-move.c - qimg bitmap move
 */
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/task.h"

static int move(const struct qi_bitmap_task *from,
		const struct qi_bitmap_task *to, struct qi_plan *plan,
		struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL, *other = NULL;
	const struct qi_open how = { .access = QI_ACCESS_WRITE,
				     .no_backing = true };
	struct qi_bitmap_move m;
	int ret = qi_bitmap_task_open(from, g, &how, &m.from, &d, e);

	if (ret >= 0)
		ret = qi_bitmap_task_open(to, g, &how, &m.to, &other, e);
	if (ret < 0)
		return ret;
	qi_bitmap_move_prepare(&m);
	ret = qi_graph_lock(g, from->wait, e);
	return ret < 0 ? ret : qi_bitmap_move(&m, plan, from->dry_run, e);
}

int qi_bitmap_run_move(const struct qi_bitmap_task *t, const char *to_drive,
		       const char *to_node, const char *as)
{
	const struct qi_bitmap_task to = { .drive = to_drive,
					   .node = to_node,
					   .name = as ? as : t->name,
					   .strict = t->strict };
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	QI_AUTO_TEXT char *from_text = qi_bitmap_task_text(t);
	QI_AUTO_TEXT char *to_text = qi_bitmap_task_text(&to);
	QI_AUTO_TEXT char *text = NULL;
	struct qi_error e = { "" };
	int ret = move(t, &to, &plan, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	text = qi_xprintf("moved %s: it is %s now", from_text, to_text);
	return qi_bitmap_task_report(
		t, &plan, "moved",
		json_pack("{s:o, s:o}", to_drive ? "to-drive" : "to-node",
			  qi_json_text(to_drive ? to_drive : to_node), "as",
			  qi_json_text(to.name)),
		text);
}
