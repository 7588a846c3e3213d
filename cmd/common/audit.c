// SPDX-License-Identifier: MIT
/*
 * audit.c - qimg backup audit: a live drive against a point
 */
#include "cmd/common/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

static struct {
	const char *drive, *name, *bitmap, *at;
	uint64_t rate;
	unsigned threads;
	bool strict, force_share, quiet;
	int output, progress, wait;
} opt;

static const struct qi_option options[] = {
	QI_OPT_TEXT("drive", 0, "PATH", &opt.drive, QI_COMPLETE_FILE,
		    "the drive"),
	QI_OPT_TEXT("name", 0, "NAME", &opt.name, QI_COMPLETE_NONE,
		    "what the drive is called in the repository"),
	QI_OPT_TEXT("bitmap", 0, "NAME", &opt.bitmap, QI_COMPLETE_BITMAP,
		    "drive bitmap that is to have all that differs"),
	QI_OPT_TEXT("at", 0, "POINT|TIME", &opt.at, QI_COMPLETE_NONE,
		    "the point (the last one of the drive)"),
	QI_OPT_STRICT(&opt.strict),
	QI_OPT_SIZE("rate", 0, &opt.rate,
		    "read at most so many bytes a second"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

struct output {
	struct qi_json json;
	bool has_head; /* of the table */
};

static void on_finding(void *arg, enum qi_audit_kind kind,
		       const struct qi_range *r)
{
	static const char *const names[] = {
		[QI_AUDIT_EXPECTED] = "expected",
		[QI_AUDIT_MISSED] = "missed",
		[QI_AUDIT_SPARE] = "spare",
	};
	struct output *o = arg;

	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_element(&o->json,
				json_pack("{s:s, s:o, s:o}", "kind",
					  names[kind], "offset",
					  qi_json_uint(r->off), "length",
					  qi_json_uint(r->len)));
		return;
	}
	/* Without a bitmap nothing is known of what was to be expected. */
	if (kind != QI_AUDIT_MISSED && (opt.bitmap || opt.quiet))
		return;
	if (!o->has_head)
		printf("%-16s%s\n", "Offset", "Length");
	o->has_head = true;
	printf("%#-16" PRIx64 "%#" PRIx64 "\n", r->off, r->len);
}

static void print_text(const struct qi_audit *a, uint64_t size)
{
	QI_AUTO_TEXT char *drive = qi_safe(opt.drive);
	char all[QI_HUMAN], is[QI_HUMAN], missed[QI_HUMAN], spare[QI_HUMAN];

	printf("drive '%s' against point %s: %s compared, ", drive,
	       a->point->id, qi_human_size(all, size));
	qi_human_size(is, a->bytes[QI_AUDIT_EXPECTED]);
	if (opt.bitmap)
		printf("%s differ and are dirty, %s differ and are not, %s are "
		       "dirty and do not differ\n",
		       is, qi_human_size(missed, a->bytes[QI_AUDIT_MISSED]),
		       qi_human_size(spare, a->bytes[QI_AUDIT_SPARE]));
	else
		printf("%s differ\n", is);
}

static void print_json(struct qi_json *j, const struct qi_audit *a,
		       uint64_t size)
{
	qi_json_list_end(j);
	qi_json_member(j, "point", qi_json_text(a->point->id));
	qi_json_member(j, "bytes", qi_json_uint(size));
	qi_json_member(j, "expected",
		       qi_json_uint(a->bytes[QI_AUDIT_EXPECTED]));
	qi_json_member(j, "missed", qi_json_uint(a->bytes[QI_AUDIT_MISSED]));
	qi_json_member(j, "spare", qi_json_uint(a->bytes[QI_AUDIT_SPARE]));
}

/* The exit code. */
static int judge(const struct qi_audit *a, const char *repo)
{
	char missed[QI_HUMAN];

	if (!a->bytes[QI_AUDIT_MISSED])
		return QI_EXIT_OK;
	qi_say_error("bitmap '%s' of drive '%s' misses %s that differ from "
		     "point %s; 'qimg backup --resync --drive %s --bitmap %s "
		     "--to %s' stores them and starts it afresh",
		     opt.bitmap, opt.drive,
		     qi_human_size(missed, a->bytes[QI_AUDIT_MISSED]),
		     a->point->id, QI_WORD(opt.drive), QI_WORD(opt.bitmap),
		     QI_WORD(repo));
	return QI_EXIT_DAMAGED;
}

static int audit(struct qi_repo *r, struct qi_drive *d, struct output *o,
		 struct qi_audit *a, struct qi_error *e)
{
	uint64_t size = qi_node_facts(qi_drive_head(d))->size;
	int ret;

	if (opt.at) {
		a->point = qi_repo_find(r, opt.at, e);
		if (!a->point)
			return -ENOENT;
	}
	if (opt.output == QI_OUTPUT_JSON) {
		qi_json_begin(&o->json);
		qi_json_list_begin(&o->json, "ranges");
	}
	a->progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "audit");
	ret = qi_repo_audit(r, d, a, e);
	qi_progress_end(ret);
	if (opt.output == QI_OUTPUT_JSON) {
		if (ret >= 0)
			print_json(&o->json, a, size);
		qi_json_end(&o->json, ret, e);
	} else if (ret >= 0 && !opt.quiet) {
		print_text(a, size);
	}
	return ret;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	QI_AUTO_DRIVE struct qi_drive *d = NULL;
	QI_AUTO_REPO struct qi_repo *r = NULL;
	const struct qi_open how = {
		.access = QI_ACCESS_READ,
		.force_share = opt.force_share,
		.strict = opt.strict,
	};
	struct output o = { .has_head = false };
	struct qi_audit a = { .name = opt.name,
			      .bitmap = opt.bitmap,
			      .threads = opt.threads,
			      .rate = opt.rate,
			      .finding = on_finding,
			      .arg = &o };
	struct qi_error e = { "" };
	int ret;

	if (!opt.drive)
		return qi_usage("backup audit: --drive is missing");
	ret = qi_repo_open(argv[0], QI_REPO_OPEN, &r, &e);
	if (ret >= 0)
		ret = qi_open_drive(g, opt.drive, &how, opt.wait, &d, &e);
	if (ret >= 0)
		ret = audit(r, d, &o, &a, &e);
	return ret < 0 ? qi_report(ret, &e) : judge(&a, argv[0]);
}

const struct qi_command qi_backup_audit = {
	.name = "audit",
	.summary = "find what a bitmap has missed",
	.synopsis = QI_LINES("--drive PATH [--bitmap NAME] [--at POINT|TIME] "
			     "[OPTION]... REPO"),
	.options = options,
	.examples = QI_LINES("qimg backup audit --drive vm.qcow2 "
			     "--bitmap daily /backup/vm"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FOLDER,
	.run = run,
};
