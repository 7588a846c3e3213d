/* SPDX-License-Identifier: MIT */
/*
 * check-count.c - how many references each cluster of a window has
 *
 * The counts lie in bit planes: bit i of plane k is bit k of the count of
 * cluster i. Nearly all clusters have one reference or none, so a run of them
 * is counted by 64 at a time, and what no count reaches is never touched.
 */
#include "formats/qcow2/check.h"

static uint64_t *plane(const struct qcow2_counts *n, unsigned k)
{
	return n->bits + k * n->words;
}

bool qcow2_counts_init(struct qcow2_counts *n, unsigned planes, size_t words)
{
	*n = (struct qcow2_counts){ .planes = planes, .words = words };
	/* Pages of zeroes are not there before something is counted. */
	n->bits = calloc(planes, words * sizeof(*n->bits));
	return n->bits != NULL;
}

void qcow2_counts_clear(struct qcow2_counts *n)
{
	memset(n->bits, 0, n->used * n->words * sizeof(*n->bits));
	n->used = 0;
}

void qcow2_counts_free(struct qcow2_counts *n)
{
	free(n->bits);
}

uint64_t qcow2_counts_add(struct qcow2_counts *n, size_t at, uint64_t mask)
{
	unsigned k;

	for (k = 0; mask && k < n->planes; k++) {
		uint64_t *word = plane(n, k) + at, carry = *word & mask;

		*word ^= mask;
		mask = carry;
		n->used = qi_max(n->used, k + 1);
	}
	/* They cannot be counted further. */
	for (k = 0; mask && k < n->planes; k++)
		plane(n, k)[at] |= mask;
	return mask;
}

uint64_t qcow2_counts_get(const struct qcow2_counts *n, uint64_t i)
{
	uint64_t count = 0;

	for (unsigned k = 0; k < n->used; k++)
		count |= (plane(n, k)[i / 64] >> i % 64 & 1) << k;
	return count;
}

bool qcow2_counts_agree(const struct qcow2_counts *n, size_t at,
			uint64_t *count)
{
	*count = 0;
	for (unsigned k = 0; k < n->used; k++) {
		uint64_t word = plane(n, k)[at];

		if (word && ~word)
			return false;
		*count |= (word & 1) << k;
	}
	return true;
}

bool qcow2_check_is_used(const struct qcow2_checker *c, uint64_t from,
			 uint64_t to)
{
	size_t at = (size_t)(from - c->first) / 64;
	size_t end = (size_t)qi_div_up(to - c->first, 64);

	for (unsigned k = 0; k < c->counts.used; k++)
		if (!qi_is_zero(plane(&c->counts, k) + at,
				(end - at) * sizeof(uint64_t)))
			return true;
	return false;
}
