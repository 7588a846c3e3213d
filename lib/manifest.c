/* SPDX-License-Identifier: MIT */
/* manifest.c - a point's manifest.json */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "lib/hash.h"
#include "lib/record.h"
#include "lib/repo.h"
#include "lib/sums.h"
#include "lib/temp.h"

#define MANIFEST_VERSION 3
#define MANIFEST_MAX (16u << 20)
#define VERIFIED_MAX 65536u

static void drive_clear(struct qi_point_drive *d)
{
	free(d->name);
	free(d->parent);
	free(d->file);
	free(d->hashes);
	free(d->bitmap);
	free(d->reason);
	qi_origin_clear(&d->origin);
}

void qi_point_clear(struct qi_point *p)
{
	for (size_t i = 0; i < p->drive_count; i++)
		drive_clear(&p->drives[i]);
	free(p->drives);
	free(p->id);
	free(p->problem);
	free(p->parent);
	*p = (struct qi_point){ 0 };
}

/* ----------------------------------------------------------------- types */

static const char *const type_names[] = {
	[QI_BACKUP_FULL] = "full",
	[QI_BACKUP_INCREMENTAL] = "incremental",
	[QI_BACKUP_RESYNC] = "resync",
	[QI_BACKUP_AUTO] = "auto",
};

const char *qi_backup_type_name(enum qi_backup_type type)
{
	return type_names[type];
}

static bool take_type(json_t *o, enum qi_backup_type *out)
{
	const char *text = json_string_value(json_object_get(o, "type"));

	for (unsigned i = 0; text && i < QI_BACKUP_AUTO; i++) {
		if (strcmp(text, type_names[i]))
			continue;
		*out = (enum qi_backup_type)i;
		return true;
	}
	return false;
}

/* ----------------------------------------------------------------- times */

void qi_time_format(int64_t t, char text[24])
{
	time_t seconds = (time_t)t;
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, 24, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

bool qi_time_parse(const char *text, int64_t *out)
{
	static const char *const forms[] = { "%Y-%m-%dT%H:%M:%S",
					     "%Y-%m-%dT%H:%M", "%Y-%m-%d" };

	for (size_t i = 0; i < QI_ARRAY_SIZE(forms); i++) {
		struct tm tm = { 0 };
		const char *end = strptime(text, forms[i], &tm);
		char again[24];

		if (!end || (*end && strcmp(end, "Z")))
			continue;
		/* What strptime() takes, as 30 February, need not be one. */
		*out = timegm(&tm);
		qi_time_format(*out, again);
		return !strncmp(again, text, (size_t)(end - text));
	}
	return false;
}

/* --------------------------------------------------------------- reading */

/* A copy of a string member; optional ones may be missing or null. */
static bool take_text(json_t *o, const char *key, bool optional, char **out)
{
	json_t *v = json_object_get(o, key);
	const char *text = json_string_value(v);

	if (!text)
		return optional && (!v || json_is_null(v));
	*out = strdup(text);
	return *out != NULL;
}

static bool take_uint(json_t *o, const char *key, uint64_t *out)
{
	json_t *v = json_object_get(o, key);

	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return false;
	*out = (uint64_t)json_integer_value(v);
	return true;
}

static bool take_uuid(json_t *o, const char *key, struct qi_uuid *out)
{
	json_t *v = json_object_get(o, key);

	if (!v || json_is_null(v))
		return true;
	return json_is_string(v) && qi_uuid_parse(out, json_string_value(v));
}

static bool take_bool(json_t *o, const char *key, bool *out)
{
	json_t *v = json_object_get(o, key);

	*out = json_is_true(v);
	return json_is_boolean(v);
}

static bool take_hash(json_t *o, const char *key, struct qi_hash *out)
{
	const char *text = json_string_value(json_object_get(o, key));

	return text && qi_hash_parse(out, text);
}

/* A file name inside the point's folder, and nothing else. */
static bool is_plain_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

static bool take_drive(json_t *o, struct qi_point_drive *d)
{
	return take_text(o, "name", false, &d->name) &&
	       is_plain_name(d->name) && take_type(o, &d->type) &&
	       (d->type == QI_BACKUP_FULL) ==
		       json_is_null(json_object_get(o, "parent")) &&
	       take_text(o, "parent", true, &d->parent) &&
	       take_text(o, "file", false, &d->file) &&
	       take_text(o, "hash-file", false, &d->hashes) &&
	       is_plain_name(d->file) && is_plain_name(d->hashes) &&
	       (!d->parent || is_plain_name(d->parent)) &&
	       take_text(o, "bitmap", true, &d->bitmap) &&
	       take_text(o, "reason", false, &d->reason) &&
	       take_uint(o, "virtual-size", &d->size) &&
	       take_uint(o, "dirty-bytes", &d->dirty) &&
	       take_uint(o, "stored-bytes", &d->stored) &&
	       take_uint(o, "zero-bytes", &d->zero) &&
	       take_hash(o, "root-hash", &d->root) &&
	       take_hash(o, "image-hash", &d->image) &&
	       take_bool(o, "compressed", &d->compressed) &&
	       take_uuid(o, "drive-id", &d->drive) &&
	       take_uuid(o, "checkpoint-from", &d->from) &&
	       take_uuid(o, "checkpoint-to", &d->to) &&
	       qi_origin_take(json_object_get(o, "origin"), &d->origin);
}

static bool take_point(json_t *root, struct qi_point *p)
{
	QI_AUTOFREE char *time_text = NULL;
	QI_AUTOFREE char *id = NULL;
	json_t *drives = json_object_get(root, "drives");
	size_t count = json_array_size(drives);
	uint64_t version;

	if (!take_uint(root, "qimg-backup", &version) ||
	    version != MANIFEST_VERSION || !take_text(root, "id", false, &id) ||
	    strcmp(id, p->id) || !take_text(root, "parent", true, &p->parent) ||
	    !take_type(root, &p->type) ||
	    !take_text(root, "time", false, &time_text) ||
	    !qi_time_parse(time_text, &p->time) ||
	    !take_uint(root, "file-bytes", &p->file_size) || !count)
		return false;
	p->seconds = json_number_value(json_object_get(root, "seconds"));
	p->drives = calloc(count, sizeof(*p->drives));
	if (!p->drives)
		return false;
	while (p->drive_count < count) {
		size_t i = p->drive_count++;

		if (!take_drive(json_array_get(drives, i), &p->drives[i]))
			return false;
	}
	return true;
}

int qi_read_text(const char *path, uint64_t max, char **out, size_t *len,
		 struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	char *text;
	int ret = qi_file_open(&f, path, false, e);

	if (ret)
		return ret;
	if (f->size > max)
		return qi_fail(e, EUCLEAN, "'%s' is too large for what it is",
			       path);
	text = malloc(f->size + 1);
	if (!text)
		return qi_no_memory(e);
	ret = qi_file_read(f, 0, f->size, text, e);
	if (ret) {
		free(text);
		return ret;
	}
	text[f->size] = '\0';
	*out = text;
	*len = f->size;
	return 0;
}

int qi_manifest_read(const char *path, struct qi_point *out, struct qi_error *e)
{
	QI_AUTOFREE char *text = NULL;
	json_error_t why;
	json_t *root;
	size_t len;
	bool good;
	int ret = qi_read_text(path, MANIFEST_MAX, &text, &len, e);

	if (ret)
		return ret;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	good = json_is_object(root) && take_point(root, out);
	json_decref(root);
	out->manifest = qi_hash_of(text, len);
	if (!good)
		return qi_fail(e, EUCLEAN,
			       "'%s' is not a manifest that this version knows",
			       path);
	return qi_is_sealed(text, len) ?
		       0 :
		       qi_fail(e, EUCLEAN,
			       "'%s' was changed: its checksum differs", path);
}

/* --------------------------------------------------------------- writing */

static json_t *uuid_json(const struct qi_uuid *u)
{
	char text[QI_UUID_TEXT];

	if (qi_uuid_is_null(u))
		return json_null();
	qi_uuid_format(u, text);
	return json_string(text);
}

static json_t *text_json(const char *text)
{
	return text ? json_string(text) : json_null();
}

static json_t *drive_json(const struct qi_point_drive *d)
{
	/* A path in it can be any bytes. */
	json_t *reason = json_string(d->reason);
	char root[QI_HASH_TEXT], image[QI_HASH_TEXT];

	qi_hash_format(&d->root, root);
	qi_hash_format(&d->image, image);
	if (!reason)
		reason = json_string("not exact");
	return json_pack(
		"{s:s, s:s, s:o, s:s, s:s, s:s, s:s, s:s, s:I, s:o, s:o, s:o, s:o, s:o, "
		"s:I, s:I, s:I, s:b, s:o}",
		"name", d->name, "type", type_names[d->type], "parent",
		text_json(d->parent), "file", d->file, "format", "qcow2",
		"hash-file", d->hashes, "root-hash", root, "image-hash", image,
		"virtual-size", (json_int_t)d->size, "drive-id",
		uuid_json(&d->drive), "bitmap", text_json(d->bitmap),
		"checkpoint-from", uuid_json(&d->from), "checkpoint-to",
		uuid_json(&d->to), "reason", reason, "dirty-bytes",
		(json_int_t)d->dirty, "stored-bytes", (json_int_t)d->stored,
		"zero-bytes", (json_int_t)d->zero, "compressed", d->compressed,
		"origin", qi_origin_json(&d->origin));
}

static json_t *point_json(const struct qi_point *p)
{
	json_t *drives = json_array();
	char when[24];

	for (size_t i = 0; i < p->drive_count; i++)
		if (json_array_append_new(drives, drive_json(&p->drives[i]))) {
			json_decref(drives);
			return NULL;
		}
	qi_time_format(p->time, when);
	return json_pack("{s:i, s:s, s:s, s:o, s:s, s:s, s:f, s:I, s:o}",
			 "qimg-backup", MANIFEST_VERSION, "tool",
			 "qimg " QI_VERSION, "id", p->id, "parent",
			 text_json(p->parent), "type", type_names[p->type],
			 "time", when, "seconds", p->seconds, "file-bytes",
			 (json_int_t)p->file_size, "drives", drives);
}

static int write_text(const char *path, const char *text,
		      enum qi_temp_mode mode, struct qi_error *e)
{
	QI_AUTOTEMP struct qi_temp t = { 0 };
	int ret = qi_temp_open(&t, path, mode, e);

	if (!ret)
		ret = qi_file_write(t.file, 0, strlen(text), text, e);
	return ret ? ret : qi_temp_publish(&t, e);
}

int qi_write_text(const char *path, const char *text, struct qi_error *e)
{
	return write_text(path, text, QI_TEMP_NEW, e);
}

int qi_replace_text(const char *path, const char *text, struct qi_error *e)
{
	return write_text(path, text, QI_TEMP_REPLACE, e);
}

int qi_manifest_write(const char *path, const struct qi_point *p,
		      struct qi_error *e)
{
	json_t *root = point_json(p);
	QI_AUTOFREE char *body = NULL;
	QI_AUTOFREE char *text = NULL;
	QI_AUTOFREE char *sealed = NULL;

	if (root)
		body = json_dumps(root,
				  JSON_INDENT(2) | JSON_REAL_PRECISION(6));
	json_decref(root);
	text = body ? qi_format_text("%s\n", body) : NULL;
	sealed = text ? qi_seal(text) : NULL;
	return sealed ? qi_write_text(path, sealed, e) : qi_no_memory(e);
}

/* --------------------------------------------------------------- verified */

void qi_verified_read(const char *path, struct qi_point *p)
{
	QI_AUTOFREE char *text = NULL;
	QI_AUTOFREE char *when = NULL;
	struct qi_point is = { .id = NULL };
	uint64_t read, next;
	json_t *root;
	size_t len;
	int ret = qi_read_text(path, VERIFIED_MAX, &text, &len, NULL);

	p->verified.is_damaged = ret && ret != -ENOENT;
	if (ret)
		return;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	if (qi_is_sealed(text, len) && take_text(root, "time", false, &when) &&
	    qi_time_parse(when, &is.verified.time) &&
	    take_uint(root, "read", &read) && read <= QI_VERIFY_ALL &&
	    take_uint(root, "next", &next) && next < QI_VERIFY_ALL &&
	    take_uint(root, "problems", &is.verified.problems)) {
		is.verified.read = (uint32_t)read;
		is.verified.next = (uint32_t)next;
		p->verified = is.verified;
	} else {
		p->verified.is_damaged = true;
	}
	json_decref(root);
}

int qi_verified_write(const char *path, const struct qi_point *p,
		      struct qi_error *e)
{
	QI_AUTOFREE char *text = NULL;
	QI_AUTOFREE char *sealed = NULL;
	char when[24];

	qi_time_format(p->verified.time, when);
	text = qi_format_text("{\n  \"time\": \"%s\",\n  \"read\": %u,\n"
			      "  \"next\": %u,\n  \"problems\": %llu\n}\n",
			      when, p->verified.read, p->verified.next,
			      (unsigned long long)p->verified.problems);
	sealed = text ? qi_seal(text) : NULL;
	return sealed ? qi_replace_text(path, sealed, e) : qi_no_memory(e);
}
