// SPDX-License-Identifier: MIT
/*
 * image.c - opening images and drives the way all commands do
 */
#include "cmd/common/image.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/common/print.h"

void qi_auto_graph(struct qi_graph **g)
{
	if (*g)
		qi_graph_free(*g);
}

void qi_auto_drive(struct qi_drive **d)
{
	if (*d)
		qi_drive_free(*d);
}

void qi_auto_repo(struct qi_repo **r)
{
	if (*r)
		qi_repo_free(*r);
}

void qi_auto_plan(struct qi_plan *p)
{
	qi_plan_free(p);
}

static void on_warning(void *arg, const char *text)
{
	qi_say_warning("%s", text);
}

struct qi_graph *qi_new_graph(void)
{
	struct qi_graph *g;

	if (qi_graph_new(&g) < 0) {
		qi_say_error("out of memory");
		exit(QI_EXIT_FAILED);
	}
	qi_graph_on_warning(g, on_warning, NULL);
	return g;
}

int qi_scan_folders(struct qi_graph *g, const struct qi_list *folders,
		    struct qi_error *e)
{
	for (size_t i = 0; i < folders->count; i++) {
		int ret = qi_graph_scan(g, folders->item[i], e);

		if (ret < 0)
			return ret;
	}
	return 0;
}

int qi_open_image(struct qi_graph *g, const char *name,
		  const struct qi_open *how, int wait, struct qi_node **out,
		  struct qi_error *e)
{
	int ret = qi_graph_add(g, name, how, out, e);

	return ret < 0 ? ret : qi_graph_lock(g, wait, e);
}

int qi_open_drive(struct qi_graph *g, const char *path,
		  const struct qi_open *how, int wait, struct qi_drive **out,
		  struct qi_error *e)
{
	int ret = qi_drive_add(g, path, how, out, e);

	if (ret >= 0)
		ret = qi_graph_lock(g, wait, e);
	return ret < 0 ? ret : qi_drive_check_strict(*out, e);
}

/* Whether name starts with a protocol, as in "nbd:" or "json:". */
static bool has_protocol(const char *name)
{
	size_t n = strcspn(name, ":/");

	return name[n] == ':';
}

char *qi_path_beside(const char *overlay, const char *name)
{
	const char *slash = strrchr(overlay, '/');

	if (name[0] == '/' || has_protocol(name) || !slash)
		return qi_xstrdup(name);
	return qi_xprintf("%.*s%s", (int)(slash + 1 - overlay), overlay, name);
}

char *qi_backing_path(const struct qi_node_facts *facts)
{
	const char *name = facts->backing_name;

	return name && *name ? qi_path_beside(facts->path, name) : NULL;
}

const struct qi_bitmap_facts *qi_find_bitmap(struct qi_node *n,
					     const char *name,
					     struct qi_bitmap_facts **all,
					     int *ret, struct qi_error *e)
{
	size_t count = 0;

	*all = NULL;
	*ret = qi_node_bitmaps(n, all, &count, e);
	for (size_t i = 0; *ret >= 0 && i < count; i++) {
		if (!strcmp((*all)[i].name, name))
			return &(*all)[i];
	}
	if (*ret >= 0)
		*ret = qi_fail(e, ENOENT,
			       "'%s' has no bitmap '%s'; 'qimg bitmap list "
			       "--node %s' shows what it has",
			       qi_node_facts(n)->path, name,
			       QI_WORD(qi_node_facts(n)->path));
	return NULL;
}

const char *qi_bitmap_state(const struct qi_bitmap_facts *b)
{
	if (b->unreadable)
		return "unreadable";
	if (b->in_use)
		return "in use";
	if (b->attachment == QI_ON_DRIVE && b->paused)
		return "paused";
	return b->enabled ? "enabled" : "disabled";
}

int qi_ranges_bytes(struct qi_ranges *r, uint64_t *out, struct qi_error *e)
{
	struct qi_range range;
	int ret;

	*out = 0;
	while ((ret = qi_ranges_next(r, &range, e)) > 0)
		*out += range.len;
	return ret;
}

int qi_try_create(const char *path, const struct qi_create *c, uint64_t *size,
		  struct qi_error *e)
{
	const char *slash = strrchr(path, '/');
	QI_AUTO_TEXT char *folder = NULL;
	struct stat st;

	if (!c->replace && !lstat(path, &st))
		return qi_fail(e, EEXIST,
			       "'%s' exists already; --force "
			       "replaces it",
			       path);
	folder = slash ? qi_xprintf("%.*s", (int)(slash + 1 - path), path) :
			 qi_xstrdup(".");
	if (access(folder, W_OK | X_OK))
		return qi_fail(e, errno, "cannot create '%s': %s", path,
			       strerror(errno));
	return qi_create_size(path, c, size, e);
}

char *qi_join_options(const struct qi_list *list)
{
	char *joined = NULL;

	for (size_t i = 0; i < list->count; i++) {
		char *longer = qi_xprintf("%s%s%s", joined ? joined : "",
					  joined ? "," : "", list->item[i]);

		free(joined);
		joined = longer;
	}
	return joined;
}

static bool asks_for_help(const char *options)
{
	while (*options) {
		size_t n = strcspn(options, ",");

		if ((n == 4 && !strncmp(options, "help", n)) ||
		    (n == 1 && *options == '?'))
			return true;
		options += n;
		options += *options == ',';
	}
	return false;
}

bool qi_options_want_help(const struct qi_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (asks_for_help(list->item[i]))
			return true;
	return false;
}

void qi_options_print(const char *title, const struct qi_format_option *o)
{
	puts(title);
	for (; o->name; o++) {
		QI_AUTO_TEXT char *left =
			qi_xprintf("%s=<%s>", o->name, o->arg);

		printf("  %-22s - %s\n", left, o->help);
	}
}

bool qi_options_asked(const struct qi_list *list, const char *format, int *code)
{
	const struct qi_format_option *o = qi_format_options(format);

	if (!qi_options_want_help(list))
		return false;
	*code = o ? QI_EXIT_OK : QI_EXIT_FAILED;
	if (o)
		qi_options_print("Supported options:", o);
	else
		qi_say_error("unknown format '%s'", format);
	return true;
}
