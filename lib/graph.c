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
#include "lib/record.h"

struct qi_graph {
	struct qi_node *nodes;
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

static void close_state(struct qi_node *n)
{
	if (n->format && n->format->close)
		n->format->close(n);
	n->state = NULL;
	n->data = n->file;
	free(n->backing_name);
	free(n->backing_format);
	free(n->record_blob);
	qi_record_free(n->record);
	n->backing_name = n->backing_format = NULL;
	n->facts.backing_name = n->facts.backing_format = NULL;
	n->record_blob = NULL;
	n->record = NULL;
	n->record_len = 0;
}

static void node_free(struct qi_node *n)
{
	close_state(n);
	if (n->file)
		qi_file_close(n->file, NULL);
	free(n->path);
	free(n->data_name);
	qi_snapshot_choice_clear(&n->snapshot);
	free(n);
}

void qi_graph_free(struct qi_graph *g)
{
	if (!g)
		return;
	while (g->nodes) {
		struct qi_node *n = g->nodes;

		g->nodes = n->next;
		node_free(n);
	}
	qi_folders_free(g->folders);
	free(g);
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

	if (!g->warn)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	g->warn(g->warn_arg, text);
}

/* ---------------------------------------------------------------- nodes */

/*
 * A fixed VHD is a raw disk with one more sector. As in QEMU it is taken for
 * that, because a guest could have written the sector; but the user is told.
 */
static void look_at_end(struct qi_node *n)
{
	const uint64_t size = n->file->size;
	const struct qi_format *other;
	uint8_t sector[512];

	if (size <= sizeof(sector) || size % sizeof(sector) ||
	    qi_file_read(n->file, size - sizeof(sector), sizeof(sector), sector,
			 NULL))
		return;
	other = qi_format_ending(sector);
	if (other)
		qi_warn(n->graph,
			"'%s' ends as an image of format '%s' does, and is "
			"taken for raw, end and all; -f raw says that it is",
			n->path, other->name);
}

static int choose_format(struct qi_node *n, const char *name,
			 struct qi_error *e)
{
	int ret;

	if (name) {
		n->format = qi_format_find(name);
		return n->format ? 0 :
				   qi_fail(e, EINVAL,
					   "cannot open '%s': "
					   "unknown format '%s'",
					   n->path, name);
	}
	ret = qi_file_probe(n->file, &n->format, e);
	if (!ret && n->format == qi_format_find("raw"))
		look_at_end(n);
	return ret;
}

/* Let the driver read the header and fill the facts from what it found. */
static int open_state(struct qi_node *n, struct qi_error *e)
{
	int ret;

	n->data = n->file;
	ret = n->format->open(n, e);
	if (!ret && n->record_blob)
		ret = qi_record_parse(&n->record, n->record_blob,
				      n->record_len);
	if (ret)
		return ret;
	n->facts.path = n->path;
	n->facts.format = n->format->name;
	n->facts.file_size = n->file->size;
	n->facts.disk_size = qi_file_disk_size(n->file);
	n->facts.backing_name = n->backing_name;
	n->facts.backing_format = n->backing_format;
	return 0;
}

/* What `how` says besides the name. */
static int take_how(struct qi_node *n, const struct qi_open *how,
		    struct qi_error *e)
{
	n->to_check = how->to_check;
	n->cache = how->cache;
	return qi_snapshot_choice_copy(&n->snapshot, &how->snapshot) ?
		       qi_no_memory(e) :
		       0;
}

static int node_open(struct qi_graph *g, const struct qi_name *name,
		     const struct qi_open *how, struct qi_node **out,
		     struct qi_error *e)
{
	struct qi_node *n = calloc(1, sizeof(*n));
	int ret;

	if (!n)
		return qi_no_memory(e);
	n->graph = g;
	n->path = strdup(name->path);
	ret = n->path ? take_how(n, how, e) : qi_no_memory(e);
	if (!ret)
		ret = qi_file_open(&n->file, name->path, false, e);
	if (!ret)
		ret = qi_file_set_cache(n->file, n->cache, e);
	if (!ret && name->data) {
		n->data_name = strdup(name->data);
		if (!n->data_name)
			ret = qi_no_memory(e);
	}
	if (!ret)
		ret = choose_format(n, name->format, e);
	if (!ret && n->data_name && !n->format->open_data)
		ret = qi_fail(e, EINVAL,
			      "'%s' is in %s format, which has no data files",
			      n->path, n->format->name);
	if (!ret)
		ret = qi_node_check_snapshot(n, e);
	if (!ret)
		ret = open_state(n, e);
	if (ret) {
		node_free(n);
		return ret;
	}
	*out = n;
	return 0;
}

/* The same file, and the same of its disks. */
static struct qi_node *find_node(struct qi_graph *g, const struct qi_node *like)
{
	const struct qi_file *f = like->file;
	struct qi_node *n = g->nodes;

	while (n &&
	       (n->file->ino != f->ino || n->file->dev != f->dev ||
		!qi_snapshot_choice_is_equal(&n->snapshot, &like->snapshot)))
		n = n->next;
	return n;
}

/* The node for a name: one that the graph has, or a new one in it. */
static int get_node(struct qi_graph *g, const struct qi_name *name,
		    const struct qi_open *how, struct qi_node **out,
		    struct qi_error *e)
{
	struct qi_node *n = NULL, *known;
	int ret = node_open(g, name, how, &n, e);

	if (ret)
		return ret;
	known = find_node(g, n);
	if (known && name->format && strcmp(known->format->name, name->format))
		ret = qi_fail(e, EINVAL,
			      "'%s' is taken for %s already, and cannot be %s "
			      "as well",
			      known->path, known->format->name, name->format);
	if (known) {
		node_free(n);
		*out = known;
		return ret;
	}
	n->next = g->nodes;
	g->nodes = n;
	g->count++;
	*out = n;
	return 0;
}

/* Open the node that n records as its backing file. */
static int open_backing(struct qi_node *n, struct qi_error *e)
{
	QI_AUTOFREE char *where = qi_name_beside(n->path, n->backing_name);
	struct qi_name name = { 0 };
	const struct qi_open how = { .cache = n->cache };
	struct qi_node *b;
	int ret = where ? qi_name_parse(&name, where, e) : qi_no_memory(e);

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
		if (!n->backing_name || n->facts.backing)
			continue;
		ret = open_backing(n, e);
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
	struct qi_name parsed;
	struct qi_node *n;
	int ret = qi_name_parse(&parsed, name, e);

	if (ret)
		return ret;
	if (how->format) {
		free(parsed.format);
		parsed.format = strdup(how->format);
	}
	ret = get_node(g, &parsed, how, &n, e);
	qi_name_clear(&parsed);
	if (ret)
		return ret;
	n->is_named = true;
	n->force_share |= how->force_share;
	qi_node_want(n, how->access);
	if (!how->no_backing)
		ret = open_chain(n, e);
	if (!ret)
		*out = n;
	return ret;
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

/* Nodes were opened read only to find the chain; get a writable handle. */
static int make_writable(struct qi_node *n, struct qi_error *e)
{
	struct qi_file *f;
	int ret;

	if (n->access != QI_ACCESS_WRITE || n->file->writable)
		return 0;
	if (qi_is_snapshot(&n->snapshot))
		return qi_fail(e, EINVAL,
			       "an internal snapshot of '%s' cannot be written",
			       n->path);
	ret = qi_file_open(&f, n->path, true, e);
	if (!ret)
		ret = qi_file_set_cache(f, n->cache, e);
	if (ret)
		return ret;
	if (f->dev != n->file->dev || f->ino != n->file->ino) {
		qi_file_close(f, NULL);
		return qi_fail(e, ESTALE,
			       "'%s' was replaced while it was being "
			       "opened; try again",
			       n->path);
	}
	qi_file_close(n->file, NULL);
	n->file = n->data = f;
	return 0;
}

static int lock_all(struct qi_node **all, size_t count, struct qi_error *e)
{
	for (size_t i = 0; i < count; i++) {
		struct qi_graph *g = all[i]->graph;
		int ret = qi_lock(all[i]->file, all[i]->access,
				  all[i]->force_share, e);

		if (ret == -ENOLCK && !g->warned_no_locks) {
			g->warned_no_locks = true;
			qi_warn(g, "%s; other programs can change it", e->text);
		}
		if (ret == 0 || ret == -ENOLCK)
			continue;
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

int qi_node_reload(struct qi_node *n, struct qi_error *e)
{
	QI_AUTOFREE char *backing = n->backing_name;
	struct stat st;
	int ret;

	n->backing_name = NULL; /* kept to be compared */
	close_state(n);
	if (!fstat(n->file->fd, &st) && S_ISREG(st.st_mode))
		n->file->size = (uint64_t)st.st_size;
	ret = open_state(n, e);
	if (ret)
		return ret;
	if (!n->backing_name != !backing ||
	    (backing && strcmp(backing, n->backing_name)))
		return qi_fail(e, ESTALE,
			       "the backing file of '%s' was changed "
			       "while it was being opened; try again",
			       n->path);
	return 0;
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
			ret = make_writable(all[i], e);
	}
	if (!ret)
		ret = lock_patiently(all, g->count, wait, e);
	/* Time has passed since what was read before. */
	qi_graph_forget_folders(g);
	if (!ret)
		ret = verify_all(all, g->count, e);
	return ret;
}
