// SPDX-License-Identifier: MIT
/*
 * tree-json.c - a tree of images as a JSON document
 */
#include "cmd/common/json.h"
#include "cmd/common/tree.h"

static json_t *bitmaps_json(const struct qi_measured *b, size_t count)
{
	json_t *list = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(list, qi_measured_json(&b[i]));
	return list;
}

static json_t *files_json(const struct qi_files *files)
{
	json_t *list = json_array();

	for (size_t i = 0; i < files->count; i++)
		json_array_append_new(list, qi_json_text(files->path[i]));
	return list;
}

/* The nodes above n that are in the picture. */
static json_t *overlays_json(const struct qi_tree *t,
			     const struct qi_tree_node *n)
{
	json_t *list = json_array();
	size_t i = n->first_overlay;

	for (; i != QI_NO_INDEX; i = t->nodes[i].next_overlay)
		json_array_append_new(list, qi_json_text(t->nodes[i].path));
	return list;
}

static json_t *marks_json(const struct qi_tree_node *n)
{
	json_t *list = json_array();

	for (enum qi_mark m = 0; m < QI_MARKS; m++)
		if (n->marks[m])
			json_array_append_new(list,
					      json_string(qi_mark_name(m)));
	return list;
}

static json_t *node_json(const struct qi_tree *t, const struct qi_tree_node *n)
{
	const struct qi_node_facts *f = n->facts;
	const char *backing = NULL;
	json_t *o = json_object();

	if (n->parent != QI_NO_INDEX)
		backing = t->nodes[n->parent].path;
	json_object_set_new(o, "path", qi_json_text(n->path));
	json_object_set_new(o, "format", qi_json_text(f->format));
	json_object_set_new(o, "virtual-size", qi_json_uint(f->size));
	json_object_set_new(o, "actual-size", qi_json_uint(f->disk_size));
	json_object_set_new(o, "backing", qi_json_text(backing));
	json_object_set_new(o, "backing-filename",
			    qi_json_text(f->backing_name));
	json_object_set_new(o, "overlays", overlays_json(t, n));
	json_object_set_new(o, "overlays-not-shown", files_json(&n->hidden));
	json_object_set_new(o, "record", qi_json_record(&n->record));
	json_object_set_new(o, "bitmaps",
			    bitmaps_json(n->bitmaps, n->bitmap_count));
	json_object_set_new(o, "bitmaps-problem",
			    qi_json_text(n->bitmaps_problem));
	json_object_set_new(o, "marks", marks_json(n));
	json_object_set_new(o, "unfinished", qi_json_text(n->unfinished));
	json_object_set_new(o, "error", qi_json_text(n->error));
	return o;
}

static json_t *drive_json(const struct qi_tree *t,
			  const struct qi_tree_drive *d)
{
	struct qi_uuid id = qi_drive_uuid(d->drive);
	const char *head = t->nodes[d->head].path;

	return json_pack("{s:o, s:b, s:o, s:o, s:o, s:o}", "path",
			 qi_json_text(qi_drive_path(d->drive)), "link",
			 qi_drive_is_link(d->drive), "other-links",
			 files_json(&d->others), "head", qi_json_text(head),
			 "drive-id", qi_json_uuid(&id), "bitmaps",
			 bitmaps_json(d->bitmaps, d->bitmap_count));
}

void qi_tree_print_json(const struct qi_tree *t)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_list_begin(&j, "nodes");
	for (size_t i = 0; i < t->node_count; i++)
		qi_json_element(&j, node_json(t, &t->nodes[i]));
	qi_json_list_end(&j);
	qi_json_list_begin(&j, "drives");
	for (size_t i = 0; i < t->drive_count; i++)
		qi_json_element(&j, drive_json(t, &t->drives[i]));
	qi_json_list_end(&j);
	qi_json_list_begin(&j, "broken");
	for (size_t i = 0; i < t->broken_count; i++) {
		const struct qi_tree_broken *b = &t->broken[i];

		qi_json_element(&j, json_pack("{s:o, s:o, s:o}", "path",
					      qi_json_text(b->path), "target",
					      qi_json_text(b->target), "error",
					      qi_json_text(b->error)));
	}
	qi_json_end(&j, 0, NULL);
}
