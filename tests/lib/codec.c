/* SPDX-License-Identifier: MIT */
/* codec.c - packing and unpacking single clusters */
#include "lib/format.h"
#include "tests/lib/random.h"
#include "tests/lib/tap.h"

static const char *const names[] = { "none", "zlib", "zstd" };
static struct random rnd = { 17 };

/* Text-like data: packs to about a third. */
static void fill_text(uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)("etaoin shrdlu"[random_below(&rnd, 13)]);
}

static void test_size(enum qi_codec codec, struct qi_packer *p, size_t len)
{
	uint8_t *src = malloc(len), *packed = malloc(len + 512);
	uint8_t *back = malloc(len);
	size_t n;

	fill_text(src, len);
	n = qi_pack(p, src, len, packed, len - 1);
	ok(n > 0 && n < len, "%s: %zu bytes become %zu", names[codec], len, n);
	ok(!qi_unpack(codec, packed, n, back, len) && !memcmp(src, back, len),
	   "%s: and come back", names[codec]);
	/* What follows in the last sector belongs to another cluster. */
	random_fill(&rnd, packed + n, 512);
	memset(back, 0, len);
	ok(!qi_unpack(codec, packed, n + 511, back, len) &&
		   !memcmp(src, back, len),
	   "%s: bytes after the end do no harm", names[codec]);
	ok(qi_unpack(codec, packed, n / 2, back, len) < 0,
	   "%s: half of it is refused", names[codec]);
	memset(packed, 0xff, n);
	ok(qi_unpack(codec, packed, n, back, len) < 0, "%s: garbage is refused",
	   names[codec]);
	ok(qi_pack(p, src, len, packed, n - 1) == 0,
	   "%s: what does not fit is told", names[codec]);
	random_fill(&rnd, src, len);
	ok(qi_pack(p, src, len, packed, len - 1) == 0,
	   "%s: noise does not get smaller", names[codec]);
	free(src);
	free(packed);
	free(back);
}

/* A stream that holds less than a cluster must not pass for one. */
static void test_short(enum qi_codec codec, struct qi_packer *p)
{
	uint8_t src[4096], packed[4096], back[8192];
	size_t n;

	fill_text(src, sizeof(src));
	n = qi_pack(p, src, sizeof(src), packed, sizeof(packed));
	ok(n && qi_unpack(codec, packed, n, back, sizeof(back)) < 0,
	   "%s: a stream of half a cluster is refused", names[codec]);
}

/* Others may have made several frames of a cluster. */
static void test_frames(struct qi_packer *p)
{
	uint8_t src[8192], packed[9000], back[8192];
	size_t n, m;

	fill_text(src, sizeof(src));
	n = qi_pack(p, src, 3000, packed, 4000);
	m = qi_pack(p, src + 3000, sizeof(src) - 3000, packed + n, 5000);
	memset(packed + n + m, 0xee, sizeof(packed) - n - m);
	ok(n && m &&
		   !qi_unpack(QI_CODEC_ZSTD, packed, n + m + 300, back,
			      sizeof(back)) &&
		   !memcmp(src, back, sizeof(src)),
	   "zstd: two frames are one cluster");
	ok(qi_unpack(QI_CODEC_ZSTD, packed, n, back, sizeof(back)) < 0,
	   "zstd: one of them is not");
	ok(qi_unpack(QI_CODEC_ZSTD, packed, n + m, back, 3001) == 0 &&
		   !memcmp(src, back, 3001),
	   "zstd: what is more than a cluster is not looked at");
}

int main(void)
{
	for (enum qi_codec c = QI_CODEC_ZLIB; c <= QI_CODEC_ZSTD; c++) {
		const struct qi_writer w = { .codec = c, .unit = 65536 };
		struct qi_packer *p;

		if (!ok(!qi_packer_new(&p, &w), "%s: a packer", names[c]))
			continue;
		for (unsigned bits = 9; bits <= 21; bits += 3)
			test_size(c, p, (size_t)1 << bits);
		test_short(c, p);
		if (c == QI_CODEC_ZSTD)
			test_frames(p);
		qi_packer_free(p);
	}
	return tap_done();
}
