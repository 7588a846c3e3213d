// SPDX-License-Identifier: MIT
/*
 * convert.c - qimg convert: copy an image into another format
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

/* Of -S: what is usual. */
#define UNSAID QI_NO_OFFSET

static struct {
	const char *source_format, *format, *backing, *backing_format;
	const char *snapshot;
	struct qi_list options;
	unsigned threads;
	uint64_t hole, rate;
	bool compress, no_create, target_is_zero, salvage;
	bool bitmaps, skip_bitmaps, offloads, unused;
	bool force, force_share, dry_run, quiet;
	int cache, source_cache;
	int output, progress, wait;
} opt = { .hole = UNSAID };

/* What could not be read, and which bitmaps are left out. */
static struct {
	uint64_t lost;
	json_t *bitmaps; /* array of names */
} skipped;

/* In the order of enum qi_cache. */
static const char *const caches[] = { "writeback",  "none",   "writethrough",
				      "directsync", "unsafe", NULL };

#define QI_OPT_CACHE(name_, letter_, value_, help_)                       \
	{                                                                 \
		.name = name_, .letter = letter_, .arg = "MODE",          \
		.help = help_, .type = QI_OPTION_CHOICE, .value = value_, \
		.choices = caches                                         \
	}

static const struct qi_option options[] = {
	QI_OPT_TEXT("source-format", 'f', "FMT", &opt.source_format,
		    QI_COMPLETE_FORMAT,
		    "format of the source (found by probing)"),
	QI_OPT_TEXT("target-format", 'O', "FMT", &opt.format,
		    QI_COMPLETE_FORMAT, "format of the target (raw)"),
	QI_OPT_LIST("target-format-options", 'o', "OPTS", &opt.options,
		    QI_COMPLETE_NONE,
		    "format options NAME=VALUE,...; 'help' lists them"),
	QI_OPT_TEXT("backing", 'B', "FILE", &opt.backing, QI_COMPLETE_FILE,
		    "the target is an overlay on this image"),
	QI_OPT_TEXT("backing-format", 'F', "FMT", &opt.backing_format,
		    QI_COMPLETE_FORMAT, "format of the backing file"),
	QI_OPT_FLAG("compress", 'c', &opt.compress, "compress the target"),
	QI_OPT_SIZE("sparse-size", 'S', &opt.hole,
		    "zeroes that long become holes (4k); 0: none do"),
	QI_OPT_TEXT("snapshot", 'l', "NAME", &opt.snapshot, QI_COMPLETE_NONE,
		    "read this internal snapshot of the source"),
	QI_OPT_FLAG("bitmaps", 0, &opt.bitmaps,
		    "copy the bitmaps of the source itself, too"),
	QI_OPT_FLAG("skip-broken-bitmaps", 0, &opt.skip_bitmaps,
		    "leave out bitmaps that a writer did not close"),
	QI_OPT_FLAG("salvage", 0, &opt.salvage,
		    "what cannot be read becomes zeroes"),
	QI_OPT_FLAG("no-create", 'n', &opt.no_create,
		    "write into a target that is there"),
	QI_OPT_FLAG("target-is-zero", 0, &opt.target_is_zero,
		    "with -n: the target reads as zero"),
	QI_OPT_CACHE("cache", 't', &opt.cache,
		     "how the target is written (writeback)"),
	QI_OPT_CACHE("source-cache", 'T', &opt.source_cache,
		     "how the source is read (writeback)"),
	QI_OPT_SIZE("rate-limit", 'r', &opt.rate,
		    "copy no more bytes a second than this"),
	QI_OPT_THREADS(&opt.threads),
	QI_OPT_FLAG("oob", 'W', &opt.unused,
		    "no effect: the order of writes is always free"),
	QI_OPT_FLAG("copy-range-offloading", 'C', &opt.offloads,
		    "do not look for zeroes in data that is shared"),
	QI_OPT_FLAG("force", 0, &opt.force, "replace an existing file"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_DRY_RUN(0, &opt.dry_run),
	QI_OPT_PROGRESS(&opt.progress),
	QI_OPT_QUIET(&opt.quiet),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

/* Called by the library, one thing at a time. */
static void note_skipped(void *arg, const struct qi_skipped *s)
{
	if (s->bitmap) {
		json_array_append_new(skipped.bitmaps, qi_json_text(s->bitmap));
		qi_say_warning("bitmap '%s' is left out: a writer did not "
			       "close it",
			       s->bitmap);
		return;
	}
	skipped.lost += s->len;
	qi_progress_clear();
	qi_say_warning("cannot read '%s' at %llu: %s; %llu bytes are zeroes "
		       "now",
		       (const char *)arg, (unsigned long long)s->off,
		       s->error == EUCLEAN ? "it is damaged" :
					     strerror(s->error),
		       (unsigned long long)s->len);
}

static void print_json(const char *path, const char *format,
		       const struct qi_copy_stats *stats)
{
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "filename", qi_json_text(path));
	qi_json_member(&j, "format", qi_json_text(format));
	qi_json_member(&j, "dry-run", json_boolean(opt.dry_run));
	qi_json_member(&j, "read", qi_json_uint(stats->read));
	qi_json_member(&j, "written", qi_json_uint(stats->written));
	qi_json_member(&j, "zero", qi_json_uint(stats->zero));
	qi_json_member(&j, "lost", qi_json_uint(skipped.lost));
	qi_json_member(&j, "skipped-bitmaps", json_incref(skipped.bitmaps));
	qi_json_end(&j, 0, NULL);
}

static struct qi_convert what_to_do(struct qi_node *source)
{
	return (struct qi_convert){
		.target = { .format = opt.format,
			    .size = qi_node_facts(source)->size,
			    .backing_name = opt.backing,
			    .backing_format = opt.backing_format,
			    .replace = opt.force,
			    .ignores_size_option = true,
			    .cache = (enum qi_cache)opt.cache },
		.compress = opt.compress,
		.threads = opt.threads,
		.finds_base = true,
		.dry_run = opt.dry_run,
		.hole = opt.hole == UNSAID ? 0 : opt.hole,
		.offloads = opt.offloads,
		.no_holes = !opt.hole,
		.rate = opt.rate,
		.reads_as_zero = opt.target_is_zero,
		.bitmaps = opt.bitmaps,
		.skips_bitmaps = opt.skip_bitmaps,
		.salvages = opt.salvage,
		.skipped = note_skipped,
		.arg = (void *)qi_node_facts(source)->path,
	};
}

/* target: one that is there, or NULL. */
static int convert(struct qi_node *source, struct qi_node *target,
		   const char *path, struct qi_copy_stats *stats,
		   struct qi_error *e)
{
	QI_AUTO_TEXT char *joined = qi_join_options(&opt.options);
	struct qi_convert c = what_to_do(source);
	uint64_t size;
	int ret;

	c.target.options = joined;
	if (opt.dry_run)
		return target ? qi_convert_into(source, target, &c, stats, e) :
				qi_try_create(path, &c.target, &size, e);
	c.progress = qi_progress_start(opt.quiet ? 0 : opt.progress, "convert");
	ret = target ? qi_convert_into(source, target, &c, stats, e) :
		       qi_convert_image(source, path, &c, stats, e);
	qi_progress_end(ret);
	return ret;
}

static void print_dry_run(const struct qi_node *source, const char *path,
			  const char *format)
{
	QI_AUTO_TEXT char *from = qi_safe(qi_node_facts(source)->path);
	QI_AUTO_TEXT char *to = qi_safe(path);
	char human[QI_HUMAN];

	printf("would convert '%s' to '%s': %s, %s\n", from, to, format,
	       qi_human_size(human, qi_node_facts(source)->size));
}

/* Without -O an image that is there is of the format that it has. */
static int open_both(struct qi_graph *g, char **names, struct qi_node **source,
		     struct qi_node **target, struct qi_error *e)
{
	const struct qi_open from = {
		.format = opt.source_format,
		.access = QI_ACCESS_READ,
		.force_share = opt.force_share,
		.cache = (enum qi_cache)opt.source_cache,
		.snapshot = { .name_or_id = opt.snapshot },
	};
	const struct qi_open to = { .format = opt.format,
				    .access = QI_ACCESS_WRITE,
				    .cache = (enum qi_cache)opt.cache };
	int ret = qi_graph_add(g, names[0], &from, source, e);

	if (ret >= 0 && opt.no_create)
		ret = qi_graph_add(g, names[1], &to, target, e);
	return ret < 0 ? ret : qi_graph_lock(g, opt.wait, e);
}

static const char *find_mistake(int argc)
{
	if (argc < 2)
		return "give a source and a target";
	if (opt.no_create && (opt.options.count || opt.backing))
		return "-o and -B are for new targets, not for -n";
	if (opt.target_is_zero && !opt.no_create)
		return "--target-is-zero goes with -n";
	if (opt.skip_bitmaps && !opt.bitmaps)
		return "--skip-broken-bitmaps goes with --bitmaps";
	if (opt.hole != UNSAID && (opt.hole % 512 || opt.hole > 16u << 20))
		return "-S takes multiples of 512, up to 16M";
	return NULL;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_node *source = NULL, *target = NULL;
	struct qi_copy_stats stats = { 0 };
	struct qi_error e = { "" };
	const char *mistake, *format;
	int ret;

	if (!opt.format && !opt.no_create)
		opt.format = "raw";
	if (opt.format && qi_options_asked(&opt.options, opt.format, &ret))
		return ret;
	mistake = find_mistake(argc);
	if (mistake)
		return qi_usage("convert: %s", mistake);
	skipped.bitmaps = json_array();
	ret = open_both(g, argv, &source, &target, &e);
	if (ret >= 0)
		ret = convert(source, target, argv[1], &stats, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	format = target ? qi_node_facts(target)->format : opt.format;
	if (opt.output == QI_OUTPUT_JSON)
		print_json(argv[1], format, &stats);
	else if (opt.dry_run)
		print_dry_run(source, argv[1], format);
	json_decref(skipped.bitmaps);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_convert = {
	.name = "convert",
	.summary = "copy an image into another format",
	.synopsis = QI_LINES(
		"[-f FMT] [-O FMT] [-c] [-o OPTS] [OPTION]... SOURCE TARGET",
		"-n [-f FMT] [-O FMT] [--target-is-zero] [OPTION]... SOURCE TARGET"),
	.options = options,
	.examples = QI_LINES("qimg convert -O qcow2 -c disk.raw disk.qcow2",
			     "qimg convert -p disk.qcow2 disk.raw",
			     "qimg convert -n disk.qcow2 /dev/vg/disk"),
	.max_args = 2,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
