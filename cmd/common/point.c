// SPDX-License-Identifier: MIT
/*
 * point.c - restore points for people and as JSON
 */
#include "cmd/common/point.h"

#include <stdlib.h>
#include <time.h>

#include "cmd/common/json.h"

static json_t *drive_json(const struct qi_point_drive *d)
{
	char root[QI_HASH_TEXT];
	json_t *o = json_object();

	qi_hash_format(&d->root, root);
	json_object_set_new(o, "name", qi_json_text(d->name));
	json_object_set_new(o, "type",
			    qi_json_text(qi_backup_type_name(d->type)));
	json_object_set_new(o, "parent", qi_json_text(d->parent));
	json_object_set_new(o, "file", qi_json_text(d->file));
	json_object_set_new(o, "hashes", qi_json_text(d->hashes));
	json_object_set_new(o, "root-hash", qi_json_text(root));
	json_object_set_new(o, "virtual-size", qi_json_uint(d->size));
	json_object_set_new(o, "dirty", qi_json_uint(d->dirty));
	json_object_set_new(o, "stored", qi_json_uint(d->stored));
	json_object_set_new(o, "zero", qi_json_uint(d->zero));
	json_object_set_new(o, "bitmap", qi_json_text(d->bitmap));
	json_object_set_new(o, "drive-id", qi_json_uuid(&d->drive));
	json_object_set_new(o, "from-checkpoint", qi_json_uuid(&d->from));
	json_object_set_new(o, "to-checkpoint", qi_json_uuid(&d->to));
	json_object_set_new(o, "exact",
			    json_boolean(d->type == QI_BACKUP_RESYNC ||
					 !d->reason[0]));
	json_object_set_new(o, "reason",
			    d->reason[0] ? qi_json_text(d->reason) :
					   json_null());
	return o;
}

static json_t *verified_json(const struct qi_point *p)
{
	if (!p->verified.time)
		return json_null();
	return json_pack("{s:o, s:b, s:o}", "time",
			 qi_json_time(p->verified.time), "read-data",
			 p->verified.read_data, "problems",
			 qi_json_uint(p->verified.problems));
}

json_t *qi_point_json(const struct qi_point *p)
{
	json_t *drives = json_array();

	for (size_t i = 0; i < p->drive_count; i++)
		json_array_append_new(drives, drive_json(&p->drives[i]));
	return json_pack(
		"{s:o, s:o, s:s, s:o, s:o, s:b, s:o, s:o, s:o, s:f, s:o}", "id",
		qi_json_text(p->id), "time", qi_json_time(p->time), "type",
		qi_backup_type_name(p->type), "parent", qi_json_text(p->parent),
		"problem", qi_json_text(p->problem), "pinned", p->pinned,
		"chain", qi_json_uint(p->chain), "verified", verified_json(p),
		"file-size", qi_json_uint(p->file_size), "seconds", p->seconds,
		"drives", drives);
}

void qi_point_table_head(struct qi_table *t)
{
	static const char *const head[] = { "ID",      "AGE",  "TYPE",
					    "CHAIN",   "SIZE", "STORED",
					    "VERIFIED" };

	*t = (struct qi_table){
		.columns = 7, .right = 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5
	};
	for (unsigned i = 0; i < t->columns; i++)
		qi_table_add(t, head[i]);
}

static const char *verified(char buf[QI_HUMAN], const struct qi_point *p)
{
	char age[QI_HUMAN];

	if (!p->verified.time)
		return "never";
	if (p->verified.problems)
		return "damaged";
	snprintf(buf, QI_HUMAN, "%s ago%s",
		 qi_human_age(age, time(NULL) - p->verified.time),
		 p->verified.read_data ? ", data" : "");
	return buf;
}

void qi_point_table_row(struct qi_table *t, const struct qi_point *p)
{
	char human[QI_HUMAN], type[QI_HUMAN];
	uint64_t size = 0;

	for (size_t i = 0; i < p->drive_count; i++)
		size += p->drives[i].size;
	qi_table_add(t, p->id);
	if (p->problem) {
		/* Nothing else of it is known. */
		qi_say_warning("point '%s': %s", p->id, p->problem);
		qi_table_add(t, "-");
		qi_table_add(t, "damaged");
		for (unsigned i = 3; i < t->columns; i++)
			qi_table_add(t, "-");
		return;
	}
	qi_table_add(t, qi_human_age(human, time(NULL) - p->time));
	snprintf(type, sizeof(type), "%s%s", qi_backup_type_name(p->type),
		 p->pinned ? ", pinned" : "");
	qi_table_add(t, type);
	snprintf(human, sizeof(human), "%zu", p->chain);
	qi_table_add(t, p->chain ? human : "broken");
	qi_table_add(t, qi_human_size(human, size));
	qi_table_add(t, qi_human_size(human, p->file_size));
	qi_table_add(t, verified(human, p));
}

/* "'vm', 'data'", or how many. Freed by the caller. */
static char *drive_names(const struct qi_point *p)
{
	char *names = qi_xstrdup("");

	if (p->drive_count > 4) {
		free(names);
		return qi_xprintf("%zu drives", p->drive_count);
	}
	for (size_t i = 0; i < p->drive_count; i++) {
		QI_AUTO_TEXT char *safe = qi_safe(p->drives[i].name);
		char *longer =
			qi_xprintf("%s%s'%s'", names, i ? ", " : "", safe);

		free(names);
		names = longer;
	}
	return names;
}

void qi_point_summary(const struct qi_point *p)
{
	QI_AUTO_TEXT char *names = drive_names(p);
	const bool full = p->type == QI_BACKUP_FULL;
	char human[QI_HUMAN], copied[QI_HUMAN], took[QI_HUMAN], files[QI_HUMAN];
	const char *what = full ? "in size" : "dirty";
	uint64_t bytes = 0, stored = 0;

	for (size_t i = 0; i < p->drive_count; i++) {
		bytes += full ? p->drives[i].size : p->drives[i].dirty;
		stored += p->drives[i].stored;
	}
	if (p->type == QI_BACKUP_RESYNC)
		what = "differ";
	printf("backup %s of %s: %s, %s %s, %s copied, %s (%s of files)\n",
	       p->id, names, qi_backup_type_name(p->type),
	       qi_human_size(human, bytes), what, qi_human_size(copied, stored),
	       qi_human_seconds(took, p->seconds),
	       qi_human_size(files, p->file_size));
}

bool qi_point_warn(const struct qi_point *p, bool was_auto)
{
	bool warned = false;

	for (size_t i = 0; i < p->drive_count; i++) {
		const struct qi_point_drive *d = &p->drives[i];
		bool is_increment = d->type == QI_BACKUP_INCREMENTAL;

		if (!d->reason[0] || !(is_increment || was_auto))
			continue;
		if (is_increment)
			qi_say_warning(
				"drive '%s': the dirty set is not exact, "
				"more was copied than had changed: %s",
				d->name, d->reason);
		else
			qi_say_warning("drive '%s': the backup is not "
				       "incremental, all of the drive was %s: "
				       "%s",
				       d->name,
				       d->parent ? "compared" : "stored",
				       d->reason);
		warned |= !is_increment;
	}
	return warned;
}
