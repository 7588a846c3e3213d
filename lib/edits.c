/* SPDX-License-Identifier: MIT */
/* edits.c - what operations on drives collect before they write */
#include <errno.h>

#include "lib/drive.h"

void qi_edits_clear(struct qi_edits *l)
{
	for (size_t i = 0; i < l->count; i++)
		qi_ranges_free(l->changes[i].bits);
	free(l->changes);
	*l = (struct qi_edits){ 0 };
}

struct qi_bitmap_change *qi_edits_add(struct qi_edits *l)
{
	size_t room = l->room ? 2 * l->room : 8;
	void *p = l->changes;

	if (l->count == l->room) {
		p = realloc(p, room * sizeof(*l->changes));
		if (!p)
			return NULL;
		l->room = room;
	}
	l->changes = p;
	l->changes[l->count] = (struct qi_bitmap_change){ 0 };
	return &l->changes[l->count++];
}

int qi_node_check_edit(struct qi_node *n, bool compress, struct qi_error *e)
{
	struct qi_writer *w;
	int ret;

	if (!n->format->edit)
		return qi_fail(e, ENOTSUP,
			       "'%s' is in %s format, which cannot be written "
			       "in place",
			       n->path, n->format->name);
	ret = n->format->edit(n, &w, e);
	if (ret)
		return ret;
	if (compress && !w->ops->place_packed)
		ret = qi_stock(e,
			       qi_fail(e, ENOTSUP,
				       "'%s' is there already, and cannot get "
				       "compressed data",
				       n->path),
			       "Compression not supported for this file "
			       "format");
	w->ops->free(w);
	return ret;
}

int qi_node_set_backing(struct qi_node *n, const char *name, const char *format,
			const struct qi_record *r, bool dry_run,
			struct qi_error *e)
{
	const struct qi_format *f = n->format;
	uint8_t *old = n->record_blob;
	size_t old_len = n->record_len, len;
	void *blob = NULL;
	int ret = 0;

	if (!f->set_backing)
		return qi_fail(e, ENOTSUP,
			       "'%s' is in %s format, which has no backing "
			       "files",
			       n->path, f->name);
	if (r) {
		ret = qi_record_serialise(r, &blob, &len);
		if (ret)
			return qi_fail(e, -ret, "the record of '%s': %s",
				       n->path, strerror(-ret));
		n->record_blob = blob;
		n->record_len = len;
	}
	ret = dry_run ? f->check_backing(n, name, format, e) :
			f->set_backing(n, name, format, e);
	if (!dry_run)
		qi_graph_forget_folders(n->graph);
	if (r && (ret || dry_run)) {
		n->record_blob = old;
		n->record_len = old_len;
		free(blob);
	} else if (r) {
		free(old);
		qi_record_free(n->record);
		n->record = NULL;
		if (qi_record_parse(&n->record, n->record_blob, n->record_len))
			ret = qi_no_memory(e);
	}
	return ret;
}
