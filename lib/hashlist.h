/* SPDX-License-Identifier: MIT */
/*
 * hashlist.h - the hashes of what one point stores of one drive
 *
 * A file of runs on a grid of QI_HASH_UNIT guest bytes; a run is zero, or has
 * one XXH3-128 per chunk. Layout: qimg-backup-format(7).
 */
#ifndef QI_HASHLIST_H
#define QI_HASHLIST_H

#include "lib/copy.h"

struct qi_hash_writer;
int qi_hash_writer_new(struct qi_hash_writer **out, const char *path,
		       uint64_t disk_size, struct qi_error *e);
/* Has the form of qi_copy.hashed; arg is the writer. */
int qi_hash_writer_add(void *arg, uint64_t off, uint64_t count,
		       const struct qi_hash *hashes, struct qi_error *e);
/* Write the rest and sync. */
int qi_hash_writer_finish(struct qi_hash_writer *w, struct qi_error *e);
void qi_hash_writer_free(struct qi_hash_writer *w);

struct qi_hash_reader;
int qi_hash_reader_new(struct qi_hash_reader **out, const char *path,
		       uint64_t disk_size, struct qi_error *e);
/* 1 and the next chunk, 0 at the end. */
int qi_hash_reader_next(struct qi_hash_reader *r, uint64_t *off,
			struct qi_hash *hash, bool *is_zero,
			struct qi_error *e);
void qi_hash_reader_free(struct qi_hash_reader *r);

/* XXH3-128 of a whole file. */
int qi_hash_file(const char *path, struct qi_hash *out, struct qi_error *e);

#endif
