// SPDX-License-Identifier: MIT
/*
 * json.c - JSON documents that are written as they grow
 */
#include "cmd/common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/common/print.h"

static void write_value(json_t *value, size_t flags)
{
	json_dumpf(value, stdout,
		   JSON_ENCODE_ANY | JSON_REAL_PRECISION(9) | flags);
	json_decref(value);
}

static void next(struct qi_json *j)
{
	fputs(j->first ? "\n" : ",\n", stdout);
	fputs(j->list ? "    " : "  ", stdout);
	j->first = false;
}

void qi_json_begin(struct qi_json *j)
{
	*j = (struct qi_json){ .list = false };
	printf("{\n  \"qimg\": \"%s\"", QI_VERSION);
}

void qi_json_member(struct qi_json *j, const char *key, json_t *value)
{
	next(j);
	printf("\"%s\": ", key);
	write_value(value, 0);
}

void qi_json_list_begin(struct qi_json *j, const char *key)
{
	next(j);
	printf("\"%s\": [", key);
	j->list = true;
	j->first = true;
}

void qi_json_element(struct qi_json *j, json_t *value)
{
	next(j);
	write_value(value, 0);
}

void qi_json_list_end(struct qi_json *j)
{
	fputs(j->first ? "]" : "\n  ]", stdout);
	j->list = false;
	j->first = false;
}

void qi_json_end(struct qi_json *j, int ret, const struct qi_error *e)
{
	if (j->list)
		qi_json_list_end(j);
	if (ret < 0)
		qi_json_member(j, "error", qi_json_text(e->text));
	fputs("\n}\n", stdout);
}

void qi_json_print(json_t *value)
{
	write_value(value, JSON_INDENT(4));
	putchar('\n');
}

/* text with each byte that is not UTF-8 replaced by U+FFFD */
static json_t *repaired(const char *text)
{
	char *fixed = qi_xrealloc(NULL, 3 * strlen(text) + 1);
	char *out = fixed;
	json_t *value;

	while (*text) {
		size_t n = 1;

		/* The longest valid prefix, found by asking jansson. */
		for (value = NULL; n <= 4 && !value && text[n - 1]; n++) {
			value = json_stringn(text, n);
			if (value)
				break;
		}
		json_decref(value);
		if (value) {
			memcpy(out, text, n);
			out += n;
			text += n;
		} else {
			memcpy(out, "\xef\xbf\xbd", 3);
			out += 3;
			text++;
		}
	}
	*out = '\0';
	value = json_string(fixed);
	free(fixed);
	return value;
}

json_t *qi_json_text(const char *text)
{
	json_t *value;

	if (!text)
		return json_null();
	value = json_string(text);
	return value ? value : repaired(text);
}

json_t *qi_json_uint(uint64_t value)
{
	/* Only a damaged image has numbers that jansson cannot hold. */
	if (value > INT64_MAX)
		return json_real((double)value);
	return json_integer((json_int_t)value);
}

json_t *qi_json_uuid(const struct qi_uuid *u)
{
	char text[QI_UUID_TEXT];

	if (qi_uuid_is_null(u))
		return json_null();
	qi_uuid_format(u, text);
	return json_string(text);
}

json_t *qi_json_time(int64_t time)
{
	char text[QI_HUMAN];
	time_t t = (time_t)time;
	struct tm tm;

	if (!gmtime_r(&t, &tm) ||
	    !strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm))
		return json_null();
	return json_string(text);
}

json_t *qi_json_record(const struct qi_record_facts *r)
{
	if (r->state == QI_RECORD_NONE)
		return json_pack("{s:s}", "state", "none");
	if (r->state == QI_RECORD_UNKNOWN)
		return json_pack("{s:s}", "state", "unknown");
	return json_pack("{s:s, s:o, s:o, s:o, s:b, s:b, s:b, s:o}", "state",
			 "valid", "image-id", qi_json_uuid(&r->image),
			 "parent-id", qi_json_uuid(&r->parent), "drive-id",
			 qi_json_uuid(&r->drive), "frozen", r->frozen, "shared",
			 r->shared, "merging", r->merging, "parent-tag",
			 qi_json_text(r->tag));
}

json_t *qi_json_plan(const struct qi_plan *plan)
{
	json_t *steps = json_array();

	for (size_t i = 0; i < plan->count; i++)
		json_array_append_new(steps, qi_json_text(plan->steps[i]));
	return steps;
}
