/* SPDX-License-Identifier: MIT */
/*
 * repo.h - the backup repository, for the parts of lib that use it
 *
 * A folder: qimg-repository.json, README, and points/ID/ with manifest.json,
 * CHECKSUMS, and per drive NAME.qcow2 and NAME.hashes. A point is built as
 * points/.partial-ID and published by one rename.
 */
#ifndef QI_REPO_H
#define QI_REPO_H

#include <jansson.h>

#include "lib/hashtree.h"

struct qi_repo {
	char *path;
	char *points_path;
	struct qi_point *points;
	bool *verified;	   /* by this handle; as long as points */
	bool verified_top; /* and what is beside them */
	size_t count;
	struct qi_file *lock;
	bool makes; /* one that is not there */
	/* Made by this handle: it goes again if it gets no point. */
	bool is_new, made_folder;
	bool is_planned; /* there is none */
};

#define QI_REPO_MARK "qimg-repository.json"

/* ---- repo-make.c */

/* Is its mark one that this version knows? */
int qi_repo_check_mark(const struct qi_repo *r, struct qi_error *e);
/* Make one where there is none; r->is_new says whether this has. */
int qi_repo_make(struct qi_repo *r, struct qi_error *e);
/* Could one be made? */
int qi_repo_plan(struct qi_repo *r, struct qi_error *e);
/* Take away a new one that is locked and has no point. */
void qi_repo_unmake(const struct qi_repo *r);

/* ---- repo.c */

/* What writes needs it: lock it, unless the caller has. */
int qi_repo_need_lock(struct qi_repo *r, struct qi_error *e);
/* Read the folder of points again. */
int qi_repo_load(struct qi_repo *r, struct qi_error *e);
/* Index of a point, or SIZE_MAX. */
size_t qi_repo_index(const struct qi_repo *r, const char *id);
/* The last point that has the drive of that name, or NULL. */
const struct qi_point *qi_repo_last(const struct qi_repo *r, const char *drive);
const struct qi_point_drive *qi_point_find(const struct qi_point *p,
					   const char *drive);
/* The same; -EUCLEAN when the point cannot be used, -ENOENT without it. */
int qi_point_need(const struct qi_point *p, const char *drive,
		  const struct qi_point_drive **out, struct qi_error *e);
/*
 * The point that the drive of point i rests on; SIZE_MAX: none. It is older, so
 * there is an end. -EUCLEAN when it is missing, or as qi_point_need().
 */
int qi_repo_below(const struct qi_repo *r, size_t i, const char *drive,
		  size_t *out, struct qi_error *e);
/* The hashes of a drive in a point; checked against the manifests. */
int qi_repo_tree(const struct qi_repo *r, const struct qi_point *p,
		 const char *drive, struct qi_hash_tree **out,
		 struct qi_error *e);
/* points/ID/FILE; malloc'd. */
char *qi_repo_file(const struct qi_repo *r, const char *id, const char *file);

/* ---- origin.c */

/* What the drive is like; o is empty at first. */
int qi_origin_note(struct qi_drive *d, struct qi_origin *o, struct qi_error *e);
void qi_origin_clear(struct qi_origin *o);
/* As it stands in a manifest; NULL without memory. */
json_t *qi_origin_json(const struct qi_origin *o);
/* False when it is none; o is to be cleared then, too. */
bool qi_origin_take(json_t *origin, struct qi_origin *o);

/* ---- manifest.c */

/*
 * Has point i been changed by a prune or merge since it was read? 1, and it is
 * read anew: yes. -ENOENT: it has gone, *e is not set.
 */
int qi_repo_reload(struct qi_repo *r, size_t i, struct qi_error *e);
/* Does somebody write to it now? */
bool qi_repo_is_busy(const struct qi_repo *r);

int qi_manifest_read(const char *path, struct qi_point *out,
		     struct qi_error *e);
int qi_manifest_write(const char *path, const struct qi_point *p,
		      struct qi_error *e);
void qi_point_clear(struct qi_point *p);
/* What was found when the point was verified; nothing if that is not known. */
void qi_verified_read(const char *path, struct qi_point *p);
int qi_verified_write(const char *path, const struct qi_point *p,
		      struct qi_error *e);
/* YYYY-MM-DD[THH:MM[:SS]][Z], UTC. False when it is none. */
bool qi_time_parse(const char *text, int64_t *out);
void qi_time_format(int64_t t, char text[24]);

/* All of a small file, at most max bytes; a null byte is put behind it. */
int qi_read_text(const char *path, uint64_t max, char **out, size_t *len,
		 struct qi_error *e);
/* As qi_replace_text(), but the file must not exist. */
int qi_write_text(const char *path, const char *text, struct qi_error *e);

#endif
