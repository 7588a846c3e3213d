/* SPDX-License-Identifier: MIT */
/*
 * hashtree.h - the content of a disk as a tree of hashes
 *
 * Each chunk of QI_HASH_UNIT bytes has an XXH3-128; a node holds the hashes of
 * the 64 chunks or nodes below it, up to one node, the top. What reads as zero
 * has a null hash, and no node. The root is the hash of the size of the disk
 * and of the top: disks of equal size and content have the same, however they
 * are stored.
 *
 * The file of a point holds the nodes that the point has changed, and what of
 * the disk it stores; all other nodes are those of the points it rests on. So
 * its size follows that of the change. Layout: qimg-backup-format(7).
 *
 * Sizes and offsets are bytes of the disk. Errors: EUCLEAN what is damaged.
 * A tree is for one thread at a time.
 *
 * Where the size of the disk changes, the chunk in which the smaller one ends
 * must be among what is written: its hash is of another length.
 */
#ifndef QI_HASHTREE_H
#define QI_HASHTREE_H

#include "lib/copy.h"

struct qi_hash_tree;
/*
 * Open the tree of a point on that of the point it rests on (NULL: none),
 * which belongs to it from then on, also when this fails.
 */
int qi_hash_tree_open(struct qi_hash_tree **out, const char *path,
		      struct qi_hash_tree *below, struct qi_error *e);
void qi_hash_tree_free(struct qi_hash_tree *t);
/* The tree that it was opened on. */
struct qi_hash_tree *qi_hash_tree_below(const struct qi_hash_tree *t);
uint64_t qi_hash_tree_size(const struct qi_hash_tree *t);
struct qi_hash qi_hash_tree_root(const struct qi_hash_tree *t);
/* The hash of the chunk at off; null when it is zero or past the end. */
int qi_hash_tree_hash(struct qi_hash_tree *t, uint64_t off, struct qi_hash *out,
		      struct qi_error *e);
/*
 * Call fn for each of count chunks, from off on, whose hash is not that of the
 * tree; hashes NULL: they are zero. It ends with a failure of fn.
 */
int qi_hash_tree_differing(struct qi_hash_tree *t, uint64_t off, uint64_t count,
			   const struct qi_hash *hashes,
			   int (*fn)(void *arg, uint64_t off,
				     struct qi_error *e),
			   void *arg, struct qi_error *e);
/*
 * All of a disk, or of its start, is read and compared with hashes. Past its
 * end a disk is zero.
 */
struct qi_hash_compare {
	struct qi_hash_tree *tree;
	struct qi_node *node;
	uint64_t size; /* of what is compared, bytes */
	unsigned threads;
	struct qi_rate *rate; /* or NULL */
	struct qi_progress progress;
	/* Where it is not what the hashes say; malloc'd, none adjacent. */
	struct qi_range *ranges;
	size_t count;
	uint64_t bytes; /* in them */
};
int qi_hash_tree_compare(struct qi_hash_compare *c, struct qi_error *e);
/*
 * What the point itself stores, as data or as zero, in whole chunks. To be
 * freed before the tree.
 */
int qi_hash_tree_stored(struct qi_ranges **out, struct qi_hash_tree *t);

struct qi_hash_tree_writer;
/*
 * below: the tree that the point changes, or NULL. It stays the caller's. path
 * NULL: nothing is written, only the root is wanted.
 */
int qi_hash_tree_writer_new(struct qi_hash_tree_writer **out, const char *path,
			    uint64_t size, struct qi_hash_tree *below,
			    struct qi_error *e);
/*
 * What the point stores, in ascending order: hashes of count chunks, NULL:
 * they are zero. Has the form of qi_copy.hashed; arg is the writer.
 */
int qi_hash_tree_writer_add(void *arg, uint64_t off, uint64_t count,
			    const struct qi_hash *hashes, struct qi_error *e);
/* Write the rest and sync; *root is the hash of all of it. */
int qi_hash_tree_writer_finish(struct qi_hash_tree_writer *w,
			       struct qi_hash *root, struct qi_error *e);
void qi_hash_tree_writer_free(struct qi_hash_tree_writer *w);

#endif
