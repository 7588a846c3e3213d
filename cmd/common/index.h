/* SPDX-License-Identifier: MIT */
/*
 * index.h - finding elements of an array by a key of two numbers
 */
#ifndef QIMG_INDEX_H
#define QIMG_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define QI_NO_INDEX SIZE_MAX

struct qi_index_slot {
	uint64_t a, b;
	size_t value; /* QI_NO_INDEX: the slot is free */
};
/* All zero is an empty one. */
struct qi_index {
	struct qi_index_slot *slots;
	size_t room, count;
};

/* QI_NO_INDEX: the key is not in it. */
size_t qi_index_find(const struct qi_index *x, uint64_t a, uint64_t b);
/* Of a key that is in it already the first value stays. */
void qi_index_add(struct qi_index *x, uint64_t a, uint64_t b, size_t value);
void qi_index_clear(struct qi_index *x);

#endif
