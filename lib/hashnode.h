/* SPDX-License-Identifier: MIT */
/*
 * hashnode.h - files of trees of hashes, for what reads and writes them
 *
 * A head, nodes in any order, an index of them in the order of their keys. A
 * node of level 0 has the hashes of chunks; it is number N of its level when
 * its first one is that of chunk N * 64. All integers are big endian.
 */
#ifndef QI_HASHNODE_H
#define QI_HASHNODE_H

#include "lib/hashtree.h"

#define TREE_MAGIC "qimghash"
#define TREE_VERSION 2u
#define TREE_BITS 6u
#define TREE_FAN (1u << TREE_BITS)
#define TREE_LEVELS 8u /* enough for 2^63 bytes */

struct disk_head {
	char magic[8];
	be32 version;
	be32 unit;
	be64 disk_size;
	be64 nodes;
	struct qi_hash top, root;
};
_Static_assert(sizeof(struct disk_head) == 64, "head of a tree of hashes");

struct disk_node {
	be64 key;    /* level in the highest 8 bits, number */
	be64 stored; /* bit N: all below child N is stored by this point */
	struct qi_hash child[TREE_FAN];
};
_Static_assert(sizeof(struct disk_node) == 1040, "node of a tree of hashes");

struct disk_entry {
	be64 key;
	be64 record; /* which node of the file */
};
_Static_assert(sizeof(struct disk_entry) == 16, "index of a tree of hashes");

struct qi_hash_tree {
	struct qi_file *file;
	struct qi_hash_tree *below;
	uint64_t size, chunks;
	unsigned depth; /* levels */
	struct qi_hash top;
	struct disk_entry *index;
	uint64_t count; /* nodes in the file */
	struct cached {
		bool valid;
		struct disk_node node;
	} cache[TREE_LEVELS]; /* the last one used of each level */
};

/* Chunks below a child of level, which is a chunk for 0. */
static inline uint64_t qi_hash_tree_span(unsigned level)
{
	return 1ull << TREE_BITS * level;
}

static inline uint64_t qi_hash_tree_key(unsigned level, uint64_t number)
{
	return level * (1ull << 56) | number;
}

static inline unsigned qi_hash_tree_level(uint64_t key)
{
	return (unsigned)(key >> 56);
}

static inline uint64_t qi_hash_tree_number(uint64_t key)
{
	return key & ((1ull << 56) - 1);
}

/* Levels of a disk of so many chunks; at least one. */
unsigned qi_hash_tree_depth(uint64_t chunks);
struct qi_hash qi_hash_tree_node_hash(const struct disk_node *n);
struct qi_hash qi_hash_tree_root_hash(uint64_t size, const struct qi_hash *top);
/* The node of the tree that has this hash. */
int qi_hash_tree_node(struct qi_hash_tree *t, uint64_t key,
		      const struct qi_hash *want, struct disk_node *out,
		      struct qi_error *e);
/*
 * The hash of a node of level - 1, or of a chunk (level 0), by its number; it
 * is null where nothing is. level is not above the depth.
 */
int qi_hash_tree_look_up(struct qi_hash_tree *t, unsigned level,
			 uint64_t number, struct qi_hash *out,
			 struct qi_error *e);

#endif
