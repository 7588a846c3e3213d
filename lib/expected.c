/* SPDX-License-Identifier: MIT */
/* expected.c - what is read from a repository is what was backed up */
#include <errno.h>

#include "lib/repo.h"

struct qi_expected {
	const struct qi_repo *repo;
	const struct qi_point *point;
	const struct qi_point_drive *drive;
	struct qi_hash_tree *tree;
};

int qi_repo_expected(const struct qi_repo *r, const struct qi_point *p,
		     const char *drive, struct qi_expected **out,
		     struct qi_error *e)
{
	struct qi_expected *x = calloc(1, sizeof(*x));
	int ret;

	if (!x)
		return qi_no_memory(e);
	ret = qi_repo_tree(r, p, drive, &x->tree, e);
	if (ret) {
		free(x);
		return ret;
	}
	x->repo = r;
	x->point = p;
	x->drive = qi_point_find(p, drive);
	*out = x;
	return 0;
}

static int refuse(void *arg, uint64_t off, struct qi_error *e)
{
	const struct qi_expected *x = arg;

	return qi_fail(
		e, EUCLEAN,
		"the data of drive '%s' in point %s at %llu, %llu bytes, is "
		"not what was backed up; 'qimg backup verify --read-data %s "
		"%s' lists all that is damaged",
		x->drive->name, x->point->id, (unsigned long long)off,
		(unsigned long long)qi_min(QI_HASH_UNIT, x->drive->size - off),
		QI_WORD(x->repo->path), x->point->id);
}

int qi_expected_check(void *arg, uint64_t off, uint64_t count,
		      const struct qi_hash *hashes, struct qi_error *e)
{
	struct qi_expected *x = arg;

	return qi_hash_tree_differing(x->tree, off, count, hashes, refuse, x,
				      e);
}

struct qi_hash_tree *qi_expected_tree(const struct qi_expected *x)
{
	return x->tree;
}

void qi_expected_free(struct qi_expected *x)
{
	if (!x)
		return;
	qi_hash_tree_free(x->tree);
	free(x);
}
