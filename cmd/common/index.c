// SPDX-License-Identifier: MIT
/*
 * index.c - finding elements of an array by a key of two numbers
 */
#include "cmd/common/index.h"

#include <stdlib.h>

#include "cmd/common/print.h"

/* The slot of a key, or the free one that it would get. */
static size_t find_slot(const struct qi_index *x, uint64_t a, uint64_t b)
{
	uint64_t hash = (a ^ b * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;
	size_t i = (size_t)(hash >> 32) & (x->room - 1);

	while (x->slots[i].value != QI_NO_INDEX &&
	       (x->slots[i].a != a || x->slots[i].b != b))
		i = (i + 1) & (x->room - 1);
	return i;
}

size_t qi_index_find(const struct qi_index *x, uint64_t a, uint64_t b)
{
	return x->room ? x->slots[find_slot(x, a, b)].value : QI_NO_INDEX;
}

static void grow(struct qi_index *x)
{
	struct qi_index old = *x;

	x->room = old.room ? 2 * old.room : 64;
	x->slots = qi_xrealloc(NULL, x->room * sizeof(*x->slots));
	for (size_t i = 0; i < x->room; i++)
		x->slots[i].value = QI_NO_INDEX;
	for (size_t i = 0; i < old.room; i++) {
		const struct qi_index_slot *s = &old.slots[i];

		if (s->value != QI_NO_INDEX)
			x->slots[find_slot(x, s->a, s->b)] = *s;
	}
	free(old.slots);
}

void qi_index_add(struct qi_index *x, uint64_t a, uint64_t b, size_t value)
{
	size_t i;

	/* At most half full: searches end soon. */
	if (2 * x->count >= x->room)
		grow(x);
	i = find_slot(x, a, b);
	if (x->slots[i].value != QI_NO_INDEX)
		return;
	x->slots[i] = (struct qi_index_slot){ a, b, value };
	x->count++;
}

void qi_index_clear(struct qi_index *x)
{
	free(x->slots);
	*x = (struct qi_index){ 0 };
}
