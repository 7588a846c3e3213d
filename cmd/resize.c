// SPDX-License-Identifier: MIT
/*
 * resize.c - qimg resize: change the size of a disk
 */
#include <errno.h>
#include <stdio.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *format, *preallocation;
	bool shrink, dry_run, quiet;
	int output, wait;
	struct qi_list scan;
} opt = { .preallocation = "off" };

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_TEXT("preallocation", 0, "MODE", &opt.preallocation,
		    QI_COMPLETE_NONE,
		    "of the new part: off, metadata, falloc or full"),
	QI_OPT_FLAG("shrink", 0, &opt.shrink,
		    "delete what is past a smaller size"),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(const struct qi_node_facts *facts, uint64_t old,
		       uint64_t size, const struct qi_plan *plan)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(facts->path));
	qi_json_member(&j, "format", qi_json_text(facts->format));
	qi_json_member(&j, "old-size", qi_json_uint(old));
	qi_json_member(&j, "virtual-size", qi_json_uint(size));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "steps", qi_json_plan(plan));
	qi_json_end(&j, 0, NULL);
}

/* "+N" and "-N" are relative to the size that the disk has. */
static int new_size(const char *text, uint64_t number, uint64_t old,
		    uint64_t *size, struct qi_error *e)
{
	*size = number;
	if (*text == '+')
		*size = old + number;
	else if (*text == '-')
		*size = number < old ? old - number : 0;
	if (*size && *size <= INT64_MAX)
		return 0;
	return qi_fail(e, EINVAL,
		       "the new size must be positive and less than 2^63: %s "
		       "of %llu bytes",
		       text, (unsigned long long)old);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE };
	struct qi_resize resize = { .shrink = opt.shrink };
	struct qi_error e = { "" };
	const char *text;
	uint64_t number, old = 0;
	int ret;

	if (argc < 2)
		return qi_usage("resize: give an image and a size");
	text = argv[1];
	ret = qi_read_size("size", text + (*text == '+' || *text == '-'),
			   &number);
	if (ret)
		return ret;
	ret = qi_preallocation_parse(opt.preallocation, &resize.preallocation,
				     &e);
	if (ret >= 0)
		ret = qi_scan_folders(g, &opt.scan, &e);
	/* A link leads to the head of a drive, wherever that is. */
	if (ret >= 0)
		ret = qi_open_drive(g, argv[0], &how, opt.wait, &d, &e);
	if (ret >= 0) {
		old = qi_node_facts(qi_drive_head(d))->size;
		ret = new_size(text, number, old, &resize.size, &e);
	}
	if (ret >= 0)
		ret = qi_resize_image(qi_drive_head(d), &resize, &plan,
				      opt.dry_run, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(qi_node_facts(qi_drive_head(d)), old, resize.size,
			   &plan);
	else if (opt.dry_run)
		qi_print_plan(&plan);
	else if (!opt.quiet)
		puts("Image resized.");
	return QI_EXIT_OK;
}

const struct qi_command qi_command_resize = {
	.name = "resize",
	.summary = "change the size of a disk",
	.synopsis = QI_LINES("[-f FMT] [--preallocation MODE] [--shrink] "
			     "[OPTION]... FILE [+|-]SIZE"),
	.options = options,
	.examples = QI_LINES("qimg resize disk.qcow2 +10G",
			     "qimg resize --preallocation falloc disk.qcow2 "
			     "100G",
			     "qimg resize --shrink disk.qcow2 -10G"),
	.max_args = 2,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
