/* SPDX-License-Identifier: MIT */
/* l2.c - from guest offsets to host offsets */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

/* Table entries looked at in one call, so that no call takes long. */
#define MAP_BUDGET 65536

int qcow2_l1_read(struct qcow2 *q, uint64_t off, uint32_t entries, be64 **out,
		  struct qi_error *e)
{
	size_t bytes = (size_t)entries * sizeof(be64);
	be64 *l1 = malloc(bytes + 1);
	int ret;

	if (!l1)
		return qi_no_memory(e);
	ret = qi_file_read(q->file, off, bytes, l1, e);
	if (ret) {
		free(l1);
		return ret;
	}
	*out = l1;
	return 0;
}

int qcow2_l1_load(struct qcow2 *q, struct qi_error *e)
{
	if (q->l1)
		return 0;
	return qcow2_l1_read(q, q->h.l1_offset, q->h.l1_size, &q->l1, e);
}

void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *host,
			uint64_t *len)
{
	unsigned x = 62 - (q->h.cluster_bits - 8);
	uint64_t sectors = (entry & ~(QCOW2_COPIED | QCOW2_COMPRESSED)) >> x;

	*host = entry & ((1ull << x) - 1);
	*len = (sectors + 1) * 512 - (*host & 511);
}

/* ------------------------------------------------- building extent lists */

struct list {
	struct qi_extent *out;
	unsigned count, max;
	uint64_t start, end; /* of what was asked for */
};

/* Add what lies in [start, end) of a run; false when the list is full. */
static bool add_run(struct list *l, uint64_t off, uint64_t len,
		    uint64_t host_off, unsigned flags)
{
	struct qi_extent *last = l->count ? &l->out[l->count - 1] : NULL;
	uint64_t skip = l->start > off ? l->start - off : 0;

	if (off >= l->end)
		return false;
	if (skip >= len)
		return true;
	off += skip;
	len -= skip;
	if (host_off != QI_NO_OFFSET)
		host_off += skip;
	len = qi_min(len, l->end - off);
	if (last && last->flags == flags &&
	    (host_off == QI_NO_OFFSET ?
		     last->host_off == QI_NO_OFFSET :
		     last->host_off + last->len == host_off)) {
		last->len += len;
		return true;
	}
	if (l->count == l->max)
		return false;
	l->out[l->count++] = (struct qi_extent){
		.off = off, .len = len, .host_off = host_off, .flags = flags
	};
	return true;
}

/* ------------------------------------------------- entries of L2 tables */

static int bad_entry(struct qcow2 *q, uint64_t off, uint64_t host,
		     const char *why, struct qi_error *e)
{
	return qcow2_damaged(q, e,
			     "the cluster of guest offset %llu is mapped "
			     "to %llu, which is %s",
			     (unsigned long long)off, (unsigned long long)host,
			     why);
}

static int check_host(struct qcow2 *q, uint64_t off, uint64_t host,
		      struct qi_error *e)
{
	if (!qi_is_aligned(host, q->cluster_size))
		return bad_entry(q, off, host, "not aligned", e);
	if (qcow2_has_data_file(q))
		return host == qi_round_down(off, q->cluster_size) ?
			       0 :
			       bad_entry(q, off, host,
					 "not its place in the data file", e);
	if (host >= q->file->size)
		return bad_entry(q, off, host,
				 "not in the file; is it "
				 "truncated?",
				 e);
	return 0;
}

/*
 * The 32 subclusters of one extended entry. Those that are not allocated keep
 * the place that they would have in the cluster.
 */
static bool add_subclusters(struct qcow2 *q, struct list *l, uint64_t off,
			    uint64_t host, uint64_t bits)
{
	uint64_t sub = q->cluster_size / QCOW2_SUBCLUSTERS;

	for (unsigned i = 0; i < QCOW2_SUBCLUSTERS; i++, off += sub) {
		uint64_t at = host == QI_NO_OFFSET ? host : host + i * sub;
		unsigned flags = 0;

		if (bits >> (32 + i) & 1)
			flags = QI_EXT_ALLOCATED | QI_EXT_ZERO;
		else if (bits >> i & 1)
			flags = QI_EXT_ALLOCATED | QI_EXT_DATA;
		if (!add_run(l, off, sub, at, flags))
			return false;
	}
	return true;
}

/* An extended entry that is not compressed; its bitmap is at p. */
static int add_extended(struct qcow2 *q, struct list *l, uint64_t off,
			uint64_t host, bool mapped, const uint8_t *p,
			struct qi_error *e)
{
	uint64_t bits;
	be64 word;
	int ret = 0;

	memcpy(&word, p, sizeof(word));
	bits = be64_get(word);
	if (mapped && bits & (bits >> 32) & UINT32_MAX)
		return bad_entry(q, off, host, "both zero and allocated", e);
	if (!mapped && (uint32_t)bits)
		return bad_entry(q, off, host,
				 "nowhere, though subclusters are allocated",
				 e);
	if ((uint32_t)bits)
		ret = check_host(q, off, host, e);
	return ret ? ret :
		     add_subclusters(q, l, off, mapped ? host : QI_NO_OFFSET,
				     bits);
}

/* 1: added, 0: the list is full, or a failure. */
static int add_entry(struct qcow2 *q, struct list *l, uint64_t off,
		     const uint8_t *p, struct qi_error *e)
{
	unsigned flags = QI_EXT_ALLOCATED;
	uint64_t entry, host;
	bool mapped;
	be64 word;
	int ret;

	memcpy(&word, p, sizeof(word));
	entry = be64_get(word);
	if (entry & QCOW2_COMPRESSED)
		return add_run(l, off, q->cluster_size, QI_NO_OFFSET,
			       flags | QI_EXT_DATA | QI_EXT_COMPRESSED);
	host = entry & QCOW2_OFFSET_MASK;
	/* Offset 0 of a data file is a place like any other. */
	mapped = host || (qcow2_has_data_file(q) && entry & QCOW2_COPIED);
	if (q->l2_entry_size == 16)
		return add_extended(q, l, off, host, mapped, p + sizeof(word),
				    e);
	if (entry & QCOW2_ZERO) {
		if (q->h.version < 3)
			return bad_entry(q, off, host,
					 "said to be zero, which version 2 "
					 "does not have",
					 e);
		return add_run(l, off, q->cluster_size,
			       host ? host : QI_NO_OFFSET, flags | QI_EXT_ZERO);
	}
	if (!mapped)
		return add_run(l, off, q->cluster_size, QI_NO_OFFSET, 0);
	ret = check_host(q, off, host, e);
	return ret ? ret :
		     add_run(l, off, q->cluster_size, host,
			     flags | QI_EXT_DATA);
}

/* One slice's worth of an L2 table, from guest offset `off` on. */
static int map_slice(struct qcow2 *q, struct list *l, uint64_t table,
		     uint64_t off, uint64_t *next, unsigned *budget,
		     struct qi_error *e)
{
	size_t slice = qcow2_cache_slice_size(q->l2);
	uint64_t index = off >> q->h.cluster_bits;
	uint64_t in_table =
		(index & ((1ull << q->l2_bits) - 1)) * q->l2_entry_size;
	uint64_t start = qi_round_down(in_table, slice);
	uint8_t *data;
	int ret = qcow2_cache_get(q->l2, table + start, &data, e);

	if (ret)
		return ret;
	off = index << q->h.cluster_bits;
	for (uint64_t i = in_table - start; i < slice; i += q->l2_entry_size) {
		ret = add_entry(q, l, off, data + i, e);
		if (ret <= 0)
			return ret;
		off += q->cluster_size;
		if (--*budget == 0)
			break;
	}
	*next = off;
	return 1;
}

int qcow2_check_table(struct qcow2 *q, uint64_t table, uint64_t off,
		      struct qi_error *e)
{
	if (qi_is_aligned(table, q->cluster_size) &&
	    qi_fits(table, q->cluster_size, q->file->size))
		return 0;
	return qcow2_damaged(q, e,
			     "the L2 table of guest offset %llu is at "
			     "%llu, which is not a cluster of the file; is it "
			     "truncated?",
			     (unsigned long long)off,
			     (unsigned long long)table);
}

static int map_locked(struct qcow2 *q, struct list *l, uint64_t off,
		      struct qi_error *e)
{
	unsigned shift = q->h.cluster_bits + q->l2_bits;
	unsigned budget = MAP_BUDGET;
	int ret = qcow2_l1_load(q, e);

	if (!ret)
		ret = qcow2_open_data(q, e);
	while (!ret && off < l->end && budget) {
		uint64_t i = off >> shift;
		uint64_t table = be64_get(q->l1[i]) & QCOW2_OFFSET_MASK;

		if (!table) {
			uint64_t next = (i + 1) << shift;

			budget--;
			if (!add_run(l, off, next - off, QI_NO_OFFSET, 0))
				break;
			off = next;
			continue;
		}
		ret = qcow2_check_table(q, table, off, e);
		if (!ret)
			ret = map_slice(q, l, table, off, &off, &budget, e);
		if (ret <= 0)
			break;
		ret = 0;
	}
	/* What was found before a failure is good. */
	return ret < 0 && !l->count ? ret : (int)l->count;
}

int qcow2_map(struct qi_node *n, uint64_t off, uint64_t len,
	      struct qi_extent *out, unsigned max, struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	struct list l = {
		.out = out, .max = max, .start = off, .end = off + len
	};
	int ret;

	if (q->h.crypt_method)
		return qi_fail(e, ENOTSUP,
			       "the data of '%s' is encrypted; "
			       "reading it is not supported",
			       q->file->path);
	pthread_mutex_lock(&q->lock);
	ret = map_locked(q, &l, qi_round_down(off, q->cluster_size), e);
	pthread_mutex_unlock(&q->lock);
	return ret;
}

/* ------------------------------------------------------------ compressed */

static int packed_entry(struct qcow2 *q, uint64_t off, uint64_t *entry,
			struct qi_error *e)
{
	uint64_t index = off >> q->h.cluster_bits;
	uint64_t in_table =
		(index & ((1ull << q->l2_bits) - 1)) * q->l2_entry_size;
	size_t slice = qcow2_cache_slice_size(q->l2);
	uint64_t table;
	uint8_t *data;
	be64 word;
	int ret;

	pthread_mutex_lock(&q->lock);
	table = be64_get(q->l1[index >> q->l2_bits]) & QCOW2_OFFSET_MASK;
	ret = qcow2_cache_get(q->l2, table + qi_round_down(in_table, slice),
			      &data, e);
	if (!ret) {
		memcpy(&word, data + in_table % slice, sizeof(word));
		*entry = be64_get(word);
	}
	pthread_mutex_unlock(&q->lock);
	return ret;
}

/* Unpack the cluster at guest offset off (aligned) into dst. */
static int unpack_cluster(struct qcow2 *q, uint64_t off, uint8_t *packed,
			  void *dst, struct qi_error *e)
{
	uint64_t entry, host, len;
	ssize_t n;
	int ret = packed_entry(q, off, &entry, e);

	if (ret)
		return ret;
	qcow2_packed_place(q, entry, &host, &len);
	if (host >= q->file->size)
		return bad_entry(q, off, host,
				 "not in the file; is it "
				 "truncated?",
				 e);
	/*
	 * It was packed to be smaller than a cluster, whatever it says. The
	 * sectors of the last one need not be there to their end.
	 */
	len = qi_min(len, q->cluster_size + 512);
	n = qi_file_read_some(q->file, host, (size_t)len, packed, e);
	if (n < 0)
		return (int)n;
	if (qi_unpack(q->h.codec, packed, (size_t)n, dst, q->cluster_size))
		return qcow2_damaged(q, e,
				     "the compressed cluster of guest "
				     "offset %llu cannot be unpacked",
				     (unsigned long long)off);
	return 0;
}

int qcow2_read_packed(struct qi_node *n, uint64_t off, size_t len, void *buf,
		      struct qi_error *e)
{
	struct qcow2 *q = qcow2_of(n);
	/* A cluster and a sector of packed bytes, then one of plain ones. */
	QI_AUTOFREE uint8_t *scratch =
		malloc(2 * (size_t)q->cluster_size + 512);
	uint8_t *to = buf;

	if (!scratch)
		return qi_no_memory(e);
	while (len) {
		uint64_t start = qi_round_down(off, q->cluster_size);
		size_t skip = (size_t)(off - start);
		size_t part = (size_t)qi_min(len, q->cluster_size - skip);
		bool whole = part == q->cluster_size;
		uint8_t *plain = whole ? to : scratch + q->cluster_size + 512;
		int ret = unpack_cluster(q, start, scratch, plain, e);

		if (ret)
			return ret;
		if (!whole)
			memcpy(to, plain + skip, part);
		to += part;
		off += part;
		len -= part;
	}
	return 0;
}
