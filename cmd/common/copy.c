// SPDX-License-Identifier: MIT
/*
 * copy.c - copying an image into a new one
 */
#include "cmd/common/copy.h"

#include "cmd/common/image.h"
#include "cmd/common/print.h"
#include "cmd/common/progress.h"

int qi_copy_image(struct qi_node *source, const char *path, const char *what,
		  struct qi_convert *c, const struct qi_list *options,
		  int progress, bool dry_run, struct qi_copy_stats *stats,
		  struct qi_error *e)
{
	QI_AUTO_TEXT char *joined = qi_join_options(options);
	uint64_t size;
	int ret;

	c->target.options = joined;
	c->target.size = qi_node_facts(source)->size;
	if (dry_run)
		return qi_try_create(path, &c->target, &size, e);
	c->progress = qi_progress_start(progress, what);
	ret = qi_convert_image(source, path, c, stats, e);
	qi_progress_end(ret);
	return ret;
}
