/* SPDX-License-Identifier: MIT */
/*
 * dependents.c - who else rests on an image, or leads to it
 *
 * A graph reads each folder once and keeps what matters: which file is the
 * backing file of which, and where links lead. A header is all that is read of
 * a file, so that no image in the folder can cost time or memory, whatever is
 * in it. What was read is old when this process has changed a name or a
 * backing file, when the folder has changed, and once locks were taken.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>

#include "lib/drive.h"
#include "lib/files.h"
#include "lib/name.h"

/* A file that rests on another, or a link. */
struct found {
	char *path;   /* in the folder */
	char *target; /* of a link out of the folder: the file; else NULL */
	bool is_link;
	bool has_backing;
	char *unclear; /* a backing name that is no file's; else NULL */
	dev_t dev, backing_dev;
	ino_t ino, backing_ino;
};

struct folder {
	char *path;
	dev_t dev;
	ino_t ino;
	bool asked_for; /* by the user: for all nodes */
	bool is_read;
	struct timespec changed;
	unsigned long name_changes;
	struct found *files;
	size_t count;
};

struct file_id {
	dev_t dev;
	ino_t ino;
};

struct qi_folders {
	struct folder *all;
	size_t count;
	struct file_id *dismissed;
	size_t dismissed_count;
};

/* ------------------------------------------------------ reading a folder */

static void folder_forget(struct folder *f)
{
	for (size_t i = 0; i < f->count; i++) {
		free(f->files[i].path);
		free(f->files[i].target);
		free(f->files[i].unclear);
	}
	free(f->files);
	f->files = NULL;
	f->count = 0;
	f->is_read = false;
}

/* The backing name that the file at path records, malloc'd, or NULL. */
static int peek(const char *path, char **name, struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	uint8_t head[QI_PROBE_BYTES];
	ssize_t n;
	int ret = 0;

	*name = NULL;
	/* Of what cannot be read nobody can read a backing file either. */
	if (qi_file_open(&f, path, false, NULL) || !qi_file_is_regular(f))
		return 0;
	n = qi_file_read_some(f, 0, sizeof(head), head, NULL);
	for (size_t i = 0; n > 0 && qi_formats[i] && !ret; i++)
		if (qi_formats[i]->peek_backing)
			ret = qi_formats[i]->peek_backing(f, head, (size_t)n,
							  name, e);
	return ret == -ENOMEM ? ret : 0;
}

/* What the file at path rests on, if anything. */
static int find_backing(struct found *x, const char *path, struct qi_error *e)
{
	QI_AUTOFREE char *recorded = NULL, *where = NULL;
	struct qi_name name = { 0 };
	struct stat st;
	int ret = peek(path, &recorded, e);

	if (ret || !recorded)
		return ret;
	where = qi_name_beside(path, recorded);
	if (!where)
		return qi_no_memory(e);
	if (qi_name_parse(&name, where, NULL)) {
		x->unclear = recorded;
		recorded = NULL;
	} else if (!stat(name.path, &st)) {
		x->has_backing = true;
		x->backing_dev = st.st_dev;
		x->backing_ino = st.st_ino;
	}
	qi_name_clear(&name);
	return 0;
}

/* A link: a file that is in the folder itself is found there. */
static int look_at_link(const struct folder *f, struct found *x,
			struct qi_error *e)
{
	QI_AUTOFREE char *dir = NULL;
	char *target = realpath(x->path, NULL);
	struct stat st;

	x->is_link = true;
	if (!target)
		return errno == ENOMEM ? qi_no_memory(e) : 0;
	x->target = target;
	if (stat(target, &st))
		return 0;
	x->dev = st.st_dev;
	x->ino = st.st_ino;
	dir = qi_path_folder(target);
	if (!dir)
		return qi_no_memory(e);
	if (!S_ISREG(st.st_mode) || stat(dir, &st) ||
	    (st.st_dev == f->dev && st.st_ino == f->ino))
		return 0;
	return find_backing(x, target, e);
}

static int look_at(const struct folder *f, struct found *x, struct qi_error *e)
{
	struct stat st;

	if (lstat(x->path, &st))
		return 0;
	if (S_ISLNK(st.st_mode))
		return look_at_link(f, x, e);
	if (!S_ISREG(st.st_mode))
		return 0;
	x->dev = st.st_dev;
	x->ino = st.st_ino;
	return find_backing(x, x->path, e);
}

/* Keep an entry of the folder if it matters. */
static int take(struct folder *f, const char *name, struct qi_error *e)
{
	struct found *x;
	int ret;

	if (qi_is_full(f->count)) {
		x = realloc(f->files, (2 * f->count + 1) * sizeof(*x));
		if (!x)
			return qi_no_memory(e);
		f->files = x;
	}
	x = &f->files[f->count];
	*x = (struct found){ .path = qi_path_join(f->path, name) };
	if (!x->path)
		return qi_no_memory(e);
	ret = look_at(f, x, e);
	if (x->is_link || x->has_backing || x->unclear) {
		f->count++;
		return ret;
	}
	free(x->path);
	return ret;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct found *)a)->path,
		      ((const struct found *)b)->path);
}

static int folder_read(struct folder *f, struct qi_error *e)
{
	DIR *d = opendir(f->path);
	struct dirent *entry;
	struct stat st;
	int ret = 0;

	if (!d || fstat(dirfd(d), &st)) {
		ret = qi_cannot_read_folder(f->path, e);
		if (d)
			closedir(d);
		return ret;
	}
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->changed = st.st_mtim;
	f->name_changes = qi_name_changes();
	while (!ret && (entry = readdir(d))) {
		bool may_be = entry->d_type == DT_REG ||
			      entry->d_type == DT_LNK ||
			      entry->d_type == DT_UNKNOWN;

		/* Unfinished files rest on nothing yet. */
		if (may_be && !qi_path_is_temporary(entry->d_name))
			ret = take(f, entry->d_name, e);
	}
	closedir(d);
	f->is_read = !ret;
	if (ret)
		folder_forget(f);
	else if (f->count)
		qsort(f->files, f->count, sizeof(*f->files), by_path);
	return ret;
}

/* Read the folder, unless what is known of it is still so. */
static int folder_refresh(struct folder *f, struct qi_error *e)
{
	struct stat st;

	if (f->is_read && f->name_changes == qi_name_changes() &&
	    !stat(f->path, &st) && st.st_dev == f->dev && st.st_ino == f->ino &&
	    st.st_mtim.tv_sec == f->changed.tv_sec &&
	    st.st_mtim.tv_nsec == f->changed.tv_nsec)
		return 0;
	folder_forget(f);
	return folder_read(f, e);
}

/* --------------------------------------------------- folders of a graph */

void qi_folders_free(struct qi_folders *f)
{
	for (size_t i = 0; f && i < f->count; i++) {
		folder_forget(&f->all[i]);
		free(f->all[i].path);
	}
	if (f) {
		free(f->all);
		free(f->dismissed);
	}
	free(f);
}

/* The folders that g knows, of which there may be none; NULL: no memory. */
static struct qi_folders *folders_of(struct qi_graph *g)
{
	struct qi_folders **f = qi_graph_folders(g);

	if (!*f)
		*f = calloc(1, sizeof(**f));
	return *f;
}

int qi_graph_dismiss(struct qi_graph *g, const struct qi_node *n,
		     struct qi_error *e)
{
	struct qi_folders *f = folders_of(g);
	struct file_id *p;

	if (!f)
		return qi_no_memory(e);
	p = realloc(f->dismissed, (f->dismissed_count + 1) * sizeof(*p));
	if (!p)
		return qi_no_memory(e);
	f->dismissed = p;
	p[f->dismissed_count++] =
		(struct file_id){ .dev = n->file->dev, .ino = n->file->ino };
	return 0;
}

static bool is_dismissed(const struct qi_folders *f, const struct found *x)
{
	for (size_t i = 0; i < f->dismissed_count; i++)
		if (f->dismissed[i].dev == x->dev &&
		    f->dismissed[i].ino == x->ino)
			return true;
	return false;
}

void qi_graph_forget_folders(struct qi_graph *g)
{
	struct qi_folders *f = *qi_graph_folders(g);

	for (size_t i = 0; f && i < f->count; i++)
		folder_forget(&f->all[i]);
}

/* Index of a folder of the graph, by whatever path; -errno. */
static int find_folder(struct qi_graph *g, const char *path, struct qi_error *e)
{
	struct qi_folders *f = folders_of(g);
	struct folder *x;
	struct stat st;

	if (stat(path, &st))
		return qi_cannot_read_folder(path, e);
	if (!f)
		return qi_no_memory(e);
	for (size_t i = 0; i < f->count; i++)
		if (f->all[i].dev == st.st_dev && f->all[i].ino == st.st_ino)
			return (int)i;
	x = realloc(f->all, (f->count + 1) * sizeof(*x));
	if (!x)
		return qi_no_memory(e);
	f->all = x;
	x += f->count;
	*x = (struct folder){ .path = strdup(path),
			      .dev = st.st_dev,
			      .ino = st.st_ino };
	if (!x->path)
		return qi_no_memory(e);
	return (int)f->count++;
}

int qi_graph_scan(struct qi_graph *g, const char *folder, struct qi_error *e)
{
	DIR *d = opendir(folder);
	int i;

	if (!d)
		return qi_cannot_read_folder(folder, e);
	closedir(d);
	i = find_folder(g, folder, e);
	if (i < 0)
		return i;
	(*qi_graph_folders(g))->all[i].asked_for = true;
	return 0;
}

/* ------------------------------------------------------------- questions */

/* One question about the files of folders; 1 ends the walk. */
struct question {
	int (*ask)(struct question *q, const struct found *x,
		   struct qi_error *e);
	const struct qi_node *n, *except;
	bool by_links; /* only what links out of the folder lead to */
	struct qi_files *files;
	const char *besides;
	char *link;
	struct file_id *known; /* one for each of files */
};

static int ask_folder(struct question *q, const struct qi_folders *all,
		      size_t which, struct qi_error *e)
{
	struct folder *f = &all->all[which];
	int ret = folder_refresh(f, e);

	for (size_t i = 0; i < f->count && !ret; i++)
		if (!is_dismissed(all, &f->files[i]))
			ret = q->ask(q, &f->files[i], e);
	return ret;
}

/* The folders that n is in, by its path and by where that leads, get asked. */
static int ask(struct question *q, struct qi_graph *g, struct qi_error *e)
{
	QI_AUTOFREE char *real = realpath(q->n->path, NULL);
	QI_AUTOFREE char *dir = qi_path_folder(q->n->path);
	QI_AUTOFREE char *real_dir = qi_path_folder(real ? real : q->n->path);
	struct qi_folders *f;
	int one, two, ret;

	/* What is no file is in no folder. */
	if (q->n->file->ops)
		return 0;
	if (!dir || !real_dir)
		return qi_no_memory(e);
	one = find_folder(g, dir, e);
	two = one < 0 ? one : find_folder(g, real_dir, e);
	if (two < 0)
		return two;
	f = *qi_graph_folders(g);
	ret = ask_folder(q, f, (size_t)one, e);
	if (!ret && two != one)
		ret = ask_folder(q, f, (size_t)two, e);
	for (int i = 0; !ret && (size_t)i < f->count; i++)
		if (f->all[i].asked_for && i != one && i != two)
			ret = ask_folder(q, f, (size_t)i, e);
	return ret < 0 ? ret : 0;
}

static bool is_file(const struct found *x, const struct qi_node *n)
{
	return x->dev == n->file->dev && x->ino == n->file->ino;
}

static bool is_known(const struct question *q, const struct found *x)
{
	for (size_t i = 0; i < q->files->count; i++)
		if (q->known[i].dev == x->dev && q->known[i].ino == x->ino)
			return true;
	return false;
}

static int ask_dependent(struct question *q, const struct found *x,
			 struct qi_error *e)
{
	const struct qi_node *n = q->n;
	bool rests = x->has_backing && x->backing_dev == n->file->dev &&
		     x->backing_ino == n->file->ino;

	/* It cannot be told: better one too many. */
	if (x->unclear && strstr(x->unclear, qi_path_name(n->path)))
		rests = true;
	if (!rests || q->by_links != (x->target != NULL) ||
	    (q->except && is_file(x, q->except)) || is_known(q, x))
		return 0;
	if (qi_is_full(q->files->count)) {
		size_t room = 2 * q->files->count + 1;
		struct file_id *p = realloc(q->known, room * sizeof(*p));

		if (!p)
			return qi_no_memory(e);
		q->known = p;
	}
	q->known[q->files->count] =
		(struct file_id){ .dev = x->dev, .ino = x->ino };
	return qi_files_add(q->files, x->target ? x->target : x->path, e);
}

int qi_graph_dependents(struct qi_graph *g, struct qi_node *n,
			const struct qi_node *except, struct qi_files *out,
			struct qi_error *e)
{
	struct question q = {
		.ask = ask_dependent, .n = n, .except = except, .files = out
	};
	int ret;

	*out = (struct qi_files){ 0 };
	ret = ask(&q, g, e);
	/* A file that is found by its own name gets that one. */
	q.by_links = true;
	if (!ret)
		ret = ask(&q, g, e);
	free(q.known);
	if (ret)
		qi_files_free(out);
	return ret;
}

int qi_node_dependents(struct qi_node *n, const struct qi_node *except,
		       struct qi_files *out, struct qi_error *e)
{
	return qi_graph_dependents(n->graph, n, except, out, e);
}

static int ask_link(struct question *q, const struct found *x,
		    struct qi_error *e)
{
	if (!x->is_link || !is_file(x, q->n) ||
	    (q->besides &&
	     !strcmp(qi_path_name(x->path), qi_path_name(q->besides)) &&
	     qi_same_folder(x->path, q->besides)))
		return 0;
	q->link = strdup(x->path);
	return q->link ? 1 : qi_no_memory(e);
}

int qi_graph_find_link(struct qi_graph *g, struct qi_node *n,
		       const char *except, char **out, struct qi_error *e)
{
	struct question q = { .ask = ask_link, .n = n, .besides = except };
	int ret = ask(&q, g, e);

	*out = q.link;
	return ret;
}

int qi_node_find_link(struct qi_node *n, const char *except, char **out,
		      struct qi_error *e)
{
	return qi_graph_find_link(n->graph, n, except, out, e);
}

int qi_node_check_dependents(struct qi_node *n, const struct qi_node *except,
			     const char *what, struct qi_error *e)
{
	struct qi_files f;
	char list[600];
	int ret;

	if (qi_graph_is_stock(n->graph))
		return 0;
	ret = qi_node_dependents(n, except, &f, e);
	if (ret || !f.count)
		return ret;
	qi_files_text(&f, list, sizeof(list));
	qi_files_free(&f);
	return qi_fail(e, ESTALE,
		       "cannot %s '%s': other images have it as "
		       "their backing file and would be corrupted: %s",
		       what, n->path, list);
}
