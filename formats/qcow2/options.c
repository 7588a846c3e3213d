/* SPDX-License-Identifier: MIT */
/* options.c - what -o says about a new image, and what goes together */
#include <errno.h>

#include "formats/qcow2/qcow2.h"

#define ENCRYPTED "refused: encrypted images cannot be made"

const struct qi_format_option qcow2_options[] = {
	{ "backing_file", "str", "file name of a base image" },
	{ "backing_fmt", "str", "format of the base image" },
	{ "cluster_size", "size", "512 to 2M (default 64k)", true },
	{ "compat", "str", "v2 (0.10) or v3 (1.1, the default)", true },
	{ "compression_level", "num", "1 (fastest) to 12 (zlib) or 22 (zstd)",
	  .is_ours = true },
	{ "compression_type", "str", "zlib (the default) or zstd", true },
	{ "data_file", "str", "keep guest data in this file" },
	{ "data_file_raw", "bool", "the data file is a raw image by itself" },
	{ "encrypt.cipher-alg", "str", ENCRYPTED },
	{ "encrypt.cipher-mode", "str", ENCRYPTED },
	{ "encrypt.format", "str", ENCRYPTED },
	{ "encrypt.hash-alg", "str", ENCRYPTED },
	{ "encrypt.iter-time", "num", ENCRYPTED },
	{ "encrypt.ivgen-alg", "str", ENCRYPTED },
	{ "encrypt.ivgen-hash-alg", "str", ENCRYPTED },
	{ "encrypt.key-secret", "str", ENCRYPTED },
	{ "encryption", "bool", "off; on is " ENCRYPTED },
	{ "extended_l2", "bool", "32 subclusters in each cluster", true },
	QI_OPTION_EXTENT_SIZE_HINT,
	{ "lazy_refcounts", "bool", "postpone refcount updates", true },
	QI_OPTION_NOCOW,
	{ "preallocation", "str", "off (the default), metadata, falloc, full" },
	{ "refcount_bits", "num", "1, 2, 4, 8, 16 (the default), 32 or 64",
	  true },
	{ "size", "size", "virtual disk size" },
	{ NULL, NULL, NULL },
};

/* -EINVAL unless the image is of version 3. what: in the words of qemu-img */
static int needs_v3(const struct qcow2_header *h, const char *option,
		    const char *what, struct qi_error *e)
{
	int ret = h->version > 2 ?
			  0 :
			  qi_fail(e, EINVAL, "option '%s' needs compat=1.1",
				  option);

	return ret ? qi_stock(e, ret,
			      "%s only supported with compatibility level 1.1 "
			      "and above (use version=v3 or greater)",
			      what) :
		     0;
}

static int refuse_encryption(const struct qi_options *o, struct qi_error *e)
{
	bool on;
	int ret = qi_options_get_bool(o, "encryption", false, &on, e);

	for (const struct qi_format_option *k = qcow2_options; k->name; k++)
		if (!strncmp(k->name, "encrypt.", 8) &&
		    qi_options_get(o, k->name))
			on = true;
	if (!ret && on)
		return qi_fail(e, ENOTSUP,
			       "encrypted images cannot be made; leave out "
			       "'encryption' and 'encrypt.*'");
	return ret;
}

static int take_version(struct qcow2_header *h, const struct qi_options *o,
			struct qi_error *e)
{
	const char *text = qi_options_get(o, "compat");

	h->version = 3;
	h->length = sizeof(struct qcow2_disk_header);
	if (!text || !strcmp(text, "1.1") || !strcmp(text, "v3"))
		return 0;
	h->version = 2;
	h->length = QCOW2_V2_HEADER;
	if (!strcmp(text, "0.10") || !strcmp(text, "v2"))
		return 0;
	return qi_stock(e,
			qi_fail(e, EINVAL,
				"option 'compat': '%s' is neither 0.10 nor 1.1",
				text),
			"Parameter 'version' does not accept value '%s'", text);
}

static int take_compression(struct qcow2_header *h, const struct qi_options *o,
			    struct qi_error *e)
{
	const char *text = qi_options_get(o, "compression_type");

	h->codec = QI_CODEC_ZLIB;
	if (!text || !strcmp(text, "zlib"))
		return 0;
	if (strcmp(text, "zstd"))
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"option 'compression_type': '%s' is "
					"neither zlib nor zstd",
					text),
				"Parameter 'compression-type' does not accept "
				"value '%s'",
				text);
	h->codec = QI_CODEC_ZSTD;
	h->incompatible |= QCOW2_INCOMPAT_COMPRESSION;
	return needs_v3(h, "compression_type", "Non-zlib compression type is",
			e);
}

static int take_level(struct qcow2_header *h, const struct qi_options *o,
		      struct qi_error *e)
{
	unsigned max = qi_max_level(h->codec);
	uint64_t level;

	if (!qi_options_get(o, "compression_level"))
		return 0;
	if (qi_options_get_size(o, "compression_level", 0, &level, e) ||
	    level < 1 || level > max)
		return qi_fail(e, EINVAL,
			       "option 'compression_level': must be from 1 to "
			       "%u with %s",
			       max,
			       h->codec == QI_CODEC_ZSTD ? "zstd" : "zlib");
	h->level = (unsigned)level;
	return 0;
}

static int take_clusters(struct qcow2_header *h, const struct qi_options *o,
			 struct qi_error *e)
{
	uint64_t size;
	bool extended;
	int ret = qi_options_get_size(o, "cluster_size", 65536, &size, e);

	if (!ret)
		ret = qi_options_get_bool(o, "extended_l2", false, &extended,
					  e);
	if (ret)
		return ret;
	if (size < 512 || size > 2u << 20 || size & (size - 1))
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"option 'cluster_size': must be a "
					"power of two from 512 to 2M"),
				"Cluster size must be a power of two between "
				"512 and 2048k");
	h->cluster_bits = (unsigned)__builtin_ctzll(size);
	if (!extended)
		return 0;
	if (size < QCOW2_MIN_EXTENDED_CLUSTER)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"option 'extended_l2' needs a "
					"cluster_size of 16k or more"),
				"Extended L2 entries are only supported with "
				"cluster sizes of at least %u bytes",
				QCOW2_MIN_EXTENDED_CLUSTER);
	h->incompatible |= QCOW2_INCOMPAT_EXTENDED_L2;
	return 0;
}

static int check_extended(const struct qcow2_header *h, struct qi_error *e)
{
	return h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2 ?
		       needs_v3(h, "extended_l2", "Extended L2 entries are",
				e) :
		       0;
}

/* use: what makes it version 3, in the words of qemu-img */
static int take_refcount_bits(struct qcow2_header *h,
			      const struct qi_options *o, const char *use,
			      struct qi_error *e)
{
	uint64_t bits;
	int ret = 0;

	if (qi_options_get_size(o, "refcount_bits", 16, &bits, e))
		bits = 0;
	if (!bits || bits > 64 || bits & (bits - 1))
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"option 'refcount_bits': must be a "
					"power of two from 1 to 64"),
				"Refcount width must be a power of two and "
				"may not exceed 64 bits");
	h->refcount_order = (unsigned)__builtin_ctzll(bits);
	if (bits != 16 && needs_v3(h, "refcount_bits", "", e))
		ret = qi_stock(e, -EINVAL,
			       "Different refcount widths than 16 bits require "
			       "compatibility level 1.1 or above (use %s or "
			       "greater)",
			       use);
	return ret;
}

static int take_refcounts(struct qcow2_header *h, const struct qi_options *o,
			  struct qi_error *e)
{
	bool lazy;
	int ret = qi_options_get_bool(o, "lazy_refcounts", false, &lazy, e);

	if (!ret && lazy)
		ret = needs_v3(h, "lazy_refcounts", "Lazy refcounts", e);
	if (ret)
		return ret;
	h->compatible = lazy ? QCOW2_COMPAT_LAZY_REFCOUNTS : 0;
	return take_refcount_bits(h, o, "version=v3", e);
}

int qcow2_take_layout(struct qcow2_header *h, const struct qi_options *o,
		      struct qi_error *e)
{
	int ret = take_clusters(h, o, e);

	if (!ret && take_version(h, o, e))
		ret = qi_stock(e, -EINVAL, "Invalid compatibility level: '%s'",
			       qi_options_get(o, "compat"));
	return ret ? ret : take_refcount_bits(h, o, "compat=1.1", e);
}

static int take_backing(struct qcow2_header *h,
			const struct qi_image_spec *spec, struct qi_error *e)
{
	int ret = 0;

	if (!spec->backing_name)
		return 0;
	if (strlen(spec->backing_name) > QCOW2_MAX_BACKING_NAME)
		return qi_fail(e, EINVAL,
			       "the name of the backing file has "
			       "more than %d bytes",
			       QCOW2_MAX_BACKING_NAME);
	h->backing_name = strdup(spec->backing_name);
	if (h->backing_name && spec->backing_format)
		ret = qcow2_header_set(h, QCOW2_EXT_BACKING_FORMAT,
				       spec->backing_format,
				       strlen(spec->backing_format));
	return h->backing_name && !ret ? 0 : qi_no_memory(e);
}

static int take_data_file(struct qcow2_header *h,
			  const struct qi_image_spec *spec, struct qi_error *e)
{
	bool raw;
	int ret = qi_options_get_bool(spec->options, "data_file_raw", false,
				      &raw, e);

	if (ret)
		return ret;
	if (!spec->data_name)
		return raw ? qi_stock(e,
				      qi_fail(e, EINVAL,
					      "option 'data_file_raw' needs "
					      "'data_file'"),
				      "data-file-raw requires data-file") :
			     0;
	if (raw && spec->backing_name)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"option 'data_file_raw': a raw image "
					"has no backing file"),
				"Backing file and data-file-raw cannot be "
				"used at the same time");
	h->incompatible |= QCOW2_INCOMPAT_DATA_FILE;
	if (raw)
		h->autoclear |= QCOW2_AUTOCLEAR_RAW_DATA;
	if (qcow2_header_set(h, QCOW2_EXT_DATA_FILE, spec->data_name,
			     strlen(spec->data_name)))
		return qi_no_memory(e);
	return needs_v3(h, "data_file", "External data files are", e);
}

static int take_preallocation(const struct qcow2_header *h,
			      const struct qi_options *o,
			      enum qi_preallocation *out, struct qi_error *e)
{
	const char *text = qi_options_get(o, "preallocation");
	int ret = 0;

	*out = QI_PREALLOC_OFF;
	if (text)
		ret = qi_preallocation_parse(text, out, e);
	if (ret)
		return qi_stock(e, qi_context(e, ret, "option 'preallocation'"),
				"Parameter 'preallocation' does not accept "
				"value '%s'",
				text);
	/* Without subclusters, what has a place hides the backing file. */
	if (*out != QI_PREALLOC_OFF && h->backing_name &&
	    !(h->incompatible & QCOW2_INCOMPAT_EXTENDED_L2))
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"option 'preallocation': with a "
					"backing file it needs "
					"extended_l2=on"),
				"Backing file and preallocation can only be "
				"used at the same time if extended_l2 is on");
	/* By the tables too, all of a raw data file is the disk. */
	if (*out == QI_PREALLOC_OFF && h->autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		*out = QI_PREALLOC_METADATA;
	return 0;
}

int qcow2_take_options(struct qcow2_header *h, const struct qi_image_spec *spec,
		       enum qi_preallocation *prealloc, struct qi_error *e)
{
	const struct qi_options *o = spec->options;
	int ret = refuse_encryption(o, e);

	if (!ret)
		ret = take_version(h, o, e);
	if (!ret)
		ret = take_compression(h, o, e);
	if (!ret)
		ret = take_level(h, o, e);
	if (!ret)
		ret = take_clusters(h, o, e);
	if (!ret)
		ret = check_extended(h, e);
	if (!ret)
		ret = take_refcounts(h, o, e);
	if (!ret)
		ret = take_backing(h, spec, e);
	if (!ret)
		ret = take_data_file(h, spec, e);
	if (!ret)
		ret = take_preallocation(h, o, prealloc, e);
	/* The table of feature names would not leave room in tiny clusters. */
	if (!ret && h->version > 2 && h->cluster_bits > 10 &&
	    qcow2_header_add_feature_names(h))
		ret = qi_no_memory(e);
	h->size = spec->size;
	return ret;
}
