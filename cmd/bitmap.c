// SPDX-License-Identifier: MIT
/*
 * bitmap.c - qimg bitmap: dirty bitmaps of nodes and of drives
 *
 * A bitmap is addressed by exactly one of --drive and --node and its name.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/task.h"
#include "cmd/common/bitmap.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

#define NOT_GIVEN UINT64_MAX

static struct {
	const char *drive, *node, *into, *image, *to_drive, *to_node, *as;
	uint64_t granularity;
	bool disabled, allocated, strict, dry_run, quiet, force_share;
	int output, progress, wait;
} opt = { .granularity = NOT_GIVEN };

#define OPT_DRIVE                                                     \
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE, \
		    "the bitmap belongs to this drive")
#define OPT_NODE                                                    \
	QI_OPT_TEXT("node", 0, "PATH", &opt.node, QI_COMPLETE_FILE, \
		    "the bitmap belongs to this image file")

static const struct qi_option add_options[] = {
	OPT_DRIVE,
	OPT_NODE,
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_SIZE("granularity", 'g', &opt.granularity,
		    "bytes a bit stands for, a power of two"),
	QI_OPT_FLAG("disabled", 0, &opt.disabled, "do not record writes yet"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option edit_options[] = {
	OPT_DRIVE,
	OPT_NODE,
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option merge_options[] = {
	OPT_DRIVE,
	OPT_NODE,
	QI_OPT_TEXT("into", 0, "NAME", &opt.into, QI_COMPLETE_BITMAP,
		    "the bitmap that gets what the others have"),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option move_options[] = {
	OPT_DRIVE,
	OPT_NODE,
	QI_OPT_TEXT("to-drive", 0, "PATH", &opt.to_drive, QI_COMPLETE_FILE,
		    "make it a bitmap of this drive"),
	QI_OPT_TEXT("to-node", 0, "PATH", &opt.to_node, QI_COMPLETE_FILE,
		    "make it a bitmap of this image file"),
	QI_OPT_TEXT("as", 0, "NEW", &opt.as, QI_COMPLETE_NONE,
		    "give it another name"),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option populate_options[] = {
	OPT_DRIVE,
	OPT_NODE,
	QI_OPT_FLAG("allocated", 0, &opt.allocated, "add what is allocated"),
	QI_OPT_TEXT("differs-from", 0, "IMAGE", &opt.image, QI_COMPLETE_FILE,
		    "add what reads differently from this image"),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option read_options[] = {
	OPT_DRIVE,
	OPT_NODE,
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* ------------------------------------------------------------ changing */

static const char *const verbs[] = {
	[QI_BITMAP_ADD] = "added",	  [QI_BITMAP_REMOVE] = "removed",
	[QI_BITMAP_CLEAR] = "cleared",	  [QI_BITMAP_ENABLE] = "enabled",
	[QI_BITMAP_DISABLE] = "disabled",
};

static int edit_node(const struct qi_bitmap_edit *edit, struct qi_plan *plan,
		     struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = {
		.access = QI_ACCESS_WRITE,
		/* Only a new name has to be checked against the chain. */
		.no_backing = edit->verb != QI_BITMAP_ADD,
	};
	struct qi_node *n;
	int ret = qi_open_image(g, opt.node, &how, opt.wait, &n, e);

	if (ret < 0)
		return ret;
	return qi_node_bitmap_edit(n, edit, plan, opt.dry_run, e);
}

static int edit_drive(const struct qi_bitmap_edit *edit, struct qi_plan *plan,
		      struct qi_error *e)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	struct qi_open how = { .access = QI_ACCESS_WRITE,
			       .strict = opt.strict };
	int ret = qi_open_drive(g, opt.drive, &how, opt.wait, &d, e);

	if (ret < 0)
		return ret;
	return qi_drive_bitmap_edit(d, edit, plan, opt.dry_run, e);
}

static struct qi_bitmap_task task_of(const char *name)
{
	return (struct qi_bitmap_task){ .drive = opt.drive,
					.node = opt.node,
					.name = name,
					.strict = opt.strict,
					.dry_run = opt.dry_run,
					.quiet = opt.quiet,
					.output = opt.output,
					.wait = opt.wait,
					.progress = opt.progress };
}

static int report_edit(const struct qi_bitmap_edit *edit,
		       const struct qi_plan *plan)
{
	const struct qi_bitmap_task t = task_of(edit->name);
	QI_AUTO_TEXT char *name = qi_safe(edit->name);
	QI_AUTO_TEXT char *of = qi_safe(opt.drive ? opt.drive : opt.node);
	QI_AUTO_TEXT char *text = qi_xprintf("%s bitmap '%s' of %s '%s'",
					     verbs[edit->verb], name,
					     opt.drive ? "drive" : "node", of);

	return qi_bitmap_task_report(&t, plan, verbs[edit->verb], NULL, text);
}

/* Usage error or 0. */
static int need_one_target(void)
{
	if (!opt.drive == !opt.node)
		return qi_usage("give exactly one of --drive and --node");
	if (opt.strict && !opt.drive && !opt.to_drive)
		return qi_usage("--strict is for drives");
	return 0;
}

static int run_edit(enum qi_bitmap_verb verb, const char *name)
{
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_bitmap_edit edit = {
		.verb = verb,
		.name = name,
		.disabled = opt.disabled,
	};
	struct qi_error e = { "" };
	int ret;

	if (need_one_target())
		return QI_EXIT_USAGE;
	if (opt.granularity != NOT_GIVEN) {
		if (!qi_bitmap_is_granularity(opt.granularity))
			return qi_usage("--granularity must be a power of two "
					"from 512 to 2G");
		edit.granularity = (uint32_t)opt.granularity;
	}
	ret = opt.drive ? edit_drive(&edit, &plan, &e) :
			  edit_node(&edit, &plan, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	return report_edit(&edit, &plan);
}

static int run_add(int argc, char **argv)
{
	return run_edit(QI_BITMAP_ADD, argv[0]);
}

static int run_remove(int argc, char **argv)
{
	return run_edit(QI_BITMAP_REMOVE, argv[0]);
}

static int run_clear(int argc, char **argv)
{
	return run_edit(QI_BITMAP_CLEAR, argv[0]);
}

static int run_enable(int argc, char **argv)
{
	return run_edit(QI_BITMAP_ENABLE, argv[0]);
}

static int run_disable(int argc, char **argv)
{
	return run_edit(QI_BITMAP_DISABLE, argv[0]);
}

static int run_merge(int argc, char **argv)
{
	const struct qi_bitmap_task t = task_of(opt.into);

	if (need_one_target())
		return QI_EXIT_USAGE;
	if (!opt.into)
		return qi_usage("--into is missing");
	return qi_bitmap_run_merge(&t, argv, (size_t)argc);
}

static int run_populate(int argc, char **argv)
{
	const struct qi_bitmap_task t = task_of(argv[0]);

	if (need_one_target())
		return QI_EXIT_USAGE;
	if (opt.allocated == !!opt.image)
		return qi_usage("give exactly one of --allocated and "
				"--differs-from");
	return qi_bitmap_run_populate(&t, opt.image);
}

static int run_move(int argc, char **argv)
{
	const struct qi_bitmap_task t = task_of(argv[0]);

	if (need_one_target())
		return QI_EXIT_USAGE;
	if (!opt.to_drive == !opt.to_node)
		return qi_usage("give exactly one of --to-drive and --to-node");
	return qi_bitmap_run_move(&t, opt.to_drive, opt.to_node, opt.as);
}

/* ------------------------------------------------------------- listing */

static int run_list(int argc, char **argv)
{
	struct qi_bitmap_list list = {
		.drive = opt.drive,
		.node = opt.node,
		.paths = argv,
		.path_count = argc,
		.json = opt.output == QI_OUTPUT_JSON,
		.force_share = opt.force_share,
		.strict = opt.strict,
	};

	if (!!opt.drive + !!opt.node + !!argc != 1)
		return qi_usage("give exactly one of --drive, --node and "
				"paths");
	if (opt.strict && !opt.drive)
		return qi_usage("--strict is for --drive");
	return qi_bitmap_list(&list);
}

/* ------------------------------------------------------------- showing */

static int run_show(int argc, char **argv)
{
	struct qi_bitmap_show show = {
		.drive = opt.drive,
		.node = opt.node,
		.name = argv[0],
		.json = opt.output == QI_OUTPUT_JSON,
		.how = { .access = QI_ACCESS_READ,
			 .force_share = opt.force_share,
			 .strict = opt.strict },
		.wait = opt.wait,
	};

	if (need_one_target())
		return QI_EXIT_USAGE;
	return qi_bitmap_show(&show);
}

/* ------------------------------------------------------------ commands */

#define TARGET "(--drive PATH | --node PATH) "

#define EDIT_COMMAND(name_, summary_, run_)                                   \
	{                                                                     \
		.name = name_, .summary = summary_, .options = edit_options,  \
		.synopsis = QI_LINES(TARGET "[OPTION]... NAME"),              \
		.examples = QI_LINES("qimg bitmap " name_                     \
				     " --drive vm.qcow2 daily"),              \
		.min_args = 1, .max_args = 1, .complete = QI_COMPLETE_BITMAP, \
		.run = run_                                                   \
	}

static const struct qi_command add = {
	.name = "add",
	.summary = "start a new bitmap",
	.synopsis = QI_LINES(TARGET "[-g SIZE] [--disabled] [OPTION]... NAME"),
	.options = add_options,
	.examples = QI_LINES("qimg bitmap add --drive vm.qcow2 daily",
			     "qimg bitmap add --node base.qcow2 -g 1M audit"),
	.min_args = 1,
	.max_args = 1,
	.run = run_add,
};
static const struct qi_command remove_command =
	EDIT_COMMAND("remove", "remove a bitmap", run_remove);
static const struct qi_command clear =
	EDIT_COMMAND("clear", "start the record of a bitmap anew", run_clear);
static const struct qi_command enable =
	EDIT_COMMAND("enable", "record writes from now on", run_enable);
static const struct qi_command disable =
	EDIT_COMMAND("disable", "record no writes from now on", run_disable);
static const struct qi_command merge = {
	.name = "merge",
	.summary = "add what other bitmaps have",
	.synopsis = QI_LINES(TARGET "--into NAME [OPTION]... SOURCE..."),
	.options = merge_options,
	.examples = QI_LINES(
		"qimg bitmap merge --drive vm.qcow2 --into weekly daily",
		"qimg bitmap merge --node a.qcow2 --into all b.qcow2:audit"),
	.min_args = 1,
	.max_args = QI_ARGS_ANY,
	.complete = QI_COMPLETE_BITMAP,
	.run = run_merge,
};
static const struct qi_command move = {
	.name = "move",
	.summary = "move a bitmap to another drive or image file",
	.synopsis = QI_LINES(TARGET "(--to-drive PATH | --to-node PATH) "
				    "[--as NEW] [OPTION]... NAME"),
	.options = move_options,
	.examples = QI_LINES(
		"qimg bitmap move --node top.qcow2 --to-drive vm audit",
		"qimg bitmap move --drive vm --to-drive vm --as weekly daily"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_BITMAP,
	.run = run_move,
};
static const struct qi_command populate = {
	.name = "populate",
	.summary = "add what is allocated, or differs from another image",
	.synopsis = QI_LINES(TARGET "(--allocated | --differs-from IMAGE) "
				    "[OPTION]... NAME"),
	.options = populate_options,
	.examples = QI_LINES(
		"qimg bitmap populate --node top.qcow2 --allocated audit",
		"qimg bitmap populate --drive vm.qcow2 --differs-from "
		"old.qcow2 daily"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_BITMAP,
	.run = run_populate,
};
static const struct qi_command list = {
	.name = "list",
	.summary = "list the bitmaps of a drive or of image files",
	.synopsis = QI_LINES("(--drive PATH | --node PATH | PATH...) "
			     "[OPTION]..."),
	.options = read_options,
	.examples = QI_LINES("qimg bitmap list --drive vm.qcow2",
			     "qimg bitmap list base.qcow2 top.qcow2"),
	.max_args = QI_ARGS_ANY,
	.complete = QI_COMPLETE_FILE,
	.run = run_list,
};
static const struct qi_command show = {
	.name = "show",
	.summary = "show what a bitmap says is dirty, and how well it knows",
	.synopsis = QI_LINES(TARGET "[OPTION]... NAME"),
	.options = read_options,
	.examples = QI_LINES(
		"qimg bitmap show --drive vm.qcow2 daily",
		"qimg bitmap show --node base.qcow2 --output json audit"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_BITMAP,
	.run = run_show,
};

const struct qi_command qi_command_bitmap = {
	.name = "bitmap",
	.summary = "work with the dirty bitmaps of drives and image files",
	.synopsis = QI_LINES("SUBCOMMAND [OPTION]... [ARGUMENT]..."),
	.subcommands =
		(const struct qi_command *const[]){
			&add, &clear, &disable, &enable, &list, &merge, &move,
			&populate, &remove_command, &show, NULL },
};
