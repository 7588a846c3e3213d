// SPDX-License-Identifier: MIT
/*
 * amend.c - qimg amend: change the options of an image
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *format;
	struct qi_list options;
	bool force, dry_run, quiet;
	int output, progress, wait;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_LIST("options", 'o', "OPTS", &opt.options, QI_COMPLETE_NONE,
		    "options NAME=VALUE,...; 'help' lists those that can "
		    "change"),
	QI_OPT_FLAG("force", 0, &opt.force,
		    "accepted as qemu-img does; nothing here needs it"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const struct qi_node_facts *facts,
		       const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(facts->path));
	qi_json_member(&j, "format", qi_json_text(facts->format));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

static int print_options(const char *format)
{
	const struct qi_format_option *o = qi_format_amend_options(format);
	QI_AUTO_TEXT char *title =
		qi_xprintf("Amend options for '%s':", format);

	if (o) {
		qi_options_print(title, o);
		return QI_EXIT_OK;
	}
	qi_say_error("format '%s' has no options that can be changed", format);
	return QI_EXIT_FAILED;
}

/* Of the format that is named, or of that of the image. */
static int help(struct qi_graph *g, int argc, char **argv)
{
	struct qi_open how = { .no_backing = true };
	struct qi_error e = { "" };
	struct qi_node *n;
	int ret;

	if (opt.format)
		return print_options(opt.format);
	if (argc < 1)
		return qi_usage("amend: give a format or an image");
	ret = qi_open_image(g, argv[0], &how, opt.wait, &n, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	return print_options(qi_node_facts(n)->format);
}

static int amend(struct qi_node *n, struct qi_plan *plan, struct qi_error *e)
{
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	struct qi_amend a = { .options = joined };
	int ret;

	if (opt.dry_run)
		return qi_amend_image(n, &a, plan, true, e);
	a.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "amend");
	ret = qi_amend_image(n, &a, plan, false, e);
	qi_progress_end(ret);
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE };
	struct qi_error e = { "" };
	int ret;

	if (qi_options_want_help(&opt.options))
		return help(g, argc, argv);
	if (!opt.options.count)
		return qi_usage("amend: options (-o) are missing");
	if (argc < 1)
		return qi_usage("amend: the name of the image is missing");
	/* A link leads to the head of a drive, wherever that is. */
	ret = qi_open_drive(g, argv[0], &how, opt.wait, &d, &e);
	if (ret >= 0)
		ret = amend(qi_drive_head(d), &plan, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(qi_node_facts(qi_drive_head(d)), &plan);
	else if (opt.dry_run)
		qi_print_plan(&plan);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_amend = {
	.name = "amend",
	.summary = "change the options of an image",
	.synopsis = QI_LINES("[-f FMT] [-p] [OPTION]... -o OPTS FILE",
			     "(-f FMT | FILE) -o help"),
	.options = options,
	.examples = QI_LINES("qimg amend -o compat=1.1 disk.qcow2",
			     "qimg amend -o refcount_bits=64 -p disk.qcow2",
			     "qimg amend -f qcow2 -o help"),
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
