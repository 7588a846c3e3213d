// SPDX-License-Identifier: MIT
/*
 * info.c - what an image is, as text and JSON
 *
 * Both are those of qemu-img, then comes a part that only qimg has: the record
 * that makes the image part of a drive.
 */
#include "cmd/common/info.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/internal.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

#define MAX_DEPTH 8

/* Where details go. The bitmaps have their place among them. */
struct details {
	const struct qi_info *r;
	json_t *json[MAX_DEPTH]; /* objects and lists that are open; or text */
	bool is_json;
	bool any, bitmaps_done;
	unsigned depth;
	unsigned index[MAX_DEPTH]; /* text: of the next member of a list */
};

void qi_info_release(struct qi_info *r)
{
	free(r->backing_path);
	free(r->bitmaps);
	qi_internal_snapshots_free(r->snapshots, r->snapshot_count);
}

/* Everything else is worth knowing even when their table is damaged. */
static void collect_snapshots(struct qi_info *r)
{
	struct qi_error e;

	if (qi_internal_snapshots(r->node, &r->snapshots, &r->snapshot_count,
				  &e) < 0)
		qi_say_warning("%s", e.text);
}

int qi_info_collect(struct qi_info *r, struct qi_node *n, struct qi_error *e)
{
	int ret;

	memset(r, 0, sizeof(*r));
	r->node = n;
	r->facts = qi_node_facts(n);
	r->backing_path = qi_backing_path(r->facts);
	collect_snapshots(r);
	ret = qi_node_record(n, &r->record);
	if (ret < 0)
		return qi_fail(e, -ret, "'%s': its record cannot be read",
			       r->facts->path);
	r->bitmaps_problem = qi_node_bitmaps_problem(n);
	if (r->bitmaps_problem) {
		qi_say_warning("the bitmaps of '%s' cannot be used: %s",
			       r->facts->path, r->bitmaps_problem);
		return 0;
	}
	return qi_node_bitmaps(n, &r->bitmaps, &r->bitmap_count, e);
}

static const char *yes_no(bool value)
{
	return value ? "true" : "false";
}

static void bitmap_text(const struct qi_bitmap_facts *b, size_t index)
{
	QI_AUTO_TEXT char *name = qi_safe(b->name);
	int flag = 0;

	printf("        [%zu]:\n            flags:\n", index);
	if (b->in_use)
		printf("                [%d]: in-use\n", flag++);
	if (b->enabled)
		printf("                [%d]: auto\n", flag);
	printf("            name: %s\n            granularity: %u\n", name,
	       b->granularity);
}

static json_t *bitmap_json(const struct qi_bitmap_facts *b)
{
	json_t *flags = json_array();

	if (b->in_use)
		json_array_append_new(flags, json_string("in-use"));
	if (b->enabled)
		json_array_append_new(flags, json_string("auto"));
	return json_pack("{s:o, s:o, s:o}", "flags", flags, "name",
			 qi_json_text(b->name), "granularity",
			 qi_json_uint(b->granularity));
}

static void put_bitmaps(struct details *d)
{
	const struct qi_info *r = d->r;
	json_t *list;

	d->bitmaps_done = true;
	if (!r->bitmap_count)
		return;
	if (!d->is_json) {
		puts("    bitmaps:");
		for (size_t i = 0; i < r->bitmap_count; i++)
			bitmap_text(&r->bitmaps[i], i);
		return;
	}
	list = json_array();
	for (size_t i = 0; i < r->bitmap_count; i++)
		json_array_append_new(list, bitmap_json(&r->bitmaps[i]));
	json_object_set_new(d->json[0], "bitmaps", list);
}

static json_t *detail_json(const struct qi_fact *f)
{
	switch (f->type) {
	case QI_FACT_STR:
		return qi_json_text(f->str);
	case QI_FACT_UINT:
		return qi_json_uint(f->num);
	case QI_FACT_BOOL:
		return json_boolean(f->num);
	case QI_FACT_GROUP:
		return json_object();
	case QI_FACT_LIST:
		return json_array();
	case QI_FACT_END:
		break;
	}
	return json_null();
}

static bool opens(const struct qi_fact *f)
{
	return f->type == QI_FACT_GROUP || f->type == QI_FACT_LIST;
}

static void put_json(struct details *d, const struct qi_fact *f)
{
	json_t *into = d->json[d->depth], *value = detail_json(f);

	if (opens(f))
		d->json[d->depth + 1] = value;
	if (f->key)
		json_object_set_new(into, f->key, value);
	else
		json_array_append_new(into, value);
}

static void put_text(struct details *d, const struct qi_fact *f)
{
	QI_AUTO_TEXT char *safe = NULL;

	printf("%*s", 4 * (int)(d->depth + 1), "");
	if (f->label)
		printf("%s:", f->label);
	else
		printf("[%u]:", d->index[d->depth]++);
	switch (f->type) {
	case QI_FACT_STR:
		safe = qi_safe(f->str);
		printf(" %s\n", safe);
		break;
	case QI_FACT_UINT:
		printf(" %llu\n", (unsigned long long)f->num);
		break;
	case QI_FACT_BOOL:
		printf(" %s\n", yes_no(f->num));
		break;
	case QI_FACT_GROUP:
	case QI_FACT_LIST:
	case QI_FACT_END:
		putchar('\n');
		break;
	}
}

static void on_detail(void *arg, const struct qi_fact *f)
{
	struct details *d = arg;

	if (f->type == QI_FACT_END) {
		d->depth--;
		return;
	}
	if (!d->any && !d->is_json)
		puts("Format specific information:");
	d->any = true;
	if (!d->depth && !d->bitmaps_done && !strcmp(f->key, "refcount-bits"))
		put_bitmaps(d);
	if (d->is_json)
		put_json(d, f);
	else
		put_text(d, f);
	if (opens(f)) {
		assert(d->depth + 1 < MAX_DEPTH);
		d->index[++d->depth] = 0;
	}
}

static void record_text(const struct qi_record_facts *r)
{
	char uuid[QI_UUID_TEXT];

	if (r->state == QI_RECORD_UNKNOWN) {
		puts("    record: damaged or of a later version");
		return;
	}
	if (r->state == QI_RECORD_NONE)
		return;
	printf("    image id: %s\n", qi_human_uuid(uuid, &r->image));
	printf("    parent id: %s\n", qi_human_uuid(uuid, &r->parent));
	printf("    drive id: %s\n", qi_human_uuid(uuid, &r->drive));
	printf("    frozen: %s\n", yes_no(r->frozen));
	printf("    shared: %s\n", yes_no(r->shared));
	if (r->tag[0]) {
		QI_AUTO_TEXT char *safe = qi_safe(r->tag);

		printf("    parent tag: %s\n", safe);
	}
}

static void attachment_text(const struct qi_bitmap_facts *b)
{
	QI_AUTO_TEXT char *name = qi_safe(b->name);

	printf("        %s: on %s, %s%s\n", name,
	       b->attachment == QI_ON_DRIVE ? "drive" : "node",
	       qi_bitmap_state(b),
	       b->attachment == QI_ON_DRIVE && b->anchor ? ", anchor" : "");
}

/* The part that qemu-img does not have; nothing for a foreign image. */
static void native_text(const struct qi_info *r)
{
	if (r->record.state == QI_RECORD_NONE && !r->bitmaps_problem)
		return;
	puts("qimg:");
	record_text(&r->record);
	if (r->bitmaps_problem)
		printf("    bitmaps: %s\n", r->bitmaps_problem);
	else if (r->bitmap_count)
		puts("    bitmaps:");
	for (size_t i = 0; i < r->bitmap_count; i++)
		attachment_text(&r->bitmaps[i]);
}

static void backing_text(const struct qi_info *r)
{
	const struct qi_node_facts *f = r->facts;
	QI_AUTO_TEXT char *name = NULL, *actual = NULL;

	if (!r->backing_path)
		return;
	name = qi_safe(f->backing_name);
	actual = qi_safe(r->backing_path);
	printf("backing file: %s", name);
	if (strcmp(f->backing_name, r->backing_path))
		printf(" (actual path: %s)", actual);
	putchar('\n');
	if (f->backing_format)
		printf("backing file format: %s\n", f->backing_format);
}

void qi_info_text(const struct qi_info *r, bool native)
{
	const struct qi_node_facts *f = r->facts;
	struct details d = { .r = r };
	QI_AUTO_TEXT char *path = qi_safe(f->filename);
	char size[QI_HUMAN], disk[QI_HUMAN];

	printf("image: %s\n"
	       "file format: %s\n"
	       "virtual size: %s (%llu bytes)\n"
	       "disk size: %s\n",
	       path, f->driver, qi_human_size(size, f->size),
	       (unsigned long long)f->size,
	       f->disk_size == QI_NO_OFFSET ?
		       "unavailable" :
		       qi_human_size(disk, f->disk_size));
	if (f->is_encrypted)
		puts("encrypted: yes");
	if (f->cluster_size)
		printf("cluster_size: %u\n", f->cluster_size);
	if (f->is_dirty)
		puts("cleanly shut down: no");
	backing_text(r);
	qi_internal_print(r->snapshots, r->snapshot_count);
	qi_node_details(r->node, on_detail, &d);
	if (!d.bitmaps_done)
		put_bitmaps(&d);
	if (native)
		native_text(r);
}

static json_t *attachment_json(const struct qi_bitmap_facts *b)
{
	bool drive = b->attachment == QI_ON_DRIVE;
	json_t *o = json_pack("{s:o, s:s, s:s}", "name", qi_json_text(b->name),
			      "attachment", drive ? "drive" : "node", "state",
			      qi_bitmap_state(b));

	if (drive) {
		json_object_set_new(o, "anchor", json_boolean(b->anchor));
		json_object_set_new(o, "checkpoint",
				    qi_json_uuid(&b->checkpoint));
	}
	return o;
}

static json_t *native_json(const struct qi_info *r)
{
	json_t *bitmaps = json_array();

	for (size_t i = 0; i < r->bitmap_count; i++)
		json_array_append_new(bitmaps, attachment_json(&r->bitmaps[i]));
	return json_pack("{s:s, s:o, s:o, s:o}", "version", QI_VERSION,
			 "record", qi_json_record(&r->record), "bitmaps",
			 bitmaps, "bitmaps-problem",
			 qi_json_text(r->bitmaps_problem));
}

json_t *qi_info_json(const struct qi_info *r, bool native)
{
	const struct qi_node_facts *f = r->facts;
	struct details d = { .r = r,
			     .json = { json_object() },
			     .is_json = true };
	json_t *o = json_object();

	json_object_set_new(o, "virtual-size", qi_json_uint(f->size));
	json_object_set_new(o, "filename", qi_json_text(f->filename));
	if (f->cluster_size)
		json_object_set_new(o, "cluster-size",
				    qi_json_uint(f->cluster_size));
	json_object_set_new(o, "format", qi_json_text(f->driver));
	if (f->disk_size != QI_NO_OFFSET)
		json_object_set_new(o, "actual-size",
				    qi_json_uint(f->disk_size));
	qi_node_details(r->node, on_detail, &d);
	if (!d.bitmaps_done)
		put_bitmaps(&d);
	if (json_object_size(d.json[0]))
		json_object_set_new(o, "format-specific",
				    json_pack("{s:s, s:O}", "type", f->format,
					      "data", d.json[0]));
	json_decref(d.json[0]);
	if (r->backing_path) {
		json_object_set_new(o, "backing-filename",
				    qi_json_text(f->backing_name));
		json_object_set_new(o, "full-backing-filename",
				    qi_json_text(r->backing_path));
		if (f->backing_format)
			json_object_set_new(o, "backing-filename-format",
					    qi_json_text(f->backing_format));
	}
	if (f->is_encrypted)
		json_object_set_new(o, "encrypted", json_true());
	if (r->snapshot_count)
		json_object_set_new(o, "snapshots",
				    qi_internal_json(r->snapshots,
						     r->snapshot_count));
	json_object_set_new(o, "dirty-flag", json_boolean(f->is_dirty));
	if (native)
		json_object_set_new(o, "qimg", native_json(r));
	return o;
}
