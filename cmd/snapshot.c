// SPDX-License-Identifier: MIT
/*
 * snapshot.c - qimg snapshot: layers of a drive, and what one image keeps
 */
#include <stdio.h>

#include "cmd/common/change.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/internal.h"
#include "cmd/common/print.h"

static struct {
	const char *drive, *overlay;
	bool dry_run, quiet;
	int output, wait;
} opt;

static const struct qi_option create_options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive"),
	QI_OPT_TEXT("overlay", 0, "PATH", &opt.overlay, QI_COMPLETE_FILE,
		    "name of the new head, where the drive is a link"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_text(const char *drive, const char *old_head,
		       const char *new_head, uint64_t bytes)
{
	printf("drive '%s': '%s' is the snapshot, '%s' is the head\n", drive,
	       old_head, new_head);
}

static int run_create(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_open how = { .access = QI_ACCESS_WRITE };
	struct qi_snapshot s = {
		.tag = argc ? argv[0] : NULL,
		.overlay = opt.overlay,
	};
	const struct qi_change_report report = { .drive = opt.drive,
						 .old_key = "snapshot",
						 .output = opt.output,
						 .dry_run = opt.dry_run,
						 .quiet = opt.quiet,
						 .print = print_text };
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret;

	if (!opt.drive)
		return qi_usage("snapshot create: --drive is missing");
	ret = qi_open_drive(g, opt.drive, &how, opt.wait, &d, &e);
	if (ret >= 0)
		ret = qi_snapshot_create(d, &s, &plan, opt.dry_run, &change,
					 &e);
	if (ret < 0)
		return qi_report(ret, &e);
	return qi_report_change(&report, &change, &plan);
}

static const struct qi_command create = {
	.name = "create",
	.summary = "freeze the head of a drive and put a new one on top",
	.synopsis = QI_LINES("--drive PATH [--overlay PATH] [OPTION]... [TAG]"),
	.options = create_options,
	.examples = QI_LINES(
		"qimg snapshot create --drive vm.qcow2 before-upgrade"),
	.max_args = 1,
	.run = run_create,
};

/* ---------------------------------------- internal, as with qemu-img */

static struct {
	const char *format, *apply, *create, *delete;
	bool list, share, quiet;
	int wait;
} in;

static const struct qi_option internal_options[] = {
	QI_OPT_FLAG("list", 'l', &in.list, "list the image's own snapshots"),
	QI_OPT_TEXT("create", 'c', "NAME", &in.create, QI_COMPLETE_NONE,
		    "make one"),
	QI_OPT_TEXT("apply", 'a', "NAME", &in.apply, QI_COMPLETE_NONE,
		    "go back to one; enabled bitmaps get what that changes"),
	QI_OPT_TEXT("delete", 'd', "NAME", &in.delete, QI_COMPLETE_NONE,
		    "remove one"),
	QI_OPT_TEXT("format", 'f', "FORMAT", &in.format, QI_COMPLETE_FORMAT,
		    "format of the image, not probed"),
	QI_OPT_FLAG("force-share", 'U', &in.share,
		    "read although another process may write"),
	QI_OPT_QUIET(&in.quiet),
	QI_OPT_WAIT(&in.wait),
	QI_OPTION_END,
};

static int list_internal(struct qi_node *n, struct qi_error *e)
{
	struct qi_internal_snapshot *all;
	size_t count;
	int ret = qi_internal_snapshots(n, &all, &count, e);

	if (ret)
		return ret;
	qi_internal_print(all, count);
	qi_internal_snapshots_free(all, count);
	return 0;
}

static int run_internal(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = { .format = in.format, .no_backing = true };
	int verbs = !!in.create + !!in.apply + !!in.delete + in.list;
	struct qi_error e = { "" };
	struct qi_node *n;
	int ret;

	if (verbs > 1)
		return qi_usage("snapshot: only one of -l, -a, -c, -d");
	if (argc < 1)
		return qi_usage("snapshot: expecting one image file name");
	in.list |= !verbs;
	how.access = in.list ? QI_ACCESS_READ : QI_ACCESS_WRITE;
	how.force_share = in.share;
	ret = qi_open_image(g, argv[0], &how, in.wait, &n, &e);
	if (ret >= 0 && in.list)
		ret = list_internal(n, &e);
	else if (ret >= 0)
		ret = qi_internal_snapshot_edit(n,
						in.create ? QI_INTERNAL_CREATE :
						in.apply  ? QI_INTERNAL_APPLY :
							    QI_INTERNAL_DELETE,
						in.create ? in.create :
						in.apply  ? in.apply :
							    in.delete,
						&e);
	return ret < 0 ? qi_report_as(ret, &e, QI_EXIT_FAILED) : QI_EXIT_OK;
}

const struct qi_command qi_command_snapshot = {
	.name = "snapshot",
	.summary = "work with the layers of a drive, or with the snapshots "
		   "inside an image",
	.synopsis = QI_LINES("create --drive PATH [--overlay PATH] "
			     "[OPTION]... [TAG]",
			     "[-l | -a NAME | -c NAME | -d NAME] [OPTION]... "
			     "IMAGE"),
	.options = internal_options,
	.subcommands = (const struct qi_command *const[]){ &create, NULL },
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run_internal,
};
