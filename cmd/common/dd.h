/* SPDX-License-Identifier: MIT */
/*
 * dd.h - operands of dd: bs=, count=, skip=, if=, of=
 */
#ifndef QIMG_DD_H
#define QIMG_DD_H

#include <stdbool.h>
#include <stdint.h>

struct qi_dd {
	uint64_t block; /* bytes */
	uint64_t count; /* blocks, what is skipped too; UINT64_MAX: all */
	uint64_t skip;	/* blocks */
	const char *in, *out;
};
#define QI_DD_ALL                                 \
	{                                         \
		.block = 512, .count = UINT64_MAX \
	}

/* Where the value of an operand goes: a text, or a number from min to max. */
struct qi_dd_place {
	const char *name, *value;
	const char **text;
	uint64_t *number;
	uint64_t min, max;
};
/* Take "NAME=VALUE" apart; false when there is no such operand. */
bool qi_dd_operand(struct qi_dd *d, const char *word, struct qi_dd_place *out);
/*
 * The bytes that are wanted of a disk; false, and none, when all of it is
 * skipped and more.
 */
bool qi_dd_range(const struct qi_dd *d, uint64_t size, uint64_t *off,
		 uint64_t *len);

#endif
