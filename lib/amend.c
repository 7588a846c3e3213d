/* SPDX-License-Identifier: MIT */
/* amend.c - changing the options of an image that exists */
#include <errno.h>

#include "lib/drive.h"

const struct qi_format_option *qi_format_amend_options(const char *format)
{
	const struct qi_format *f = qi_format_find(format);

	return f && f->amend ? f->amend->options : NULL;
}

static bool has_option(const struct qi_format_option *known, const char *name)
{
	for (; known && known->name; known++)
		if (strcmp(known->name, name) == 0)
			return true;
	return false;
}

/* The options of the format that are for creation alone. */
static int check_names(const struct qi_format *f, const struct qi_options *o,
		       struct qi_error *e)
{
	for (const struct qi_format_option *k = f->options; k && k->name; k++)
		if (qi_options_get(o, k->name) &&
		    !has_option(f->amend->options, k->name))
			return qi_fail(e, EINVAL,
				       "option '%s' can only be given when an "
				       "image is made; 'qimg convert -O %s -o "
				       "%s=...' makes a copy that has it",
				       k->name, f->name, k->name);
	return 0;
}

static int parse(const struct qi_format *f, const char *text,
		 struct qi_options **out, struct qi_error *e)
{
	struct qi_error first;
	int ret =
		qi_options_parse(out, text, f->amend->options, f->name, &first);

	if (!ret)
		return 0;
	/* Is it known, but not here? */
	if (!qi_options_parse(out, text, f->options, f->name, NULL)) {
		ret = check_names(f, *out, e);
		qi_options_free(*out);
		if (ret)
			return ret;
	}
	return qi_fail(e, EINVAL, "%s", first.text);
}

static int make_plan(struct qi_node *n, const struct qi_options *o,
		     struct qi_plan *plan)
{
	int ret = 0;

	for (const struct qi_format_option *k = n->format->amend->options;
	     k->name && !ret; k++)
		if (qi_options_get(o, k->name))
			ret = qi_plan_step(plan, "set %s of '%s' to '%s'",
					   k->name, n->path,
					   qi_options_get(o, k->name));
	return ret;
}

int qi_amend_image(struct qi_node *n, const struct qi_amend *a,
		   struct qi_plan *plan, bool dry_run, struct qi_error *e)
{
	const struct qi_amend_ops *ops = n->format->amend;
	struct qi_options *o;
	int ret;

	if (!ops)
		return qi_fail(e, ENOTSUP,
			       "cannot amend '%s': format %s has no options "
			       "that can be changed",
			       n->path, n->format->name);
	ret = qi_node_check_writable(n, e);
	if (!ret)
		ret = parse(n->format, a->options, &o, e);
	if (ret)
		return ret;
	ret = ops->check(n, o, e);
	if (!ret && make_plan(n, o, plan))
		ret = qi_no_memory(e);
	if (!ret && !dry_run)
		ret = ops->run(n, o, &a->progress, e);
	qi_options_free(o);
	return ret;
}
