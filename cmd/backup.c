// SPDX-License-Identifier: MIT
/*
 * backup.c - qimg backup: full and incremental backups into a repository
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/point.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"
#include "cmd/common/prune.h"

static struct {
	bool full, incremental, resync, any, compress;
	uint32_t read_data; /* in millionths */
	struct qi_list drives;
	const char *bitmap, *to;
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
	QI_OPT_TEXT("bitmap", 0, "NAME", &opt.bitmap, QI_COMPLETE_BITMAP,
		    "drive bitmap that records the changes"),
	QI_OPT_TEXT("to", 0, "REPO", &opt.to, QI_COMPLETE_FOLDER,
		    "the repository, a folder"),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress the data"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN('n', &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static const struct qi_option list_options[] = {
	QI_OPT_OUTPUT(&opt.output),
	QI_OPTION_END,
};

static const struct qi_option check_options[] = {
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_QUIET(&opt.quiet),
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

static int check_usage(void)
{
	if (opt.full + opt.incremental + opt.resync + opt.any != 1)
		return qi_usage("backup: give one of --full, --incremental, "
				"--resync and --auto");
	if (!opt.drives.count)
		return qi_usage("backup: --drive is missing");
	if (!opt.to)
		return qi_usage("backup: --to is missing");
	if (opt.incremental && !opt.bitmap)
		return qi_usage("backup: --incremental needs --bitmap");
	if (opt.bitmap && opt.force_share)
		return qi_usage("backup: --force-share cannot be used with "
				"--bitmap, which has to be cleared");
	return 0;
}

static enum qi_backup_type wanted_type(void)
{
	return opt.full	       ? QI_BACKUP_FULL :
	       opt.incremental ? QI_BACKUP_INCREMENTAL :
	       opt.resync      ? QI_BACKUP_RESYNC :
				 QI_BACKUP_AUTO;
}

static int open_drives(struct qi_graph *g, struct qi_drive **drive,
		       struct qi_error *e)
{
	struct qi_open how = {
		/* The bitmap is cleared in the end. */
		.access = opt.bitmap ? QI_ACCESS_WRITE : QI_ACCESS_READ,
		.force_share = opt.force_share,
		.strict = opt.strict,
	};

	for (size_t i = 0; i < opt.drives.count; i++) {
		int ret =
			qi_drive_add(g, opt.drives.item[i], &how, &drive[i], e);

		if (ret < 0)
			return ret;
	}
	return qi_graph_lock(g, opt.wait, e);
}

/* The exit code. */
static int print_backup(const struct qi_point *p, const struct qi_plan *plan)
{
	bool warned = !opt.dry_run && qi_point_warn(p, opt.any);
	struct qi_json j;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
		qi_json_member(&j, "point",
			       opt.dry_run ? json_null() : qi_point_json(p));
		qi_json_member(&j, "steps", qi_json_plan(plan));
		qi_json_end(&j, 0, NULL);
	} else if (opt.dry_run) {
		qi_print_plan(plan);
	} else if (!opt.quiet) {
		qi_point_summary(p);
	}
	return warned ? QI_EXIT_WARNING : QI_EXIT_OK;
}

static void add_step(struct qi_plan *plan, char *step)
{
	size_t bytes = (plan->count + 1) * sizeof(*plan->steps);

	plan->steps = qi_xrealloc(plan->steps, bytes);
	plan->steps[plan->count++] = step;
}

/* --dry-run where there is no repository yet that could plan. */
static int plan_first(struct qi_drive **drive, struct qi_plan *plan,
		      struct qi_error *e)
{
	const struct qi_bitmap_edit clear = { .verb = QI_BITMAP_CLEAR,
					      .name = opt.bitmap };

	for (size_t i = 0; i < opt.drives.count; i++) {
		struct qi_dirty *dirty = NULL;
		int ret = qi_chain_check_readable(qi_drive_head(drive[i]), e);

		if (ret >= 0)
			ret = qi_drive_check_strict(drive[i], e);
		if (ret >= 0 && opt.bitmap)
			ret = qi_dirty_new(drive[i], opt.bitmap, &dirty, e);
		qi_dirty_free(dirty);
		if (ret >= 0 && opt.bitmap)
			ret = qi_drive_bitmap_edit(drive[i], &clear, NULL, true,
						   e);
		if (ret < 0)
			return ret;
	}
	add_step(plan, qi_xprintf("make the repository '%s'", opt.to));
	for (size_t i = 0; i < opt.drives.count; i++)
		add_step(plan, qi_xprintf("store all of drive '%s'",
					  opt.drives.item[i]));
	for (size_t i = 0; opt.bitmap && i < opt.drives.count; i++)
		add_step(plan, qi_xprintf("clear bitmap '%s' of drive '%s'",
					  opt.bitmap, opt.drives.item[i]));
	return 0;
}

/* A code of exit, or a failure. */
static int back_up(struct qi_drive **drive, struct qi_error *e)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	QI_AUTO_PLAN struct qi_plan plan = { 0 };
	struct qi_backup b = {
		.type = wanted_type(),
		.drives = drive,
		.drive_count = opt.drives.count,
		.bitmap = opt.bitmap,
		.compress = opt.compress,
		.threads = opt.threads,
	};
	const struct qi_point *point = NULL;
	bool may_be_first = opt.full || opt.any;
	int ret;

	if (opt.dry_run && may_be_first && access(opt.to, F_OK)) {
		ret = plan_first(drive, &plan, e);
		return ret < 0 ? ret : print_backup(NULL, &plan);
	}
	/* An increment has nothing to build on in a new repository. */
	ret = qi_repo_open(opt.to, may_be_first && !opt.dry_run, &r, e);
	if (ret < 0)
		return ret;
	b.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "backup");
	ret = qi_repo_backup(r, &b, &plan, opt.dry_run, &point, e);
	qi_progress_end(ret);
	return ret < 0 ? ret : print_backup(point, &plan);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_error e = { "" };
	struct qi_drive **drive;
	size_t bytes;
	int ret;

	if (check_usage())
		return QI_EXIT_USAGE;
	bytes = opt.drives.count * sizeof(struct qi_drive *);
	drive = qi_xrealloc(NULL, bytes);
	memset(drive, 0, bytes);
	ret = open_drives(g, drive, &e);
	if (ret >= 0)
		ret = back_up(drive, &e);
	for (size_t i = 0; i < opt.drives.count; i++)
		qi_auto_drive(&drive[i]);
	free(drive);
	return ret < 0 ? qi_report(ret, &e) : ret;
}

/* ---------------------------------------------------------------- list */

static int run_list(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct qi_error e = { "" };
	const struct qi_point *p;
	struct qi_table table;
	struct qi_json j;
	size_t count;
	int ret = qi_repo_open(argv[0], false, &r, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	p = qi_repo_points(r, &count);
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_list_begin(&j, "points");
		for (size_t i = 0; i < count; i++)
			qi_json_element(&j, qi_point_json(&p[i]));
		qi_json_end(&j, 0, NULL);
		return QI_EXIT_OK;
	}
	qi_point_table_head(&table);
	for (size_t i = 0; i < count; i++)
		qi_point_table_row(&table, &p[i]);
	qi_table_print(&table);
	return QI_EXIT_OK;
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
	int ret = qi_repo_open(argv[0], false, &r, &e);

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

/* --------------------------------------------------------------- check */

static void on_check(void *arg, bool is_problem, const char *text)
{
	QI_AUTO_TEXT char *safe = NULL;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_element(arg,
				json_pack("{s:b, s:o}", "problem", is_problem,
					  "text", qi_json_text(text)));
		return;
	}
	safe = qi_safe(text);
	puts(safe);
}

static void print_checked(const struct qi_repo_check *c, size_t points)
{
	printf("checked %zu point%s: ", points, points == 1 ? "" : "s");
	if (c->problems)
		printf("%llu problem%s, ", (unsigned long long)c->problems,
		       c->problems == 1 ? "" : "s");
	else
		printf("no problems, ");
	printf("%llu thing%s to know\n", (unsigned long long)c->notes,
	       c->notes == 1 ? "" : "s");
}

static int run_check(int argc, char **argv)
{
	QI_AUTO_REPO struct qi_repo *r = NULL;
	struct qi_json j;
	struct qi_repo_check c = { .finding = on_check, .arg = &j };
	struct qi_error e = { "" };
	size_t count = 0;
	int ret = qi_repo_open(argv[0], false, &r, &e);

	if (ret < 0)
		return qi_report(ret, &e);
	qi_repo_points(r, &count);
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&j);
		qi_json_list_begin(&j, "findings");
	}
	ret = qi_repo_check(r, &c, &e);
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_list_end(&j);
		qi_json_member(&j, "points", qi_json_uint(count));
		qi_json_member(&j, "problems", qi_json_uint(c.problems));
		qi_json_end(&j, ret, &e);
	} else if (ret >= 0 && !opt.quiet) {
		print_checked(&c, count);
	}
	if (ret < 0)
		return qi_report(ret, &e);
	return c.problems ? QI_EXIT_DAMAGED :
	       c.notes	  ? QI_EXIT_WARNING :
			    QI_EXIT_OK;
}

/* ------------------------------------------------------------ commands */

static const struct qi_command list = {
	.name = "list",
	.summary = "list the points of a repository",
	.synopsis = QI_LINES("[OPTION]... REPO"),
	.options = list_options,
	.examples = QI_LINES("qimg backup list /backup/vm"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_list,
};
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

static const struct qi_command check = {
	.name = "check",
	.summary = "find what is missing, left over or foreign",
	.synopsis = QI_LINES("[OPTION]... REPO"),
	.options = check_options,
	.examples = QI_LINES("qimg backup check /backup/vm"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FOLDER,
	.run = run_check,
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
			&list, &check, &verify, &qi_backup_prune,
			&qi_backup_merge, &qi_backup_pin, &qi_backup_unpin,
			NULL },
	.run = run,
};
