/* SPDX-License-Identifier: MIT */
/*
 * check-compare.c - references found against refcounts on disk
 *
 * Nearly always all is as it should be: 64 clusters are then compared at
 * once. Refcounts and copied flags are corrected in place. Each write takes
 * true values to where wrong ones are, so that an end in between leaves
 * fewer of those; flags follow refcounts that are durable.
 */
#include <errno.h>

#include "formats/qcow2/check.h"

/* log2 of the refcounts in one block. */
static unsigned block_bits(const struct qcow2 *q)
{
	return q->h.cluster_bits + 3 - q->h.refcount_order;
}

static uint64_t block_at(const struct qcow2_checker *c, uint64_t i)
{
	return i < c->entries ? be64_get(c->reftable[i]) & ~511ull : 0;
}

static bool is_readable(const struct qcow2 *q, uint64_t block)
{
	return qi_is_aligned(block, q->cluster_size) &&
	       block <= (uint64_t)INT64_MAX - q->cluster_size;
}

/* One refcount of the disk, wherever it is. */
static uint64_t stored_refcount(const struct qcow2_checker *c, uint64_t cluster)
{
	unsigned order = c->q->h.refcount_order;
	uint64_t block = block_at(c, cluster >> block_bits(c->q));
	uint64_t in = cluster & ((1ull << block_bits(c->q)) - 1);
	uint64_t bit = in << order;
	uint8_t part[16] = { 0 };

	if (!block || !is_readable(c->q, block) ||
	    qi_file_read_some(c->q->file, block + bit / 64 * 8, sizeof(part),
			      part, NULL) < 0)
		return 0;
	return qcow2_refcount_load(part, (bit % 64) >> order, order);
}

/* --------------------------------------------------------------- blocks */

static void report_block(struct qcow2_checker *c, uint64_t i,
			 const char *problem)
{
	c->out->corruptions++;
	qcow2_check_say(c, "ERROR refcount block %llu %s",
			(unsigned long long)i, problem);
}

static void block_problem(struct qcow2_checker *c, uint64_t i,
			  const char *problem)
{
	c->needs_rebuild = true;
	report_block(c, i, problem);
}

/* Blocks are counted last: nothing else may refer to them. */
static void count_blocks(struct qcow2_checker *c)
{
	const struct qcow2 *q = c->q;
	unsigned bits = q->h.cluster_bits;
	uint64_t clusters = qcow2_clusters(q, q->file->size);

	for (uint64_t i = 0; i < c->entries; i++) {
		uint64_t entry = be64_get(c->reftable[i]);
		uint64_t block = (entry & ~511ull) >> bits;
		bool is_here = block >= c->first && block < c->end;

		if (!entry || (!is_here && !c->is_first))
			continue;
		if (entry & 511 || !qi_is_aligned(entry, q->cluster_size)) {
			if (c->is_first)
				block_problem(c, i,
					      entry & 511 ?
						      "has reserved bits set" :
						      "is not aligned");
		} else if (block >= clusters) {
			if (!c->is_first)
				continue;
			c->block_outside = true;
			report_block(c, i, "is outside image");
		} else if (is_here) {
			c->needs_rebuild |= qcow2_check_found(c, block) > 0;
			qcow2_check_add(c, block, block + 1);
			if (qcow2_check_found(c, block) != 1)
				block_problem(c, i, "is used twice");
		}
	}
}

/* -------------------------------------------------------------- compare */

static void report(struct qcow2_checker *c, uint64_t cluster, uint64_t stored,
		   uint64_t found, bool is_fixed)
{
	c->refcounts_wrong = true;
	if (stored < found) {
		c->out->corruptions += !is_fixed;
		c->refcount_zero |= !stored;
	} else {
		c->out->leaks += !is_fixed;
		c->last_used = qi_max(c->last_used, cluster);
	}
	qcow2_check_say(c, "%s cluster %llu refcount=%llu reference=%llu",
			is_fixed       ? "Repairing" :
			stored < found ? "ERROR" :
					 "Leaked",
			(unsigned long long)cluster, (unsigned long long)stored,
			(unsigned long long)found);
}

/* The cluster after the last counts only when something reaches into it. */
static bool is_outside(const struct qcow2_checker *c, uint64_t cluster)
{
	return cluster == c->total - 1 && !qcow2_check_found(c, cluster);
}

/* One by one, [from, to); block NULL: there is none. True: block changed. */
static bool compare_slowly(struct qcow2_checker *c, uint8_t *block,
			   uint64_t base, uint64_t from, uint64_t to,
			   enum qcow2_fix fix)
{
	unsigned order = c->q->h.refcount_order;
	bool changed = false;

	for (uint64_t i = from; i < to; i++) {
		uint64_t found = qcow2_check_found(c, i), stored = 0;
		bool may_fix;

		if (block)
			stored = qcow2_refcount_load(block, i - base, order);
		if (stored != found && !is_outside(c, i)) {
			may_fix = block &&
				  (fix == QCOW2_FIX_ALL ||
				   (fix == QCOW2_FIX_LEAKS && stored > found));
			report(c, i, stored, found, may_fix);
			if (!block)
				c->needs_rebuild = true;
			if (may_fix) {
				qcow2_refcount_store(block, i - base, order,
						     found);
				stored = found;
				changed = true;
			}
		}
		if (stored == 1)
			c->is_one[(i - c->first) / 64] |=
				1ull << (i - c->first) % 64;
	}
	return changed;
}

/* Eight bytes of a block in which all refcounts are `count`. */
static uint64_t pattern_of(const struct qcow2 *q, uint64_t count)
{
	unsigned order = q->h.refcount_order;
	uint64_t word = 0;

	for (unsigned i = 0; i < 64u >> order; i++)
		qcow2_refcount_store((uint8_t *)&word, i, order, count);
	return word;
}

/* Are 64 refcounts, `words` times eight bytes, this pattern? */
static bool is_pattern(const uint8_t *stored, unsigned words, uint64_t pattern)
{
	uint64_t different = 0, word;

	for (unsigned i = 0; i < words; i++) {
		memcpy(&word, stored + i * sizeof(word), sizeof(word));
		different |= word ^ pattern;
	}
	return !different;
}

static bool compare_block(struct qcow2_checker *c, uint8_t *block,
			  uint64_t base, uint64_t from, uint64_t to,
			  enum qcow2_fix fix)
{
	unsigned words = 1u << c->q->h.refcount_order;
	uint64_t pattern = 0, pattern_count = 0, count;
	bool changed = false;

	for (uint64_t i = from; i < to; i += 64) {
		uint64_t n = qi_min(64, to - i), at = (i - c->first) / 64;
		const uint8_t *stored = block + (i - base) / 64 * words * 8;

		if (n == 64 && qcow2_counts_agree(&c->counts, at, &count)) {
			if (count != pattern_count)
				pattern = pattern_of(c->q, count);
			pattern_count = count;
			if (is_pattern(stored, words, pattern)) {
				c->is_one[at] = count == 1 ? ~0ull : 0;
				continue;
			}
		}
		changed |= compare_slowly(c, block, base, i, i + n, fix);
	}
	return changed;
}

/* Refcounts that cannot be read: nobody can say what they are. */
static void unreadable(struct qcow2_checker *c, uint64_t i, uint64_t from,
		       uint64_t to)
{
	uint64_t clusters = qcow2_clusters(c->q, c->q->file->size);

	if (from < clusters)
		c->out->errors += qi_min(to, clusters) - from;
	c->refcounts_wrong = c->needs_rebuild = c->refcount_zero = true;
	qcow2_check_say(c, "ERROR refcount block %llu cannot be read",
			(unsigned long long)i);
}

static int compare_range(struct qcow2_checker *c, uint64_t i,
			 enum qcow2_fix fix, struct qi_error *e)
{
	struct qcow2 *q = c->q;
	uint64_t base = i << block_bits(q), block = block_at(c, i);
	uint64_t from = qi_max(base, c->first);
	uint64_t to = qi_min(base + (1ull << block_bits(q)), c->end);
	ssize_t n;

	if (!block) {
		/* Without a block nothing may be in use. */
		if (qcow2_check_is_used(c, from, to))
			compare_slowly(c, NULL, base, from, to, fix);
		return 0;
	}
	if (!is_readable(q, block)) {
		unreadable(c, i, from, to);
		return 0;
	}
	n = qi_file_read_some(q->file, block, q->cluster_size, c->table, e);
	if (n < 0)
		return (int)n;
	if (!compare_block(c, c->table, base, from, to, fix))
		return 0;
	return qi_file_write(q->file, block, q->cluster_size, c->table, e);
}

/* Note what else was asked for of the window. */
static int look_for_clashes(struct qcow2_checker *c, struct qi_error *e)
{
	struct qcow2_clashes *l = &c->clashes;
	unsigned bits = c->q->h.cluster_bits;
	uint64_t i = c->q->h.l1_offset >> bits;
	uint64_t l1_end =
		i + qcow2_clusters(c->q, (uint64_t)c->q->h.l1_size * 8);

	for (i = qi_max(i, c->first); i < qi_min(l1_end, c->end); i++)
		c->l1_is_shared |= qcow2_check_found(c, i) > 1;
	for (i = 0; i < c->end - c->first; i++) {
		if (!(c->tables[i / 64] & c->others[i / 64])) {
			i |= 63;
			continue;
		}
		if (!(c->tables[i / 64] & c->others[i / 64] & 1ull << i % 64))
			continue;
		if (l->count == l->room) {
			size_t room = l->room ? 2 * l->room : 64;
			uint64_t *more =
				realloc(l->cluster, room * sizeof(*more));

			if (!more)
				return qi_no_memory(e);
			l->cluster = more;
			l->room = room;
		}
		l->cluster[l->count++] = c->first + i;
	}
	return 0;
}

int qcow2_check_compare(struct qcow2_checker *c, enum qcow2_fix fix,
			struct qi_error *e)
{
	unsigned bits = block_bits(c->q);
	size_t words = (size_t)(c->end - c->first + 63) / 64;

	int ret = 0;

	count_blocks(c);
	if (c->tables)
		ret = look_for_clashes(c, e);
	for (uint64_t i = c->first >> bits; i <= (c->end - 1) >> bits; i++) {
		if (!ret)
			ret = qi_interrupted(e);
		if (!ret)
			ret = compare_range(c, i, fix, e);
		if (ret)
			return ret;
	}
	for (size_t i = 0; i < words; i++)
		if ((c->owned[i] & ~c->is_one[i]) |
		    (c->shared[i] & c->is_one[i]))
			c->is_suspect = true;
	return 0;
}

/* --------------------------------------------------------- copied flags */

struct flags {
	struct qcow2_checker *c;
	bool fix, shared; /* correct them; in tables used twice, too */
	uint64_t fixed;
};

/* Is the flag of an entry that points at `off` wrong? */
static bool is_wrong(const struct qcow2_checker *c, uint64_t entry,
		     uint64_t off)
{
	uint64_t cluster = off >> c->q->h.cluster_bits;
	uint64_t block = block_at(c, cluster >> block_bits(c->q));
	bool is_one;

	if (block && !is_readable(c->q, block))
		return false;
	if (cluster >= c->total && c->is_first)
		is_one = stored_refcount(c, cluster) == 1;
	else if (cluster >= c->first && cluster < c->end)
		is_one = c->is_one[(cluster - c->first) / 64] >>
				 (cluster - c->first) % 64 &
			 1;
	else
		return false;
	return is_one != !!(entry & QCOW2_COPIED);
}

/* True: *entry was corrected. */
static bool check_flag(struct flags *f, const char *what, be64 *at,
		       bool can_fix)
{
	struct qcow2_checker *c = f->c;
	uint64_t entry = be64_get(*at), off = entry & QCOW2_OFFSET_MASK;

	if (!is_wrong(c, entry, off))
		return false;
	qcow2_check_say(c, "%s OFLAG_COPIED %s cluster: %s=%llx refcount=%llu",
			can_fix ? "Repairing" : "ERROR", what,
			strcmp(what, "data") ? "l1_entry" : "l2_entry",
			(unsigned long long)entry,
			(unsigned long long)stored_refcount(
				c, off >> c->q->h.cluster_bits));
	if (!can_fix) {
		c->copied++;
		c->out->corruptions++;
		return false;
	}
	*at = be64_put(entry ^ QCOW2_COPIED);
	f->fixed++;
	return true;
}

static int check_l2_flags(struct flags *f, uint64_t table, struct qi_error *e)
{
	struct qcow2_checker *c = f->c;
	struct qcow2 *q = c->q;
	unsigned words = q->l2_entry_size / sizeof(be64);
	be64 *entries = (be64 *)(void *)c->table;
	bool can_fix, changed = false;
	ssize_t n;

	if (qcow2_has_data_file(q) || table >= q->file->size)
		return 0;
	can_fix = f->fix &&
		  (f->shared ||
		   stored_refcount(c, table >> q->h.cluster_bits) == 1);
	n = qi_file_read_some(q->file, table, q->cluster_size, c->table, e);
	if (n < 0)
		return (int)n;
	for (uint64_t i = 0; i < 1ull << q->l2_bits; i++) {
		uint64_t entry = be64_get(entries[i * words]);

		if (!(entry & QCOW2_COMPRESSED) && entry & QCOW2_OFFSET_MASK)
			changed |= check_flag(f, "data", &entries[i * words],
					      can_fix);
	}
	return changed ? qi_file_write(q->file, table, q->cluster_size,
				       c->table, e) :
			 0;
}

static int walk_flags(struct flags *f, struct qi_error *e)
{
	struct qcow2_checker *c = f->c;
	struct qcow2 *q = c->q;

	for (uint64_t i = 0; i < q->h.l1_size; i++) {
		be64 *entry = &c->piece[i % QCOW2_PIECE];
		int ret = qi_interrupted(e);

		if (!ret && i % QCOW2_PIECE == 0)
			ret = qcow2_check_piece(c, q->h.l1_offset, i,
						q->h.l1_size, e);
		if (!ret && be64_get(*entry) & QCOW2_OFFSET_MASK) {
			bool changed = check_flag(f, "L2", entry, f->fix);

			ret = check_l2_flags(
				f, be64_get(*entry) & QCOW2_OFFSET_MASK, e);
			if (!ret && changed)
				ret = qi_file_write(q->file,
						    q->h.l1_offset +
							    i * sizeof(*entry),
						    sizeof(*entry), entry, e);
		}
		if (ret)
			return ret;
	}
	return 0;
}

int qcow2_check_copied(struct qcow2_checker *c, struct qi_error *e)
{
	struct flags f = { .c = c };

	return walk_flags(&f, e);
}

int qcow2_fix_copied(struct qcow2_checker *c, bool shared, uint64_t *fixed,
		     struct qi_error *e)
{
	struct flags f = { .c = c, .fix = true, .shared = shared };
	int ret = walk_flags(&f, e);

	*fixed += f.fixed;
	return ret;
}
