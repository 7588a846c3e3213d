/* SPDX-License-Identifier: MIT */
/* repo.c - opening a backup repository and finding points in it */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/files.h"
#include "lib/graph.h"
#include "lib/lock.h"
#include "lib/repo.h"

char *qi_repo_file(const struct qi_repo *r, const char *id, const char *file)
{
	return qi_format_text("%s/%s/%s", r->points_path, id, file);
}

static void drop_points(struct qi_repo *r)
{
	for (size_t i = 0; i < r->count; i++)
		qi_point_clear(&r->points[i]);
	free(r->points);
	free(r->verified);
	r->points = NULL;
	r->verified = NULL;
	r->count = 0;
}

void qi_repo_unlock(struct qi_repo *r)
{
	if (r->is_new && r->lock && !r->count)
		qi_repo_unmake(r);
	r->is_new = false;
	if (r->lock)
		qi_file_close(r->lock, NULL);
	r->lock = NULL;
}

void qi_repo_free(struct qi_repo *r)
{
	if (!r)
		return;
	qi_repo_unlock(r);
	drop_points(r);
	free(r->path);
	free(r->points_path);
	free(r);
}

/* --------------------------------------------------------------- loading */

/* NNNNNN-TIME; what else is in the folder is not ours. */
static bool is_point_id(const char *name)
{
	size_t digits = strspn(name, "0123456789");

	return digits >= 6 && name[digits] == '-';
}

static int read_point(const struct qi_repo *r, const char *id,
		      struct qi_point *p, struct qi_error *e)
{
	QI_AUTOFREE char *path = qi_repo_file(r, id, "manifest.json");
	QI_AUTOFREE char *pin = qi_repo_file(r, id, "pinned");
	QI_AUTOFREE char *verified = qi_repo_file(r, id, "verified.json");
	struct qi_error why;
	struct stat st;

	if (!path || !pin || !verified)
		return qi_no_memory(e);
	*p = (struct qi_point){ .id = strdup(id), .pinned = !stat(pin, &st) };
	if (!p->id)
		return qi_no_memory(e);
	/* One bad manifest must not hide the others. */
	if (qi_manifest_read(path, p, &why)) {
		struct qi_point bad = { .id = p->id, .pinned = p->pinned };

		p->id = NULL;
		qi_point_clear(p);
		*p = bad;
		p->problem = strdup(why.text);
	}
	qi_verified_read(verified, p);
	return 0;
}

static int load_point(struct qi_repo *r, const char *id, struct qi_error *e)
{
	struct qi_point *p = realloc(r->points, (r->count + 1) * sizeof(*p));

	if (!p)
		return qi_no_memory(e);
	r->points = p;
	p[r->count] = (struct qi_point){ .id = NULL };
	return read_point(r, id, &p[r->count++], e);
}

int qi_repo_reload(struct qi_repo *r, size_t i, struct qi_error *e)
{
	struct qi_point *p = &r->points[i], now = { .id = NULL };
	QI_AUTOFREE char *folder = qi_path_join(r->points_path, p->id);
	struct stat st;
	int ret = folder ? 0 : qi_no_memory(e);

	if (!ret && stat(folder, &st) && errno == ENOENT)
		return -ENOENT;
	if (!ret)
		ret = read_point(r, p->id, &now, e);
	now.chain = p->chain;
	if (!ret && !qi_hash_equal(&p->manifest, &now.manifest)) {
		qi_point_clear(p);
		*p = now;
		return 1;
	}
	qi_point_clear(&now);
	return ret;
}

/* Of its longest drive: they are sorted, so parents are known. */
static size_t chain_of(const struct qi_repo *r, size_t i)
{
	const struct qi_point *p = &r->points[i];
	size_t longest = p->problem ? 0 : 1;

	for (size_t j = 0; j < p->drive_count; j++) {
		const char *parent = p->drives[j].parent;
		size_t k = parent ? qi_repo_index(r, parent) : SIZE_MAX;

		if (!parent)
			continue;
		if (k >= i || !r->points[k].chain)
			return 0;
		longest = qi_max(longest, r->points[k].chain + 1);
	}
	return longest;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct qi_point *)a)->id,
		      ((const struct qi_point *)b)->id);
}

static int load_points(struct qi_repo *r, struct qi_error *e)
{
	DIR *dir = opendir(r->points_path);
	struct dirent *d;
	int ret = 0;

	if (!dir)
		return qi_cannot_read_folder(r->points_path, e);
	while (!ret && (d = readdir(dir)))
		if (is_point_id(d->d_name))
			ret = load_point(r, d->d_name, e);
	closedir(dir);
	return ret;
}

int qi_repo_load(struct qi_repo *r, struct qi_error *e)
{
	int ret;

	drop_points(r);
	ret = r->is_planned ? 0 : load_points(r, e);
	if (ret)
		return ret;
	if (r->count)
		qsort(r->points, r->count, sizeof(struct qi_point), by_id);
	for (size_t i = 0; i < r->count; i++)
		r->points[i].chain = chain_of(r, i);
	r->verified = calloc(r->count + 1, sizeof(bool));
	return r->verified ? 0 : qi_no_memory(e);
}

/* --------------------------------------------------------------- opening */

int qi_repo_open(const char *path, enum qi_repo_mode mode, struct qi_repo **out,
		 struct qi_error *e)
{
	struct qi_repo *r = calloc(1, sizeof(*r));
	QI_AUTOFREE char *mark = qi_path_join(path, QI_REPO_MARK);
	struct stat st;
	int ret = 0;

	if (r) {
		r->makes = mode == QI_REPO_MAKE;
		r->path = strdup(path);
		r->points_path = qi_format_text("%s/points", path);
	}
	if (!r || !mark || !r->path || !r->points_path)
		ret = qi_no_memory(e);
	else if (r->makes)
		ret = qi_repo_make(r, e);
	else if (stat(mark, &st) && mode == QI_REPO_OPEN)
		ret = qi_fail(e, ENOENT,
			      "'%s' is not a backup repository; "
			      "'qimg backup --full' makes one",
			      path);
	else if (stat(mark, &st))
		ret = qi_repo_plan(r, e);
	else
		ret = qi_repo_check_mark(r, e);
	/* One that can still go is read when it is locked. */
	if (!ret && !r->makes)
		ret = qi_repo_load(r, e);
	if (ret) {
		qi_repo_free(r);
		return ret;
	}
	*out = r;
	return 0;
}

static int lock_patiently(struct qi_repo *r, int wait, struct qi_error *e)
{
	double start = qi_seconds();
	int ret;

	while ((ret = qi_lock(r->lock, QI_ACCESS_WRITE, false, e))) {
		ret = qi_try_again(ret, start, wait, e);
		if (ret)
			break;
	}
	return ret;
}

/* 1: the mark has gone meanwhile, with a repository that got no point. */
static int lock_mark(struct qi_repo *r, const char *mark, int wait,
		     struct qi_error *e)
{
	int ret = qi_file_open(&r->lock, mark, true, e);

	if (ret == -ENOENT && r->makes)
		return 1;
	if (!ret)
		ret = lock_patiently(r, wait, e);
	if (ret == -ENOLCK)
		ret = 0;
	if (!ret && r->makes && !qi_file_is_current(r->lock)) {
		qi_file_close(r->lock, NULL);
		r->lock = NULL;
		return 1;
	}
	return ret;
}

int qi_repo_lock(struct qi_repo *r, int wait, struct qi_error *e)
{
	QI_AUTOFREE char *mark = qi_path_join(r->path, QI_REPO_MARK);
	int ret;

	if (r->is_planned)
		return 0;
	if (!mark)
		return qi_no_memory(e);
	while ((ret = lock_mark(r, mark, wait, e)) == 1) {
		ret = qi_repo_make(r, e);
		if (ret)
			break;
	}
	if (ret) {
		/* Another backup is putting its point in there. */
		r->is_new = false;
		qi_repo_unlock(r);
	}
	/* Another backup may have ended between opening and locking. */
	return ret ? ret : qi_repo_load(r, e);
}

bool qi_repo_is_busy(const struct qi_repo *r)
{
	QI_AUTOFREE char *mark = qi_path_join(r->path, QI_REPO_MARK);
	QI_AUTOCLOSE struct qi_file *f = NULL;

	return mark && !qi_file_open(&f, mark, true, NULL) &&
	       qi_lock(f, QI_ACCESS_WRITE, false, NULL) == -EBUSY;
}

int qi_repo_need_lock(struct qi_repo *r, struct qi_error *e)
{
	return r->lock ? 0 : qi_repo_lock(r, 0, e);
}

/* --------------------------------------------------------------- finding */

const struct qi_point *qi_repo_points(const struct qi_repo *r, size_t *count)
{
	*count = r->count;
	return r->points;
}

size_t qi_repo_index(const struct qi_repo *r, const char *id)
{
	for (size_t i = 0; i < r->count; i++)
		if (strcmp(r->points[i].id, id) == 0)
			return i;
	return SIZE_MAX;
}

const struct qi_point_drive *qi_point_find(const struct qi_point *p,
					   const char *drive)
{
	for (size_t i = 0; i < p->drive_count; i++)
		if (strcmp(p->drives[i].name, drive) == 0)
			return &p->drives[i];
	return NULL;
}

int qi_point_need(const struct qi_point *p, const char *drive,
		  const struct qi_point_drive **out, struct qi_error *e)
{
	if (p->problem)
		return qi_fail(e, EUCLEAN, "%s", p->problem);
	*out = qi_point_find(p, drive);
	return *out ? 0 :
		      qi_fail(e, ENOENT, "point '%s' has no drive '%s'", p->id,
			      drive);
}

const struct qi_point *qi_repo_last(const struct qi_repo *r, const char *drive)
{
	for (size_t i = r->count; i-- > 0;)
		if (!r->points[i].problem &&
		    qi_point_find(&r->points[i], drive))
			return &r->points[i];
	return NULL;
}

static const struct qi_point *find_time(const struct qi_repo *r, int64_t when)
{
	for (size_t i = r->count; i-- > 0;)
		if (!r->points[i].problem && r->points[i].time <= when)
			return &r->points[i];
	return NULL;
}

const struct qi_point *qi_repo_find(const struct qi_repo *r, const char *which,
				    struct qi_error *e)
{
	const struct qi_point *found = NULL;
	int64_t when;

	if (!*which) {
		qi_fail(e, EINVAL, "the name of a point is missing");
		return NULL;
	}
	if (strcmp(which, "last") == 0)
		found = r->count ? &r->points[r->count - 1] : NULL;
	else if (qi_repo_index(r, which) != SIZE_MAX)
		found = &r->points[qi_repo_index(r, which)];
	else if (qi_time_parse(which, &when))
		found = find_time(r, when);
	else
		for (size_t i = 0; i < r->count; i++) {
			if (strncmp(r->points[i].id, which, strlen(which)))
				continue;
			if (found) {
				qi_fail(e, EINVAL,
					"'%s' fits several points "
					"of '%s'",
					which, r->path);
				return NULL;
			}
			found = &r->points[i];
		}
	if (!found)
		qi_fail(e, ENOENT,
			"'%s' has no point '%s'; 'qimg backup list "
			"%s' shows what it has",
			r->path, which, QI_WORD(r->path));
	return found;
}

/* What a file that a backup has written cannot be, unless it was damaged. */
static bool is_damage(int ret)
{
	return ret == -EINVAL || ret == -ENOTSUP || ret == -ENOENT ||
	       ret == -ENOTDIR || ret == -EISDIR || ret == -ELOOP ||
	       ret == -ENAMETOOLONG;
}

int qi_repo_open_image(struct qi_repo *r, const struct qi_point *p,
		       const char *drive, struct qi_graph *g,
		       struct qi_node **out, struct qi_error *e)
{
	const struct qi_open how = { .format = "qcow2",
				     .access = QI_ACCESS_READ };
	QI_AUTOFREE char *path = NULL;
	const struct qi_point_drive *d;
	int ret = qi_point_need(p, drive, &d, e);

	if (ret)
		return ret;
	path = qi_repo_file(r, p->id, d->file);
	ret = path ? qi_graph_add(g, path, &how, out, e) : qi_no_memory(e);
	if (ret || (*out)->facts.size == d->size)
		return is_damage(ret) ? -EUCLEAN : ret;
	return qi_fail(e, EUCLEAN,
		       "'%s' has a disk of %llu bytes, not the %llu that were "
		       "backed up",
		       path, (unsigned long long)(*out)->facts.size,
		       (unsigned long long)d->size);
}

int qi_repo_below(const struct qi_repo *r, size_t i, const char *drive,
		  size_t *out, struct qi_error *e)
{
	const struct qi_point *p = &r->points[i];
	const struct qi_point_drive *d;
	int ret = qi_point_need(p, drive, &d, e);

	*out = SIZE_MAX;
	if (ret || !d->parent)
		return ret;
	*out = qi_repo_index(r, d->parent);
	/* Parents are older, so there is an end. */
	return *out < i ? 0 :
			  qi_fail(e, EUCLEAN,
				  "point %s, which point %s rests on, is "
				  "missing",
				  d->parent, p->id);
}

static int add_tree(const struct qi_repo *r, const struct qi_point *p,
		    const char *drive, struct qi_hash_tree **tree,
		    struct qi_error *e)
{
	const struct qi_point_drive *d = qi_point_find(p, drive);
	QI_AUTOFREE char *path = qi_repo_file(r, p->id, d->hashes);
	struct qi_hash_tree *below = *tree;
	struct qi_hash root;
	int ret;

	*tree = NULL;
	if (!path) {
		qi_hash_tree_free(below);
		return qi_no_memory(e);
	}
	ret = qi_hash_tree_open(tree, path, below, e);
	if (ret)
		return ret;
	root = qi_hash_tree_root(*tree);
	if (qi_hash_tree_size(*tree) == d->size &&
	    qi_hash_equal(&root, &d->root))
		return 0;
	return qi_fail(e, EUCLEAN, "'%s' is not what the manifest says", path);
}

int qi_repo_tree(const struct qi_repo *r, const struct qi_point *p,
		 const char *drive, struct qi_hash_tree **out,
		 struct qi_error *e)
{
	QI_AUTOFREE size_t *chain = calloc(r->count, sizeof(*chain));
	size_t count = 0, i = qi_repo_index(r, p->id);
	int ret = chain ? 0 : qi_no_memory(e);

	while (!ret && i != SIZE_MAX) {
		chain[count++] = i;
		ret = qi_repo_below(r, i, drive, &i, e);
	}
	*out = NULL;
	while (!ret && count--)
		ret = add_tree(r, &r->points[chain[count]], drive, out, e);
	if (!ret)
		return 0;
	qi_hash_tree_free(*out);
	*out = NULL;
	return ret;
}
