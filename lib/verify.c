/* SPDX-License-Identifier: MIT */
/* verify.c - is a point what it was when it was taken? */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "lib/graph.h"
#include "lib/point.h"
#include "lib/ranges.h"
#include "lib/repo.h"

struct work {
	struct qi_repo *r;
	const struct qi_point *p;
	struct qi_verify *v;
	uint32_t start; /* of the part that is read */
	uint64_t total; /* bytes, for progress */
};

static void finding(struct work *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void finding(struct work *w, const char *fmt, ...)
{
	char text[1200], what[1000];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(text, sizeof(text), "point %s: %s", w->p->id, what);
	w->v->problems++;
	if (w->v->finding)
		w->v->finding(w->v->arg, text);
}

/* ------------------------------------------------------------- CHECKSUMS */

static void check_line(struct work *w, const char *hex, const char *file)
{
	QI_AUTOFREE char *path = qi_repo_file(w->r, w->p->id, file);
	struct qi_error e;
	struct qi_hash h;
	char now[33];

	w->v->files++;
	if (!path || qi_hash_file(path, &h, &e)) {
		finding(w, "%s", path ? e.text : "out of memory");
		return;
	}
	qi_hash_format(&h, now);
	if (strcmp(hex, now))
		finding(w, "'%s' was changed: its checksum differs", file);
}

/* "DIGITS  NAME", and of which file it has to be. */
static bool check_sum(struct work *w, char *line, const char *file)
{
	size_t len = strcspn(line, "\n");

	if (len < 34 || memcmp(line + 32, "  ", 2))
		return false;
	line[len] = line[32] = '\0';
	if (strcmp(line + 34, file))
		return false;
	check_line(w, line, file);
	return true;
}

static void check_sums(struct work *w)
{
	QI_AUTOFREE char *path = qi_repo_file(w->r, w->p->id, "CHECKSUMS");
	FILE *in = path ? fopen(path, "re") : NULL;
	char *line = NULL;
	size_t room = 0, lines = 0;
	bool good = true;

	if (!in) {
		finding(w, "CHECKSUMS is missing");
		return;
	}
	while (good && getline(&line, &room, in) > 0) {
		const char *file = !lines ? "manifest.json" :
				   lines <= w->p->drive_count ?
					    w->p->drives[lines - 1].hashes :
					    NULL;

		good = file && check_sum(w, line, file);
		lines++;
	}
	if (!good || lines != w->p->drive_count + 1)
		finding(w, "CHECKSUMS is damaged");
	free(line);
	fclose(in);
}

/* ---------------------------------------------------------------- images */

static void check_finding(void *arg, const char *text)
{
	finding(arg, "%s", text);
}

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
	return check_hashes(w, d, n, e);
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
	int ret = 0;

	if (p->problem) {
		finding(w, "%s", p->problem);
		return 0;
	}
	for (size_t i = 0; i < p->drive_count; i++)
		w->total += (p->drives[i].stored + p->drives[i].zero) /
			    QI_VERIFY_ALL * w->v->read;
	w->total += w->v->bytes;
	check_sums(w);
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

/* A repository may be there to be read alone. */
static void record(struct work *w, struct qi_point *p, uint64_t problems)
{
	QI_AUTOFREE char *path = qi_repo_file(w->r, p->id, "verified.json");
	uint32_t read = w->v->read;

	/* What was found stays until it is looked at as closely again. */
	if (!problems && p->verified.problems && read < p->verified.read)
		return;
	p->verified.time = time(NULL);
	p->verified.read = read;
	/* So do parts go on in the same place. */
	p->verified.next = problems ? w->start :
				      (w->start + read) % QI_VERIFY_ALL;
	p->verified.problems = problems;
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

/* A point that was verified by this handle is not looked at again. */
static int verify_index(struct qi_repo *r, size_t i, struct qi_verify *v,
			bool *wanted, struct qi_error *e)
{
	struct qi_point *p = &r->points[i];
	struct work w = { .r = r, .p = p, .v = v, .start = start_of(p, v) };
	uint64_t before = v->problems;
	int ret;

	if (r->verified[i])
		return 0;
	r->verified[i] = true;
	want_parents(&w, i, wanted);
	if (qi_repo_is_changing(r, p->id)) {
		finding(&w, "its files are changed by a prune or merge, which "
			    "the next backup goes on with if it was "
			    "interrupted");
		return 0;
	}
	ret = verify_one(&w, e);
	if (!ret)
		record(&w, p, v->problems - before);
	return ret;
}

int qi_repo_verify(struct qi_repo *r, const struct qi_point *p,
		   struct qi_verify *v, struct qi_error *e)
{
	bool *wanted = calloc(r->count + 1, sizeof(*wanted));
	size_t i = qi_repo_index(r, p->id);
	int ret = 0;

	if (!wanted)
		return qi_no_memory(e);
	wanted[i] = true;
	/* Parents are older, so one pass downwards finds all of them. */
	for (i++; i-- > 0 && !ret;)
		if (wanted[i])
			ret = verify_index(r, i, v, wanted, e);
	free(wanted);
	return ret;
}
