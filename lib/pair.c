/* SPDX-License-Identifier: MIT */
/* pair.c - two guest views side by side */
#include <errno.h>

#include "lib/pair.h"

#define SECTOR 512

int qi_pair_init(struct qi_pair *p, struct qi_node *a, struct qi_node *b)
{
	struct qi_node *node[2] = { a, b };
	int ret = 0;

	*p = (struct qi_pair){ 0 };
	for (int i = 0; i < 2 && !ret; i++) {
		p->buf[i] = qi_alloc_aligned(QI_PAIR_PIECE);
		if (!p->buf[i])
			ret = -ENOMEM;
		else if (node[i])
			ret = qi_scan_new(&p->scan[i], node[i], NULL, 0, 0);
		if (p->scan[i])
			qi_scan_see_holes(p->scan[i]);
	}
	return ret;
}

void qi_pair_clear(struct qi_pair *p)
{
	for (int i = 0; i < 2; i++) {
		qi_scan_free(p->scan[i]);
		free(p->buf[i]);
	}
}

void qi_pair_seek(struct qi_pair *p, uint64_t off, uint64_t len)
{
	p->pos = off;
	p->end = off + len;
	for (int i = 0; i < 2; i++) {
		p->x[i].len = 0;
		if (p->scan[i])
			qi_scan_seek(p->scan[i], off, len);
	}
}

static int fill(struct qi_pair *p, int i, struct qi_error *e)
{
	int ret;

	if (p->x[i].len)
		return 0;
	ret = p->scan[i] ? qi_scan_next(p->scan[i], &p->x[i], e) : 0;
	if (ret == 0)
		p->x[i] = (struct qi_extent){ .off = p->pos,
					      .len = p->end - p->pos,
					      .host_off = QI_NO_OFFSET,
					      .flags = QI_EXT_ZERO };
	return ret < 0 ? ret : 0;
}

int qi_pair_run(struct qi_pair *p, uint64_t *len, struct qi_error *e)
{
	int ret;

	if (p->pos >= p->end)
		return 0;
	ret = fill(p, 0, e);
	if (!ret)
		ret = fill(p, 1, e);
	*len = qi_min(p->x[0].len, p->x[1].len);
	return ret ? ret : 1;
}

bool qi_pair_is_equal(const struct qi_pair *p)
{
	if (p->x[0].flags & p->x[1].flags & QI_EXT_ZERO)
		return true;
	/* The same layer, at the same place of the guest's disk. */
	return p->x[0].node && p->x[0].node == p->x[1].node;
}

int qi_pair_compare(struct qi_pair *p, uint64_t len, uint64_t *looked,
		    uint64_t *equal, struct qi_error *e)
{
	size_t at, n, i = 0;

	if (p->pos < p->read_off || p->pos >= p->read_off + p->read_len) {
		int ret = qi_interrupted(e);

		p->read_len = 0;
		n = (size_t)qi_min(len, QI_PAIR_PIECE);
		for (int side = 0; side < 2 && !ret; side++)
			ret = qi_extent_read(&p->x[side], p->pos, n,
					     p->buf[side], e);
		if (ret)
			return ret;
		p->read_off = p->pos;
		p->read_len = n;
	}
	at = (size_t)(p->pos - p->read_off);
	n = (size_t)qi_min(len, p->read_len - at);
	*looked = *equal = n;
	if (memcmp(p->buf[0] + at, p->buf[1] + at, n) == 0)
		return 0;
	while (!memcmp(p->buf[0] + at + i, p->buf[1] + at + i,
		       qi_min(SECTOR, n - i)))
		i += SECTOR;
	*equal = i;
	return 0;
}

void qi_pair_take(struct qi_pair *p, const struct qi_pair *from)
{
	p->pos = from->pos;
	p->x[0] = from->x[0];
	p->x[1] = from->x[1];
	p->read_len = 0;
}

void qi_pair_skip(struct qi_pair *p, uint64_t len)
{
	p->pos += len;
	for (int i = 0; i < 2; i++) {
		struct qi_extent *x = &p->x[i];

		x->off += len;
		x->len -= len;
		if (x->host_off != QI_NO_OFFSET)
			x->host_off += len;
	}
}
