/* SPDX-License-Identifier: MIT */
/* share.c - clusters that several L1 tables reach */
#include <errno.h>

#include "formats/qcow2/qcow2.h"
#include "lib/ranges.h"

int qcow2_l2_read(struct qcow2 *q, be64 l1_entry, be64 *table, bool *exists,
		  struct qi_error *e)
{
	uint64_t off = be64_get(l1_entry) & QCOW2_OFFSET_MASK;

	*exists = off != 0;
	if (!off)
		return 0;
	if (!qi_is_aligned(off, q->cluster_size))
		return qcow2_damaged(q, e,
				     "an L2 table is at %llu, which is "
				     "not aligned",
				     (unsigned long long)off);
	return qi_file_read(q->file, off, q->cluster_size, table, e);
}

/* The refcounts of a range: raised, lowered, or (0) looked at. */
static int count(struct qcow2 *q, uint64_t host, uint64_t len, int delta,
		 struct qi_error *e)
{
	return delta ? qcow2_refcount_add(q, host, len, delta, e) :
		       qcow2_refcount_check(q, host, len, e);
}

bool qcow2_entry_place(const struct qcow2 *q, uint64_t entry, uint64_t *host,
		       uint64_t *len)
{
	*host = entry & QCOW2_OFFSET_MASK;
	*len = q->cluster_size;
	if (entry & QCOW2_COMPRESSED)
		qcow2_packed_place(q, entry, host, len);
	else if (!*host || qcow2_has_data_file(q))
		return false;
	return true;
}

static int share_entry(struct qcow2 *q, uint64_t entry, int delta,
		       struct qi_error *e)
{
	uint64_t host, len;

	return qcow2_entry_place(q, entry, &host, &len) ?
		       count(q, host, len, delta, e) :
		       0;
}

/* The first `limit` references; *done counts them. */
static int share(struct qcow2 *q, const be64 *l1, uint32_t entries, int delta,
		 uint64_t limit, uint64_t *done, struct qi_error *e)
{
	unsigned words = q->l2_entry_size / sizeof(be64);
	QI_AUTOFREE be64 *table = qi_alloc_aligned(q->cluster_size);

	if (!table)
		return qi_no_memory(e);
	for (uint32_t i = 0; i < entries && *done < limit; i++) {
		bool exists;
		int ret = qcow2_l2_read(q, l1[i], table, &exists, e);

		if (!ret && exists)
			ret = count(q, be64_get(l1[i]) & QCOW2_OFFSET_MASK,
				    q->cluster_size, delta, e);
		if (ret)
			return ret;
		if (!exists)
			continue;
		++*done;
		for (uint64_t j = 0; j < 1ull << q->l2_bits && *done < limit;
		     j++) {
			ret = share_entry(q, be64_get(table[j * words]), delta,
					  e);
			if (ret)
				return ret;
			++*done;
		}
	}
	return 0;
}

int qcow2_check_shareable(struct qcow2 *q, const be64 *l1, uint32_t entries,
			  struct qi_error *e)
{
	uint64_t done = 0;

	/* Wide ones hold more than there can be; sharing looks again. */
	if (q->h.refcount_order >= 4)
		return 0;
	return share(q, l1, entries, 0, UINT64_MAX, &done, e);
}

int qcow2_share(struct qcow2 *q, const be64 *l1, uint32_t entries, int delta,
		struct qi_error *e)
{
	uint64_t done = 0, undone = 0;
	int ret = share(q, l1, entries, delta, UINT64_MAX, &done, e);

	if (ret)
		share(q, l1, entries, -delta, done, &undone, NULL);
	return ret;
}

/* ---------------------------------------------------------- copied flags */

/* The entry with the flag that its refcount wants. */
static int flag_for(struct qcow2 *q, uint64_t entry, uint64_t *out,
		    struct qi_error *e)
{
	uint64_t host = entry & QCOW2_OFFSET_MASK, refcount;
	int ret;

	*out = entry;
	if (entry & QCOW2_COMPRESSED || !host)
		return 0;
	ret = qcow2_refcount_get(q, host >> q->h.cluster_bits, &refcount, e);
	if (!ret)
		*out = refcount == 1 ? entry | QCOW2_COPIED :
				       entry & ~QCOW2_COPIED;
	return ret;
}

static int update_table(struct qcow2 *q, uint64_t off, be64 *table,
			struct qi_error *e)
{
	unsigned words = q->l2_entry_size / sizeof(be64);
	bool changed = false;

	if (qcow2_has_data_file(q))
		return 0;
	for (uint64_t j = 0; j < 1ull << q->l2_bits; j++) {
		uint64_t entry = be64_get(table[j * words]), now;
		int ret = flag_for(q, entry, &now, e);

		if (ret)
			return ret;
		if (now == entry)
			continue;
		table[j * words] = be64_put(now);
		changed = true;
	}
	return changed ?
		       qi_file_write(q->file, off, q->cluster_size, table, e) :
		       0;
}

int qcow2_update_copied(struct qcow2 *q, be64 *l1, uint32_t entries,
			bool *changed, struct qi_error *e)
{
	QI_AUTOFREE be64 *table = qi_alloc_aligned(q->cluster_size);
	int ret = table ? 0 : qi_no_memory(e);

	*changed = false;
	for (uint32_t i = 0; i < entries && !ret; i++) {
		uint64_t entry = be64_get(l1[i]), now;
		bool exists;

		ret = qcow2_l2_read(q, l1[i], table, &exists, e);
		if (ret || !exists)
			continue;
		ret = update_table(q, entry & QCOW2_OFFSET_MASK, table, e);
		if (!ret)
			ret = flag_for(q, entry, &now, e);
		if (!ret && now != entry) {
			l1[i] = be64_put(now);
			*changed = true;
		}
	}
	qcow2_cache_forget(q->l2);
	return ret;
}

/* ----------------------------------------------------------- differences */

struct differing {
	struct qi_ranges base;
	struct qcow2 *q;
	const be64 *l1[2];
	uint32_t entries[2];
	uint32_t i;	/* the next L1 index */
	uint64_t j;	/* the next entry of the tables of i - 1 */
	uint64_t count; /* of entries there, 0: none are loaded */
	be64 *table[2];
};

static be64 l1_entry(const struct differing *d, int side, uint32_t i)
{
	return i < d->entries[side] ? d->l1[side][i] : be64_put(0);
}

/* Load the tables of the next L1 index at which the two differ. */
static int next_tables(struct differing *d, struct qi_error *e)
{
	uint32_t end = d->entries[0] > d->entries[1] ? d->entries[0] :
						       d->entries[1];

	while (d->i < end) {
		uint32_t i = d->i++;

		if ((be64_get(l1_entry(d, 0, i)) & QCOW2_OFFSET_MASK) ==
		    (be64_get(l1_entry(d, 1, i)) & QCOW2_OFFSET_MASK))
			continue;
		for (int side = 0; side < 2; side++) {
			bool exists;
			int ret = qcow2_l2_read(d->q, l1_entry(d, side, i),
						d->table[side], &exists, e);

			if (ret)
				return ret;
			if (!exists)
				memset(d->table[side], 0, d->q->cluster_size);
		}
		d->j = 0;
		d->count = 1ull << d->q->l2_bits;
		return 1;
	}
	return 0;
}

static bool is_same(const struct differing *d, uint64_t j)
{
	unsigned words = d->q->l2_entry_size / sizeof(be64);
	const be64 *a = &d->table[0][j * words], *b = &d->table[1][j * words];

	return ((be64_get(a[0]) ^ be64_get(b[0])) & ~QCOW2_COPIED) == 0 &&
	       (words == 1 || be64_get(a[1]) == be64_get(b[1]));
}

static int differing_next(struct qi_ranges *r, struct qi_range *out,
			  struct qi_error *e)
{
	struct differing *d = qi_container_of(r, struct differing, base);
	unsigned bits = d->q->h.cluster_bits;

	for (;;) {
		if (d->j >= d->count) {
			int ret = next_tables(d, e);

			if (ret <= 0)
				return ret;
		}
		while (d->j < d->count && is_same(d, d->j))
			d->j++;
		if (d->j < d->count) {
			uint64_t first = (uint64_t)(d->i - 1) << d->q->l2_bits;

			*out = (struct qi_range){ (first + d->j) << bits,
						  d->q->cluster_size };
			d->j++;
			return 1;
		}
	}
}

static void differing_free(struct qi_ranges *r)
{
	struct differing *d = qi_container_of(r, struct differing, base);

	free(d->table[0]);
	free(d->table[1]);
	free(d);
}

int qcow2_ranges_differing(struct qi_ranges **out, struct qcow2 *q,
			   const be64 *a, uint32_t a_entries, const be64 *b,
			   uint32_t b_entries)
{
	struct differing *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->base = (struct qi_ranges){ .next = differing_next,
				      .free = differing_free };
	d->q = q;
	d->l1[0] = a;
	d->l1[1] = b;
	d->entries[0] = a_entries;
	d->entries[1] = b_entries;
	d->table[0] = qi_alloc_aligned(q->cluster_size);
	d->table[1] = qi_alloc_aligned(q->cluster_size);
	if (!d->table[0] || !d->table[1]) {
		differing_free(&d->base);
		return -ENOMEM;
	}
	*out = &d->base;
	return 0;
}
