// SPDX-License-Identifier: MIT
/*
 * snapshot.c - qemu-img snapshot
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/common/image.h"
#include "cmd/common/internal.h"
#include "cmd/qemu-img/common/stock.h"

/* More bytes of a name than this QEMU cuts off. */
#define MAX_NAME 255

static struct {
	const char *apply, *create, *delete;
	bool image_opts, quiet, share, list;
} opt;

/* There is one action, and it may be said once. */
static bool check_action(const char *text)
{
	if (!opt.apply && !opt.create && !opt.delete &&!opt.list)
		return true;
	qi_stock_mistake("Cannot mix '-l', '-a', '-c', '-d'");
	return false;
}

static const struct qi_stock_option options[] = {
	QI_STOCK_OBJECT,
	QI_STOCK_IMAGE_OPTS(&opt.image_opts),
	QI_STOCK_SHARE(&opt.share),
	{ NULL, 'l', QI_STOCK_FLAG, &opt.list, check_action },
	{ NULL, 'a', QI_STOCK_TEXT, &opt.apply, check_action },
	{ NULL, 'c', QI_STOCK_TEXT, &opt.create, check_action },
	{ NULL, 'd', QI_STOCK_TEXT, &opt.delete, check_action },
	{ NULL, 'q', QI_STOCK_FLAG, &opt.quiet },
	QI_STOCK_END,
};

/* What cannot be read of them is not listed. */
static int list(struct qi_node *n)
{
	struct qi_internal_snapshot *all;
	struct qi_error e = { "", "" };
	size_t count;

	if (qi_internal_snapshots(n, &all, &count, &e) < 0)
		return QI_EXIT_OK;
	qi_internal_print(all, count);
	qi_internal_snapshots_free(all, count);
	return QI_EXIT_OK;
}

static int create(struct qi_node *n)
{
	char name[MAX_NAME + 1] = "";
	struct qi_error e = { "", "" };
	int ret;

	memcpy(name, opt.create, strnlen(opt.create, MAX_NAME));
	ret = qi_internal_snapshot_edit(n, QI_INTERNAL_CREATE, name, &e);
	return ret < 0 ? qi_stock_say("Could not create snapshot '%s': %d (%s)",
				      opt.create, ret, strerror(-ret)) :
			 QI_EXIT_OK;
}

static bool has_bitmaps(struct qi_node *n)
{
	struct qi_bitmap_facts *all = NULL;
	size_t count = 0;

	if (qi_node_bitmaps(n, &all, &count, NULL) < 0)
		count = 0;
	free(all);
	return count;
}

static int apply(struct qi_node *n)
{
	struct qi_error e = { "", "" };
	int ret;

	if (has_bitmaps(n))
		return qi_stock_say("Could not apply snapshot '%s': Device has "
				    "active dirty bitmaps",
				    opt.apply);
	ret = qi_internal_snapshot_edit(n, QI_INTERNAL_APPLY, opt.apply, &e);
	return ret < 0 ? qi_stock_say("Could not apply snapshot '%s': %s",
				      opt.apply, qi_stock_words(ret, &e)) :
			 QI_EXIT_OK;
}

/* It has to have that name: an id is none here. */
static bool is_name(struct qi_node *n, const char *name)
{
	struct qi_internal_snapshot *all;
	size_t count, i = 0;
	bool found;

	if (qi_internal_snapshots(n, &all, &count, NULL) < 0)
		return true;
	while (i < count && strcmp(all[i].name, name) != 0)
		i++;
	found = i < count;
	qi_internal_snapshots_free(all, count);
	return found;
}

static int delete (struct qi_node *n)
{
	struct qi_error e = { "", "" };
	int ret;

	if (!is_name(n, opt.delete))
		return qi_stock_say("Could not delete snapshot '%s': snapshot "
				    "not found",
				    opt.delete);
	ret = qi_internal_snapshot_edit(n, QI_INTERNAL_DELETE, opt.delete, &e);
	return ret < 0 ? qi_stock_say("Could not delete snapshot '%s': %s",
				      opt.delete, qi_stock_words(ret, &e)) :
			 QI_EXIT_OK;
}

static int run(int argc, char **argv)
{
	QI_AUTO_GRAPH struct qi_graph *g = qi_stock_graph();
	/* Without an action it is opened for one, and that is all. */
	struct qi_open how = { .access = opt.list ? QI_ACCESS_READ :
						    QI_ACCESS_WRITE,
			       .force_share = opt.share };
	struct qi_node *n;

	if (argc != 1)
		return qi_stock_mistake("Expecting one image file name");
	if (!opt.list && opt.share)
		return qi_stock_say("Could not open '%s': force-share=on can "
				    "only be used with read-only images",
				    argv[0]);
	if (qi_stock_open(g, argv[0], opt.image_opts, &how, &n) < 0)
		return QI_EXIT_FAILED;
	return opt.create ? create(n) :
	       opt.apply  ? apply(n) :
	       opt.delete ? delete (n) :
	       opt.list	  ? list(n) :
			    QI_EXIT_OK;
}

const struct qi_stock_command qi_stock_command_snapshot = {
	.name = "snapshot",
	.synopsis = "[--object objectdef] [--image-opts] [-U] [-q] [-l | -a "
		    "snapshot | -c snapshot | -d snapshot] filename",
	.options = options,
	.run = run,
};
