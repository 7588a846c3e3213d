/* SPDX-License-Identifier: MIT */
/*
 * image.c - making new images: empty ones, and ones with a copy of data
 *
 * Order of writes: all files under their hidden names, and each durable; then
 * they get their names, one after the other, each durable before the next. An
 * image must not appear without its data, so its data file comes first. When
 * one cannot get its name, what is new goes again. A name that had a file
 * before keeps the new one, which is complete: there is no other any more.
 */
#include <errno.h>
#include <stdio.h>

#include "lib/files.h"
#include "lib/graph.h"
#include "lib/image.h"
#include "lib/lock.h"
#include "lib/name.h"

/* As QEMU has it on file systems that know of such sizes. */
#define EXTENT_SIZE_HINT (1u << 20)

struct resolved {
	const struct qi_format *format;
	struct qi_options *options;
	const char *backing_name, *backing_format;
	const char *data_name; /* as recorded */
	char *data_path;       /* as found from here; malloc'd */
	uint64_t size;
	uint64_t backing_size;
	const struct qi_format *backing_driver;
	bool backing_is_plain;
	dev_t backing_dev;
	ino_t backing_ino;
	bool nocow, has_first_block;
	uint32_t extent_size;
};

static void resolved_clear(struct resolved *r)
{
	qi_options_free(r->options);
	free(r->data_path);
}
#define QI_AUTORESOLVED __attribute__((cleanup(resolved_clear)))

static struct qi_image_spec spec_of(const struct resolved *r)
{
	return (struct qi_image_spec){
		.size = r->size,
		.options = r->options,
		.backing_name = r->backing_name,
		.backing_format = r->backing_format,
		.data_name = r->data_name,
		.has_first_block = r->has_first_block,
	};
}

static bool is_same_file(const char *a, const char *b)
{
	struct stat x, y;

	if (stat(a, &x) || stat(b, &y))
		return strcmp(a, b) == 0;
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Is this file where the guest data of n is? */
static bool is_data_of(struct qi_node *n, const char *path)
{
	return n->format->open_data && !n->format->open_data(n, NULL) &&
	       n->data != n->file && is_same_file(n->data->path, path);
}

/* What is not said is taken from the backing file n. */
static int take_backing(const char *path, struct qi_node *n, struct resolved *r,
			struct qi_error *e)
{
	r->backing_size = n->facts.size;
	r->backing_driver = n->format;
	r->backing_is_plain = qi_name_is_plain(n->name);
	r->backing_dev = n->file->dev;
	r->backing_ino = n->file->ino;
	if (r->size == QI_NO_OFFSET)
		r->size = n->facts.size;
	/* Recorded, so that nobody has to probe it again. */
	if (!r->backing_format)
		r->backing_format = n->format->name;
	for (; n; n = n->facts.backing) {
		if (qi_node_is_file(n, path))
			return qi_fail(e, EINVAL, "'%s' would rest on itself",
				       path);
		if (r->data_path && (qi_node_is_file(n, r->data_path) ||
				     is_data_of(n, r->data_path)))
			return qi_fail(e, EINVAL,
				       "'%s' cannot be the data file too",
				       r->data_path);
	}
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

/* The data file lies where its name is looked up later: beside the image. */
static int find_data(const char *path, const struct qi_create *c,
		     struct resolved *r, struct qi_error *e)
{
	QI_AUTOFREE char *dir = qi_path_folder(path);
	struct stat st;

	r->data_name = qi_options_get(r->options, "data_file");
	if (!r->data_name)
		return 0;
	if (!*r->data_name)
		return qi_fail(e, EINVAL, "option 'data_file' needs a name");
	r->data_path = dir ? qi_path_join(dir, r->data_name) : NULL;
	if (!r->data_path)
		return qi_no_memory(e);
	if (is_same_file(path, r->data_path))
		return qi_fail(e, EINVAL, "'%s' cannot be its own data file",
			       path);
	if (!c->replace && !c->in_place && !lstat(r->data_path, &st))
		return qi_fail(e, EEXIST,
			       "'%s' exists already; --force replaces it",
			       r->data_path);
	return 0;
}

static int take_hints(struct resolved *r, struct qi_error *e)
{
	uint64_t hint;
	int ret = qi_options_get_bool(r->options, "nocow", false, &r->nocow, e);

	if (!ret)
		ret = qi_options_get_size(r->options, "extent_size_hint",
					  EXTENT_SIZE_HINT, &hint, e);
	if (!ret && hint > UINT32_MAX)
		return qi_fail(e, EINVAL,
			       "option 'extent_size_hint': must be less than "
			       "4G");
	if (!ret)
		r->extent_size = (uint32_t)hint;
	return ret;
}

static int take_options(const char *path, const struct qi_create *c,
			struct resolved *r, struct qi_error *e)
{
	int ret = qi_options_parse(&r->options, c->options, r->format->options,
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
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"unknown backing format '%s'",
					r->backing_format),
				"Parameter 'backing-fmt' does not accept value "
				"'%s'",
				r->backing_format);
	if (r->backing_format && !r->backing_name)
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"a backing format needs a backing "
					"file"),
				"Backing format cannot be used without "
				"backing file");
	if (c->size != QI_NO_OFFSET && !c->ignores_size_option &&
	    qi_options_get(r->options, "size"))
		return qi_fail(e, EINVAL,
			       "the size of '%s' is given twice: leave out "
			       "option 'size'",
			       path);
	if (c->size == QI_NO_OFFSET)
		ret = qi_options_get_size(r->options, "size", QI_NO_OFFSET,
					  &r->size, e);
	if (!ret)
		ret = take_hints(r, e);
	return ret ? ret : find_data(path, c, r, e);
}

static int resolve(const char *path, const struct qi_create *c,
		   struct resolved *r, struct qi_error *e)
{
	struct qi_image_spec spec;
	int ret;

	*r = (struct resolved){ .size = c->size, .backing_size = QI_NO_OFFSET };
	r->format = qi_format_find(c->format);
	if (!r->format)
		return qi_stock(
			e, qi_fail(e, EINVAL, "unknown format '%s'", c->format),
			"Unknown file format '%s'", c->format);
	if (!r->format->build)
		return qi_stock(e,
				qi_fail(e, ENOTSUP,
					"format '%s' is recognised, but making "
					"such images is not supported",
					c->format),
				"Format driver '%s' does not support image "
				"creation",
				c->format);
	ret = take_options(path, c, r, e);
	if (!ret && r->backing_name && !c->unchecked_backing)
		ret = look_at_backing(path, r, e);
	if (!ret && r->size == QI_NO_OFFSET)
		ret = qi_fail(e, EINVAL, "the size of '%s' is not given", path);
	if (!ret && r->size > INT64_MAX - 511)
		ret = qi_fail(e, EFBIG, "the size of '%s' is too large", path);
	if (ret)
		return ret;
	r->size = qi_round_up(r->size, 512);
	r->has_first_block = c->in_place;
	spec = spec_of(r);
	return r->format->can_build ? r->format->can_build(&spec, e) : 0;
}

int qi_create_size(const char *path, const struct qi_create *c, uint64_t *size,
		   struct qi_error *e)
{
	QI_AUTORESOLVED struct resolved r = { 0 };
	int ret = resolve(path, c, &r, e);

	*size = r.size;
	return ret;
}

static enum qi_temp_mode mode_of(const struct qi_create *c)
{
	return c->in_place ? QI_TEMP_IN_PLACE :
	       c->replace  ? QI_TEMP_REPLACE :
			     QI_TEMP_NEW;
}

int qi_image_start(struct qi_image *img, const char *path,
		   const struct qi_create *c, struct qi_error *e)
{
	return qi_image_start_as(img, path, c, mode_of(c), e);
}

/* An empty file, hidden unless it is made in place. */
static int start_file(struct qi_temp *t, const char *path,
		      const struct resolved *r, enum qi_temp_mode mode,
		      enum qi_cache cache, struct qi_error *e)
{
	int ret = qi_temp_open(t, path, mode, e);

	if (!ret)
		qi_file_hint(t->file, r->nocow, r->extent_size);
	return ret ? ret : qi_file_set_cache(t->file, cache, e);
}

int qi_image_start_as(struct qi_image *img, const char *path,
		      const struct qi_create *c, enum qi_temp_mode mode,
		      struct qi_error *e)
{
	QI_AUTORESOLVED struct resolved r = { 0 };
	struct qi_image_spec spec;
	int ret = resolve(path, c, &r, e);

	*img = (struct qi_image){ .backing_size = r.backing_size,
				  .backing_format = r.backing_driver,
				  .backing_is_plain = r.backing_is_plain,
				  .backing_dev = r.backing_dev,
				  .backing_ino = r.backing_ino };
	if (!ret)
		ret = start_file(&img->temp, path, &r, mode, c->cache, e);
	if (!ret && r.data_path)
		ret = start_file(&img->data, r.data_path, &r, mode_of(c),
				 c->cache, e);
	if (!ret) {
		spec = spec_of(&r);
		spec.data = img->data.file;
		ret = r.format->build(img->temp.file, &spec, &img->writer, e);
	}
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

/* A file in the making, to be known again under its name. */
struct identity {
	char *path; /* malloc'd; NULL: there is no such file */
	bool replaces;
	dev_t dev;
	ino_t ino;
};

/* Those of an image. */
struct identities {
	struct identity data, image;
};

static int identity_of(struct identity *id, const struct qi_temp *t,
		       struct qi_error *e)
{
	struct stat st;

	if (!t->file)
		return 0;
	*id = (struct identity){
		.path = strdup(t->name),
		.replaces = t->mode != QI_TEMP_NEW && !t->is_new &&
			    !stat(t->target, &st),
		.dev = t->file->dev,
		.ino = t->file->ino,
	};
	return id->path ? 0 : qi_no_memory(e);
}

static bool has_appeared(const struct identity *id)
{
	struct stat st;

	return id->path && !stat(id->path, &st) && st.st_dev == id->dev &&
	       st.st_ino == id->ino;
}

static bool has_replaced(const struct identity *id)
{
	return id->replaces && has_appeared(id);
}

static void take_back(const struct identity *id)
{
	if (!id->replaces && has_appeared(id))
		qi_unlink(id->path, NULL);
}

/* What is new goes again when another one is missing. */
static void take_back_all(const struct identities *all, size_t count)
{
	bool missing = false;

	for (size_t i = 0; i < count; i++)
		missing |= !has_appeared(&all[i].image);
	for (size_t i = 0; i < count && missing; i++) {
		/* Not the data of an image that stays. */
		if (has_replaced(&all[i].image))
			continue;
		take_back(&all[i].image);
		take_back(&all[i].data);
	}
}

/* Returns ret, having said what stays. */
static int name_replaced(const struct identities *all, size_t count, int ret,
			 struct qi_error *e)
{
	struct qi_files files = { 0 };
	char text[sizeof(e->text) / 2];

	for (size_t i = 0; i < count; i++) {
		if (has_replaced(&all[i].data))
			qi_files_add(&files, all[i].data.path, NULL);
		if (has_replaced(&all[i].image))
			qi_files_add(&files, all[i].image.path, NULL);
	}
	qi_files_text(&files, text, sizeof(text));
	if (files.count)
		qi_context(e, ret, "%s %s replaced, and no more", text,
			   files.count > 1 ? "were" : "was");
	qi_files_free(&files);
	return ret;
}

static int sync_all(struct qi_image *all, size_t count, struct qi_error *e)
{
	int ret = 0;

	for (size_t i = 0; i < count && !ret; i++) {
		if (all[i].data.file)
			ret = qi_temp_sync(&all[i].data, e);
		if (!ret)
			ret = qi_temp_sync(&all[i].temp, e);
	}
	return ret;
}

static int publish_all(struct qi_image *all, size_t count,
		       struct identities *ids, struct qi_error *e)
{
	int ret = sync_all(all, count, e);

	for (size_t i = 0; i < count && !ret; i++) {
		ret = identity_of(&ids[i].data, &all[i].data, e);
		if (!ret)
			ret = identity_of(&ids[i].image, &all[i].temp, e);
	}
	if (ret)
		return ret;
	for (size_t i = 0; i < count && !ret; i++) {
		if (all[i].data.file)
			ret = qi_temp_publish(&all[i].data, e);
		if (!ret)
			ret = qi_temp_publish(&all[i].temp, e);
	}
	if (!ret)
		return 0;
	take_back_all(ids, count);
	return name_replaced(ids, count, ret, e);
}

int qi_images_publish(struct qi_image *all, size_t count, struct qi_error *e)
{
	struct identities *ids = calloc(count + 1, sizeof(*ids));
	int ret = ids ? 0 : qi_no_memory(e);

	for (size_t i = 0; i < count && !ret; i++)
		ret = all[i].writer ? qi_image_finish(&all[i], e) : 0;
	if (!ret)
		ret = publish_all(all, count, ids, e);
	for (size_t i = 0; i < count; i++)
		qi_image_discard(&all[i]);
	for (size_t i = 0; ids && i < count; i++) {
		free(ids[i].data.path);
		free(ids[i].image.path);
	}
	free(ids);
	return ret;
}

int qi_image_publish(struct qi_image *img, struct qi_error *e)
{
	return qi_images_publish(img, 1, e);
}

/* The file as it can be opened now, and locked by another handle. */
static const char *where_is(const struct qi_temp *t)
{
	if (t->mode == QI_TEMP_IN_PLACE)
		qi_unlock(t->file);
	return t->path ? t->path : t->target;
}

int qi_image_reopen(const struct qi_image *img, const char *format,
		    struct qi_graph **g, struct qi_node **out,
		    struct qi_error *e)
{
	const struct qi_open how = { .format = format,
				     .access = QI_ACCESS_WRITE,
				     .no_backing = true };
	int ret;

	if (qi_graph_new(g))
		return qi_no_memory(e);
	ret = qi_graph_add(*g, where_is(&img->temp), &how, out, e);
	/* It may not be under its name yet. */
	if (!ret && img->data.file) {
		(*out)->data_name = strdup(where_is(&img->data));
		if (!(*out)->data_name)
			ret = qi_no_memory(e);
	}
	if (!ret)
		ret = qi_graph_lock(*g, 0, e);
	if (ret)
		qi_graph_free(*g);
	return ret;
}

void qi_image_discard(struct qi_image *img)
{
	if (img->writer)
		img->writer->ops->free(img->writer);
	img->writer = NULL;
	qi_temp_discard(&img->data);
	qi_temp_discard(&img->temp);
}

int qi_create_image(const char *path, const struct qi_create *c,
		    struct qi_error *e)
{
	QI_AUTOIMAGE struct qi_image img = { 0 };
	int ret = qi_image_start(&img, path, c, e);

	return ret ? ret : qi_image_publish(&img, e);
}
