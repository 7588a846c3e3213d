/* SPDX-License-Identifier: MIT */
/* bytes.c - looking at and getting plain memory */
#include "lib/bytes.h"

bool qi_is_zero(const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint64_t any = 0;
	uint64_t word[8];

	/* Most data that is not zero shows it in its first bytes. */
	while (len >= sizeof(word)) {
		memcpy(word, p, sizeof(word));
		any = word[0] | word[1] | word[2] | word[3] | word[4] |
		      word[5] | word[6] | word[7];
		if (any)
			return false;
		p += sizeof(word);
		len -= sizeof(word);
	}
	while (len--)
		any |= *p++;
	return any == 0;
}

void *qi_alloc_aligned(size_t len)
{
	void *p;

	return posix_memalign(&p, 4096, len ? len : 1) ? NULL : p;
}
