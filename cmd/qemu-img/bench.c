// SPDX-License-Identifier: MIT
/*
 * bench.c - qemu-img bench
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *count, *depth, *aio, *offset, *pattern, *size,
		*step, *cache, *interval;
	bool image_opts, native, quiet, writes, share, no_drain;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'c', QI_STOCK_TEXT, &opt.count },
	{ NULL, 'd', QI_STOCK_TEXT, &opt.depth },
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'i', QI_STOCK_TEXT, &opt.aio },
	{ NULL, 'n', QI_STOCK_FLAG, &opt.native },
	{ NULL, 'o', QI_STOCK_TEXT, &opt.offset },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	{ NULL, 's', QI_STOCK_TEXT, &opt.size },
	{ NULL, 'S', QI_STOCK_TEXT, &opt.step },
	{ NULL, 't', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'w', QI_STOCK_FLAG, &opt.writes },
	{ "pattern", 0, QI_STOCK_TEXT, &opt.pattern },
	{ "flush-interval", 0, QI_STOCK_TEXT, &opt.interval },
	{ "no-drain", 0, QI_STOCK_FLAG, &opt.no_drain },
	QI_STOCK_END,
};

/* text NULL: it stays as it is. False after a message. */
static bool take_number(const char *text, unsigned long max, const char *what,
			unsigned long *out)
{
	unsigned long value;
	char *end;

	if (!text)
		return true;
	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || end == text || *end || value > max) {
		qi_stock_say("Invalid %s specified", what);
		return false;
	}
	*out = value;
	return true;
}

static bool take_size(const char *text, const char *what, uint64_t max,
		      uint64_t *out)
{
	return !text || qi_stock_size(what, text, 0, max, out);
}

static bool take(struct qi_bench *b, struct qi_open *how)
{
	unsigned long count = 75000, depth = 64, pattern = 0, interval = 0;

	b->len = 4096;
	if (!take_number(opt.count, INT_MAX, "request count", &count) ||
	    !take_number(opt.depth, INT_MAX, "queue depth", &depth) ||
	    !take_size(opt.offset, "offset", INT64_MAX, &b->off) ||
	    !take_size(opt.size, "buffer size", INT_MAX, &b->len) ||
	    !take_size(opt.step, "step_size", INT_MAX, &b->step) ||
	    !take_number(opt.pattern, 255, "pattern byte", &pattern) ||
	    !take_number(opt.interval, INT_MAX, "flush interval", &interval))
		return false;
	if (opt.aio && strcmp(opt.aio, "threads") &&
	    strcmp(opt.aio, "native") && strcmp(opt.aio, "io_uring")) {
		qi_stock_say("Invalid aio option: %s", opt.aio);
		return false;
	}
	if (opt.cache && !qi_cache_parse(opt.cache, &how->cache)) {
		qi_stock_say("Invalid cache mode");
		return false;
	}
	b->count = count;
	b->depth = (unsigned)depth;
	b->pattern = (uint8_t)pattern;
	b->interval = (unsigned)interval;
	b->writes = opt.writes;
	b->no_drain = opt.no_drain;
	return true;
}

/* What does not go together; true: nothing. */
static bool check(const char *name, const struct qi_bench *b,
		  const struct qi_open *how)
{
	bool native = opt.native || (opt.aio && !strcmp(opt.aio, "native"));
	bool direct = how->cache == QI_CACHE_NONE ||
		      how->cache == QI_CACHE_DIRECTSYNC;

	if (!b->writes && b->interval)
		qi_stock_say("--flush-interval is only available in write "
			     "tests");
	else if (b->interval && b->interval < b->depth)
		qi_stock_say("Flush interval can't be smaller than depth");
	else if (native && !direct)
		qi_stock_say("Could not open '%s': aio=native was specified, "
			     "but it requires cache.direct=on, which was not "
			     "specified.",
			     name);
	else if (b->writes && opt.share)
		qi_stock_say("Could not open '%s': force-share=on can only be "
			     "used with read-only images",
			     name);
	else
		return true;
	return false;
}

static void announce(const struct qi_bench *b)
{
	printf("Sending %llu %s requests, %llu bytes each, %u in parallel "
	       "(starting at offset %llu, step size %llu)\n",
	       (unsigned long long)b->count, b->writes ? "write" : "read",
	       (unsigned long long)b->len, b->depth, (unsigned long long)b->off,
	       (unsigned long long)(b->step ? b->step : b->len));
	if (b->interval)
		printf("Sending flush every %u requests\n", b->interval);
	fflush(stdout);
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .force_share = opt.share,
			       .access = opt.writes ? QI_ACCESS_WRITE :
						      QI_ACCESS_READ };
	struct qi_error e = { "", "" };
	struct qi_bench b = { 0 };
	struct qi_node *n;
	double seconds;
	int ret;

	if (!take(&b, &how))
		return QI_EXIT_FAILED;
	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!check(argv[0], &b, &how) ||
	    qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_EXIT_FAILED;
	announce(&b);
	ret = qi_bench(n, &b, &seconds, &e);
	if (ret < 0)
		return qi_stock_say("Failed request: %s",
				    qi_stock_words(ret, &e));
	printf("Run completed in %3.3f seconds.\n", seconds);
	return QI_EXIT_OK;
}

const struct qi_stock_command qi_stock_command_bench = {
	.name = "bench",
	.synopsis = "[-c count] [-d depth] [-f fmt] "
		    "[--flush-interval=flush_interval] [-i aio] [-n] "
		    "[--no-drain] [-o offset] [--pattern=pattern] [-q] "
		    "[-s buffer_size] [-S step_size] [-t cache] [-w] [-U] "
		    "filename",
	.options = options,
	.run = run,
};
