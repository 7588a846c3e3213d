// SPDX-License-Identifier: MIT
/*
 * bitmap-list.c - qimg bitmap list: all bitmaps of a drive or of images
 */
#include "cmd/common/bitmap.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/measure.h"
#include "cmd/common/print.h"

/* Where a list goes: rows of a table, or elements of a document. */
struct listing {
	const struct qi_bitmap_list *ask;
	struct qi_table table;
	struct qi_json json;
};

static void begin(struct listing *l)
{
	l->table.columns = l->ask->drive ? 6 : 5;
	l->table.right = 1u << 3 | 1u << 4;
	if (l->ask->json) {
		qi_json_begin(&l->json);
		qi_json_list_begin(&l->json, "bitmaps");
	}
}

/* Not before there is something to list: a failure prints no empty table. */
static void head(struct listing *l)
{
	static const char *const titles[] = { "NAME",  "ATTACHED TO",
					      "STATE", "GRANULARITY",
					      "DIRTY", "STATUS" };
	const bool empty = !l->table.count;

	for (unsigned i = 0; empty && i < l->table.columns; i++)
		qi_table_add(&l->table, titles[i]);
}

static void text_row(struct listing *l, const struct qi_measured *b,
		     const char *path)
{
	const char *kind = b->of_drive			? "drive" :
			   b->attachment == QI_ON_DRIVE ? "drive, in" :
							  "node";
	QI_AUTO_TEXT char *where = qi_xprintf("%s %s", kind, path);
	QI_AUTO_TEXT char *status = NULL;
	char human[QI_HUMAN];

	head(l);
	qi_table_add(&l->table, b->name);
	qi_table_add(&l->table, where);
	qi_table_add(&l->table, b->state);
	qi_table_add(&l->table, qi_human_size(human, b->granularity));
	qi_table_add(&l->table,
		     b->known ? qi_human_size(human, b->bytes) : "-");
	if (!b->of_drive)
		return;
	status = qi_xprintf("%s%s", b->status ? b->status : "-",
			    b->gap ? ", with a gap" : "");
	qi_table_add(&l->table, status);
}

static void json_row(struct listing *l, const struct qi_measured *b,
		     const char *path)
{
	json_t *o = qi_measured_json(b);

	json_object_set_new(o, b->of_drive ? "drive" : "node",
			    qi_json_text(path));
	qi_json_element(&l->json, o);
}

static void rows(struct listing *l, const struct qi_measured *all, size_t count,
		 const char *path)
{
	for (size_t i = 0; i < count; i++) {
		if (l->ask->json)
			json_row(l, &all[i], path);
		else
			text_row(l, &all[i], path);
		if (all[i].error)
			qi_say_warning("%s", all[i].error);
	}
}

static int list_node(struct listing *l, const char *path, struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = {
		.access = QI_ACCESS_NONE,
		.force_share = l->ask->force_share,
		.no_backing = true,
	};
	struct qi_measured *all = NULL;
	struct qi_node *n;
	size_t count = 0;
	int ret = qi_graph_add(g, path, &how, &n, e);

	if (ret < 0)
		return ret;
	if (qi_node_bitmaps_problem(n))
		qi_say_warning("'%s': %s", path, qi_node_bitmaps_problem(n));
	ret = qi_measure_node(n, &all, &count, e);
	rows(l, all, count, path);
	qi_measured_free(all, count);
	return ret;
}

static int list_drive(struct listing *l, const char *path, struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	struct qi_open how = {
		.access = QI_ACCESS_NONE,
		.force_share = l->ask->force_share,
		.strict = l->ask->strict,
	};
	struct qi_measured *all = NULL;
	size_t count = 0;
	int ret = qi_drive_add(g, path, &how, &d, e);

	if (ret >= 0)
		ret = qi_drive_check_strict(d, e);
	if (ret >= 0)
		ret = qi_measure_drive(d, &all, &count, e);
	rows(l, all, count, path);
	qi_measured_free(all, count);
	return ret;
}

static int list_all(struct listing *l, struct qi_error *e)
{
	const struct qi_bitmap_list *ask = l->ask;
	int ret = 0;

	if (ask->drive)
		return list_drive(l, ask->drive, e);
	if (ask->node)
		return list_node(l, ask->node, e);
	for (int i = 0; i < ask->path_count && ret >= 0; i++)
		ret = list_node(l, ask->paths[i], e);
	return ret;
}

int qi_bitmap_list(const struct qi_bitmap_list *ask)
{
	struct listing l = { .ask = ask };
	struct qi_error e = { "" };
	int ret;

	begin(&l);
	ret = list_all(&l, &e);
	if (ask->json)
		qi_json_end(&l.json, ret, &e);
	else if (ret >= 0)
		head(&l);
	qi_table_print(&l.table);
	return ret < 0 ? qi_report(ret, &e) : QI_EXIT_OK;
}
