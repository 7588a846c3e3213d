// SPDX-License-Identifier: MIT
/*
 * snapshot.c - qimg snapshot: layers of a drive, and what one image keeps
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/common/change.h"
#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/internal.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *drive, *overlay;
	unsigned threads;
	bool strict, dry_run, quiet, force_share;
	int output, progress, wait;
	struct qi_list scan;
} opt;

#define OPT_DRIVE                                                     \
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE, \
		    "the drive")

static const struct qi_option create_options[] = {
	OPT_DRIVE,
	QI_OPT_TEXT("overlay", 0, "PATH", &opt.overlay, QI_COMPLETE_FILE,
		    "name of the new head, where the drive is a link"),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option list_options[] = {
	OPT_DRIVE,
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPTION_END,
};

static const struct qi_option revert_options[] = {
	OPT_DRIVE,
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option delete_options[] = {
	OPT_DRIVE,
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_SCAN(&opt.scan),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* One of the operations below, with what it needs besides the drive. */
struct action {
	const char *tag;
	/* What has to be known before the lock; may be NULL. */
	int (*prepare)(struct qi_drive *d, const char *tag, struct qi_error *e);
	int (*run)(struct qi_drive *d, const char *tag, struct qi_plan *plan,
		   struct qi_change *change, struct qi_error *e);
	struct qi_change_report report;
};

static int open_drive(struct qi_graph *g, const struct action *a,
		      struct qi_drive **d, struct qi_error *e)
{
	struct qi_open how = { .access = QI_ACCESS_WRITE,
			       .strict = opt.strict };
	int ret = qi_scan_folders(g, &opt.scan, e);

	if (ret >= 0)
		ret = qi_drive_add(g, opt.drive, &how, d, e);
	if (ret >= 0 && a->prepare)
		ret = a->prepare(*d, a->tag, e);
	return ret < 0 ? ret : qi_graph_lock(g, opt.wait, e);
}

static int act(struct action *a)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_change change = { .bytes = 0 };
	struct qi_error e = { "" };
	int ret;

	if (!opt.drive)
		return qi_usage("snapshot: --drive is missing");
	a->report.drive = opt.drive;
	a->report.output = opt.output;
	a->report.dry_run = opt.dry_run;
	a->report.quiet = opt.quiet;
	ret = open_drive(g, a, &d, &e);
	if (ret >= 0)
		ret = a->run(d, a->tag, &plan, &change, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	return qi_report_change(&a->report, &change, &plan);
}

/* -------------------------------------------------------------- create */

static void print_created(const char *drive, const char *old_head,
			  const char *new_head, uint64_t bytes)
{
	printf("drive '%s': '%s' is the snapshot, '%s' is the head\n", drive,
	       old_head, new_head);
}

static int create_snapshot(struct qi_drive *d, const char *tag,
			   struct qi_plan *plan, struct qi_change *change,
			   struct qi_error *e)
{
	const struct qi_snapshot s = { .tag = tag, .overlay = opt.overlay };

	return qi_snapshot_create(d, &s, plan, opt.dry_run, change, e);
}

static int run_create(int argc, char **argv)
{
	struct action a = { .tag = argc ? argv[0] : NULL,
			    .prepare = qi_snapshot_create_prepare,
			    .run = create_snapshot,
			    .report = { .old_key = "snapshot",
					.print = print_created } };

	return act(&a);
}

/* -------------------------------------------------------------- revert */

static void print_reverted(const char *drive, const char *old_head,
			   const char *new_head, uint64_t bytes)
{
	printf("drive '%s': back at '%s', '%s' is a fresh head\n", drive,
	       old_head, new_head);
}

static int revert_snapshot(struct qi_drive *d, const char *tag,
			   struct qi_plan *plan, struct qi_change *change,
			   struct qi_error *e)
{
	return qi_snapshot_revert(d, tag, plan, opt.dry_run, change, e);
}

static int run_revert(int argc, char **argv)
{
	struct action a = { .tag = argv[0],
			    .prepare = qi_snapshot_revert_prepare,
			    .run = revert_snapshot,
			    .report = { .old_key = "snapshot",
					.print = print_reverted } };

	return act(&a);
}

/* -------------------------------------------------------------- delete */

static void print_deleted(const char *drive, const char *old_head,
			  const char *new_head, uint64_t bytes)
{
	char human[QI_HUMAN];

	/* Layers that are plain files may have got another name. */
	printf("drive '%s': the layers around the snapshot are one now, %s "
	       "copied; the head is '%s'\n",
	       drive, qi_human_size(human, bytes), new_head);
}

static struct qi_snapshot_delete delete_how(const char *tag)
{
	return (struct qi_snapshot_delete){ .tag = tag,
					    .threads = opt.threads };
}

static int prepare_delete(struct qi_drive *d, const char *tag,
			  struct qi_error *e)
{
	const struct qi_snapshot_delete s = delete_how(tag);

	return qi_snapshot_delete_prepare(d, &s, e);
}

static int delete_snapshot(struct qi_drive *d, const char *tag,
			   struct qi_plan *plan, struct qi_change *change,
			   struct qi_error *e)
{
	struct qi_snapshot_delete s = delete_how(tag);
	int ret;

	s.progress = qi_progress_start(opt.quiet ? 0 : opt.progress,
				       "snapshot delete");
	ret = qi_snapshot_delete(d, &s, plan, opt.dry_run, change, e);
	qi_progress_end(ret);
	return ret;
}

static int run_delete(int argc, char **argv)
{
	struct action a = { .tag = argv[0],
			    .prepare = prepare_delete,
			    .run = delete_snapshot,
			    .report = { .old_key = "merged",
					.has_bytes = true,
					.print = print_deleted } };

	return act(&a);
}

/* ---------------------------------------------------------------- list */

static const char *layer_state(const struct qi_drive_layer *l, bool is_head)
{
	if (is_head)
		return l->has_record ? "head" : "head, foreign";
	if (l->is_merging)
		return "unfinished";
	if (l->is_of_other_drive)
		return l->is_shared ? "of another drive, shared" :
				      "of another drive";
	if (!l->has_record)
		return "foreign";
	return l->is_shared ? "shared" : l->is_frozen ? "frozen" : "";
}

static void list_json(const struct qi_drive_layer *l, size_t count)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "drive", qi_json_text(opt.drive));
	qi_json_list_begin(&j, "layers");
	for (size_t i = 0; i < count; i++) {
		const struct qi_node_facts *f = qi_node_facts(l[i].node);

		qi_json_element(
			&j,
			json_pack("{s:o, s:o, s:s, s:o, s:o, s:b, s:b, s:b, "
				  "s:b, s:b}",
				  "snapshot", qi_json_text(l[i].tag), "node",
				  qi_json_text(f->path), "format", f->format,
				  "virtual-size", qi_json_uint(f->size),
				  "actual-size", qi_json_uint(f->disk_size),
				  "head", i == 0, "frozen", l[i].is_frozen,
				  "shared", l[i].is_shared, "foreign",
				  !l[i].has_record, "unfinished",
				  l[i].is_merging));
	}
	qi_json_list_end(&j);
	qi_json_end(&j, 0, NULL);
}

static void list_text(const struct qi_drive_layer *l, size_t count)
{
	static const char *const head[] = { "SNAPSHOT", "LAYER", "SIZE",
					    "ON DISK", "STATE" };
	struct qi_table t = { .columns = 5, .right = 3u << 2 };
	char human[QI_HUMAN];

	for (unsigned i = 0; i < t.columns; i++)
		qi_table_add(&t, head[i]);
	for (size_t i = 0; i < count; i++) {
		const struct qi_node_facts *f = qi_node_facts(l[i].node);

		qi_table_add(&t, l[i].tag ? l[i].tag : "-");
		qi_table_add(&t, f->path);
		qi_table_add(&t, qi_human_size(human, f->size));
		qi_table_add(&t, qi_human_size(human, f->disk_size));
		qi_table_add(&t, layer_state(&l[i], i == 0));
	}
	qi_table_print(&t);
}

static int run_list(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	const struct qi_open how = { .access = QI_ACCESS_NONE,
				     .force_share = opt.force_share };
	struct qi_drive_layer *l = NULL;
	struct qi_error e = { "" };
	size_t count;
	int ret;

	if (!opt.drive)
		return qi_usage("snapshot list: --drive is missing");
	ret = qi_drive_add(g, opt.drive, &how, &d, &e);
	if (ret >= 0)
		ret = qi_drive_layers(d, &l, &count, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	if (opt.output == QI_OUTPUT_JSON)
		list_json(l, count);
	else
		list_text(l, count);
	free(l);
	return QI_EXIT_OK;
}

/* ------------------------------------------------------------ commands */

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
static const struct qi_command list = {
	.name = "list",
	.summary = "list the layers of a drive and its snapshots",
	.synopsis = QI_LINES("--drive PATH [OPTION]..."),
	.options = list_options,
	.examples = QI_LINES("qimg snapshot list --drive vm.qcow2"),
	.run = run_list,
};
static const struct qi_command revert = {
	.name = "revert",
	.summary = "go back to a snapshot, with a fresh head on it",
	.synopsis = QI_LINES("--drive PATH [OPTION]... TAG"),
	.options = revert_options,
	.examples = QI_LINES(
		"qimg snapshot revert --drive vm.qcow2 before-upgrade"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_TAG,
	.run = run_revert,
};
static const struct qi_command delete_command = {
	.name = "delete",
	.summary = "merge the layer of a snapshot away",
	.synopsis = QI_LINES("--drive PATH [OPTION]... TAG"),
	.options = delete_options,
	.examples =
		QI_LINES("qimg snapshot delete --drive vm.qcow2 before-upgrade",
			 "qimg snapshot delete --drive vm.qcow2 --dry-run "
			 "before-upgrade"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_TAG,
	.run = run_delete,
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
			     "list --drive PATH [OPTION]...",
			     "revert --drive PATH [OPTION]... TAG",
			     "delete --drive PATH [OPTION]... TAG",
			     "[-l | -a NAME | -c NAME | -d NAME] [OPTION]... "
			     "IMAGE"),
	.options = internal_options,
	.subcommands =
		(const struct qi_command *const[]){ &create, &delete_command,
						    &list, &revert, NULL },
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run_internal,
};
