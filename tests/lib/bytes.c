/* SPDX-License-Identifier: MIT */
/* bytes.c - zero detection, byte order and checked arithmetic */
#include "lib/bytes.h"
#include "tests/lib/tap.h"

#define SPAN 300

/* One byte that is not zero, at each place of each alignment and length. */
static void test_is_zero(void)
{
	uint8_t buf[SPAN + 64] = { 0 };
	bool zero = true, other = true, outside = true;

	for (size_t off = 0; off < 16; off++) {
		for (size_t len = 0; len < SPAN; len++) {
			zero &= qi_is_zero(buf + off, len);
			buf[off + len] = 1;
			outside &= qi_is_zero(buf + off, len);
			buf[off + len] = 0;
		}
	}
	for (size_t at = 0; at < SPAN; at++) {
		buf[at] = 0x80;
		other &= !qi_is_zero(buf, SPAN);
		other &= !qi_is_zero(buf + at, 1);
		buf[at] = 0;
	}
	ok(zero, "zeroes of any alignment and length are zero");
	ok(outside, "the byte after the end does not count");
	ok(other, "one bit anywhere is seen");
}

static void test_byte_order(void)
{
	const uint8_t bytes[] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	be16 a;
	be32 b;
	be64 c;

	memcpy(&a, bytes, sizeof(a));
	memcpy(&b, bytes, sizeof(b));
	memcpy(&c, bytes, sizeof(c));
	ok(be16_get(a) == 0x0102 && be32_get(b) == 0x01020304 &&
		   be64_get(c) == 0x0102030405060708,
	   "the first byte is the highest");
	a = be16_put(0x0102);
	b = be32_put(0x01020304);
	c = be64_put(0x0102030405060708);
	ok(!memcmp(&a, bytes, sizeof(a)) && !memcmp(&b, bytes, sizeof(b)) &&
		   !memcmp(&c, bytes, sizeof(c)),
	   "and is stored first");
}

static void test_arithmetic(void)
{
	uint64_t x = 0;

	ok(qi_add(UINT64_MAX - 1, 1, &x) && x == UINT64_MAX &&
		   !qi_add(UINT64_MAX, 1, &x),
	   "a sum that does not fit is told");
	ok(qi_mul(1ull << 32, (1ull << 32) - 1, &x) &&
		   !qi_mul(1ull << 32, 1ull << 32, &x),
	   "a product that does not fit is told");
	ok(qi_round_up(0, 512) == 0 && qi_round_up(1, 512) == 512 &&
		   qi_round_up(512, 512) == 512 && qi_round_down(511, 512) == 0,
	   "rounding");
	ok(qi_round_up_checked(UINT64_MAX - 511, 512, &x) &&
		   !qi_round_up_checked(UINT64_MAX - 510, 512, &x),
	   "rounding past the end is told");
	ok(qi_div_up(UINT64_MAX, 2) == 1ull << 63 && qi_div_up(0, 7) == 0 &&
		   qi_div_up(7, 7) == 1 && qi_div_up(8, 7) == 2,
	   "division upwards does not overflow");
	ok(qi_fits(0, 10, 10) && qi_fits(10, 0, 10) && !qi_fits(11, 0, 10) &&
		   !qi_fits(1, 10, 10) && !qi_fits(UINT64_MAX, 2, 10) &&
		   !qi_fits(2, UINT64_MAX, 10),
	   "a range inside another");
}

int main(void)
{
	test_is_zero();
	test_byte_order();
	test_arithmetic();
	return tap_done();
}
