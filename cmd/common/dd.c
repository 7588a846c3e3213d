// SPDX-License-Identifier: MIT
/*
 * dd.c - operands of dd: bs=, count=, skip=, if=, of=
 */
#include "cmd/common/dd.h"

#include <limits.h>
#include <string.h>

bool qi_dd_operand(struct qi_dd *d, const char *word, struct qi_dd_place *out)
{
	const struct qi_dd_place places[] = {
		{ "bs", NULL, NULL, &d->block, 1, INT_MAX },
		{ "count", NULL, NULL, &d->count, 0, INT64_MAX },
		{ "skip", NULL, NULL, &d->skip, 0, INT64_MAX },
		{ "if", NULL, &d->in, NULL, 0, 0 },
		{ "of", NULL, &d->out, NULL, 0, 0 },
	};
	size_t n = strcspn(word, "=");

	for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++) {
		if (strlen(places[i].name) != n ||
		    strncmp(places[i].name, word, n) || !word[n])
			continue;
		*out = places[i];
		out->value = word + n + 1;
		return true;
	}
	return false;
}

bool qi_dd_range(const struct qi_dd *d, uint64_t size, uint64_t *off,
		 uint64_t *len)
{
	uint64_t end = size;
	bool fits;

	if (d->count < end / d->block)
		end = d->count * d->block;
	fits = d->skip <= end / d->block;
	*off = fits ? d->skip * d->block : end;
	*len = end - *off;
	return fits;
}
