/* SPDX-License-Identifier: MIT */
/* codec.c - packing and unpacking single clusters */
#include <errno.h>
#include <pthread.h>
#include <zlib.h>
#include <zstd.h>
#ifdef HAVE_LIBDEFLATE
#include <libdeflate.h>
#endif

#include "lib/format.h"

/* QEMU inflates without a zlib header and with any window. */
#define RAW_DEFLATE_WINDOW (-15)
/*
 * QEMU has zlib's level 6 with a window of 4 KiB, and zstd's level 3. Where
 * clusters are much larger than that window, all of one as the window makes
 * most data smaller on level 2 of libdeflate, but for logs and tables it takes
 * level 5. Noise in few letters alone, such as random digits, remains larger by
 * one or two parts in a hundred.
 */
#define ZLIB_LEVEL 6
#ifdef HAVE_LIBDEFLATE
#define ZLIB_WIDE_LEVEL 5
#define ZLIB_MAX 12
#else
#define ZLIB_WIDE_LEVEL ZLIB_LEVEL
#define ZLIB_MAX 9
#endif
#define ZLIB_WIDE 32768u
#define ZSTD_LEVEL 3
#define ZSTD_HASH_LOG 17
#define ZSTD_CHAIN_LOG 16

static int unpack_zlib(const void *src, size_t src_len, void *dst,
		       size_t dst_len)
{
	z_stream z = { 0 };
	int ret;

	if (inflateInit2(&z, RAW_DEFLATE_WINDOW) != Z_OK)
		return -ENOMEM;
	z.next_in = (Bytef *)(uintptr_t)src;
	z.avail_in = (uInt)src_len;
	z.next_out = dst;
	z.avail_out = (uInt)dst_len;
	ret = inflate(&z, Z_FINISH);
	/* Bytes after the stream belong to the sector, not to us. */
	if ((ret == Z_STREAM_END || ret == Z_BUF_ERROR || ret == Z_OK) &&
	    z.avail_out == 0)
		ret = 0;
	else
		ret = -EUCLEAN;
	inflateEnd(&z);
	return ret;
}

/* What unpacks, kept by each thread for its life. */
struct unpacker {
	ZSTD_DCtx *zstd;
#ifdef HAVE_LIBDEFLATE
	struct libdeflate_decompressor *deflate;
#endif
};

static pthread_key_t unpacker_key;
static bool has_unpacker_key;
static pthread_once_t unpacker_once = PTHREAD_ONCE_INIT;

static void free_unpacker(void *arg)
{
	struct unpacker *u = arg;

	ZSTD_freeDCtx(u->zstd);
#ifdef HAVE_LIBDEFLATE
	libdeflate_free_decompressor(u->deflate);
#endif
	free(u);
}

static void make_unpacker_key(void)
{
	has_unpacker_key = !pthread_key_create(&unpacker_key, free_unpacker);
}

static struct unpacker *thread_unpacker(void)
{
	struct unpacker *u;

	pthread_once(&unpacker_once, make_unpacker_key);
	if (!has_unpacker_key)
		return NULL;
	u = pthread_getspecific(unpacker_key);
	if (u)
		return u;
	u = calloc(1, sizeof(*u));
	if (u && pthread_setspecific(unpacker_key, u)) {
		free(u);
		u = NULL;
	}
	return u;
}

#ifdef HAVE_LIBDEFLATE
static int unpack_deflate(const void *src, size_t src_len, void *dst,
			  size_t dst_len)
{
	struct unpacker *u = thread_unpacker();
	size_t in, out;

	if (u && !u->deflate)
		u->deflate = libdeflate_alloc_decompressor();
	if (u && u->deflate &&
	    libdeflate_deflate_decompress_ex(u->deflate, src, src_len, dst,
					     dst_len, &in,
					     &out) == LIBDEFLATE_SUCCESS &&
	    out == dst_len)
		return 0;
	/* Streams that end early or late are zlib's to judge. */
	return unpack_zlib(src, src_len, dst, dst_len);
}
#else
#define unpack_deflate unpack_zlib
#endif

/* Into dst at once, without a window of zstd's own: most clusters. */
static bool unpack_frame(ZSTD_DCtx *ctx, const void *src, size_t src_len,
			 void *dst, size_t dst_len)
{
	size_t len = ZSTD_findFrameCompressedSize(src, src_len);

	return !ZSTD_isError(len) &&
	       ZSTD_decompressDCtx(ctx, dst, dst_len, src, len) == dst_len;
}

static int unpack_zstd(const void *src, size_t src_len, void *dst,
		       size_t dst_len)
{
	struct unpacker *u = thread_unpacker();
	ZSTD_outBuffer out = { dst, dst_len, 0 };
	ZSTD_inBuffer in = { src, src_len, 0 };
	size_t ret = 1;

	if (u && !u->zstd)
		u->zstd = ZSTD_createDCtx();
	if (!u || !u->zstd)
		return -ENOMEM;
	if (unpack_frame(u->zstd, src, src_len, dst, dst_len))
		return 0;
	ZSTD_DCtx_reset(u->zstd, ZSTD_reset_session_only);
	/* A cluster may be several frames; what follows them is padding. */
	while (out.pos < out.size && in.pos < in.size) {
		size_t before = in.pos + out.pos;

		ret = ZSTD_decompressStream(u->zstd, &out, &in);
		if (ZSTD_isError(ret) || in.pos + out.pos == before)
			break;
	}
	return out.pos == out.size ? 0 : -EUCLEAN;
}

int qi_unpack(enum qi_codec codec, const void *src, size_t src_len, void *dst,
	      size_t dst_len)
{
	return codec == QI_CODEC_ZSTD ?
		       unpack_zstd(src, src_len, dst, dst_len) :
		       unpack_deflate(src, src_len, dst, dst_len);
}

struct qi_packer {
	enum qi_codec codec;
	ZSTD_CCtx *zstd;
#ifdef HAVE_LIBDEFLATE
	struct libdeflate_compressor *deflate;
#else
	z_stream deflate;
#endif
};

static int start_deflate(struct qi_packer *p, int level)
{
#ifdef HAVE_LIBDEFLATE
	p->deflate = libdeflate_alloc_compressor(level);
	return p->deflate ? 0 : -ENOMEM;
#else
	return deflateInit2(&p->deflate, level, Z_DEFLATED, RAW_DEFLATE_WINDOW,
			    9, Z_DEFAULT_STRATEGY) == Z_OK ?
		       0 :
		       -ENOMEM;
#endif
}

static int start_zstd(struct qi_packer *p, int level)
{
	p->zstd = ZSTD_createCCtx();
	if (!p->zstd)
		return -ENOMEM;
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, level);
	if (level != ZSTD_LEVEL)
		return 0;
	/* Those of long inputs: of clusters they make more, and sooner. */
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_hashLog, ZSTD_HASH_LOG);
	ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_chainLog, ZSTD_CHAIN_LOG);
	return 0;
}

unsigned qi_max_level(enum qi_codec codec)
{
	return codec == QI_CODEC_ZSTD ? (unsigned)ZSTD_maxCLevel() : ZLIB_MAX;
}

static unsigned usual_level(enum qi_codec codec, uint32_t unit)
{
	if (codec == QI_CODEC_ZSTD)
		return ZSTD_LEVEL;
	return unit < ZLIB_WIDE ? ZLIB_LEVEL : ZLIB_WIDE_LEVEL;
}

int qi_packer_new(struct qi_packer **out, const struct qi_writer *w)
{
	struct qi_packer *p = calloc(1, sizeof(*p));
	unsigned level = w->level ? w->level : usual_level(w->codec, w->unit);
	int ret;

	if (!p)
		return -ENOMEM;
	p->codec = w->codec;
	ret = p->codec == QI_CODEC_ZSTD ? start_zstd(p, (int)level) :
					  start_deflate(p, (int)level);
	if (ret) {
		free(p);
		return ret;
	}
	*out = p;
	return 0;
}

size_t qi_pack(struct qi_packer *p, const void *src, size_t src_len, void *dst,
	       size_t dst_len)
{
	if (p->codec == QI_CODEC_ZSTD) {
		size_t n = ZSTD_compress2(p->zstd, dst, dst_len, src, src_len);

		return ZSTD_isError(n) ? 0 : n;
	}
#ifdef HAVE_LIBDEFLATE
	return libdeflate_deflate_compress(p->deflate, src, src_len, dst,
					   dst_len);
#else
	deflateReset(&p->deflate);
	p->deflate.next_in = (Bytef *)(uintptr_t)src;
	p->deflate.avail_in = (uInt)src_len;
	p->deflate.next_out = dst;
	p->deflate.avail_out = (uInt)dst_len;
	if (deflate(&p->deflate, Z_FINISH) != Z_STREAM_END)
		return 0;
	return dst_len - p->deflate.avail_out;
#endif
}

void qi_packer_free(struct qi_packer *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->zstd);
	if (p->codec != QI_CODEC_ZSTD) {
#ifdef HAVE_LIBDEFLATE
		libdeflate_free_compressor(p->deflate);
#else
		deflateEnd(&p->deflate);
#endif
	}
	free(p);
}
