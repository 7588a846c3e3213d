// SPDX-License-Identifier: MIT
/*
 * json.c - JSON with its keys in the order in which QEMU prints them
 *
 * That is the order of a hash table, but it is the same in all documents.
 */
#include <jansson.h>
#include <stddef.h>

#include "cmd/common/json.h"
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

void qi_stock_json(json_t *value)
{
	qi_json_print(ordered(value));
	json_decref(value);
}
