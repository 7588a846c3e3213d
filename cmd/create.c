// SPDX-License-Identifier: MIT
/*
 * create.c - qimg create: make an empty image
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *format, *backing, *backing_format;
	struct qi_list options;
	bool unsafe, force, dry_run, quiet;
	int output;
} opt = { .format = "raw" };

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the new image (raw)"),
	QI_OPT_TEXT("backing", 'b', "FILE", &opt.backing, QI_COMPLETE_FILE,
		    "make an overlay on this image"),
	QI_OPT_TEXT("backing-format", 'F', "FMT", &opt.backing_format,
		    QI_COMPLETE_FORMAT, "format of the backing file"),
	QI_OPT_FLAG("backing-unsafe", 'u', &opt.unsafe,
		    "do not open the backing file"),
	QI_OPT_LIST("options", 'o', "OPTS", &opt.options, QI_COMPLETE_NONE,
		    "format options NAME=VALUE,...; 'help' lists them"),
	QI_OPT_FLAG("force", 0, &opt.force, "replace an existing file"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPTION_END,
};

static void print_json(const char *path, uint64_t size)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(path));
	qi_json_member(&j, "format", qi_json_text(opt.format));
	qi_json_member(&j, "virtual-size", qi_json_uint(size));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_end(&j, 0, NULL);
}

static void print_text(const char *path, uint64_t size)
{
	QI_AUTO_TEXT char *safe = qi_safe(path);
	char human[QI_HUMAN];

	printf("%s '%s': %s, %s\n", opt.dry_run ? "would create" : "created",
	       safe, opt.format, qi_human_size(human, size));
}

static int create(const char *path, const struct qi_create *c, uint64_t *size,
		  struct qi_error *e)
{
	int ret;

	if (opt.dry_run)
		return qi_try_create(path, c, size, e);
	ret = qi_create_size(path, c, size, e);
	return ret < 0 ? ret : qi_create_image(path, c, e);
}

static int run(int argc, char **argv)
{
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	struct qi_create c = {
		.format = opt.format,
		.options = joined,
		.size = QI_NO_OFFSET,
		.backing_name = opt.backing,
		.backing_format = opt.backing_format,
		.unchecked_backing = opt.unsafe,
		.replace = opt.force,
	};
	struct qi_error e = { "" };
	uint64_t size;
	int ret;

	if (qi_options_asked(&opt.options, opt.format, &ret))
		return ret;
	if (argc < 1)
		return qi_usage("create: the name of the new image is missing");
	if (argc > 1) {
		ret = qi_read_size("image size", argv[1], &c.size);
		if (ret)
			return ret;
	}
	ret = create(argv[0], &c, &size, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(argv[0], size);
	else if (!opt.quiet)
		print_text(argv[0], size);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_create = {
	.name = "create",
	.summary = "make an empty image",
	.synopsis = QI_LINES(
		"[-f FMT] [-o OPTS] [OPTION]... FILE [SIZE]",
		"[-f FMT] -b FILE [-F FMT] [-u] [OPTION]... FILE [SIZE]"),
	.options = options,
	.examples = QI_LINES(
		"qimg create -f qcow2 disk.qcow2 10G",
		"qimg create -f qcow2 -b base.qcow2 -F qcow2 top.qcow2",
		"qimg create -f qcow2 -o help"),
	.max_args = 2,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
