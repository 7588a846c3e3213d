/* SPDX-License-Identifier: MIT */
/*
 * hashtree-write.c - writing trees of content hashes
 *
 * What a point stores comes in ascending order. So on each level one node is
 * open, which begins as it is in the tree below; when the next thing is not in
 * there it gets its hash, which its parent takes, and is written. Nobody needs
 * more memory than that, and an entry of the index for each node.
 */
#include <errno.h>

#include "lib/files.h"
#include "lib/hashnode.h"

#define BUFFER 65536u

struct level {
	bool open;
	bool has_parts; /* a node below it was written */
	struct disk_node node;
};

struct qi_hash_tree_writer {
	struct qi_file *file; /* NULL: only the root is wanted */
	struct qi_hash_tree *below;
	uint64_t size, chunks;
	unsigned depth;
	struct level level[TREE_LEVELS];
	uint64_t zero_end; /* chunk up to which zeroes were written */
	struct disk_entry *index;
	uint64_t count;
	uint64_t off; /* of what is in buf */
	size_t used;
	uint8_t buf[BUFFER];
};

static int flush(struct qi_hash_tree_writer *w, struct qi_error *e)
{
	int ret = qi_file_write(w->file, w->off, w->used, w->buf, e);

	w->off += w->used;
	w->used = 0;
	return ret;
}

static int put(struct qi_hash_tree_writer *w, const void *data, size_t len,
	       struct qi_error *e)
{
	while (len) {
		size_t n = (size_t)qi_min(len, BUFFER - w->used);
		int ret = 0;

		memcpy(w->buf + w->used, data, n);
		w->used += n;
		data = (const char *)data + n;
		len -= n;
		if (w->used == BUFFER)
			ret = flush(w, e);
		if (ret)
			return ret;
	}
	return 0;
}

static int write_node(struct qi_hash_tree_writer *w, const struct disk_node *n,
		      struct qi_error *e)
{
	if (!w->file)
		return 0;
	if (qi_is_full(w->count)) {
		struct disk_entry *all =
			realloc(w->index, (2 * w->count + 1) * sizeof(*all));

		if (!all)
			return qi_no_memory(e);
		w->index = all;
	}
	w->index[w->count] = (struct disk_entry){ n->key, be64_put(w->count) };
	w->count++;
	return put(w, n, sizeof(*n), e);
}

/* ---------------------------------------------------------------- levels */

static uint64_t number_of(const struct level *l)
{
	return qi_hash_tree_number(be64_get(l->node.key));
}

static struct qi_hash *child_at(struct level *l, uint64_t number)
{
	return &l->node.child[number & (TREE_FAN - 1)];
}

/* Close the open node of a level, and all below it. */
static int close_level(struct qi_hash_tree_writer *w, unsigned level,
		       struct qi_error *e)
{
	for (unsigned i = 0; i <= level; i++) {
		struct level *l = &w->level[i];
		struct qi_hash hash;
		bool is_kept;
		int ret;

		if (!l->open)
			continue;
		hash = qi_hash_tree_node_hash(&l->node);
		is_kept = !qi_hash_is_null(&hash) || l->has_parts ||
			  be64_get(l->node.stored);
		ret = is_kept ? write_node(w, &l->node, e) : 0;
		if (ret)
			return ret;
		l->open = false;
		if (i + 1 == w->depth)
			continue;
		*child_at(&w->level[i + 1], number_of(l)) = hash;
		w->level[i + 1].has_parts |= is_kept;
	}
	return 0;
}

/* What the tree below has in place of a node. */
static int start_node(struct qi_hash_tree_writer *w, unsigned level,
		      uint64_t number, struct qi_error *e)
{
	struct level *l = &w->level[level];
	uint64_t key = qi_hash_tree_key(level, number);
	struct qi_hash hash;
	int ret = 0;

	*l = (struct level){ .open = true };
	if (w->below && level < w->below->depth) {
		ret = qi_hash_tree_look_up(w->below, level + 1, number, &hash,
					   e);
		if (!ret && !qi_hash_is_null(&hash))
			ret = qi_hash_tree_node(w->below, key, &hash, &l->node,
						e);
	} else if (w->below && level == w->below->depth && !number) {
		l->node.child[0] = w->below->top;
	}
	l->node.key = be64_put(key);
	l->node.stored = be64_put(0);
	return ret;
}

/* Open the node of that level which has the chunk, and all above it. */
static int open_level(struct qi_hash_tree_writer *w, unsigned level,
		      uint64_t chunk, struct qi_error *e)
{
	for (unsigned i = w->depth; i-- > level;) {
		uint64_t number = chunk / qi_hash_tree_span(i + 1);
		int ret;

		if (w->level[i].open && number_of(&w->level[i]) == number)
			continue;
		ret = close_level(w, i, e);
		if (!ret)
			ret = start_node(w, i, number, e);
		if (ret)
			return ret;
	}
	return 0;
}

/* Set child `number` of level, which is stored as a whole, or is cut off. */
static void set_child(struct qi_hash_tree_writer *w, unsigned level,
		      uint64_t number, const struct qi_hash *hash, bool stored)
{
	struct level *l = &w->level[level];
	uint64_t bit = 1ull << (number & (TREE_FAN - 1));

	*child_at(l, number) = hash ? *hash : (struct qi_hash){ { 0 } };
	if (stored)
		l->node.stored = be64_put(be64_get(l->node.stored) | bit);
}

/* Zeroes, by nodes as high as they can be. */
static int add_zeroes(struct qi_hash_tree_writer *w, uint64_t first,
		      uint64_t end, bool stored, struct qi_error *e)
{
	while (first < end) {
		unsigned level = 0;
		int ret;

		while (level + 1 < w->depth &&
		       qi_is_aligned(first, qi_hash_tree_span(level + 1)) &&
		       qi_hash_tree_span(level + 1) <= end - first)
			level++;
		ret = open_level(w, level, first, e);
		/* What is open below is of an earlier child. */
		if (!ret && level)
			ret = close_level(w, level - 1, e);
		if (ret)
			return ret;
		set_child(w, level, first / qi_hash_tree_span(level), NULL,
			  stored);
		first += qi_hash_tree_span(level);
	}
	return 0;
}

/* --------------------------------------------------------------- writing */

int qi_hash_tree_writer_new(struct qi_hash_tree_writer **out, const char *path,
			    uint64_t size, struct qi_hash_tree *below,
			    struct qi_error *e)
{
	struct qi_hash_tree_writer *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return qi_no_memory(e);
	w->below = below;
	w->size = size;
	w->chunks = qi_div_up(size, QI_HASH_UNIT);
	w->depth = qi_hash_tree_depth(w->chunks);
	w->off = sizeof(struct disk_head);
	ret = path ? qi_file_create(&w->file, path, e) : 0;
	/* In a tree with more levels the old top is one of its nodes. */
	if (!ret && below && below->depth < w->depth)
		ret = open_level(w, below->depth, 0, e);
	if (ret) {
		qi_hash_tree_writer_free(w);
		return ret;
	}
	*out = w;
	return 0;
}

int qi_hash_tree_writer_add(void *arg, uint64_t off, uint64_t count,
			    const struct qi_hash *hashes, struct qi_error *e)
{
	struct qi_hash_tree_writer *w = arg;
	uint64_t first = off / QI_HASH_UNIT;
	uint64_t end = first + count;

	/* The rest of a whole node may be past the end of the disk. */
	if (!hashes && end == w->chunks)
		end = qi_hash_tree_span(w->depth);
	if (!hashes) {
		w->zero_end = end;
		return add_zeroes(w, first, end, true, e);
	}
	for (uint64_t i = 0; i < count; i++) {
		int ret = open_level(w, 0, first + i, e);

		if (ret)
			return ret;
		set_child(w, 0, first + i, &hashes[i], true);
	}
	return 0;
}

static int by_key(const void *a, const void *b)
{
	uint64_t x = be64_get(((const struct disk_entry *)a)->key);
	uint64_t y = be64_get(((const struct disk_entry *)b)->key);

	return (x > y) - (x < y);
}

/* Chunks that the disk below had past the end of this one. */
static int cut_off(struct qi_hash_tree_writer *w, struct qi_error *e)
{
	if (!w->below || w->below->chunks <= w->chunks)
		return 0;
	return add_zeroes(w, qi_max(w->chunks, w->zero_end),
			  qi_hash_tree_span(w->depth), false, e);
}

static int write_head(struct qi_hash_tree_writer *w, const struct qi_hash *top,
		      const struct qi_hash *root, struct qi_error *e)
{
	struct disk_head h = { .version = be32_put(TREE_VERSION),
			       .unit = be32_put(QI_HASH_UNIT),
			       .disk_size = be64_put(w->size),
			       .nodes = be64_put(w->count),
			       .top = *top,
			       .root = *root };

	memcpy(h.magic, TREE_MAGIC, sizeof(h.magic));
	return qi_file_write(w->file, 0, sizeof(h), &h, e);
}

static int write_rest(struct qi_hash_tree_writer *w, const struct qi_hash *top,
		      const struct qi_hash *root, struct qi_error *e)
{
	int ret;

	if (w->count)
		qsort(w->index, w->count, sizeof(*w->index), by_key);
	for (uint64_t i = 1; i < w->count; i++)
		if (!by_key(&w->index[i - 1], &w->index[i]))
			return qi_fail(e, EIO,
				       "the hashes '%s' were written out of "
				       "order",
				       w->file->path);
	ret = put(w, w->index, w->count * sizeof(*w->index), e);
	if (!ret)
		ret = flush(w, e);
	if (!ret)
		ret = write_head(w, top, root, e);
	return ret ? ret : qi_file_sync(w->file, e);
}

int qi_hash_tree_writer_finish(struct qi_hash_tree_writer *w,
			       struct qi_hash *root, struct qi_error *e)
{
	/* The top is opened at least: nothing may have changed. */
	int ret = cut_off(w, e);
	struct qi_hash top;

	if (!ret)
		ret = open_level(w, w->depth - 1, 0, e);
	if (!ret)
		ret = close_level(w, w->depth - 1, e);
	if (ret)
		return ret;
	top = qi_hash_tree_node_hash(&w->level[w->depth - 1].node);
	*root = qi_hash_tree_root_hash(w->size, &top);
	return w->file ? write_rest(w, &top, root, e) : 0;
}

void qi_hash_tree_writer_free(struct qi_hash_tree_writer *w)
{
	if (!w)
		return;
	if (w->file)
		qi_file_close(w->file, NULL);
	free(w->index);
	free(w);
}
