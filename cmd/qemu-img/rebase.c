// SPDX-License-Identifier: MIT
/*
 * rebase.c - qemu-img rebase
 */
#include <errno.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/qemu-img/common/stock.h"

static struct {
	const char *format, *cache, *source_cache, *backing, *backing_format;
	bool image_opts, quiet, progress, unsafe, compress, share;
} opt;

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'f', QI_STOCK_TEXT, &opt.format },
	{ NULL, 'F', QI_STOCK_TEXT, &opt.backing_format },
	{ NULL, 'b', QI_STOCK_TEXT, &opt.backing },
	{ NULL, 'u', QI_STOCK_FLAG, &opt.unsafe },
	{ "compress", 'c', QI_STOCK_FLAG, &opt.compress },
	{ NULL, 't', QI_STOCK_TEXT, &opt.cache },
	{ NULL, 'T', QI_STOCK_TEXT, &opt.source_cache },
	{ NULL, 'p', QI_STOCK_FLAG, &opt.progress },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	QI_STOCK_END,
};

static bool is_format(const char *name)
{
	const char *const *f = qi_format_names();

	while (*f && strcmp(*f, name) != 0)
		f++;
	return *f;
}

/* The header of the image does not take it; false: that is not what it is. */
static bool say_no_change(int ret)
{
	const char *why = strerror(-ret);

	switch (-ret) {
	case E2BIG:
	case ENOSPC:
		why = "No space left in the file header";
		break;
	case ENAMETOOLONG:
		why = strerror(EINVAL);
		break;
	case EINVAL:
	case ENOTSUP:
		break;
	default:
		return false;
	}
	qi_stock_say("Could not change the backing file to '%s': %s",
		     opt.backing ? opt.backing : "(null)", why);
	return true;
}

static int change(const struct qi_rebase *r)
{
	struct qi_copy_stats stats;
	struct qi_error e = { "", "" };
	int ret;

	if (opt.backing && *opt.backing && !opt.backing_format) {
		qi_stock_say("Could not change the backing file to '%s': "
			     "backing format must be specified",
			     opt.backing);
		return -EINVAL;
	}
	ret = qi_rebase_run(r, NULL, false, &stats, &e);
	if (ret < 0 && (e.stock[0] || !say_no_change(ret)))
		qi_stock_fail(ret, &e);
	return ret;
}

/* QEMU would have to lock an image twice; false after a message. */
static bool check_loop(const struct qi_rebase *r)
{
	const struct qi_node *n = r->base;

	while (n && n != r->node)
		n = qi_node_facts(n)->backing;
	if (!n)
		return true;
	qi_stock_say("Could not open new backing file '%s': %sFailed to get "
		     "shared \"write\" lock\n"
		     "Is another process using the image [%s]?",
		     opt.backing,
		     n == r->base ? "" : "Could not open backing file: ",
		     qi_node_facts(n)->path);
	return false;
}

static bool base_fails(const struct qi_rebase *r, int ret,
		       const struct qi_error *e)
{
	QI_AUTO_TEXT char *path =
		qi_path_beside(qi_node_facts(r->node)->path, opt.backing);

	qi_stock_say("Could not open new backing file '%s': %s", opt.backing,
		     qi_stock_inner_words(qi_stock_words(ret, e), path));
	return false;
}

/* The new backing file, with its chain; false after a message. */
static bool open_base(struct qi_graph *g, const char *name, struct qi_rebase *r)
{
	struct qi_error e = { "", "" };
	int ret;

	if (opt.backing_format && !is_format(opt.backing_format)) {
		qi_stock_say("Invalid format name: '%s'", opt.backing_format);
		return false;
	}
	ret = qi_rebase_open(g, name, r, &e);
	if (ret < 0)
		return base_fails(r, ret, &e);
	if (!check_loop(r))
		return false;
	ret = r->base ? qi_graph_lock(g, 0, &e) : 0;
	return ret < 0 ? base_fails(r, ret, &e) : true;
}

static int rebase(const char *name, const struct qi_progress *progress)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	struct qi_open how = { .format = opt.format,
			       .access = QI_ACCESS_WRITE,
			       .no_backing = opt.unsafe };
	struct qi_rebase r = { .backing_name = opt.backing,
			       .backing_format = opt.backing_format,
			       .unsafe = opt.unsafe,
			       .compress = opt.compress,
			       .base_force_share = opt.share,
			       .progress = *progress };
	enum qi_cache source_cache;
	int ret;

	if (!qi_stock_cache(opt.cache, false, &how.cache) ||
	    !qi_stock_cache(opt.source_cache, true, &source_cache) ||
	    qi_stock_open(g, name, opt.image_opts, &how, &r.node) < 0 ||
	    !open_base(g, name, &r))
		return QI_EXIT_FAILED;
	ret = change(&r);
	qi_stock_progress_full();
	return ret < 0 ? QI_EXIT_FAILED : QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	struct qi_progress progress;
	int code;

	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!opt.unsafe && !opt.backing)
		return qi_stock_mistake("Must specify backing file (-b) or use "
					"unsafe mode (-u)");
	progress = qi_stock_progress(opt.progress && !opt.quiet);
	code = rebase(argv[0], &progress);
	qi_stock_progress_end();
	return code;
}

const struct qi_stock_command qi_stock_command_rebase = {
	.name = "rebase",
	.synopsis = "[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] "
		    "[-t cache] [-T src_cache] [-p] [-u] [-c] -b backing_file "
		    "[-F backing_fmt] filename",
	.options = options,
	.run = run,
};
