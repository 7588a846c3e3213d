// SPDX-License-Identifier: MIT
/*
 * check.c - qimg check: is an image consistent
 */
#include <errno.h>
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

/* Exit codes of qemu-img check */
enum {
	CHECK_CLEAN = 0,
	CHECK_NOT_DONE = 1,
	CHECK_CORRUPT = 2,
	CHECK_LEAKS = 3,
	CHECK_UNSUPPORTED = 63,
};

static struct {
	const char *format;
	bool force_share, quiet, dry_run;
	int output, wait, repair;
} opt = { .repair = -1 };

/* In the order of enum qi_repair, without its first. */
static const char *const repair_choices[] = { "leaks", "all", NULL };

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	{ .name = "repair",
	  .letter = 'r',
	  .arg = "leaks|all",
	  .help = "repair leaked clusters, or all that can be",
	  .type = QI_OPTION_CHOICE,
	  .value = &opt.repair,
	  .choices = repair_choices },
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void on_finding(void *arg, const char *text)
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

static void print_text(const struct qi_check *c)
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

static void print_json(const struct qi_check *c,
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
	qi_json_print(o);
}

static int exit_code(const struct qi_check *c)
{
	if (c->errors)
		return CHECK_NOT_DONE;
	if (c->corruptions)
		return CHECK_CORRUPT;
	return c->leaks ? CHECK_LEAKS : CHECK_CLEAN;
}

static int check_as_wanted(struct qi_node *n, struct qi_check *check,
			   struct qi_error *e)
{
	uint64_t corruptions, leaks;
	int ret;

	if (!opt.dry_run)
		check->repair = (enum qi_repair)(opt.repair + 1);
	ret = qi_check_image(n, check, e);
	corruptions = check->corruptions_fixed;
	leaks = check->leaks_fixed;
	if (ret < 0 || (!corruptions && !leaks))
		return ret;
	if (opt.output == QI_OUTPUT_HUMAN && !opt.quiet)
		printf("The following inconsistencies were found and "
		       "repaired:\n\n"
		       "    %llu leaked clusters\n"
		       "    %llu corruptions\n\n"
		       "Double checking the fixed image now...\n",
		       (unsigned long long)leaks,
		       (unsigned long long)corruptions);
	*check = (struct qi_check){ .finding = on_finding,
				    .corruptions_fixed = corruptions,
				    .leaks_fixed = leaks };
	return qi_check_image(n, check, e);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	bool writes = opt.repair >= 0 && !opt.dry_run;
	struct qi_open how = {
		.format = opt.format,
		.access = writes ? QI_ACCESS_WRITE : QI_ACCESS_READ,
		.force_share = opt.force_share,
		.no_backing = true,
		.to_check = true,
	};
	struct qi_check check = { .finding = on_finding };
	struct qi_error e = { "" };
	struct qi_node *n;
	int ret;

	if (writes && opt.force_share)
		return qi_usage("a repair writes: --force-share goes with "
				"--dry-run alone");
	ret = qi_open_image(g, argv[0], &how, opt.wait, &n, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, CHECK_NOT_DONE);
	ret = check_as_wanted(n, &check, &e);
	if (ret < 0)
		return qi_report_as(ret, &e,
				    ret == -ENOTSUP ? CHECK_UNSUPPORTED :
						      CHECK_NOT_DONE);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(&check, qi_node_facts(n));
	else if (!opt.quiet)
		print_text(&check);
	return exit_code(&check);
}

const struct qi_command qi_command_check = {
	.name = "check",
	.summary = "check an image for inconsistencies",
	.synopsis = QI_LINES("[OPTION]... FILE"),
	.options = options,
	.examples = QI_LINES("qimg check disk.qcow2",
			     "qimg check --output json disk.qcow2",
			     "qimg check --repair all disk.qcow2"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
