// SPDX-License-Identifier: MIT
/*
 * checked.c - what a check has found, as text, JSON and exit code
 */
#include "cmd/common/checked.h"

#include <stdio.h>

#include "cmd/common/json.h"
#include "cmd/common/print.h"

void qi_checked_finding(void *arg, const char *text)
{
	QI_AUTO_TEXT char *safe = qi_safe(text);

	fprintf(stderr, "%s\n", safe);
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? (double)part * 100 / (double)whole : 0;
}

static void print_problems(const struct qi_check *c)
{
	if (c->corruptions)
		printf("\n%llu errors were found on the image.\n"
		       "Data may be corrupted, or further writes to the image "
		       "may corrupt it.\n",
		       (unsigned long long)c->corruptions);
	if (c->leaks)
		printf("\n%llu leaked clusters were found on the image.\n"
		       "This means waste of disk space, but no harm to "
		       "data.\n",
		       (unsigned long long)c->leaks);
	if (c->errors)
		printf("\n%llu internal errors have occurred during the "
		       "check.\n",
		       (unsigned long long)c->errors);
}

void qi_checked_text(const struct qi_check *c)
{
	if (!c->corruptions && !c->leaks && !c->errors)
		puts("No errors were found on the image.");
	else
		print_problems(c);
	if (c->total_clusters && c->allocated_clusters)
		printf("%llu/%llu = %0.2f%% allocated, %0.2f%% fragmented, "
		       "%0.2f%% compressed clusters\n",
		       (unsigned long long)c->allocated_clusters,
		       (unsigned long long)c->total_clusters,
		       percent(c->allocated_clusters, c->total_clusters),
		       percent(c->fragmented_clusters, c->allocated_clusters),
		       percent(c->compressed_clusters, c->allocated_clusters));
	if (c->image_end)
		printf("Image end offset: %llu\n",
		       (unsigned long long)c->image_end);
}

/* qemu-img leaves out what is zero. */
static void set_if_any(json_t *o, const char *key, uint64_t value)
{
	if (value)
		json_object_set_new(o, key, qi_json_uint(value));
}

json_t *qi_checked_json(const struct qi_check *c,
			const struct qi_node_facts *facts)
{
	json_t *o = json_object();

	set_if_any(o, "image-end-offset", c->image_end);
	set_if_any(o, "compressed-clusters", c->compressed_clusters);
	set_if_any(o, "total-clusters", c->total_clusters);
	set_if_any(o, "corruptions", c->corruptions);
	set_if_any(o, "leaks", c->leaks);
	set_if_any(o, "corruptions-fixed", c->corruptions_fixed);
	set_if_any(o, "leaks-fixed", c->leaks_fixed);
	json_object_set_new(o, "check-errors", qi_json_uint(c->errors));
	set_if_any(o, "allocated-clusters", c->allocated_clusters);
	set_if_any(o, "fragmented-clusters", c->fragmented_clusters);
	json_object_set_new(o, "filename", qi_json_text(facts->path));
	json_object_set_new(o, "format", qi_json_text(facts->format));
	return o;
}

static void print_repaired(const struct qi_check *c)
{
	printf("The following inconsistencies were found and repaired:\n\n"
	       "    %llu leaked clusters\n"
	       "    %llu corruptions\n\n"
	       "Double checking the fixed image now...\n",
	       (unsigned long long)c->leaks_fixed,
	       (unsigned long long)c->corruptions_fixed);
}

int qi_checked_run(struct qi_node *n, struct qi_check *check, bool shown,
		   struct qi_error *e)
{
	struct qi_check again = { .finding = qi_checked_finding };
	int ret = qi_check_image(n, check, e);

	if (ret < 0 || (!check->corruptions_fixed && !check->leaks_fixed))
		return ret;
	if (shown)
		print_repaired(check);
	again.corruptions_fixed = check->corruptions_fixed;
	again.leaks_fixed = check->leaks_fixed;
	*check = again;
	return qi_check_image(n, check, e);
}

int qi_checked_code(const struct qi_check *c)
{
	if (c->errors)
		return QI_CHECK_NOT_DONE;
	if (c->corruptions)
		return QI_CHECK_CORRUPT;
	return c->leaks ? QI_CHECK_LEAKS : QI_CHECK_CLEAN;
}
