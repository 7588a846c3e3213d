/* SPDX-License-Identifier: MIT */
/* origin.c - what a drive was like, for the restore that makes it so again */
#include <errno.h>
#include <stdio.h>

#include "lib/drive.h"
#include "lib/repo.h"

void qi_origin_clear(struct qi_origin *o)
{
	for (size_t i = 0; i < o->bitmap_count; i++)
		free(o->bitmaps[i].name);
	free(o->bitmaps);
	free(o->format);
	free(o->options);
	*o = (struct qi_origin){ 0 };
}

/* Whoever makes a manifest must not choose where a restore reads or writes. */
static bool is_kept(const char *format, const char *option)
{
	const struct qi_format *f = qi_format_find(format);
	const struct qi_format_option *o = f ? f->options : NULL;

	for (; o && o->name; o++)
		if (o->is_kept && !strcmp(o->name, option))
			return true;
	return false;
}

static int add_option(struct qi_origin *o, const char *name, const char *value)
{
	char *all;

	if (!is_kept(o->format, name))
		return 0;
	all = qi_format_text("%s%s%s=%s", o->options, *o->options ? "," : "",
			     name, value);
	if (!all)
		return -ENOMEM;
	free(o->options);
	o->options = all;
	return 0;
}

/* NULL when there is no memory, or what is there already does not fit. */
static struct qi_origin_bitmap *add_bitmap(struct qi_origin *o,
					   const char *name)
{
	struct qi_origin_bitmap *all =
		realloc(o->bitmaps, (o->bitmap_count + 1) * sizeof(*all));

	if (!all)
		return NULL;
	o->bitmaps = all;
	all += o->bitmap_count;
	*all = (struct qi_origin_bitmap){ .name = strdup(name) };
	o->bitmap_count += all->name != NULL;
	return all->name ? all : NULL;
}

/* --------------------------------------------------------------- noting */

/* Details that an image can be made with are options, by another spelling. */
struct noting {
	struct qi_origin *o;
	unsigned depth; /* of groups */
	int ret;
};

static void note_fact(void *arg, const struct qi_fact *f)
{
	struct noting *n = arg;
	char name[64], value[32];

	if (f->type == QI_FACT_GROUP || f->type == QI_FACT_LIST)
		n->depth++;
	else if (f->type == QI_FACT_END)
		n->depth--;
	else if (!n->depth && !n->ret) {
		snprintf(name, sizeof(name), "%s", f->key);
		for (char *c = name; *c; c++)
			*c = *c == '-' ? '_' : *c;
		snprintf(value, sizeof(value), "%llu",
			 (unsigned long long)f->num);
		n->ret = add_option(n->o, name,
				    f->type == QI_FACT_STR  ? f->str :
				    f->type == QI_FACT_UINT ? value :
				    f->num		    ? "on" :
							      "off");
	}
}

static int note_options(struct qi_node *n, struct qi_origin *o)
{
	struct noting noting = { .o = o };
	char size[32];

	snprintf(size, sizeof(size), "%u", n->facts.cluster_size);
	noting.ret = add_option(o, "cluster_size", size);
	qi_node_details(n, note_fact, &noting);
	return noting.ret;
}

static int note_bitmaps(struct qi_drive *d, struct qi_origin *o,
			struct qi_error *e)
{
	struct qi_drive_bitmap *all;
	size_t count;
	int ret = qi_drive_bitmaps(d, &all, &count, e);

	if (ret)
		return ret;
	for (size_t i = 0; i < count && !ret; i++) {
		struct qi_origin_bitmap *b = add_bitmap(o, all[i].name);

		if (!b) {
			ret = qi_no_memory(e);
			break;
		}
		b->granularity = all[i].granularity;
		b->paused = all[i].paused;
	}
	free(all);
	return ret;
}

int qi_origin_note(struct qi_drive *d, struct qi_origin *o, struct qi_error *e)
{
	o->format = strdup(d->head->format->name);
	o->options = strdup("");
	if (!o->format || !o->options || note_options(d->head, o))
		return qi_no_memory(e);
	return note_bitmaps(d, o, e);
}

/* ----------------------------------------------------------------- JSON */

static json_t *options_json(const char *options)
{
	json_t *o = json_object();

	while (*options) {
		size_t name = strcspn(options, "=");
		const char *value = options + name + 1;
		size_t len = strcspn(value, ",");
		QI_AUTOFREE char *key = strndup(options, name);

		if (!key ||
		    json_object_set_new(o, key, json_stringn(value, len))) {
			json_decref(o);
			return NULL;
		}
		options = value + len + (value[len] == ',');
	}
	return o;
}

json_t *qi_origin_json(const struct qi_origin *o)
{
	json_t *bitmaps = json_array();

	for (size_t i = 0; i < o->bitmap_count; i++) {
		const struct qi_origin_bitmap *b = &o->bitmaps[i];
		/* What is not UTF-8 cannot stand in JSON, and is not kept. */
		json_t *one = json_pack("{s:s, s:I, s:b}", "name", b->name,
					"granularity",
					(json_int_t)b->granularity, "enabled",
					!b->paused);

		if (one && json_array_append_new(bitmaps, one)) {
			json_decref(bitmaps);
			return NULL;
		}
	}
	return json_pack("{s:s, s:o, s:o}", "format", o->format, "options",
			 options_json(o->options), "bitmaps", bitmaps);
}

static bool take_options(json_t *options, struct qi_origin *o)
{
	const char *name;
	json_t *value;

	if (!json_is_object(options))
		return false;
	json_object_foreach(options, name, value)
	{
		const char *text = json_string_value(value);

		if (!text || strchr(text, ',') || add_option(o, name, text))
			return false;
	}
	return true;
}

static bool take_bitmap(json_t *bitmap, struct qi_origin *o)
{
	const char *name = json_string_value(json_object_get(bitmap, "name"));
	json_t *granularity = json_object_get(bitmap, "granularity");
	json_t *enabled = json_object_get(bitmap, "enabled");
	json_int_t bytes = json_integer_value(granularity);
	struct qi_origin_bitmap *b;

	if (!name || !*name || strlen(name) > QI_NAME_MAX || bytes < 0 ||
	    !qi_bitmap_is_granularity((uint64_t)bytes) ||
	    !json_is_boolean(enabled))
		return false;
	for (size_t i = 0; i < o->bitmap_count; i++)
		if (!strcmp(o->bitmaps[i].name, name))
			return false;
	b = add_bitmap(o, name);
	if (!b)
		return false;
	b->granularity = (uint32_t)bytes;
	b->paused = !json_is_true(enabled);
	return true;
}

bool qi_origin_take(json_t *origin, struct qi_origin *o)
{
	const char *format =
		json_string_value(json_object_get(origin, "format"));
	json_t *bitmaps = json_object_get(origin, "bitmaps");
	json_t *bitmap;
	size_t i;

	o->format = format ? strdup(format) : NULL;
	o->options = strdup("");
	if (!o->format || !o->options || !json_is_array(bitmaps) ||
	    !take_options(json_object_get(origin, "options"), o))
		return false;
	json_array_foreach(bitmaps, i,
			   bitmap) if (!take_bitmap(bitmap, o)) return false;
	return true;
}
