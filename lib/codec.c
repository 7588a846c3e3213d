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
#define ZLIB_LEVEL 2
#define ZSTD_LEVEL 3

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

#ifdef HAVE_LIBDEFLATE
static pthread_key_t inflater_key;
static pthread_once_t inflater_once = PTHREAD_ONCE_INIT;

static void free_inflater(void *d)
{
	libdeflate_free_decompressor(d);
}

static void make_inflater_key(void)
{
	pthread_key_create(&inflater_key, free_inflater);
}

/* One a thread, for the life of the thread. */
static struct libdeflate_decompressor *thread_inflater(void)
{
	struct libdeflate_decompressor *d;

	pthread_once(&inflater_once, make_inflater_key);
	d = pthread_getspecific(inflater_key);
	if (!d) {
		d = libdeflate_alloc_decompressor();
		pthread_setspecific(inflater_key, d);
	}
	return d;
}

static int unpack_deflate(const void *src, size_t src_len, void *dst,
			  size_t dst_len)
{
	struct libdeflate_decompressor *d = thread_inflater();
	size_t in, out;

	if (d &&
	    libdeflate_deflate_decompress_ex(d, src, src_len, dst, dst_len, &in,
					     &out) == LIBDEFLATE_SUCCESS &&
	    out == dst_len)
		return 0;
	/* Streams that end early or late are zlib's to judge. */
	return unpack_zlib(src, src_len, dst, dst_len);
}
#else
#define unpack_deflate unpack_zlib
#endif

static int unpack_zstd(const void *src, size_t src_len, void *dst,
		       size_t dst_len)
{
	ZSTD_DCtx *ctx = ZSTD_createDCtx();
	ZSTD_outBuffer out = { dst, dst_len, 0 };
	ZSTD_inBuffer in = { src, src_len, 0 };
	size_t ret = 1;

	if (!ctx)
		return -ENOMEM;
	/* A cluster may be several frames; what follows them is padding. */
	while (out.pos < out.size && in.pos < in.size) {
		size_t before = in.pos + out.pos;

		ret = ZSTD_decompressStream(ctx, &out, &in);
		if (ZSTD_isError(ret) || in.pos + out.pos == before)
			break;
	}
	ZSTD_freeDCtx(ctx);
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

static int start_deflate(struct qi_packer *p)
{
#ifdef HAVE_LIBDEFLATE
	p->deflate = libdeflate_alloc_compressor(ZLIB_LEVEL);
	return p->deflate ? 0 : -ENOMEM;
#else
	return deflateInit2(&p->deflate, ZLIB_LEVEL, Z_DEFLATED,
			    RAW_DEFLATE_WINDOW, 9, Z_DEFAULT_STRATEGY) == Z_OK ?
		       0 :
		       -ENOMEM;
#endif
}

int qi_packer_new(struct qi_packer **out, enum qi_codec codec)
{
	struct qi_packer *p = calloc(1, sizeof(*p));
	int ret = -ENOMEM;

	if (!p)
		return ret;
	p->codec = codec;
	if (codec == QI_CODEC_ZSTD) {
		p->zstd = ZSTD_createCCtx();
		ret = p->zstd ? 0 : -ENOMEM;
		if (!ret)
			ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel,
					       ZSTD_LEVEL);
	} else {
		ret = start_deflate(p);
	}
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
