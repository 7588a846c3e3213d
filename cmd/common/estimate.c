// SPDX-License-Identifier: MIT
/*
 * estimate.c - how large an image would be, as text and JSON
 */
#include "cmd/common/estimate.h"

#include <stdio.h>

#include "cmd/common/json.h"

void qi_estimate_text(const struct qi_measurement *m)
{
	printf("required size: %llu\nfully allocated size: %llu\n",
	       (unsigned long long)m->required,
	       (unsigned long long)m->fully_allocated);
	if (m->has_bitmaps)
		printf("bitmaps size: %llu\n", (unsigned long long)m->bitmaps);
}

json_t *qi_estimate_json(const struct qi_measurement *m)
{
	json_t *o = json_object();

	if (m->has_bitmaps)
		json_object_set_new(o, "bitmaps", qi_json_uint(m->bitmaps));
	json_object_set_new(o, "required", qi_json_uint(m->required));
	json_object_set_new(o, "fully-allocated",
			    qi_json_uint(m->fully_allocated));
	return o;
}
