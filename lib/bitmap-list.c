/* SPDX-License-Identifier: MIT */
/* bitmap-list.c - which bitmaps a node and a drive have */
#include <errno.h>

#include "lib/drive.h"

/* Bytes, for a bitmap of which no segment is left. */
#define DEFAULT_GRANULARITY 65536u

const struct qi_stored_bitmap *qi_node_stored_bitmap(struct qi_node *n,
						     const char *name)
{
	int which = qi_node_find_bitmap(n, name);
	size_t count;

	return which < 0 ? NULL : &n->format->bitmaps->list(n, &count)[which];
}

const struct qi_record_bitmap *qi_node_segment(const struct qi_node *n,
					       const char *name)
{
	const struct qi_record_bitmap *b =
		qi_record_state_of(n) == QI_RECORD_VALID ?
			qi_record_find(n->record, name) :
			NULL;

	return b && !b->removed ? b : NULL;
}

static void take_segment(struct qi_bitmap_facts *f, const struct qi_node *n)
{
	const struct qi_record_bitmap *b = qi_node_segment(n, f->name);

	if (!b)
		return;
	f->attachment = QI_ON_DRIVE;
	f->anchor = b->anchor;
	f->paused = b->paused;
	f->checkpoint = b->checkpoint;
	f->min_size = b->min_size;
}

int qi_node_bitmaps(struct qi_node *n, struct qi_bitmap_facts **out,
		    size_t *count, struct qi_error *e)
{
	const struct qi_stored_bitmap *all = NULL;

	*count = 0;
	if (n->format->bitmaps)
		all = n->format->bitmaps->list(n, count);
	*out = calloc(*count + 1, sizeof(**out));
	if (!*out)
		return qi_no_memory(e);
	for (size_t i = 0; i < *count; i++) {
		struct qi_bitmap_facts *f = &(*out)[i];

		f->name = all[i].name;
		f->enabled = all[i].enabled;
		f->in_use = all[i].in_use;
		f->unreadable = all[i].problem && !all[i].in_use;
		f->problem = all[i].problem;
		f->granularity = 1u << all[i].granularity_bits % 32;
		take_segment(f, n);
	}
	return 0;
}

const char *qi_node_bitmaps_problem(struct qi_node *n)
{
	return n->format->bitmaps ? n->format->bitmaps->problem(n) : NULL;
}

int qi_node_bitmap_ranges_at(struct qi_node *n, size_t index,
			     struct qi_ranges **out, struct qi_error *e)
{
	size_t count;
	const struct qi_stored_bitmap *f =
		&n->format->bitmaps->list(n, &count)[index];

	if (f->problem)
		return qi_stock_bad_bitmap(
			e,
			qi_fail(e, ESTALE,
				"bitmap '%s' of '%s' cannot be read: %s",
				f->name, n->path, f->problem),
			f);
	return qi_ranges_bitmap(out, n, index) ? qi_no_memory(e) : 0;
}

int qi_node_bitmap_ranges(struct qi_node *n, const char *name,
			  struct qi_ranges **out, struct qi_error *e)
{
	int which = qi_node_find_bitmap(n, name);

	if (which < 0)
		return qi_stock_no_bitmap(e,
					  qi_fail(e, ENOENT,
						  "'%s' has no bitmap '%s'",
						  n->path, name),
					  name);
	return qi_node_bitmap_ranges_at(n, (size_t)which, out, e);
}

static uint32_t segment_granularity(struct qi_node *n, const char *name)
{
	const struct qi_stored_bitmap *f = qi_node_stored_bitmap(n, name);

	return f ? 1u << f->granularity_bits % 32 : 0;
}

/* Of the topmost segment that is there. */
static uint32_t drive_granularity(const struct qi_drive *d, const char *name)
{
	for (struct qi_node *n = d->head; n; n = n->facts.backing) {
		uint32_t g = qi_drive_owns(d, n, name) ?
				     segment_granularity(n, name) :
				     0;

		if (g)
			return g;
	}
	return DEFAULT_GRANULARITY;
}

static bool is_listed(const struct qi_drive_bitmap *all, size_t count,
		      const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0)
			return true;
	return false;
}

int qi_drive_bitmaps(struct qi_drive *d, struct qi_drive_bitmap **out,
		     size_t *count, struct qi_error *e)
{
	struct qi_drive_bitmap *all = NULL;
	struct qi_uuid drive = qi_drive_uuid(d);
	size_t n = 0, kept = 0;

	for (struct qi_node *node = d->head; node; node = node->facts.backing) {
		const struct qi_record *r = node->record;

		/* One that never was a head belongs to no drive. */
		if (qi_record_state_of(node) != QI_RECORD_VALID ||
		    qi_uuid_is_null(&r->drive))
			continue;
		if (!qi_uuid_equal(&r->drive, &drive))
			break;
		for (size_t i = 0; i < r->count; i++) {
			const struct qi_record_bitmap *b = &r->bitmaps[i];
			void *p;

			/* The topmost mention counts, also of a removal. */
			if (is_listed(all, n, b->name))
				continue;
			p = realloc(all, (n + 1) * sizeof(*all));
			if (!p) {
				free(all);
				return qi_no_memory(e);
			}
			all = p;
			memcpy(all[n].name, b->name, sizeof(b->name));
			all[n].paused = b->paused;
			all[n].checkpoint = b->checkpoint;
			all[n++].granularity =
				b->removed ? 0 : drive_granularity(d, b->name);
		}
	}
	for (size_t i = 0; i < n; i++)
		if (all[i].granularity)
			all[kept++] = all[i];
	*out = all;
	*count = kept;
	return 0;
}

int qi_drive_find_bitmap(struct qi_drive *d, const char *name,
			 struct qi_drive_bitmap *out, struct qi_error *e)
{
	struct qi_drive_bitmap *all;
	size_t count;
	int ret = qi_drive_bitmaps(d, &all, &count, e);

	if (ret)
		return ret;
	ret = -ENOENT;
	for (size_t i = 0; i < count; i++)
		if (strcmp(all[i].name, name) == 0) {
			*out = all[i];
			ret = 0;
		}
	free(all);
	return ret;
}
