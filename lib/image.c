/* SPDX-License-Identifier: MIT */
/* image.c - making new images: empty ones, and ones with a copy of data */
#include <errno.h>
#include <stdio.h>

#include "lib/graph.h"
#include "lib/image.h"
#include "lib/name.h"

struct resolved {
	const struct qi_format *format;
	struct qi_options *options;
	const char *backing_name, *backing_format;
	uint64_t size;
};

/* What is not said is taken from the backing file n. */
static int take_backing(const char *path, const struct qi_node *n,
			struct resolved *r, struct qi_error *e)
{
	if (r->size == QI_NO_OFFSET)
		r->size = n->facts.size;
	/* Recorded, so that nobody has to probe it again. */
	if (!r->backing_format)
		r->backing_format = n->format->name;
	for (; n; n = n->facts.backing)
		if (qi_node_is_file(n, path))
			return qi_fail(e, EINVAL, "'%s' would rest on itself",
				       path);
	return 0;
}

/* The size and, unless told otherwise, the format of the backing file. */
static int look_at_backing(const char *path, struct resolved *r,
			   struct qi_error *e)
{
	QI_AUTOFREE char *where = qi_name_beside(path, r->backing_name);
	struct qi_open how = { .format = r->backing_format,
			       .access = QI_ACCESS_NONE };
	struct qi_graph *g;
	struct qi_node *n = NULL;
	int ret;

	if (!where || qi_graph_new(&g))
		return qi_no_memory(e);
	ret = qi_graph_add(g, where, &how, &n, e);
	if (!ret)
		ret = take_backing(path, n, r, e);
	qi_graph_free(g);
	return ret ? qi_context(e, ret, "cannot use the backing file") : 0;
}

static int resolve(const char *path, const struct qi_create *c,
		   struct resolved *r, struct qi_error *e)
{
	int ret;

	*r = (struct resolved){ .size = c->size };
	r->format = qi_format_find(c->format);
	if (!r->format || !r->format->build)
		return qi_fail(e, EINVAL,
			       r->format ?
				       "images of format '%s' cannot be made" :
				       "unknown format '%s'",
			       c->format);
	ret = qi_options_parse(&r->options, c->options, r->format->options,
			       c->format, e);
	if (ret)
		return ret;
	r->backing_name = c->backing_name ?
				  c->backing_name :
				  qi_options_get(r->options, "backing_file");
	r->backing_format = c->backing_format ?
				    c->backing_format :
				    qi_options_get(r->options, "backing_fmt");
	if (r->backing_format && !qi_format_find(r->backing_format))
		ret = qi_fail(e, EINVAL, "unknown backing format '%s'",
			      r->backing_format);
	if (!ret && r->size == QI_NO_OFFSET)
		ret = qi_options_get_size(r->options, "size", QI_NO_OFFSET,
					  &r->size, e);
	if (!ret && r->backing_name && !c->unchecked_backing)
		ret = look_at_backing(path, r, e);
	if (!ret && r->size == QI_NO_OFFSET)
		ret = qi_fail(e, EINVAL, "the size of '%s' is not given", path);
	if (!ret && r->size > INT64_MAX - 511)
		ret = qi_fail(e, EFBIG, "the size of '%s' is too large", path);
	if (!ret)
		r->size = qi_round_up(r->size, 512);
	return ret;
}

int qi_create_size(const char *path, const struct qi_create *c, uint64_t *size,
		   struct qi_error *e)
{
	struct resolved r;
	int ret = resolve(path, c, &r, e);

	*size = r.size;
	qi_options_free(r.options);
	return ret;
}

int qi_image_start(struct qi_image *img, const char *path,
		   const struct qi_create *c, struct qi_error *e)
{
	return qi_image_start_as(img, path, c,
				 c->replace ? QI_TEMP_REPLACE : QI_TEMP_NEW, e);
}

int qi_image_start_as(struct qi_image *img, const char *path,
		      const struct qi_create *c, enum qi_temp_mode mode,
		      struct qi_error *e)
{
	struct resolved r;
	int ret = resolve(path, c, &r, e);

	*img = (struct qi_image){ 0 };
	if (!ret)
		ret = qi_temp_open(&img->temp, path, mode, e);
	if (!ret) {
		struct qi_image_spec spec = { r.size, r.options, r.backing_name,
					      r.backing_format };

		ret = r.format->build(img->temp.file, &spec, &img->writer, e);
	}
	qi_options_free(r.options);
	if (ret)
		qi_image_discard(img);
	return ret;
}

int qi_image_finish(struct qi_image *img, struct qi_error *e)
{
	int ret = img->writer->ops->finish(img->writer, e);

	img->writer->ops->free(img->writer);
	img->writer = NULL;
	return ret;
}

int qi_image_publish(struct qi_image *img, struct qi_error *e)
{
	int ret = img->writer ? qi_image_finish(img, e) : 0;

	if (!ret)
		ret = qi_temp_publish(&img->temp, e);
	qi_image_discard(img);
	return ret;
}

void qi_image_discard(struct qi_image *img)
{
	if (img->writer)
		img->writer->ops->free(img->writer);
	img->writer = NULL;
	qi_temp_discard(&img->temp);
}

int qi_create_image(const char *path, const struct qi_create *c,
		    struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	int ret = qi_image_start(&img, path, c, e);

	return ret ? ret : qi_image_publish(&img, e);
}

int qi_convert_image(struct qi_node *src, const char *path,
		     const struct qi_convert *c, struct qi_copy_stats *stats,
		     struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	struct qi_create create = c->target;
	struct qi_copy copy = { .src = src,
				.compress = c->compress,
				.threads = c->threads,
				.progress = c->progress };
	int ret;

	create.size = src->facts.size;
	ret = qi_image_start(&img, path, &create, e);
	if (ret)
		return ret;
	if (c->compress && !img.writer->ops->place_packed)
		return qi_fail(e, ENOTSUP, "format '%s' has no compression",
			       c->target.format);
	copy.writer = img.writer;
	ret = qi_copy_run(&copy, stats, e);
	return ret ? ret : qi_image_publish(&img, e);
}
