// SPDX-License-Identifier: MIT
/*
 * backup.c - qimg backup: full and incremental backups into a repository
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd/common/audit.h"
#include "cmd/common/command.h"
#include "cmd/common/hook.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/metrics.h"
#include "cmd/common/point.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"
#include "cmd/common/repository.h"

static struct {
	bool full, incremental, resync, any, compress, if_changed;
	uint32_t read_data; /* in millionths */
	struct qi_list drives, nodes;
	const char *name, *bitmap, *to, *pre, *post, *metrics;
	uint64_t rate, threshold;
	unsigned threads;
	bool strict, dry_run, quiet, force_share;
	int output, progress, wait;
} opt;

static const struct qi_option options[] = {
	QI_OPT_FLAG("full", 0, &opt.full, "copy everything"),
	QI_OPT_FLAG("incremental", 0, &opt.incremental,
		    "copy what changed since the last point"),
	QI_OPT_FLAG("resync", 0, &opt.resync,
		    "copy what differs from the last point; reads all"),
	QI_OPT_FLAG("auto", 0, &opt.any,
		    "incremental if that is sound, else resync, else full"),
	QI_OPT_LIST("drive", 0, "PATH", &opt.drives, QI_COMPLETE_FILE,
		    "a drive; several make one point"),
	QI_OPT_LIST("node", 0, "PATH", &opt.nodes, QI_COMPLETE_FILE,
		    "a layer of a drive, which is read alone"),
	QI_OPT_TEXT("name", 0, "NAME", &opt.name, QI_COMPLETE_NONE,
		    "what the drive is called in the repository"),
	QI_OPT_TEXT("bitmap", 0, "NAME", &opt.bitmap, QI_COMPLETE_BITMAP,
		    "drive bitmap that records the changes"),
	QI_OPT_TEXT("to", 0, "REPO", &opt.to, QI_COMPLETE_FOLDER,
		    "the repository, a folder"),
	QI_OPT_FLAG("if-changed", 0, &opt.if_changed,
		    "no point when nothing has changed"),
	QI_OPT_SIZE("threshold", 0, &opt.threshold,
		    "no point when less has changed"),
	QI_OPT_TEXT("pre", 0, "COMMAND", &opt.pre, QI_COMPLETE_NONE,
		    "run this before the drives are opened"),
	QI_OPT_TEXT("post", 0, "COMMAND", &opt.post, QI_COMPLETE_NONE,
		    "run this when the drives are free again"),
	QI_OPT_TEXT("metrics-file", 0, "FILE", &opt.metrics, QI_COMPLETE_FILE,
		    "write how it went for Prometheus"),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress the data"),
	QI_OPT_SIZE("rate", 0, &opt.rate,
		    "read at most so many bytes a second"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option verify_options[] = {
	{ .name = "read-data",
	  .arg = "P%",
	  .help = "compare stored data with its hashes, or a part of it",
	  .type = QI_OPTION_PART,
	  .value = &opt.read_data },
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPTION_END,
};

/* -------------------------------------------------------------- backup */

static size_t source_count(void)
{
	return opt.drives.count + opt.nodes.count;
}

static int check_usage(void)
{
	if (opt.full + opt.incremental + opt.resync + opt.any != 1)
		return qi_usage("backup: give one of --full, --incremental, "
				"--resync and --auto");
	if (!source_count())
		return qi_usage("backup: --drive is missing");
	if (!opt.to || !opt.to[0])
		return qi_usage("backup: --to is missing");
	if (opt.metrics && !opt.metrics[0])
		return qi_usage("backup: --metrics-file needs a name");
	if (opt.incremental && !opt.bitmap)
		return qi_usage("backup: --incremental needs --bitmap");
	if (opt.bitmap && opt.drives.count && opt.force_share)
		return qi_usage("backup: --force-share cannot be used with "
				"--bitmap, which has to be cleared");
	if (opt.name && source_count() != 1)
		return qi_usage("backup: --name can be used with one drive "
				"alone");
	if (opt.if_changed && opt.threshold)
		return qi_usage("backup: --if-changed is --threshold 1; give "
				"one of them");
	return 0;
}

static enum qi_backup_type wanted_type(void)
{
	return opt.full	       ? QI_BACKUP_FULL :
	       opt.incremental ? QI_BACKUP_INCREMENTAL :
	       opt.resync      ? QI_BACKUP_RESYNC :
				 QI_BACKUP_AUTO;
}

/* Drives, then layers. */
static int add_sources(struct qi_graph *g, struct qi_drive **drive,
		       struct qi_error *e)
{
	struct qi_open how = {
		/* The bitmap is cleared in the end. */
		.access = opt.bitmap ? QI_ACCESS_WRITE : QI_ACCESS_READ,
		.force_share = opt.force_share,
		.strict = opt.strict,
	};
	int ret = 0;

	for (size_t i = 0; i < opt.drives.count && !ret; i++)
		ret = qi_drive_add(g, opt.drives.item[i], &how, drive++, e);
	how.access = QI_ACCESS_READ;
	how.layer = true;
	for (size_t i = 0; i < opt.nodes.count && !ret; i++)
		ret = qi_drive_add(g, opt.nodes.item[i], &how, drive++, e);
	return ret;
}

/* How it went, for those who are told at the end. */
struct outcome {
	struct qi_repo *repo; /* NULL: it was not opened */
	struct qi_backed_up done;
	int exit_code;
};

static void print_backup(const struct outcome *o, const struct qi_plan *plan)
{
	const struct qi_point *p = o->done.point;
	char changed[QI_HUMAN];
	struct qi_json j;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
		qi_json_member(&j, "changed",
			       opt.dry_run ? json_null() :
					     qi_json_uint(o->done.changed));
		qi_json_member(&j, "point", p ? qi_point_json(p) : json_null());
		qi_json_member(&j, "steps", qi_json_plan(plan));
		qi_json_end(&j, 0, NULL);
	} else if (opt.dry_run) {
		qi_print_plan(plan);
	} else if (p && !opt.quiet) {
		qi_point_summary(p);
	} else if (!opt.quiet) {
		printf("no backup in '%s': %s have changed since the last "
		       "point\n",
		       opt.to, qi_human_size(changed, o->done.changed));
	}
}

/* The repository is locked first: nobody waits for it with a drive in hand. */
static int lock_all(struct qi_graph *g, struct outcome *o, struct qi_error *e)
{
	/* An increment has nothing to build on in a new repository. */
	enum qi_repo_mode mode = opt.incremental || opt.resync ? QI_REPO_OPEN :
				 opt.dry_run		       ? QI_REPO_PLAN :
								 QI_REPO_MAKE;
	int ret = qi_repo_open(opt.to, mode, &o->repo, e);

	if (ret >= 0)
		ret = qi_repo_lock(o->repo, opt.wait, e);
	return ret < 0 ? ret : qi_graph_lock(g, opt.wait, e);
}

static int take_point(struct qi_drive **drive, struct outcome *o,
		      struct qi_plan *plan, struct qi_error *e)
{
	struct qi_backup b = {
		.type = wanted_type(),
		.drives = drive,
		.drive_count = source_count(),
		.name = opt.name,
		.bitmap = opt.bitmap,
		.compress = opt.compress,
		.threads = opt.threads,
		.rate = opt.rate,
		.threshold = opt.if_changed ? 1 : opt.threshold,
		.progress = qi_progress_start(opt.quiet ? 0 : opt.progress,
					      "backup"),
	};
	int ret = qi_repo_backup(o->repo, &b, plan, opt.dry_run, &o->done, e);

	qi_progress_end(ret);
	return ret;
}

/* All that was opened is free again when it returns. */
static void back_up(struct outcome *o)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	size_t bytes = source_count() * sizeof(struct qi_drive *);
	struct qi_drive **drive = qi_xrealloc(NULL, bytes);
	struct qi_error e = { "" };
	int ret;

	memset(drive, 0, bytes);
	ret = add_sources(g, drive, &e);
	if (ret >= 0)
		ret = lock_all(g, o, &e);
	if (ret >= 0)
		ret = take_point(drive, o, &plan, &e);
	if (ret < 0)
		o->exit_code = qi_report(ret, &e);
	else
		print_backup(o, &plan);
	if (o->done.point && qi_point_warn(o->done.point, opt.any))
		o->exit_code = QI_EXIT_WARNING;
	for (size_t i = 0; i < source_count(); i++)
		qi_auto_drive(&drive[i]);
	free(drive);
	if (o->repo)
		qi_repo_unlock(o->repo);
}

/* ------------------------------------------------------ before and after */

/* Paths, a line each. Freed by the caller. */
static char *source_lines(void)
{
	char *lines = qi_xstrdup("");

	for (size_t i = 0; i < source_count(); i++) {
		const char *path = i < opt.drives.count ?
					   opt.drives.item[i] :
					   opt.nodes.item[i - opt.drives.count];
		char *longer = qi_xprintf("%s%s%s", lines, i ? "\n" : "", path);

		free(lines);
		lines = longer;
	}
	return lines;
}

static int run_hook(const char *option, const char *command,
		    const struct outcome *o)
{
	QI_AUTO_TEXT char *drives = source_lines();
	QI_AUTO_TEXT char *status = qi_xprintf("%d", o->exit_code);
	const struct qi_variable variables[] = {
		{ "QIMG_HOOK", option + 2 },
		{ "QIMG_DRIVES", drives },
		{ "QIMG_BITMAP", opt.bitmap },
		{ "QIMG_TO", opt.to },
		{ "QIMG_STATUS", status },
		{ "QIMG_POINT", o->done.point ? o->done.point->id : NULL },
		{ NULL, NULL },
	};

	return qi_hook_run(option, command, variables);
}

static void run_pre(struct outcome *o)
{
	if (opt.pre && !opt.dry_run)
		o->exit_code = run_hook("--pre", opt.pre, o);
}

/* What it was to undo has been done, so it runs after a failure, too. */
static void run_post(struct outcome *o)
{
	if (opt.post && !opt.dry_run && run_hook("--post", opt.post, o) &&
	    !o->exit_code)
		o->exit_code = QI_EXIT_WARNING;
}

static void write_metrics(struct outcome *o, int64_t start, double clock)
{
	const struct qi_metrics m = {
		.repository = opt.to,
		.repo = o->repo,
		.point = o->done.point,
		.start = start,
		.seconds = qi_seconds() - clock,
		.exit_code = o->exit_code,
	};
	struct qi_error e;

	if (!opt.metrics || opt.dry_run ||
	    qi_metrics_write(opt.metrics, &m, &e) >= 0)
		return;
	qi_say_error("%s", e.text);
	if (!o->exit_code)
		o->exit_code = QI_EXIT_WARNING;
}

static int run(int argc, char **argv)
{
	struct outcome o = { .exit_code = QI_EXIT_OK };
	int64_t start = time(NULL);
	double clock = qi_seconds();
	struct qi_error e = { "" };

	if (check_usage())
		return QI_EXIT_USAGE;
	if (opt.metrics && qi_metrics_check(opt.metrics, &e) < 0)
		return qi_report(-EEXIST, &e);
	run_pre(&o);
	if (!o.exit_code)
		back_up(&o);
	run_post(&o);
	write_metrics(&o, start, clock);
	qi_auto_repo(&o.repo);
	return o.exit_code;
}

/* -------------------------------------------------------------- verify */

struct verification {
	struct qi_json json;
	bool record; /* the results in the repository */
	uint64_t points, files, bytes, problems;
};

static void on_finding(void *arg, const char *text)
{
	struct verification *v = arg;
	QI_AUTO_TEXT char *safe = NULL;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_element(&v->json, qi_json_text(text));
		return;
	}
	safe = qi_safe(text);
	qi_progress_clear();
	puts(safe);
}

static int verify_point(struct verification *v, struct qi_repo *r,
			const struct qi_point *p, struct qi_error *e)
{
	struct qi_verify verify = {
		.read = opt.read_data,
		.record = v->record,
		.finding = on_finding,
		.arg = v,
		.progress = qi_progress_start(opt.quiet ? 0 : opt.progress,
					      "verify"),
	};
	int ret = qi_repo_verify(r, p, &verify, e);

	qi_progress_end(ret);
	v->points++;
	v->files += verify.files;
	v->bytes += verify.bytes;
	v->problems += verify.problems;
	return ret;
}

static bool has_parent(const struct qi_point *p, const char *id)
{
	for (size_t i = 0; i < p->drive_count; i++) {
		const char *parent = p->drives[i].parent;

		if (parent && !strcmp(parent, id))
			return true;
	}
	return false;
}

static bool has_child(const struct qi_point *all, size_t count, const char *id)
{
	for (size_t i = 0; i < count; i++) {
		if (has_parent(&all[i], id))
			return true;
	}
	return false;
}

/* The last point of each chain: that verifies all it rests on. */
static int verify_all(struct verification *v, struct qi_repo *r,
		      struct qi_error *e)
{
	size_t count;
	const struct qi_point *p = qi_repo_points(r, &count);
	int ret = 0;

	for (size_t i = 0; i < count && ret >= 0; i++) {
		if (!has_child(p, count, p[i].id))
			ret = verify_point(v, r, &p[i], e);
	}
	v->points = count;
	return ret;
}

static void print_verified(struct verification *v, int ret,
			   const struct qi_error *e)
{
	char human[QI_HUMAN];

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_list_end(&v->json);
		qi_json_member(&v->json, "files", qi_json_uint(v->files));
		qi_json_member(&v->json, "bytes", qi_json_uint(v->bytes));
		qi_json_member(&v->json, "problems", qi_json_uint(v->problems));
		qi_json_end(&v->json, ret, e);
	} else if (!opt.quiet && ret >= 0) {
		printf("verified %llu point%s: %llu files, ",
		       (unsigned long long)v->points, v->points == 1 ? "" : "s",
		       (unsigned long long)v->files);
		if (opt.read_data)
			printf("%s read, ", qi_human_size(human, v->bytes));
		if (opt.read_data && opt.read_data < QI_VERIFY_ALL)
			printf("which is %s of the data, ",
			       qi_human_part(human, opt.read_data));
		if (v->problems)
			printf("%llu problem%s\n",
			       (unsigned long long)v->problems,
			       v->problems == 1 ? "" : "s");
		else
			puts("no problems");
	}
}

static int run_verify(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct verification v = { .points = 0 };
	const struct qi_point *p = NULL;
	struct qi_error e = { "" };
	int ret = qi_repo_open(argv[0], QI_REPO_OPEN, &r, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	v.record = qi_repo_settle(r);
	if (argc > 1) {
		p = qi_repo_find(r, argv[1], &e);
		if (!p)
			return qi_report(-ENOENT, &e);
	}
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&v.json);
		qi_json_member(&v.json, "read-data",
			       json_boolean(opt.read_data));
		qi_json_member(&v.json, "percent",
			       json_real(opt.read_data / 10000.0));
		qi_json_list_begin(&v.json, "findings");
	}
	ret = p ? verify_point(&v, r, p, &e) : verify_all(&v, r, &e);
	print_verified(&v, ret, &e);
	if (ret < 0)
		return qi_report(ret, &e);
	return v.problems ? QI_EXIT_DAMAGED : QI_EXIT_OK;
}

/* ------------------------------------------------------------ commands */

static const struct qi_command verify = {
	.name = "verify",
	.summary = "verify points and what they rest on",
	.synopsis = QI_LINES("[--read-data[=P%]] [OPTION]... REPO [POINT]"),
	.options = verify_options,
	.examples = QI_LINES("qimg backup verify /backup/vm",
			     "qimg backup verify --read-data=3% /backup/vm",
			     "qimg backup verify --read-data /backup/vm last"),
	.min_args = 1,
	.max_args = 2,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_verify,
};

const struct qi_command qi_command_backup = {
	.name = "backup",
	.summary = "back up drives, in full or what has changed",
	.synopsis = QI_LINES(
		"--full --drive PATH... [--bitmap NAME] --to REPO [OPTION]...",
		"--incremental --drive PATH... --bitmap NAME --to REPO "
		"[OPTION]...",
		"{--resync|--auto} --drive PATH... [--bitmap NAME] --to REPO "
		"[OPTION]...",
		"SUBCOMMAND [OPTION]... REPO"),
	.options = options,
	.examples = QI_LINES(
		"qimg backup --full --drive vm.qcow2 --bitmap daily "
		"--to /backup/vm",
		"qimg backup --incremental --drive vm.qcow2 --bitmap daily "
		"--to /backup/vm"),
	.subcommands =
		(const struct qi_command *const[]){
			&qi_backup_list, &qi_backup_check, &verify,
			&qi_backup_prune, &qi_backup_merge, &qi_backup_pin,
			&qi_backup_unpin, &qi_backup_audit, NULL },
	.run = run,
};
