/* SPDX-License-Identifier: MIT */
/* refcount-bits.c - the entries of a refcount block, of 1 to 64 bits */
#include "formats/qcow2/qcow2.h"

uint64_t qcow2_refcount_load(const uint8_t *block, uint64_t i, unsigned order)
{
	switch (order) {
	case 3:
		return block[i];
	case 4:
		return be16_get(((const be16 *)block)[i]);
	case 5:
		return be32_get(((const be32 *)block)[i]);
	case 6:
		return be64_get(((const be64 *)block)[i]);
	default: {
		unsigned bits = 1u << order, per_byte = 8 / bits;

		return block[i / per_byte] >> (i % per_byte * bits) &
		       ((1u << bits) - 1);
	}
	}
}

void qcow2_refcount_store(uint8_t *block, uint64_t i, unsigned order,
			  uint64_t value)
{
	switch (order) {
	case 3:
		block[i] = (uint8_t)value;
		break;
	case 4:
		((be16 *)block)[i] = be16_put((uint16_t)value);
		break;
	case 5:
		((be32 *)block)[i] = be32_put((uint32_t)value);
		break;
	case 6:
		((be64 *)block)[i] = be64_put(value);
		break;
	default: {
		unsigned bits = 1u << order, per_byte = 8 / bits;
		unsigned shift = (unsigned)(i % per_byte) * bits;
		uint8_t mask = (uint8_t)(((1u << bits) - 1) << shift);
		uint8_t *p = &block[i / per_byte];

		*p = (uint8_t)((*p & ~mask) | (value << shift & mask));
	}
	}
}

/* Is a refcount 0 among those in 64 bits? Their byte order is no matter. */
static bool has_zero(uint64_t word, unsigned order)
{
	uint64_t low = order == 6 ? 1 :
				    UINT64_MAX / ((1ull << (1u << order)) - 1);
	uint64_t high = low << ((1u << order) - 1);

	return ((word - low) & ~word & high) != 0;
}

uint64_t qcow2_refcount_find_zero(const uint8_t *block, uint64_t i,
				  uint64_t end, unsigned order)
{
	uint64_t per_word = 64u >> order;

	while (i < end) {
		uint64_t word;

		if (i % per_word == 0 && i + per_word <= end) {
			memcpy(&word, block + (i << order) / 8, sizeof(word));
			if (!has_zero(word, order)) {
				i += per_word;
				continue;
			}
		}
		if (!qcow2_refcount_load(block, i, order))
			return i;
		i++;
	}
	return end;
}
