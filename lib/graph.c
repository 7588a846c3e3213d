/* SPDX-License-Identifier: MIT */
/* graph.c - nodes, the chains under them, and locking them together */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>

#include "lib/clock.h"
#include "lib/graph.h"
#include "lib/lock.h"
#include "lib/name.h"
#include "lib/node.h"
#include "lib/record.h"

struct qi_graph {
	struct qi_node *nodes;
	struct qi_node *refused; /* the one that could not be locked */
	size_t count;
	bool warned_no_locks, is_stock;
	void (*warn)(void *arg, const char *text);
	void *warn_arg;
	struct qi_folders *folders; /* see dependents.c */
};

/* A long chain needs a descriptor for each layer. */
static void allow_many_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur >= r.rlim_max)
		return;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

int qi_graph_new(struct qi_graph **out)
{
	*out = calloc(1, sizeof(**out));
	if (!*out)
		return -ENOMEM;
	allow_many_files();
	return 0;
}

void qi_graph_free(struct qi_graph *g)
{
	if (!g)
		return;
	while (g->nodes) {
		struct qi_node *n = g->nodes;

		g->nodes = n->next;
		qi_node_free(n);
	}
	qi_folders_free(g->folders);
	free(g);
}

bool qi_graph_has_file(const struct qi_graph *g, const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	for (const struct qi_node *n = g->nodes; n; n = n->next)
		if ((n->file->dev == st.st_dev && n->file->ino == st.st_ino) ||
		    (n->data->dev == st.st_dev && n->data->ino == st.st_ino))
			return true;
	return false;
}

struct qi_folders **qi_graph_folders(struct qi_graph *g)
{
	return &g->folders;
}

void qi_graph_on_warning(struct qi_graph *g,
			 void (*fn)(void *arg, const char *text), void *arg)
{
	g->warn = fn;
	g->warn_arg = arg;
}

void qi_graph_be_stock(struct qi_graph *g)
{
	g->is_stock = true;
}

bool qi_graph_is_stock(const struct qi_graph *g)
{
	return g->is_stock;
}

void qi_warn(struct qi_graph *g, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	if (!g || !g->warn)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	g->warn(g->warn_arg, text);
}

/* ---------------------------------------------------------------- nodes */

/* One that is the same as n, and not only a part of the same file. */
static struct qi_node *find_node(struct qi_graph *g, const struct qi_node *n)
{
	struct qi_node *x = g->nodes;

	while (x &&
	       (x->file->ino != n->file->ino || x->file->dev != n->file->dev ||
		!qi_name_is_same_view(x->name, n->name) ||
		!qi_snapshot_choice_is_equal(&x->snapshot, &n->snapshot)))
		x = x->next;
	return x;
}

static struct qi_node *keep_node(struct qi_graph *g, struct qi_node *n)
{
	n->next = g->nodes;
	g->nodes = n;
	g->count++;
	return n;
}

/* The node for a name: one that the graph has, or a new one in it. */
static int get_node(struct qi_graph *g, struct qi_name *name,
		    const struct qi_open *how, struct qi_node **out,
		    struct qi_error *e)
{
	struct qi_node *n = NULL, *known;
	int ret = qi_node_new(g, name, how, &n, e);
	const char *format = ret ? NULL : n->name->format;

	if (ret)
		return ret;
	known = find_node(g, n);
	if (known && format && strcmp(known->format->name, format))
		ret = qi_fail(e, EINVAL,
			      "'%s' is taken for %s already, and cannot be %s "
			      "as well",
			      known->path, known->format->name, format);
	if (known) {
		qi_node_free(n);
		*out = known;
		return ret;
	}
	*out = keep_node(g, n);
	return 0;
}

int qi_graph_add_file(struct qi_graph *g, struct qi_file *f,
		      struct qi_node **out, struct qi_error *e)
{
	struct qi_node *n;
	int ret = qi_node_of_file(g, f, &n, e);

	if (!ret)
		*out = keep_node(g, n);
	return ret;
}

/* What the user said of it, or what the image records. */
static int name_backing(struct qi_node *n, struct qi_name *out,
			struct qi_error *e)
{
	QI_AUTOFREE char *where = NULL;

	if (n->name->backing) {
		*out = *n->name->backing;
		*n->name->backing = (struct qi_name){ 0 };
		return 0;
	}
	where = qi_name_beside(n->path, n->backing_name);
	return where ? qi_name_parse(out, where, e) : qi_no_memory(e);
}

/* Open the node that is the backing file of n. */
static int open_backing(struct qi_node *n, struct qi_error *e)
{
	const struct qi_open how = { .access = QI_ACCESS_READ,
				     .cache = n->cache };
	struct qi_name name = { 0 };
	struct qi_node *b;
	int ret = name_backing(n, &name, e);

	if (!ret && n->backing_format && !name.format) {
		name.format = strdup(n->backing_format);
		if (!name.format)
			ret = qi_no_memory(e);
	}
	if (!ret)
		ret = get_node(n->graph, &name, &how, &b, e);
	qi_name_clear(&name);
	if (ret)
		return qi_context(e, ret, "backing file of '%s'", n->path);
	if (b->access == QI_ACCESS_NONE)
		b->access = n->access == QI_ACCESS_NONE ? QI_ACCESS_NONE :
							  QI_ACCESS_READ;
	b->force_share |= n->force_share;
	n->facts.backing = b;
	return 0;
}

bool qi_node_wants_backing(const struct qi_node *n)
{
	return !n->name->detached && (n->backing_name || n->name->backing);
}

static int open_chain(struct qi_node *head, struct qi_error *e)
{
	unsigned depth = 0;

	for (struct qi_node *n = head->graph->nodes; n; n = n->next)
		n->mark = false;
	for (struct qi_node *n = head; n; n = n->facts.backing) {
		int ret;

		if (n->mark)
			return qi_fail(e, ESTALE,
				       "the backing chain of '%s' is "
				       "a loop: it comes back to '%s'",
				       head->path, n->path);
		n->mark = true;
		n->opens_backing = true;
		if (++depth > QI_CHAIN_MAX)
			return qi_fail(e, ESTALE,
				       "the backing chain of '%s' "
				       "has more than %d layers",
				       head->path, QI_CHAIN_MAX);
		if (n->facts.backing || !qi_node_wants_backing(n))
			continue;
		ret = open_backing(n, e);
		for (unsigned i = 0; ret && i < depth; i++)
			qi_stock_context(e, ret, "Could not open backing file");
		if (ret)
			return ret;
		/* A node that was just opened is not marked. */
	}
	return 0;
}

int qi_graph_add(struct qi_graph *g, const char *name,
		 const struct qi_open *how, struct qi_node **out,
		 struct qi_error *e)
{
	unsigned flags = (how->is_options ? QI_NAME_LIST : 0) |
			 (how->strict_name ? QI_NAME_STRICT : 0);
	struct qi_name parsed;
	struct qi_node *n;
	int ret = qi_name_parse_as(&parsed, name, flags, g, e);

	if (!ret && how->format) {
		free(parsed.format);
		parsed.format = strdup(how->format);
		parsed.is_bare = false;
	}
	if (!ret)
		ret = get_node(g, &parsed, how, &n, e);
	qi_name_clear(&parsed);
	if (ret)
		return qi_stock_context(e, ret, "Could not open '%s'", name);
	if (!n->spelling)
		n->spelling = strdup(name);
	n->is_named = true;
	n->force_share |= how->force_share;
	qi_node_want(n, how->access);
	ret = qi_node_check_access(n, e);
	if (!ret && !how->no_backing)
		ret = open_chain(n, e);
	if (!ret)
		*out = n;
	return qi_stock_context(e, ret, "Could not open '%s'", name);
}

void qi_node_want(struct qi_node *n, enum qi_access access)
{
	if (access > n->access)
		n->access = access;
}

/* ---------------------------------------------------------------- locks */

static int by_file(const void *a, const void *b)
{
	const struct qi_file *x = (*(struct qi_node *const *)a)->file;
	const struct qi_file *y = (*(struct qi_node *const *)b)->file;

	if (x->dev != y->dev)
		return x->dev < y->dev ? -1 : 1;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static struct qi_node **sorted_nodes(struct qi_graph *g)
{
	struct qi_node **all = calloc(g->count + 1, sizeof(struct qi_node *));
	size_t i = 0;

	if (!all)
		return NULL;
	for (struct qi_node *n = g->nodes; n; n = n->next)
		all[i++] = n;
	qsort(all, g->count, sizeof(struct qi_node *), by_file);
	return all;
}

static int lock_all(struct qi_node **all, size_t count, struct qi_error *e)
{
	for (size_t i = 0; i < count; i++) {
		struct qi_graph *g = all[i]->graph;
		int ret = all[i]->name->unlocked ?
				  0 :
				  qi_lock(all[i]->file, all[i]->access,
					  all[i]->force_share, e);

		if (ret == -ENOLCK && !g->warned_no_locks) {
			g->warned_no_locks = true;
			qi_warn(g, "%s; other programs can change it", e->text);
		}
		if (ret == 0 || ret == -ENOLCK)
			continue;
		g->refused = all[i];
		while (i--)
			qi_unlock(all[i]->file);
		return ret;
	}
	return 0;
}

/* Try again every 100 ms until `wait` seconds are over; -1: for ever. */
static int lock_patiently(struct qi_node **all, size_t count, int wait,
			  struct qi_error *e)
{
	double start = qi_seconds();
	int ret;

	while ((ret = lock_all(all, count, e))) {
		ret = qi_try_again(ret, start, wait, e);
		if (ret)
			break;
	}
	return ret;
}

/* An external data file is locked like the image that it belongs to. */
static int lock_data(struct qi_node *n, struct qi_error *e)
{
	int ret = n->format->open_data ? n->format->open_data(n, e) : 0;

	if (ret || n->data == n->file)
		return ret;
	ret = qi_file_set_cache(n->data, n->cache, e);
	if (ret)
		return ret;
	ret = qi_lock(n->data, n->access, n->force_share, e);
	return ret == -ENOLCK ? 0 : ret;
}

static int verify_all(struct qi_node **all, size_t count, struct qi_error *e)
{
	for (size_t i = 0; i < count; i++) {
		struct qi_node *n = all[i];
		int ret;

		if (!qi_file_is_current(n->file))
			return qi_fail(e, ESTALE,
				       "'%s' was replaced while it "
				       "was being opened; try again",
				       n->path);
		ret = qi_node_reload(n, e);
		if (!ret && n->access == QI_ACCESS_WRITE && !n->to_check)
			ret = qi_node_check_writable(n, e);
		if (!ret && n->access > QI_ACCESS_NONE)
			ret = lock_data(n, e);
		if (ret)
			return ret;
	}
	return 0;
}

int qi_node_check_writable(struct qi_node *n, struct qi_error *e)
{
	if (!n->file->writable)
		return qi_fail(e, EACCES, "'%s' is not open for writing",
			       n->path);
	return n->format->can_write ? n->format->can_write(n, e) : 0;
}

/* How qemu-img came to n, from the name that the caller gave first. */
static int say_way_to(const struct qi_node *n, int ret, struct qi_error *e)
{
	const struct qi_node *from = NULL;
	unsigned depth = 0, d;

	for (const struct qi_node *x = n->graph->nodes; x; x = x->next) {
		const struct qi_node *y = x;

		for (d = 0; y && y != n; d++)
			y = y->facts.backing;
		if (y && x->spelling) {
			from = x;
			depth = d;
		}
	}
	while (depth--)
		qi_stock_context(e, ret, "Could not open backing file");
	return from ? qi_stock_context(e, ret, "Could not open '%s'",
				       from->spelling) :
		      ret;
}

int qi_graph_lock(struct qi_graph *g, int wait, struct qi_error *e)
{
	QI_AUTOFREE struct qi_node **all = sorted_nodes(g);
	struct qi_error local;
	int ret = 0;

	if (!e)
		e = &local;
	if (!all)
		return qi_no_memory(e);
	for (size_t i = 0; i < g->count && !ret; i++) {
		if (all[i]->is_named && all[i]->access > QI_ACCESS_NONE)
			ret = qi_node_check_known(all[i], e);
		if (!ret)
			ret = qi_node_make_writable(all[i], e);
		if (ret)
			say_way_to(all[i], ret, e);
	}
	if (ret)
		return ret;
	ret = lock_patiently(all, g->count, wait, e);
	if (ret && g->refused)
		say_way_to(g->refused, ret, e);
	/* Time has passed since what was read before. */
	qi_graph_forget_folders(g);
	if (!ret)
		ret = verify_all(all, g->count, e);
	return ret;
}
