/* SPDX-License-Identifier: MIT */
/* node.c - one node: its file, its format, what its driver says of it */
#include <errno.h>
#include <stdio.h>

#include "lib/graph.h"
#include "lib/name.h"
#include "lib/nbd.h"
#include "lib/node.h"
#include "lib/record.h"

static void close_state(struct qi_node *n)
{
	if (n->format && n->format->close)
		n->format->close(n);
	n->state = NULL;
	n->data = n->file;
	free(n->backing_name);
	free(n->backing_format);
	free(n->record_blob);
	qi_record_free(n->record);
	n->backing_name = n->backing_format = NULL;
	n->facts.backing_name = n->facts.backing_format = NULL;
	n->record_blob = NULL;
	n->record = NULL;
	n->record_len = 0;
}

void qi_node_free(struct qi_node *n)
{
	close_state(n);
	if (n->file)
		qi_file_close(n->file, NULL);
	if (n->name)
		qi_name_clear(n->name);
	free(n->name);
	free(n->shown);
	free(n->spelling);
	free(n->path);
	free(n->data_name);
	qi_snapshot_choice_clear(&n->snapshot);
	free(n);
}

/* ---------------------------------------------------------------- opening */

static int open_file(const struct qi_name *name, bool writable,
		     struct qi_file **out, struct qi_error *e)
{
	int ret;

	if (name->protocol == QI_PROTOCOL_NULL)
		return qi_file_open_null(out, name->path, name->size.value, e);
	if (name->protocol == QI_PROTOCOL_NBD)
		return qi_nbd_open(out, &name->nbd, name->path, e);
	ret = qi_file_open(out, name->path, writable, e);
	if (ret || name->protocol == QI_PROTOCOL_FILE || (*out)->is_device)
		return ret;
	qi_file_close(*out, NULL);
	*out = NULL;
	return qi_stock(e,
			qi_fail(e, EINVAL, "'%s' is a file, and not a device",
				name->path),
			"'host_device' driver requires '%s' to be either a "
			"character or block device",
			name->path);
}

/*
 * A fixed VHD is a raw disk with one more sector. As in QEMU it is taken for
 * that, because a guest could have written the sector; but the user is told.
 */
static void look_at_end(struct qi_node *n)
{
	const uint64_t size = n->file->size;
	const struct qi_format *other;
	uint8_t sector[512];

	if (size <= sizeof(sector) || size % sizeof(sector) ||
	    qi_file_read(n->file, size - sizeof(sector), sizeof(sector), sector,
			 NULL))
		return;
	other = qi_format_ending(sector);
	if (other)
		qi_warn(n->graph,
			"'%s' ends as an image of format '%s' does, and is "
			"taken for raw, end and all; -f raw says that it is",
			n->path, other->name);
}

static int choose_format(struct qi_node *n, const char *name,
			 struct qi_error *e)
{
	int ret;

	if (name) {
		n->format = qi_format_find(name);
		if (n->format)
			return 0;
		return qi_stock(e,
				qi_fail(e, EINVAL,
					"cannot open '%s': unknown format '%s'",
					n->path, name),
				"Unknown driver '%s'", name);
	}
	ret = qi_file_probe(n->file, &n->format, e);
	if (!ret && n->format == qi_format_find("raw"))
		look_at_end(n);
	return ret;
}

/* Let the driver read the header and fill the facts from what it found. */
static int open_state(struct qi_node *n, struct qi_error *e)
{
	int ret;

	n->data = n->file;
	ret = n->format->open(n, e);
	if (!ret && n->record_blob)
		ret = qi_record_parse(&n->record, n->record_blob,
				      n->record_len);
	if (ret)
		return ret;
	n->facts.path = n->path;
	n->facts.filename = n->shown;
	n->facts.format = n->format->name;
	n->facts.driver = n->name->is_bare ? qi_name_driver(n->name) :
					     n->format->name;
	n->facts.file_size = n->file->size;
	n->facts.disk_size = qi_file_disk_size(n->file);
	n->facts.backing_name = n->backing_name;
	n->facts.backing_format = n->backing_format;
	return 0;
}

/* The format is known: take the rest of the name, and read the header. */
static int settle(struct qi_node *n, bool no_backing, struct qi_error *e)
{
	struct qi_name *name = n->name;
	const char *format = n->format->name;
	int ret = qi_name_settle(name, format, no_backing, n->graph, e);

	if (ret)
		return ret;
	n->shown = qi_name_shown(name);
	if (name->data)
		n->data_name = strdup(name->data);
	if (!n->shown || (name->data && !n->data_name))
		return qi_no_memory(e);
	ret = open_state(n, e);
	return ret ? ret : qi_name_check_rest(name, format, e);
}

/* A node that has its name, which is not the caller's any more, and no file. */
static struct qi_node *start(struct qi_graph *g, struct qi_name *name)
{
	struct qi_node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->graph = g;
	n->path = strdup(name->path);
	n->name = malloc(sizeof(*n->name));
	if (!n->path || !n->name) {
		free(n->name);
		n->name = NULL;
		qi_node_free(n);
		return NULL;
	}
	*n->name = *name;
	*name = (struct qi_name){ 0 };
	return n;
}

int qi_node_of_file(struct qi_graph *g, struct qi_file *f, struct qi_node **out,
		    struct qi_error *e)
{
	struct qi_name name = { .path = strdup(f->name) };
	struct qi_node *n = name.path ? start(g, &name) : NULL;
	int ret;

	qi_name_clear(&name);
	if (!n) {
		qi_file_close(f, NULL);
		return qi_no_memory(e);
	}
	n->file = f;
	n->format = qi_format_find("raw");
	ret = settle(n, true, e);
	if (ret)
		qi_node_free(n);
	else
		*out = n;
	return ret;
}

/* What `how` says besides the name. */
static int take_how(struct qi_node *n, const struct qi_open *how,
		    struct qi_error *e)
{
	n->to_check = how->to_check;
	n->cache = how->cache;
	return qi_snapshot_choice_copy(&n->snapshot, &how->snapshot) ?
		       qi_no_memory(e) :
		       0;
}

int qi_node_new(struct qi_graph *g, struct qi_name *name,
		const struct qi_open *how, struct qi_node **out,
		struct qi_error *e)
{
	struct qi_node *n = start(g, name);
	int ret;

	if (!n)
		return qi_no_memory(e);
	name = n->name;
	ret = take_how(n, how, e);
	if (!ret)
		ret = open_file(name, false, &n->file, e);
	if (!ret)
		ret = qi_file_set_cache(n->file, n->cache, e);
	if (!ret)
		ret = choose_format(n, name->format, e);
	if (!ret)
		ret = qi_node_check_snapshot(n, e);
	if (!ret)
		ret = settle(n, how->no_backing, e);
	if (ret) {
		qi_node_free(n);
		return ret;
	}
	n->force_share = name->force_share;
	*out = n;
	return 0;
}

/* -------------------------------------------------------------- writing */

int qi_node_check_access(const struct qi_node *n, struct qi_error *e)
{
	if (n->access != QI_ACCESS_WRITE)
		return 0;
	if (n->name->read_only)
		return qi_stock(e,
				qi_fail(e, EACCES,
					"'%s' was said to be read only",
					n->path),
				"Block node is read-only");
	if (n->name->force_share)
		return qi_stock(e,
				qi_fail(e, EACCES,
					"'%s' cannot be written and shared at "
					"once",
					n->path),
				"force-share=on can only be used with "
				"read-only images");
	return 0;
}

/* Nodes were opened read only to find the chain. */
int qi_node_make_writable(struct qi_node *n, struct qi_error *e)
{
	struct qi_file *f;
	int ret = qi_node_check_access(n, e);

	if (ret || n->access != QI_ACCESS_WRITE || n->file->writable)
		return ret;
	if (n->file->ops)
		return qi_fail(e, EACCES,
			       "'%s' cannot be written: its server "
			       "does not allow it",
			       n->path);
	if (qi_is_snapshot(&n->snapshot))
		return qi_fail(e, EINVAL,
			       "an internal snapshot of '%s' cannot be written",
			       n->path);
	ret = qi_file_open(&f, n->path, true, e);
	if (ret)
		return ret;
	ret = qi_file_set_cache(f, n->cache, e);
	if (ret) {
		qi_file_close(f, NULL);
		return ret;
	}
	if (f->dev != n->file->dev || f->ino != n->file->ino) {
		qi_file_close(f, NULL);
		return qi_fail(e, ESTALE,
			       "'%s' was replaced while it was being "
			       "opened; try again",
			       n->path);
	}
	qi_file_close(n->file, NULL);
	n->file = n->data = f;
	return 0;
}

int qi_node_reload(struct qi_node *n, struct qi_error *e)
{
	QI_AUTOFREE char *backing = n->backing_name;
	struct stat st;
	int ret;

	n->backing_name = NULL; /* kept to be compared */
	close_state(n);
	if (!n->file->ops && !fstat(n->file->fd, &st) && S_ISREG(st.st_mode))
		n->file->size = (uint64_t)st.st_size;
	ret = open_state(n, e);
	if (ret)
		return ret;
	if (!n->backing_name != !backing ||
	    (backing && strcmp(backing, n->backing_name)))
		return qi_fail(e, ESTALE,
			       "the backing file of '%s' was changed "
			       "while it was being opened; try again",
			       n->path);
	return 0;
}
