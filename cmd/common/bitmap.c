// SPDX-License-Identifier: MIT
/*
 * bitmap.c - one bitmap for people and as JSON
 */
#include "cmd/common/bitmap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/measure.h"
#include "cmd/common/print.h"

#define BAR_CELLS 64

/* What is shown, whether it belongs to a drive or a node. */
struct view {
	const struct qi_bitmap_show *ask;
	uint64_t size; /* of the disk */
	uint32_t granularity;
	const char *state;
	struct qi_uuid checkpoint;
	struct qi_dirty *dirty; /* drive only */
	struct qi_ranges *ranges;
	uint64_t cell[BAR_CELLS]; /* dirty bytes in each part of the disk */
	uint64_t bytes, extents;
	struct qi_json json;
};

/* Bytes of the disk that one character of the bar stands for. */
static uint64_t cell_size(const struct view *v)
{
	return v->size / BAR_CELLS + 1;
}

/* ---------------------------------------------------------------- text */

static void text_begin(const struct view *v)
{
	const char *path = v->ask->drive ? v->ask->drive : v->ask->node;
	QI_AUTO_TEXT char *name = qi_safe(v->ask->name);
	QI_AUTO_TEXT char *safe = qi_safe(path);
	char human[QI_HUMAN], uuid[QI_UUID_TEXT];

	printf("bitmap: %s\n%s: %s\nstate: %s\ngranularity: %s\n", name,
	       v->ask->drive ? "drive" : "node", safe, v->state,
	       qi_human_size(human, v->granularity));
	if (v->dirty)
		printf("checkpoint: %s\n", qi_human_uuid(uuid, &v->checkpoint));
}

static void text_layer(const struct qi_layer *l)
{
	QI_AUTO_TEXT char *path = qi_safe(qi_node_facts(l->node)->path);

	printf("    %s: %s%s%s%s", path, qi_colour(qi_status_colour(l->status)),
	       qi_layer_status_name(l->status), qi_colour(QI_PLAIN),
	       l->anchor ? ", anchor" : "");
	if (l->reason[0])
		printf(" (%s)", l->reason);
	putchar('\n');
}

/* One character for each part of the disk, darker where more is dirty. */
static void text_bar(const struct view *v)
{
	static const char *const utf8[] = { " ", "░", "▒", "▓", "█" };
	static const char *const ascii[] = { " ", ".", ":", "+", "#" };
	const char *const *shade = qi_is_utf8() ? utf8 : ascii;

	putchar('[');
	for (int i = 0; i < BAR_CELLS; i++) {
		double share = (double)v->cell[i] / (double)cell_size(v);
		int level = share >= 0.99 ? 4 : 1 + (int)(share * 3);

		fputs(shade[v->cell[i] ? level : 0], stdout);
	}
	puts("]");
}

static void text_end(const struct view *v)
{
	char dirty[QI_HUMAN], size[QI_HUMAN];
	double share = v->size ? 100 * (double)v->bytes / (double)v->size : 0;

	if (isatty(STDOUT_FILENO) && v->size)
		text_bar(v);
	printf("dirty: %s (%" PRIu64 " bytes) in %" PRIu64
	       " extent%s, %.2f%% of %s",
	       qi_human_size(dirty, v->bytes), v->bytes, v->extents,
	       v->extents == 1 ? "" : "s", share, qi_human_size(size, v->size));
	if (v->dirty)
		printf(", %s%s",
		       qi_layer_status_name(qi_dirty_status(v->dirty)),
		       qi_dirty_has_gap(v->dirty) ? ", with a gap" : "");
	putchar('\n');
}

/* ---------------------------------------------------------------- JSON */

static void json_begin(struct view *v)
{
	struct qi_json *j = &v->json;

	qi_json_begin(j);
	qi_json_member(j, v->ask->drive ? "drive" : "node",
		       qi_json_text(v->ask->drive ? v->ask->drive :
						    v->ask->node));
	qi_json_member(j, "bitmap", qi_json_text(v->ask->name));
	qi_json_member(j, "state", json_string(v->state));
	qi_json_member(j, "granularity", qi_json_uint(v->granularity));
	qi_json_member(j, "virtual-size", qi_json_uint(v->size));
	if (!v->dirty)
		return;
	qi_json_member(j, "checkpoint", qi_json_uuid(&v->checkpoint));
	qi_json_member(
		j, "status",
		json_string(qi_layer_status_name(qi_dirty_status(v->dirty))));
	qi_json_member(j, "gap", json_boolean(qi_dirty_has_gap(v->dirty)));
}

static json_t *layer_json(const struct qi_layer *l)
{
	return json_pack("{s:o, s:s, s:b, s:o}", "node",
			 qi_json_text(qi_node_facts(l->node)->path), "status",
			 qi_layer_status_name(l->status), "anchor", l->anchor,
			 "reason",
			 l->reason[0] ? qi_json_text(l->reason) : json_null());
}

/* ---------------------------------------------------------------- both */

static void show_layers(struct view *v)
{
	size_t count;
	const struct qi_layer *l = qi_dirty_layers(v->dirty, &count);

	if (v->ask->json)
		qi_json_list_begin(&v->json, "layers");
	else
		puts("layers:");
	for (size_t i = 0; i < count; i++) {
		if (v->ask->json)
			qi_json_element(&v->json, layer_json(&l[i]));
		else
			text_layer(&l[i]);
	}
	if (v->ask->json)
		qi_json_list_end(&v->json);
}

/* Add a range to the parts of the disk that it covers. */
static void count_range(struct view *v, const struct qi_range *r)
{
	uint64_t off = r->off, end = r->off + r->len;

	v->bytes += r->len;
	v->extents++;
	while (off < end) {
		uint64_t index = off / cell_size(v);
		uint64_t stop = (index + 1) * cell_size(v);

		if (index >= BAR_CELLS)
			break;
		if (stop > end)
			stop = end;
		v->cell[index] += stop - off;
		off = stop;
	}
}

static int show_ranges(struct view *v, struct qi_error *e)
{
	const bool json = v->ask->json;
	struct qi_range r;
	int ret;

	if (json)
		qi_json_list_begin(&v->json, "extents");
	while ((ret = qi_ranges_next(v->ranges, &r, e)) > 0) {
		if (!json && !v->extents)
			printf("%-16s%s\n", "Offset", "Length");
		count_range(v, &r);
		if (json)
			qi_json_element(&v->json,
					json_pack("{s:o, s:o}", "offset",
						  qi_json_uint(r.off), "length",
						  qi_json_uint(r.len)));
		else
			printf("%#-16" PRIx64 "%#" PRIx64 "\n", r.off, r.len);
	}
	if (!json && ret >= 0)
		text_end(v);
	if (!json)
		return ret;
	qi_json_list_end(&v->json);
	if (ret >= 0)
		qi_json_member(&v->json, "dirty-bytes", qi_json_uint(v->bytes));
	return ret;
}

static int show(struct view *v, struct qi_error *e)
{
	int ret;

	if (v->ask->json)
		json_begin(v);
	else
		text_begin(v);
	if (v->dirty)
		show_layers(v);
	ret = show_ranges(v, e);
	if (v->ask->json)
		qi_json_end(&v->json, ret, e);
	return ret;
}

static int show_node(struct view *v, struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = v->ask->how;
	struct qi_bitmap_facts *all;
	const struct qi_bitmap_facts *b;
	struct qi_node *n;
	int ret;

	how.no_backing = true;
	ret = qi_open_image(g, v->ask->node, &how, v->ask->wait, &n, e);
	if (ret < 0)
		return ret;
	b = qi_find_bitmap(n, v->ask->name, &all, &ret, e);
	if (b) {
		v->size = qi_node_facts(n)->size;
		v->granularity = b->granularity;
		v->state = qi_bitmap_state(b);
		ret = qi_node_bitmap_ranges(n, v->ask->name, &v->ranges, e);
	}
	if (ret >= 0) {
		ret = show(v, e);
		qi_ranges_free(v->ranges);
	}
	free(all);
	return ret;
}

/* State and granularity of a drive bitmap, which the dirty set lacks. */
static int describe(struct view *v, struct qi_drive *d, struct qi_error *e)
{
	struct qi_drive_bitmap *all = NULL;
	size_t count = 0;
	int ret = qi_drive_bitmaps(d, &all, &count, e);

	for (size_t i = 0; ret >= 0 && i < count; i++) {
		if (strcmp(all[i].name, v->ask->name) != 0)
			continue;
		v->granularity = all[i].granularity;
		v->state = all[i].paused ? "paused" : "enabled";
	}
	free(all);
	return ret;
}

static int show_drive(struct view *v, struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	int ret = qi_open_drive(g, v->ask->drive, &v->ask->how, v->ask->wait,
				&d, e);

	if (ret < 0)
		return ret;
	ret = qi_dirty_new(d, v->ask->name, &v->dirty, e);
	if (ret < 0)
		return ret;
	v->size = qi_node_facts(qi_drive_head(d))->size;
	v->state = "unknown";
	v->checkpoint = qi_dirty_checkpoint(v->dirty);
	ret = describe(v, d, e);
	if (ret >= 0) {
		ret = qi_dirty_ranges(v->dirty, &v->ranges);
		if (ret < 0)
			qi_fail(e, -ret, "the dirty set cannot be read");
	}
	if (ret >= 0) {
		ret = show(v, e);
		qi_ranges_free(v->ranges);
	}
	qi_dirty_free(v->dirty);
	return ret;
}

int qi_bitmap_show(const struct qi_bitmap_show *s)
{
	struct view v = { .ask = s };
	struct qi_error e = { "" };
	int ret = s->drive ? show_drive(&v, &e) : show_node(&v, &e);

	return ret < 0 ? qi_report(ret, &e) : QI_EXIT_OK;
}
