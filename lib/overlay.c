/* SPDX-License-Identifier: MIT */
/* overlay.c - a new, empty layer on top of a node, with a record */
#include <errno.h>

#include "lib/overlay.h"

/* Clusters like those of the base, where such can hold a record. */
static char *options_of(const struct qi_node *base)
{
	return base->facts.cluster_size >= 4096 ?
		       qi_format_text("cluster_size=%u",
				      base->facts.cluster_size) :
		       strdup("");
}

static int store_record(const struct qi_overlay *o, const struct qi_image *img,
			struct qi_error *e)
{
	struct qi_graph *g;
	struct qi_node *n;
	int ret = qi_image_reopen(img, "qcow2", &g, &n, e);

	if (ret)
		return ret;
	ret = qi_node_store(n, o->record, o->changes, o->count, e);
	qi_graph_free(g);
	return ret;
}

int qi_overlay_write(const struct qi_overlay *o, struct qi_image *img,
		     struct qi_error *e)
{
	QI_AUTOFREE char *backing = qi_backing_name(o->base_path, o->path);
	QI_AUTOFREE char *options = options_of(o->base);
	const struct qi_create c = { .format = "qcow2",
				     .options = options,
				     .size = o->base->facts.size,
				     .backing_name = backing,
				     .backing_format = o->base->format->name,
				     .unchecked_backing = true };
	int ret;

	if (!backing || !options)
		return qi_no_memory(e);
	ret = qi_image_start_as(img, o->path, &c, o->mode, e);
	if (!ret)
		qi_file_copy_mode(img->temp.file,
				  o->like ? o->like : o->base->path);
	if (!ret)
		ret = qi_image_finish(img, e);
	return ret || !o->record ? ret : store_record(o, img, e);
}
