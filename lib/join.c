/* SPDX-License-Identifier: MIT */
/*
 * join.c - parts of nodes, one after the other, as one disk
 *
 * It is a raw node of a file that has calls of its own: what they read is what
 * a guest reads of the parts, whatever is compressed, or in a backing file.
 */
#include <errno.h>
#include <pthread.h>

#include "lib/graph.h"

#define SECTOR 512

struct part {
	struct qi_slice slice;
	uint64_t start; /* in the whole */
	struct qi_scan *scan;
	struct qi_extent at; /* what it said last; of the node */
};

struct join {
	pthread_mutex_t lock; /* of the scans */
	size_t count;
	struct part part[];
};

/* The part that `off` is in. */
static struct part *part_at(struct join *j, uint64_t off)
{
	size_t low = 0, high = j->count;

	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (j->part[middle].start <= off)
			low = middle;
		else
			high = middle;
	}
	return &j->part[low];
}

static int join_read(struct qi_file *f, uint64_t off, size_t len, void *buf,
		     struct qi_error *e)
{
	int ret = 0;

	while (len && !ret) {
		const struct part *p = part_at(f->handle, off);
		uint64_t in = off - p->start;
		size_t n = (size_t)qi_min(len, p->slice.len - in);

		ret = qi_read(p->slice.node, p->slice.off + in, n, buf, e);
		off += n;
		buf = (char *)buf + n;
		len -= n;
	}
	return ret;
}

/* What is at `off` of the node; false: it cannot be told. */
static bool look(struct part *p, uint64_t off)
{
	const struct qi_slice *s = &p->slice;
	const uint64_t size = qi_node_facts(s->node)->size;
	const uint64_t end = p->at.off + p->at.len;

	if (off >= p->at.off && off < end)
		return true;
	if (off >= size) {
		/* As long as anybody wants. */
		p->at = (struct qi_extent){ .off = off,
					    .len = UINT64_MAX - off,
					    .flags = QI_EXT_ZERO };
		return true;
	}
	if (off != end)
		qi_scan_seek(p->scan, off, s->off + s->len - off);
	if (qi_scan_next(p->scan, &p->at, NULL) == 1)
		return true;
	/* Wherever the next one is, it is looked for anew. */
	p->at = (struct qi_extent){ .off = UINT64_MAX };
	return false;
}

static uint64_t join_run(const struct qi_file *f, uint64_t off, bool *hole)
{
	struct join *j = f->handle;
	struct part *p = part_at(j, off);
	const struct qi_slice *s = &p->slice;
	uint64_t len = s->len - (off - p->start);
	uint64_t in = s->off + (off - p->start);

	pthread_mutex_lock(&j->lock);
	*hole = false;
	/* Who cannot be asked is read, and then says why. */
	if (look(p, in)) {
		*hole = p->at.flags & QI_EXT_ZERO;
		len = qi_min(len, p->at.off + p->at.len - in);
	}
	pthread_mutex_unlock(&j->lock);
	return off + len;
}

static void join_free(struct join *j)
{
	for (size_t i = 0; i < j->count; i++)
		qi_scan_free(j->part[i].scan);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

static void join_close(struct qi_file *f)
{
	join_free(f->handle);
}

static const struct qi_file_ops join_ops = {
	.read = join_read,
	.run = join_run,
	.close = join_close,
};

/* Add a part; *total is where it starts, and then where it ends. */
static int add(struct join *j, const struct qi_slice *slice, uint64_t *total,
	       struct qi_error *e)
{
	struct part *p = &j->part[j->count];
	uint64_t size = qi_node_facts(slice->node)->size;
	int ret = qi_chain_check_readable(slice->node, e);

	if (ret)
		return ret;
	p->slice = *slice;
	p->start = *total;
	if (slice->len == QI_NO_OFFSET)
		p->slice.len = slice->off < size ?
				       qi_round_up(size, SECTOR) - slice->off :
				       0;
	/* Nothing of nothing: part_at() finds only what has a length. */
	if (!p->slice.len)
		return 0;
	if (!qi_add(*total, p->slice.len, total) || *total > INT64_MAX)
		return qi_fail(e, EFBIG, "together they are too large");
	ret = qi_scan_new(&p->scan, slice->node, NULL, p->slice.off,
			  p->slice.len);
	if (ret)
		return qi_fail(e, -ret,
			       "'%s' cannot be read: its backing file "
			       "is not open",
			       slice->node->path);
	qi_scan_see_holes(p->scan);
	p->at.off = p->slice.off;
	j->count++;
	return 0;
}

int qi_join_node(struct qi_graph *g, const struct qi_slice *slices,
		 size_t count, struct qi_node **out, struct qi_error *e)
{
	struct join *j = calloc(1, sizeof(*j) + (count + 1) * sizeof(*j->part));
	struct qi_file *f = NULL;
	uint64_t total = 0;
	int ret = 0;

	if (!j)
		return qi_no_memory(e);
	pthread_mutex_init(&j->lock, NULL);
	for (size_t i = 0; i < count && !ret; i++)
		ret = add(j, &slices[i], &total, e);
	if (!ret)
		ret = qi_file_wrap(&f, count ? slices[0].node->path : "nothing",
				   total, false, &join_ops, j, e);
	if (ret) {
		join_free(j);
		return ret;
	}
	return qi_graph_add_file(g, f, out, e);
}
