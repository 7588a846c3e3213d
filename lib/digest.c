/* SPDX-License-Identifier: MIT */
/* digest.c - the content of a disk as one hash */
#include "lib/hashtree.h"

int qi_digest(struct qi_node *n, unsigned threads,
	      const struct qi_progress *progress, struct qi_hash *out,
	      struct qi_error *e)
{
	struct qi_copy copy = { .src = n,
				.threads = threads,
				.progress = *progress,
				.hashed = qi_hash_tree_writer_add };
	struct qi_hash_tree_writer *w = NULL;
	struct qi_copy_stats stats;
	int ret = qi_chain_check_readable(n, e);

	if (!ret)
		ret = qi_hash_tree_writer_new(&w, NULL, n->facts.size, NULL, e);
	copy.arg = w;
	if (!ret)
		ret = qi_copy_run(&copy, &stats, e);
	if (!ret)
		ret = qi_hash_tree_writer_finish(w, out, e);
	qi_hash_tree_writer_free(w);
	return ret;
}
