/* SPDX-License-Identifier: MIT */
/* facts.c - what can be asked of an open node */
#include <errno.h>

#include "lib/graph.h"

const struct qi_node_facts *qi_node_facts(const struct qi_node *n)
{
	return &n->facts;
}

unsigned qi_chain_depth(const struct qi_node *n)
{
	unsigned depth = 0;

	for (; n; n = n->facts.backing)
		depth++;
	return depth;
}

int qi_chain_check_readable(const struct qi_node *n, struct qi_error *e)
{
	int ret = 0;

	for (; n && !ret; n = n->facts.backing) {
		ret = qi_node_check_known(n, e);
		if (!ret && n->facts.is_encrypted)
			ret = qi_fail(e, ENOTSUP,
				      "the data of '%s' is encrypted; reading "
				      "or writing it is not supported",
				      n->path);
	}
	return ret;
}

const char *qi_node_data_path(const struct qi_node *n)
{
	return n->data == n->file ? n->path : n->data->path;
}

bool qi_node_is_file(const struct qi_node *n, const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_dev == n->file->dev &&
	       st.st_ino == n->file->ino;
}

int qi_node_details(struct qi_node *n,
		    void (*fn)(void *arg, const struct qi_fact *f), void *arg)
{
	if (n->format->details)
		n->format->details(n, fn, arg);
	return 0;
}

int qi_check_image(struct qi_node *n, struct qi_check *check,
		   struct qi_error *e)
{
	if (!n->format->check)
		return qi_fail(e, ENOTSUP,
			       "cannot check '%s': format '%s' has "
			       "no structure to check",
			       n->path, n->format->name);
	return n->format->check(n, check, e);
}
