/* SPDX-License-Identifier: MIT */
/*
 * bytes.h - byte order, checked arithmetic, and scope-owned memory
 *
 * On-disk structs are made of the byte array types below, so they have no
 * alignment, no padding and no byte order of the host.
 */
#ifndef QI_BYTES_H
#define QI_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
	uint8_t b[2];
} be16;
typedef struct {
	uint8_t b[4];
} be32;
typedef struct {
	uint8_t b[8];
} be64;

static inline uint16_t be16_get(be16 v)
{
	return (uint16_t)(v.b[0] << 8 | v.b[1]);
}

static inline uint32_t be32_get(be32 v)
{
	uint32_t x;

	memcpy(&x, v.b, sizeof(x));
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ?
		       __builtin_bswap32(x) :
		       x;
}

static inline uint64_t be64_get(be64 v)
{
	uint64_t x;

	memcpy(&x, v.b, sizeof(x));
	return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ?
		       __builtin_bswap64(x) :
		       x;
}

static inline be16 be16_put(uint16_t x)
{
	return (be16){ { (uint8_t)(x >> 8), (uint8_t)x } };
}

static inline be32 be32_put(uint32_t x)
{
	be32 v;

	if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
		x = __builtin_bswap32(x);
	memcpy(v.b, &x, sizeof(x));
	return v;
}

static inline be64 be64_put(uint64_t x)
{
	be64 v;

	if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
		x = __builtin_bswap64(x);
	memcpy(v.b, &x, sizeof(x));
	return v;
}

typedef struct {
	uint8_t b[2];
} le16;
typedef struct {
	uint8_t b[4];
} le32;
typedef struct {
	uint8_t b[8];
} le64;

static inline uint16_t le16_get(le16 v)
{
	return (uint16_t)(v.b[1] << 8 | v.b[0]);
}

static inline uint32_t le32_get(le32 v)
{
	uint32_t x = 0;

	for (int i = 3; i >= 0; i--)
		x = x << 8 | v.b[i];
	return x;
}

static inline uint64_t le64_get(le64 v)
{
	uint64_t x = 0;

	for (int i = 7; i >= 0; i--)
		x = x << 8 | v.b[i];
	return x;
}

/* Each returns false when the result does not fit into 64 bits. */
static inline bool qi_add(uint64_t a, uint64_t b, uint64_t *sum)
{
	return !__builtin_add_overflow(a, b, sum);
}

static inline bool qi_mul(uint64_t a, uint64_t b, uint64_t *product)
{
	return !__builtin_mul_overflow(a, b, product);
}

/* unit: a power of two. The result must fit; see qi_round_up_checked(). */
static inline uint64_t qi_round_up(uint64_t x, uint64_t unit)
{
	return (x + unit - 1) & ~(unit - 1);
}

static inline bool qi_round_up_checked(uint64_t x, uint64_t unit, uint64_t *out)
{
	if (!qi_add(x, unit - 1, out))
		return false;
	*out &= ~(unit - 1);
	return true;
}

static inline uint64_t qi_round_down(uint64_t x, uint64_t unit)
{
	return x & ~(unit - 1);
}

/* Any unit but 0. */
static inline uint64_t qi_div_up(uint64_t x, uint64_t unit)
{
	return x / unit + (x % unit != 0);
}

static inline uint64_t qi_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t qi_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static inline bool qi_is_aligned(uint64_t x, uint64_t unit)
{
	return (x & (unit - 1)) == 0;
}

/* Does [off, off + len) lie in [0, size)? */
static inline bool qi_fits(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

/* True when all len bytes are zero. Any alignment, memory speed. */
bool qi_is_zero(const void *buf, size_t len);

/* Memory aligned for direct I/O; free with free(). NULL when there is none. */
void *qi_alloc_aligned(size_t len);

static inline void qi_free_ptr(void *p)
{
	free(*(void **)p);
}

/* A pointer that is freed when its scope ends. */
#define QI_AUTOFREE __attribute__((cleanup(qi_free_ptr)))

#define QI_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* The struct of `type` whose `member` is at ptr. */
#define qi_container_of(ptr, type, member) \
	((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
