// SPDX-License-Identifier: MIT
/*
 * bench.c - qimg bench: time requests to an image
 */
#include <stdio.h>
#include <stdlib.h>

#include "cmd/common/command.h"
#include "cmd/common/image.h"
#include "cmd/common/json.h"
#include "cmd/common/print.h"

static struct {
	const char *format, *cache;
	unsigned count, depth, interval;
	uint64_t offset, length, step, pattern;
	bool writes, no_drain, force_share;
	int output, wait;
} opt = { .count = 75000, .depth = 64, .length = 4096 };

static const struct qi_option options[] = {
	QI_OPT_TEXT("format", 'f', "FMT", &opt.format, QI_COMPLETE_FORMAT,
		    "format of the image (found by probing)"),
	QI_OPT_FLAG("write", 'w', &opt.writes,
		    "write: what is in the image is lost"),
	{ .name = "count",
	  .letter = 'c',
	  .arg = "N",
	  .help = "number of requests (75000)",
	  .type = QI_OPTION_COUNT,
	  .value = &opt.count },
	{ .name = "depth",
	  .letter = 'd',
	  .arg = "N",
	  .help = "so many at once (64)",
	  .type = QI_OPTION_COUNT,
	  .value = &opt.depth },
	QI_OPT_SIZE("buffer-size", 's', &opt.length, "bytes of a request (4k)"),
	QI_OPT_SIZE("step-size", 'S', &opt.step,
		    "from one request to the next (its size)"),
	QI_OPT_SIZE("offset", 'o', &opt.offset, "where the first one is"),
	QI_OPT_SIZE("pattern", 0, &opt.pattern,
		    "byte that is written, 0 to 255"),
	QI_OPT_COUNT("flush-interval", &opt.interval,
		     "make writes durable after so many"),
	QI_OPT_FLAG("no-drain", 0, &opt.no_drain,
		    "do not wait for writes in flight then"),
	QI_OPT_TEXT("cache", 't', "MODE", &opt.cache, QI_COMPLETE_NONE,
		    "writeback, none, writethrough, directsync or unsafe"),
	QI_OPT_OUTPUT(&opt.output),
	QI_OPT_FORCE_SHARE(&opt.force_share),
	QI_OPT_WAIT(&opt.wait),
	QI_OPTION_END,
};

static void print_json(double seconds)
{
	double rate = seconds > 0 ? opt.count / seconds : 0;
	struct qi_json j;

	qi_json_begin(&j);
	qi_json_member(&j, "requests", qi_json_uint(opt.count));
	qi_json_member(&j, "bytes", qi_json_uint(opt.count * opt.length));
	qi_json_member(&j, "seconds", json_real(seconds));
	qi_json_member(&j, "requests-per-second", json_real(rate));
	qi_json_member(&j, "bytes-per-second",
		       json_real(rate * (double)opt.length));
	qi_json_end(&j, 0, NULL);
}

static void print_text(double seconds)
{
	double rate = seconds > 0 ? opt.count / seconds : 0;
	char size[QI_HUMAN], speed[QI_HUMAN];

	printf("%u %s of %s, %u at once: %.3f s, %.0f a second, %s/s\n",
	       opt.count, opt.writes ? "writes" : "reads",
	       qi_human_size(size, opt.length), opt.depth, seconds, rate,
	       qi_human_size(speed, (uint64_t)(rate * (double)opt.length)));
}

/* An exit code after a message, or 0. */
static int check(struct qi_open *how)
{
	if (opt.cache && !qi_cache_parse(opt.cache, &how->cache))
		return qi_usage("bench: '%s' is no cache mode", opt.cache);
	if (opt.pattern > 255)
		return qi_usage("bench: --pattern: a byte is 0 to 255");
	if (opt.length > INT32_MAX || opt.step > INT32_MAX)
		return qi_usage("bench: requests and steps are less than 2G");
	if (opt.interval && !opt.writes)
		return qi_usage("bench: --flush-interval goes with --write");
	if (opt.interval && opt.interval < opt.depth)
		return qi_usage("bench: --flush-interval cannot be less than "
				"--depth");
	if (opt.writes && opt.force_share)
		return qi_usage("bench: --write and --force-share do not go "
				"together");
	return 0;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_new_graph();
	struct qi_open how = { .format = opt.format,
			       .force_share = opt.force_share,
			       .access = opt.writes ? QI_ACCESS_WRITE :
						      QI_ACCESS_READ };
	struct qi_bench b = { .writes = opt.writes,
			      .count = opt.count,
			      .depth = opt.depth,
			      .off = opt.offset,
			      .len = opt.length,
			      .step = opt.step,
			      .pattern = (uint8_t)opt.pattern,
			      .interval = opt.interval,
			      .no_drain = opt.no_drain };
	struct qi_error e = { "", "" };
	struct qi_node *n;
	double seconds;
	int ret = check(&how);

	if (ret)
		return ret;
	ret = qi_open_image(g, argv[0], &how, opt.wait, &n, &e);
	if (ret >= 0)
		ret = qi_bench(n, &b, &seconds, &e);
	if (ret < 0)
		return qi_report_as(ret, &e, QI_EXIT_FAILED);
	if (opt.output == QI_OUTPUT_JSON)
		print_json(seconds);
	else
		print_text(seconds);
	return QI_EXIT_OK;
}

const struct qi_command qi_command_bench = {
	.name = "bench",
	.summary = "time requests to an image",
	.synopsis = QI_LINES("[-w] [-c N] [-d N] [-s SIZE] [OPTION]... FILE"),
	.options = options,
	.examples = QI_LINES("qimg bench -c 10000 disk.qcow2",
			     "qimg bench -w -t none -s 64k scratch.qcow2"),
	.min_args = 1,
	.max_args = 1,
	.complete = QI_COMPLETE_FILE,
	.is_qemu_img = true,
	.run = run,
};
