// SPDX-License-Identifier: MIT
/*
 * json.c - JSON with its keys in the order in which QEMU prints them
 *
 * That is the order of a hash table, but it is the same in all documents.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/qemu-img/common/stock.h"

static const char *const order[] = {
	"compat",
	"icount",
	"flags",
	"vm-clock-nsec",
	"image-end-offset",
	"name",
	"compressed-clusters",
	"compression-type",
	"lazy-refcounts",
	"date-sec",
	"bitmaps",
	"refcount-bits",
	"total-clusters",
	"corruptions",
	"data-file",
	"corruptions-fixed",
	"check-errors",
	"backing-filename-format",
	"date-nsec",
	"granularity",
	"required",
	"leaks",
	"snapshots",
	"leaks-fixed",
	"allocated-clusters",
	"virtual-size",
	"filename",
	"cluster-size",
	"fully-allocated",
	"format",
	"encrypt",
	"actual-size",
	"format-specific",
	"data-file-raw",
	"full-backing-filename",
	"vm-clock-sec",
	"encrypted",
	"type",
	"backing-filename",
	"corrupt",
	"fragmented-clusters",
	"id",
	"vm-state-size",
	"dirty-flag",
	"extended-l2",
	"data",
	NULL,
};

static json_t *ordered(json_t *value);

static json_t *ordered_object(json_t *from)
{
	json_t *to = json_object(), *value;
	const char *key;

	for (const char *const *k = order; *k; k++) {
		value = json_object_get(from, *k);
		if (value)
			json_object_set_new(to, *k, ordered(value));
	}
	/* What is not in the list comes last. */
	json_object_foreach(from, key, value)
	{
		if (!json_object_get(to, key))
			json_object_set_new(to, key, ordered(value));
	}
	return to;
}

/* A copy of a value, what is in it too. */
static json_t *ordered(json_t *value)
{
	json_t *list, *element;
	size_t i;

	if (json_is_object(value))
		return ordered_object(value);
	if (!json_is_array(value))
		return json_incref(value);
	list = json_array();
	json_array_foreach(value, i, element)
	{
		json_array_append_new(list, ordered(element));
	}
	return list;
}

/* Print a line; what is empty has its end in the next one. */
static void print_line(const char *line, size_t n)
{
	size_t indent = strspn(line, " ");
	size_t comma = n && line[n - 1] == ',';
	const char *end = line + n - comma;
	bool is_empty = n >= 2 + comma && (!strncmp(end - 2, "[]", 2) ||
					   !strncmp(end - 2, "{}", 2));

	if (is_empty)
		printf("%.*s\n%*s%.*s\n", (int)(n - comma - 1), line,
		       (int)indent, "", (int)(1 + comma), end - 1);
	else
		printf("%.*s\n", (int)n, line);
}

void qi_stock_json(json_t *value)
{
	json_t *copy = ordered(value);
	char *text = json_dumps(copy, JSON_INDENT(4));

	json_decref(copy);
	json_decref(value);
	/* No text in it has an end of line. */
	for (const char *line = text; line && *line;) {
		size_t n = strcspn(line, "\n");

		print_line(line, n);
		line += n + (line[n] == '\n');
	}
	free(text);
}
