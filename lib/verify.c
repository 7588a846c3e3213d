/* SPDX-License-Identifier: MIT */
/* verify.c - is a point what it was when it was taken? */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "lib/clock.h"
#include "lib/graph.h"
#include "lib/point.h"
#include "lib/ranges.h"
#include "lib/repo.h"
#include "lib/sums.h"

struct work {
	struct qi_repo *r;
	const struct qi_point *p; /* NULL: what is beside the points */
	struct qi_verify *v;
	uint32_t start; /* of the part that is read */
	uint64_t total; /* bytes, for progress */
	char **findings;
	size_t count;
	bool no_memory; /* for one of them */
};

static void finding(struct work *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Kept, as a prune or merge may be the reason. */
static void finding(struct work *w, const char *fmt, ...)
{
	char **longer = realloc(w->findings, (w->count + 1) * sizeof(*longer));
	char what[1000];
	va_list ap;

	if (longer)
		w->findings = longer;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (longer)
		longer[w->count] =
			w->p ? qi_format_text("point %s: %s", w->p->id, what) :
			       strdup(what);
	if (longer && longer[w->count])
		w->count++;
	else
		w->no_memory = true;
}

static void drop_findings(struct work *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->findings[i]);
	free(w->findings);
	w->findings = NULL;
	w->count = 0;
}

static int tell_findings(struct work *w, struct qi_error *e)
{
	w->v->problems += w->count;
	for (size_t i = 0; i < w->count && w->v->finding; i++)
		w->v->finding(w->v->arg, w->findings[i]);
	drop_findings(w);
	return w->no_memory ? qi_no_memory(e) : 0;
}

/* ------------------------------------------------------------- CHECKSUMS */

static void check_finding(void *arg, const char *text)
{
	finding(arg, "%s", text);
}

static int check_sums(struct work *w, struct qi_error *e)
{
	const struct qi_point *p = w->p;
	QI_AUTOFREE char *folder = qi_path_join(w->r->points_path, p->id);
	QI_AUTOFREE const char **names =
		calloc(p->drive_count + 1, sizeof(*names));

	if (!folder || !names)
		return qi_no_memory(e);
	names[0] = "manifest.json";
	for (size_t i = 0; i < p->drive_count; i++)
		names[i + 1] = p->drives[i].hashes;
	w->v->files += p->drive_count + 1;
	return qi_sums_check(folder, names, p->drive_count + 1, check_finding,
			     w, e);
}

/* What is beside the points. */
static int check_top(struct qi_repo *r, struct qi_verify *v, struct qi_error *e)
{
	static const char *const names[] = { "README", QI_REPO_MARK };
	struct work w = { .r = r, .v = v };
	int ret;

	if (r->verified_top)
		return 0;
	r->verified_top = true;
	v->files += QI_ARRAY_SIZE(names);
	ret = qi_sums_check(r->path, names, QI_ARRAY_SIZE(names), check_finding,
			    &w, e);
	if (!ret)
		ret = tell_findings(&w, e);
	drop_findings(&w);
	return ret;
}

/* ---------------------------------------------------------------- images */

/* Is the backing file the image of the parent, and not another file? */
static void check_parent(struct work *w, const struct qi_point_drive *d,
			 struct qi_node *n)
{
	QI_AUTOFREE char *path = NULL;

	if (!d->parent) {
		if (n->facts.backing)
			finding(w, "'%s' has a backing file but no parent",
				d->file);
		return;
	}
	path = qi_repo_file(w->r, d->parent, d->file);
	if (!path || !n->facts.backing ||
	    !qi_node_is_file(n->facts.backing, path))
		finding(w, "'%s' does not rest on point %s", d->file,
			d->parent);
}

static int check_chunk(struct work *w, const struct qi_point_drive *d,
		       struct qi_node *n, uint64_t off,
		       const struct qi_hash *want, uint8_t *buf,
		       struct qi_error *e)
{
	size_t len = (size_t)qi_min(QI_HASH_UNIT, d->size - off);
	struct qi_hash is;
	int ret = qi_read(n, off, len, buf, e);

	if (ret == -EUCLEAN) {
		finding(w, "%s", e->text);
		return 0;
	}
	if (ret)
		return ret;
	is = qi_hash_of_content(buf, len);
	if (!qi_hash_equal(&is, want))
		finding(w,
			"'%s': the data at %llu, %zu bytes, is not what was "
			"backed up",
			d->file, (unsigned long long)off, len);
	w->v->bytes += len;
	if (w->v->progress.fn)
		w->v->progress.fn(w->v->progress.arg, w->v->bytes,
				  qi_max(w->total, w->v->bytes));
	return 0;
}

/*
 * Is the chunk in the part that is read? Multiples of the golden ratio spread
 * what is in a part evenly over the disk, and each chunk is in one of them.
 */
static bool is_chosen(const struct work *w, uint64_t off)
{
	uint64_t turn = off / QI_HASH_UNIT * 0x9e3779b97f4a7c15ull;
	uint64_t place = (turn >> 32) * QI_VERIFY_ALL >> 32;

	return (place + QI_VERIFY_ALL - w->start) % QI_VERIFY_ALL < w->v->read;
}

static int check_range(struct work *w, const struct qi_point_drive *d,
		       struct qi_node *n, struct qi_hash_tree *t,
		       const struct qi_range *r, uint8_t *buf,
		       struct qi_error *e)
{
	struct qi_hash want;
	int ret = 0;

	for (uint64_t off = r->off; !ret && off < r->off + r->len;
	     off += QI_HASH_UNIT) {
		if (!is_chosen(w, off))
			continue;
		ret = qi_interrupted(e);
		if (!ret)
			ret = qi_hash_tree_hash(t, off, &want, e);
		if (!ret)
			ret = check_chunk(w, d, n, off, &want, buf, e);
	}
	return ret;
}

/* What the point stores is what its hashes say. */
static int check_stored(struct work *w, const struct qi_point_drive *d,
			struct qi_node *n, struct qi_hash_tree *t,
			struct qi_error *e)
{
	QI_AUTOFREE uint8_t *buf = malloc(QI_HASH_UNIT);
	struct qi_ranges *stored;
	struct qi_range r;
	int ret;

	if (!buf || qi_hash_tree_stored(&stored, t))
		return qi_no_memory(e);
	while ((ret = qi_ranges_next(stored, &r, e)) > 0) {
		ret = check_range(w, d, n, t, &r, buf, e);
		if (ret)
			break;
	}
	qi_ranges_free(stored);
	return ret;
}

/* The image holds nothing else, which would hide what is below it. */
static int check_rest(struct work *w, const struct qi_point_drive *d,
		      struct qi_node *n, struct qi_hash_tree *t,
		      struct qi_error *e)
{
	struct qi_ranges *in[2] = { NULL }, *all = NULL;
	uint64_t stored = 0, both = 0;
	int ret = qi_hash_tree_stored(&all, t);

	if (!ret)
		ret = qi_ranges_sum(all, &stored, e);
	qi_ranges_free(all);
	if (!ret)
		ret = qi_hash_tree_stored(&in[0], t);
	if (!ret)
		ret = qi_ranges_allocated(&in[1], n);
	ret = qi_ranges_collect(&all, in, 2, ret);
	if (ret)
		return ret == -ENOMEM ? qi_no_memory(e) : ret;
	ret = qi_ranges_sum(all, &both, e);
	qi_ranges_free(all);
	if (!ret && both != stored)
		finding(w, "'%s' holds %llu bytes that were not backed up",
			d->file, (unsigned long long)(both - stored));
	return ret;
}

static int check_hashes(struct work *w, const struct qi_point_drive *d,
			struct qi_node *n, struct qi_error *e)
{
	struct qi_hash_tree *t;
	int ret = qi_repo_tree(w->r, w->p, d->name, &t, e);

	if (!ret)
		ret = check_rest(w, d, n, t, e);
	if (!ret && w->v->read)
		ret = check_stored(w, d, n, t, e);
	qi_hash_tree_free(t);
	if (ret == -EUCLEAN || ret == -ENOENT) {
		finding(w, "%s", e->text);
		ret = 0;
	}
	return ret;
}

/*
 * What hashes of content do not cover. Who reads a part of the data does not
 * want all that is packed.
 */
static int check_image_hash(struct work *w, const struct qi_point_drive *d,
			    struct qi_node *n, struct qi_error *e)
{
	struct qi_hash h;
	int ret;

	if (!w->v->read || (d->compressed && w->v->read < QI_VERIFY_ALL))
		return 0;
	ret = qi_hash_image(n, &h, e);
	if (ret == -EUCLEAN) {
		finding(w, "%s", e->text);
		return 0;
	}
	if (!ret && !qi_hash_equal(&h, &d->image))
		finding(w, "'%s' was changed: its hash differs", d->file);
	return ret;
}

static int check_image(struct work *w, const struct qi_point_drive *d,
		       struct qi_node *n, struct qi_error *e)
{
	struct qi_check check = { .finding = check_finding, .arg = w };
	int ret = qi_check_image(n, &check, e);

	if (ret)
		return ret;
	if (n->facts.size != d->size)
		finding(w, "'%s' has a disk of %llu bytes, not %llu", d->file,
			(unsigned long long)n->facts.size,
			(unsigned long long)d->size);
	check_parent(w, d, n);
	ret = check_image_hash(w, d, n, e);
	return ret ? ret : check_hashes(w, d, n, e);
}

static int check_drive(struct work *w, const struct qi_point_drive *d,
		       struct qi_error *e)
{
	struct qi_graph *g;
	struct qi_node *n;
	int ret;

	if (qi_graph_new(&g))
		return qi_no_memory(e);
	w->v->files++;
	ret = qi_repo_open_image(w->r, w->p, d->name, g, &n, e);
	if (!ret)
		ret = check_image(w, d, n, e);
	qi_graph_free(g);
	/* What is wrong with the files is a finding; the rest a failure. */
	if (ret == -EINTR || ret == -ENOMEM || !ret)
		return ret;
	finding(w, "%s", e->text);
	return 0;
}

static int verify_one(struct work *w, struct qi_error *e)
{
	const struct qi_point *p = w->p;
	int ret;

	if (p->verified.is_damaged)
		finding(w, "'verified.json' was changed");
	if (p->problem) {
		finding(w, "%s", p->problem);
		return 0;
	}
	for (size_t i = 0; i < p->drive_count; i++)
		w->total += (p->drives[i].stored + p->drives[i].zero) /
			    QI_VERIFY_ALL * w->v->read;
	w->total += w->v->bytes;
	ret = check_sums(w, e);
	for (size_t i = 0; i < p->drive_count && !ret; i++)
		ret = check_drive(w, &p->drives[i], e);
	return ret;
}

/* Somewhere, where it is not known or will not be known the next time. */
static uint32_t start_of(const struct qi_point *p, const struct qi_verify *v)
{
	uint64_t any;

	if (v->record && p->verified.time)
		return p->verified.next;
	qi_random(&any, sizeof(any));
	return (uint32_t)(any % QI_VERIFY_ALL);
}

/* Known from a run that has read more than this one. */
static bool is_known_damage(const struct work *w)
{
	return w->p->verified.problems && w->v->read < w->p->verified.read;
}

/* A repository may be there to be read alone. */
static void record(struct work *w, struct qi_point *p)
{
	QI_AUTOFREE char *path = qi_repo_file(w->r, p->id, "verified.json");
	uint32_t read = w->v->read;

	/* Parts go on in the same place when something was found. */
	p->verified.next = w->count ? w->start :
				      (w->start + read) % QI_VERIFY_ALL;
	/* What was found stays until it is looked at as closely again. */
	if (!is_known_damage(w)) {
		p->verified.time = time(NULL);
		p->verified.read = read;
		p->verified.problems = w->count;
	}
	p->verified.is_damaged = false;
	if (w->v->record && path)
		qi_verified_write(path, p, NULL);
}

/* What the point rests on has to be verified, too. */
static void want_parents(struct work *w, size_t i, bool *wanted)
{
	for (size_t j = 0; j < w->p->drive_count; j++) {
		const char *parent = w->p->drives[j].parent;
		size_t k = parent ? qi_repo_index(w->r, parent) : i;

		if (k == SIZE_MAX || k > i)
			finding(w, "point %s, which it rests on, is missing",
				parent);
		else
			wanted[k] = true;
	}
}

/* Somebody who changes the files of a point comes to an end. */
static int wait_for_others(struct qi_repo *r, size_t i, struct qi_error *e)
{
	int ret = 0;

	while (!ret && qi_repo_is_changing(r, r->points[i].id) &&
	       qi_repo_is_busy(r))
		ret = qi_try_again(-EBUSY, 0, -1, e);
	return ret;
}

/* As qi_repo_reload(), when nobody changes it. */
static int look_again(struct qi_repo *r, size_t i, struct qi_error *e)
{
	int ret = wait_for_others(r, i, e);

	return ret ? ret : qi_repo_reload(r, i, e);
}

/* Of what the point rests on: 1 if any has changed since it was read. */
static int look_below(struct qi_repo *r, size_t i, struct qi_error *e)
{
	const struct qi_point *p = &r->points[i];
	int changed = 0;

	for (size_t j = 0; j < p->drive_count; j++) {
		const char *drive = p->drives[j].name;
		size_t below;

		for (size_t k = i; !qi_repo_below(r, k, drive, &below, NULL) &&
				   below != SIZE_MAX;
		     k = below) {
			int ret = look_again(r, below, e);

			if (ret == -ENOENT)
				break;
			if (ret < 0)
				return ret;
			changed |= ret;
		}
	}
	return changed;
}

/* What is found is kept. 1: it is not what it was when that began. */
static int verify_now(struct work *w, bool *wanted, struct qi_error *e)
{
	size_t i = (size_t)(w->p - w->r->points);
	int ret = look_again(w->r, i, e);

	drop_findings(w);
	if (!ret && qi_repo_is_changing(w->r, w->p->id)) {
		finding(w, "its files are changed by a prune or merge that was "
			   "interrupted, which the next backup goes on with");
		return 0;
	}
	if (ret)
		return ret;
	want_parents(w, i, wanted);
	ret = verify_one(w, e);
	if (!ret && qi_repo_is_changing(w->r, w->p->id))
		return 1;
	if (!ret)
		ret = qi_repo_reload(w->r, i, e);
	return ret || !w->count ? ret : look_below(w->r, i, e);
}

/*
 * A point that was verified by this handle is not looked at again. One that is
 * changed meanwhile is, and one that is removed has no problem.
 */
static int verify_index(struct qi_repo *r, size_t i, struct qi_verify *v,
			bool *wanted, struct qi_error *e)
{
	struct qi_point *p = &r->points[i];
	struct work w = { .r = r, .p = p, .v = v, .start = start_of(p, v) };
	const uint64_t files = v->files;
	int ret;

	if (r->verified[i])
		return 0;
	r->verified[i] = true;
	while ((ret = verify_now(&w, wanted, e)) == 1)
		v->files = files;
	if (!ret && !qi_repo_is_changing(r, p->id))
		record(&w, p);
	if (!ret && !w.count && is_known_damage(&w))
		finding(&w,
			"damage was found by a run that has read more; "
			"'qimg backup verify --read-data %s %s' looks "
			"again",
			QI_WORD(r->path), p->id);
	if (!ret)
		ret = tell_findings(&w, e);
	drop_findings(&w);
	return ret == -ENOENT ? 0 : ret;
}

int qi_repo_verify(struct qi_repo *r, const struct qi_point *p,
		   struct qi_verify *v, struct qi_error *e)
{
	bool *wanted = calloc(r->count + 1, sizeof(*wanted));
	size_t i = qi_repo_index(r, p->id);
	int ret;

	if (!wanted)
		return qi_no_memory(e);
	wanted[i] = true;
	ret = check_top(r, v, e);
	/* Parents are older, so one pass downwards finds all of them. */
	for (i++; i-- > 0 && !ret;)
		if (wanted[i])
			ret = verify_index(r, i, v, wanted, e);
	free(wanted);
	return ret;
}
