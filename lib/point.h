/* SPDX-License-Identifier: MIT */
/*
 * point.h - making, changing and removing points of a repository
 *
 * Orders of writes, each durable before the next. A new point: its files into
 * points/.partial-ID, one rename. A point that comes to rest on another one:
 * new files into .partial-ID, a rename to .rebuilt-ID, which is the decision;
 * then image, hashes, manifest and CHECKSUMS in turn take the place of those in
 * ID. Old and new ones read the same, so each mixture does, and whoever writes
 * next goes on with it. A removal: a rename to .partial-ID, then the files.
 *
 * All of it is done under the lock of the repository.
 */
#ifndef QI_POINT_H
#define QI_POINT_H

#include "lib/repo.h"

/* Hidden folders of points, before the id. */
#define QI_POINT_PARTIAL ".partial-"
#define QI_POINT_REBUILT ".rebuilt-"

struct qi_point_maker {
	struct qi_repo *r;
	struct qi_point *point; /* id and drives; its sizes are set */
	char *folder;		/* hidden, malloc'd */
	bool compress;
	unsigned threads;
	struct qi_progress progress;
};

/* What one drive stores. */
struct qi_point_source {
	struct qi_node *node;
	struct qi_hash_tree *below; /* of the parent, or NULL */
	struct qi_rate *rate;	    /* of what is read, or NULL */
	/* Where, in units of the image; *out NULL: all. */
	int (*ranges)(void *arg, uint64_t unit, struct qi_ranges **out,
		      struct qi_error *e);
	void *arg;
	struct qi_expected *expected; /* what it must read as, or NULL */
};

int qi_point_start(struct qi_point_maker *m, struct qi_error *e);
/* Image and hashes of a drive; o->root is what they are the hash of. */
int qi_point_store(struct qi_point_maker *m, struct qi_point_drive *o,
		   struct qi_point_source *s, struct qi_error *e);
/* Type and parent of a point, by those of its drives. */
int qi_point_sum_up(struct qi_point *p, struct qi_error *e);
/* Manifest and checksums, and all is durable. */
int qi_point_complete(struct qi_point_maker *m, struct qi_error *e);
/* It is a point from now on. */
int qi_point_publish(struct qi_point_maker *m, struct qi_error *e);
/* It takes the place of the point of that id. */
int qi_point_replace(struct qi_point_maker *m, struct qi_error *e);
/* What is there of it goes. */
void qi_point_abort(struct qi_point_maker *m);

/* No other point may rest on it. */
int qi_repo_remove(struct qi_repo *r, const char *id, struct qi_error *e);
/* Go on with, or remove, what interrupted runs have left. */
int qi_repo_finish(struct qi_repo *r, struct qi_error *e);
/* Are files of the point being replaced, or have been when that ended? */
bool qi_repo_is_changing(const struct qi_repo *r, const char *id);

#endif
