/* SPDX-License-Identifier: MIT */
/* manifest.c - times, and manifests of points */
#include <stdlib.h>

#include "lib/bytes.h"
#include "lib/record.h"
#include "lib/repo.h"
#include "tests/lib/tap.h"

static void test_good_times(void)
{
	static const struct {
		const char *text;
		int64_t t;
	} good[] = {
		{ "1970-01-01", 0 },
		{ "1970-01-01T00:00:01Z", 1 },
		{ "2026-03-01", 1772323200 },
		{ "2026-03-01T12:30", 1772368200 },
		{ "2026-03-01T12:30Z", 1772368200 },
		{ "2026-03-01T12:30:59", 1772368259 },
		{ "2024-02-29", 1709164800 },
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(good); i++) {
		int64_t t = -1;

		ok(qi_time_parse(good[i].text, &t) && t == good[i].t, "%s",
		   good[i].text);
	}
}

static void test_bad_times(void)
{
	static const char *const bad[] = {
		"",
		"last",
		"2026",
		"2026-03",
		"2026-13-01",
		"2026-02-30",
		"2025-02-29",
		"2026-3-1",
		" 2026-03-01",
		"2026-03-01 ",
		"2026-03-01T",
		"2026-03-01T25:00",
		"2026-03-01T12:60",
		"2026-03-01T12:30:59+01:00",
		"2026-03-01T12:30ZZ",
		"000001-20260301T123000Z",
	};

	for (size_t i = 0; i < QI_ARRAY_SIZE(bad); i++) {
		int64_t t;

		ok(!qi_time_parse(bad[i], &t), "'%s' is no time", bad[i]);
	}
}

static void test_format(void)
{
	char text[24];
	int64_t t;

	qi_time_format(1772368259, text);
	ok(!strcmp(text, "2026-03-01T12:30:59Z"), "%s", text);
	ok(qi_time_parse(text, &t) && t == 1772368259, "and back");
}

static void same_point(const struct qi_point *a, const struct qi_point *b)
{
	const struct qi_point_drive *x = a->drives, *y = b->drives;

	ok(!strcmp(a->parent, b->parent) && a->type == b->type &&
		   a->time == b->time && a->file_size == b->file_size &&
		   a->drive_count == b->drive_count,
	   "the point");
	ok(!strcmp(x->name, y->name) && !strcmp(x->parent, y->parent) &&
		   !strcmp(x->file, y->file) && !strcmp(x->hashes, y->hashes) &&
		   !strcmp(x->bitmap, y->bitmap) &&
		   !strcmp(x->reason, y->reason),
	   "texts of its drive");
	ok(x->type == y->type && x->compressed && y->compressed &&
		   qi_hash_equal(&x->root, &y->root),
	   "type and hash of its drive");
	ok(x->size == y->size && x->dirty == y->dirty &&
		   x->stored == y->stored && x->zero == y->zero,
	   "numbers of its drive");
	ok(qi_uuid_equal(&x->drive, &y->drive) &&
		   qi_uuid_equal(&x->from, &y->from) &&
		   qi_uuid_equal(&x->to, &y->to),
	   "ids of its drive");
	ok(!strcmp(x->origin.format, y->origin.format) &&
		   !strcmp(x->origin.options, y->origin.options) &&
		   y->origin.bitmap_count == 1 &&
		   !strcmp(y->origin.bitmaps->name, "\xc3\xa4") &&
		   y->origin.bitmaps->granularity == 4096 &&
		   y->origin.bitmaps->paused,
	   "what its drive was like");
}

/* Options that say where data is are none of a manifest. */
static void test_origin(void)
{
	json_t *j = json_pack("{s:s, s:{s:s, s:s, s:s}, s:[]}", "format",
			      "qcow2", "options", "data_file", "victim",
			      "compat", "1.1", "backing_file", "victim",
			      "bitmaps");
	json_t *list = json_object_get(j, "bitmaps");
	struct qi_origin o = { 0 };

	ok(qi_origin_take(j, &o) && !strcmp(o.options, "compat=1.1"),
	   "options");
	qi_origin_clear(&o);
	json_array_append_new(list,
			      json_pack("{s:s, s:i, s:b}", "name", "b",
					"granularity", 4096, "enabled", 1));
	ok(qi_origin_take(j, &o) && o.bitmap_count == 1, "a bitmap");
	qi_origin_clear(&o);
	json_array_append(list, json_array_get(list, 0));
	ok(!qi_origin_take(j, &o), "two of one name");
	qi_origin_clear(&o);
	json_array_remove(list, 1);
	json_object_set_new(json_array_get(list, 0), "granularity",
			    json_integer(4095));
	ok(!qi_origin_take(j, &o), "a wrong granularity");
	qi_origin_clear(&o);
	json_decref(j);
}

static void test_round_trip(void)
{
	char parent[] = "000001-x", id[] = "000002-y", name[] = "vm \"1\"\n",
	     file[] = "vm.qcow2", hashes[] = "vm.hashes", bitmap[] = "daily",
	     reason[] = "estimated: \xc3\xa4", format[] = "qcow2",
	     options[] = "cluster_size=65536,compat=1.1",
	     name_of[] = "\xc3\xa4", bad[] = "\xff";
	struct qi_origin_bitmap bitmaps[] = { { name_of, 4096, true },
					      { bad, 65536, false } };
	struct qi_point_drive d = {
		.name = name,
		.type = QI_BACKUP_RESYNC,
		.parent = parent,
		.file = file,
		.hashes = hashes,
		.size = 1ull << 40,
		.dirty = 7,
		.stored = 6,
		.zero = 5,
		.compressed = true,
		.bitmap = bitmap,
		.drive = qi_uuid_random(),
		.from = qi_uuid_random(),
		.to = qi_uuid_random(),
		.root = qi_hash_of("abc", 3),
		.reason = reason,
		.origin = { format, options, bitmaps, 2 },
	};
	struct qi_point p = { .id = id,
			      .parent = parent,
			      .type = QI_BACKUP_INCREMENTAL,
			      .time = 1772368259,
			      .file_size = 1234567,
			      .seconds = 1.5,
			      .drives = &d,
			      .drive_count = 1 };
	struct qi_point back = { .id = strdup(id) };
	struct qi_point other = { .id = strdup("000003-z") };
	struct qi_error e = { "" };

	ok(!qi_manifest_write("manifest.json", &p, &e), "written%s", e.text);
	ok(!qi_manifest_read("manifest.json", &back, &e), "read%s", e.text);
	same_point(&p, &back);
	ok(qi_manifest_write("manifest.json", &p, &e) < 0,
	   "a manifest is never replaced");
	ok(qi_manifest_read("manifest.json", &other, &e) < 0 &&
		   strstr(e.text, "not a manifest"),
	   "a manifest of another point is refused");
	qi_point_clear(&back);
	qi_point_clear(&other);
}

int main(void)
{
	test_good_times();
	test_bad_times();
	test_format();
	test_round_trip();
	test_origin();
	return tap_done();
}
