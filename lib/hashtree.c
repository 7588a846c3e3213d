/* SPDX-License-Identifier: MIT */
/* hashtree.c - reading trees of content hashes */
#include <errno.h>

#include "lib/hashnode.h"
#include "lib/ranges.h"

unsigned qi_hash_tree_depth(uint64_t chunks)
{
	unsigned depth = 1;

	while (qi_hash_tree_span(depth) < chunks)
		depth++;
	return depth;
}

struct qi_hash qi_hash_tree_node_hash(const struct disk_node *n)
{
	return qi_hash_of_content(n->child, sizeof(n->child));
}

struct qi_hash qi_hash_tree_root_hash(uint64_t size, const struct qi_hash *top)
{
	struct {
		be64 size;
		struct qi_hash top;
	} both = { be64_put(size), *top };

	return qi_hash_of(&both, sizeof(both));
}

/* --------------------------------------------------------------- opening */

static int damaged(const struct qi_hash_tree *t, const char *why,
		   struct qi_error *e)
{
	return qi_fail(e, EUCLEAN, "the hashes '%s' are damaged: %s",
		       t->file->path, why);
}

/* Nodes that there can be on a level. */
static uint64_t level_nodes(const struct qi_hash_tree *t, unsigned level)
{
	return qi_div_up(t->chunks, qi_hash_tree_span(level + 1));
}

static int check_index(const struct qi_hash_tree *t, struct qi_error *e)
{
	for (uint64_t i = 0; i < t->count; i++) {
		uint64_t key = be64_get(t->index[i].key);
		unsigned level = qi_hash_tree_level(key);

		if (i && key <= be64_get(t->index[i - 1].key))
			return damaged(t, "its index is not in order", e);
		if (level >= t->depth ||
		    qi_hash_tree_number(key) >=
			    qi_max(level_nodes(t, level), 1) ||
		    be64_get(t->index[i].record) >= t->count)
			return damaged(t, "its index is out of range", e);
	}
	return 0;
}

static int read_head(struct qi_hash_tree *t, struct qi_error *e)
{
	const uint64_t each = sizeof(struct disk_node) + sizeof(*t->index);
	struct disk_head h;
	struct qi_hash root;
	int ret;

	if (t->file->size < sizeof(h))
		return damaged(t, "it is truncated", e);
	ret = qi_file_read(t->file, 0, sizeof(h), &h, e);
	if (ret)
		return ret;
	if (memcmp(h.magic, TREE_MAGIC, sizeof(h.magic)) ||
	    be32_get(h.version) != TREE_VERSION ||
	    be32_get(h.unit) != QI_HASH_UNIT)
		return qi_fail(e, EUCLEAN,
			       "'%s' is no tree of hashes that this version "
			       "knows",
			       t->file->path);
	t->size = be64_get(h.disk_size);
	t->count = be64_get(h.nodes);
	t->top = h.top;
	root = qi_hash_tree_root_hash(t->size, &t->top);
	if (t->size > INT64_MAX || !qi_hash_equal(&root, &h.root))
		return damaged(t, "its head does not fit its root", e);
	t->chunks = qi_div_up(t->size, QI_HASH_UNIT);
	t->depth = qi_hash_tree_depth(t->chunks);
	if (t->count != (t->file->size - sizeof(h)) / each ||
	    (t->file->size - sizeof(h)) % each)
		return damaged(t, "it has another length", e);
	return 0;
}

static int read_index(struct qi_hash_tree *t, struct qi_error *e)
{
	size_t bytes = (size_t)t->count * sizeof(*t->index);
	int ret;

	t->index = malloc(bytes + 1);
	if (!t->index)
		return qi_no_memory(e);
	ret = qi_file_read(t->file,
			   sizeof(struct disk_head) +
				   t->count * sizeof(struct disk_node),
			   bytes, t->index, e);
	return ret ? ret : check_index(t, e);
}

int qi_hash_tree_open(struct qi_hash_tree **out, const char *path,
		      struct qi_hash_tree *below, struct qi_error *e)
{
	struct qi_hash_tree *t = calloc(1, sizeof(*t));
	int ret;

	if (!t) {
		qi_hash_tree_free(below);
		return qi_no_memory(e);
	}
	t->below = below;
	ret = qi_file_open(&t->file, path, false, e);
	if (!ret)
		ret = read_head(t, e);
	if (!ret)
		ret = read_index(t, e);
	if (ret) {
		qi_hash_tree_free(t);
		return ret;
	}
	*out = t;
	return 0;
}

void qi_hash_tree_free(struct qi_hash_tree *t)
{
	while (t) {
		struct qi_hash_tree *below = t->below;

		if (t->file)
			qi_file_close(t->file, NULL);
		free(t->index);
		free(t);
		t = below;
	}
}

struct qi_hash_tree *qi_hash_tree_below(const struct qi_hash_tree *t)
{
	return t->below;
}

uint64_t qi_hash_tree_size(const struct qi_hash_tree *t)
{
	return t->size;
}

struct qi_hash qi_hash_tree_root(const struct qi_hash_tree *t)
{
	return qi_hash_tree_root_hash(t->size, &t->top);
}

/* ----------------------------------------------------------------- nodes */

static int by_key(const void *key, const void *entry)
{
	uint64_t a = *(const uint64_t *)key;
	uint64_t b = be64_get(((const struct disk_entry *)entry)->key);

	return (a > b) - (a < b);
}

/* 1 and the node that this file has, or 0. */
static int own_node(struct qi_hash_tree *t, uint64_t key, struct disk_node *out,
		    struct qi_error *e)
{
	const struct disk_entry *found = NULL;
	int ret;

	if (t->count)
		found = bsearch(&key, t->index, t->count, sizeof(*t->index),
				by_key);
	if (!found)
		return 0;
	ret = qi_file_read(t->file,
			   sizeof(struct disk_head) +
				   be64_get(found->record) * sizeof(*out),
			   sizeof(*out), out, e);
	if (ret)
		return ret;
	if (be64_get(out->key) != key)
		return damaged(t, "a node is not where its index has it", e);
	return 1;
}

int qi_hash_tree_node(struct qi_hash_tree *t, uint64_t key,
		      const struct qi_hash *want, struct disk_node *out,
		      struct qi_error *e)
{
	struct qi_hash_tree *s = t;
	struct qi_hash is;
	int ret = 0;

	/* Whoever changes a node has it: the newest one is that of the tree. */
	while (s && !ret) {
		ret = own_node(s, key, out, e);
		if (!ret)
			s = s->below;
	}
	if (ret < 0)
		return ret;
	if (!s)
		return damaged(t, "a node is missing", e);
	is = qi_hash_tree_node_hash(out);
	return qi_hash_equal(&is, want) ? 0 :
					  damaged(s, "a node was changed", e);
}

int qi_hash_tree_look_up(struct qi_hash_tree *t, unsigned level,
			 uint64_t number, struct qi_hash *out,
			 struct qi_error *e)
{
	const struct qi_hash null = { { 0 } };

	*out = number >> TREE_BITS * (t->depth - level) ? null : t->top;
	for (unsigned l = t->depth; l-- > level;) {
		uint64_t at = number >> TREE_BITS * (l + 1 - level);
		struct cached *c = &t->cache[l];
		int ret = 0;

		if (qi_hash_is_null(out))
			return 0;
		if (!c->valid ||
		    be64_get(c->node.key) != qi_hash_tree_key(l, at)) {
			c->valid = false;
			ret = qi_hash_tree_node(t, qi_hash_tree_key(l, at), out,
						&c->node, e);
		}
		if (ret)
			return ret;
		c->valid = true;
		*out = c->node.child[number >> TREE_BITS * (l - level) &
				     (TREE_FAN - 1)];
	}
	return 0;
}

int qi_hash_tree_hash(struct qi_hash_tree *t, uint64_t off, struct qi_hash *out,
		      struct qi_error *e)
{
	uint64_t chunk = off / QI_HASH_UNIT;

	if (chunk < t->chunks)
		return qi_hash_tree_look_up(t, 0, chunk, out, e);
	*out = (struct qi_hash){ { 0 } };
	return 0;
}

int qi_hash_tree_differing(struct qi_hash_tree *t, uint64_t off, uint64_t count,
			   const struct qi_hash *hashes,
			   int (*fn)(void *arg, uint64_t off,
				     struct qi_error *e),
			   void *arg, struct qi_error *e)
{
	const struct qi_hash null = { { 0 } };
	int ret = 0;

	for (uint64_t i = 0; i < count && !ret; i++, off += QI_HASH_UNIT) {
		struct qi_hash has;

		ret = qi_hash_tree_hash(t, off, &has, e);
		if (!ret && !qi_hash_equal(&has, hashes ? &hashes[i] : &null))
			ret = fn(arg, off, e);
	}
	return ret;
}

/* ---------------------------------------------------------------- stored */

/*
 * 1 and the next chunks from `from` on that this file marks in a node, one of
 * level l that covers `from`; 0 when it marks no more in there.
 */
static int next_in(struct qi_hash_tree *t, unsigned level, uint64_t from,
		   uint64_t *first, uint64_t *count, struct qi_error *e)
{
	const uint64_t span = qi_hash_tree_span(level);
	struct disk_node n;
	uint64_t start, stored;
	int ret = own_node(
		t, qi_hash_tree_key(level, from / qi_hash_tree_span(level + 1)),
		&n, e);

	if (ret <= 0)
		return ret;
	start = qi_round_down(from, qi_hash_tree_span(level + 1));
	stored = be64_get(n.stored);
	for (unsigned i = (unsigned)((from - start) / span); i < TREE_FAN;
	     i++) {
		uint64_t at = qi_max(from, start + i * span);
		unsigned end = i;

		while (end < TREE_FAN && stored >> end & 1)
			end++;
		if (end > i) {
			*first = at;
			*count = start + end * span - at;
			return 1;
		}
		ret = level ? next_in(t, level - 1, at, first, count, e) : 0;
		if (ret)
			return ret;
	}
	return 0;
}

struct stored {
	struct qi_ranges base;
	struct qi_hash_tree *tree;
	uint64_t chunk;
};

static int stored_next(struct qi_ranges *r, struct qi_range *out,
		       struct qi_error *e)
{
	struct stored *s = qi_container_of(r, struct stored, base);
	const struct qi_hash_tree *t = s->tree;
	uint64_t first, count;
	int ret;

	if (s->chunk >= t->chunks)
		return 0;
	ret = next_in(s->tree, t->depth - 1, s->chunk, &first, &count, e);
	if (ret < 0)
		return ret;
	if (!ret || first >= t->chunks) {
		s->chunk = t->chunks;
		return 0;
	}
	s->chunk = first + count;
	out->off = first * QI_HASH_UNIT;
	out->len = qi_min(count * QI_HASH_UNIT, t->size - out->off);
	return 1;
}

static void stored_free(struct qi_ranges *r)
{
	free(qi_container_of(r, struct stored, base));
}

int qi_hash_tree_stored(struct qi_ranges **out, struct qi_hash_tree *t)
{
	struct stored *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->base.next = stored_next;
	s->base.free = stored_free;
	s->tree = t;
	*out = &s->base;
	return 0;
}
