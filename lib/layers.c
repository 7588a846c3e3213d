/* SPDX-License-Identifier: MIT */
/* layers.c - the layers of a drive, and the snapshots that they hold */
#include <errno.h>

#include "lib/drive.h"

/* Is n's record one of this drive? */
static bool is_own(const struct qi_drive *d, const struct qi_node *n)
{
	struct qi_uuid drive = qi_drive_uuid(d);

	return qi_record_state_of(n) == QI_RECORD_VALID &&
	       qi_uuid_equal(&n->record->drive, &drive);
}

const char *qi_node_tag(const struct qi_node *n)
{
	return qi_record_state_of(n) == QI_RECORD_VALID && n->facts.backing &&
			       qi_node_parent_is_right(n) ?
		       n->record->tag :
		       "";
}

bool qi_node_is_merging(const struct qi_node *n)
{
	return qi_record_state_of(n) == QI_RECORD_VALID && n->record->merging;
}

int qi_drive_check_whole(const struct qi_drive *d, const struct qi_node *n,
			 struct qi_error *e)
{
	if (!qi_node_is_merging(n))
		return 0;
	return qi_fail(e, ESTALE,
		       "'%s' holds part of a merge that was ended; run 'qimg "
		       "commit --drive %s', or the 'qimg snapshot delete' that "
		       "it was, again first",
		       n->path, QI_WORD(d->path));
}

struct qi_node *qi_drive_find_tag(const struct qi_drive *d, const char *tag)
{
	for (struct qi_node *n = d->head; n; n = n->facts.backing)
		if (*tag && is_own(d, n) && !strcmp(qi_node_tag(n), tag))
			return n;
	return NULL;
}

int qi_drive_need_tag(const struct qi_drive *d, const char *tag,
		      struct qi_node **out, struct qi_error *e)
{
	*out = qi_drive_find_tag(d, tag);
	if (*out)
		return 0;
	return qi_fail(e, ENOENT,
		       "drive '%s' has no snapshot '%s'; 'qimg snapshot list "
		       "--drive %s' shows what it has",
		       d->path, tag, QI_WORD(d->path));
}

int qi_drive_layers(struct qi_drive *d, struct qi_drive_layer **out,
		    size_t *count, struct qi_error *e)
{
	const struct qi_node *above = NULL;

	*count = 0;
	*out = calloc(qi_chain_depth(d->head), sizeof(**out));
	if (!*out)
		return qi_no_memory(e);
	for (struct qi_node *n = d->head; n; above = n, n = n->facts.backing) {
		const struct qi_record *r = n->record;
		struct qi_drive_layer *l = &(*out)[(*count)++];

		l->node = n;
		if (above && is_own(d, above) && *qi_node_tag(above))
			l->tag = qi_node_tag(above);
		l->has_record = qi_record_state_of(n) == QI_RECORD_VALID;
		if (!l->has_record)
			continue;
		l->is_frozen = r->frozen;
		l->is_shared = r->shared;
		l->is_merging = above && r->merging;
		l->is_of_other_drive = qi_node_is_of_other(d, n);
	}
	return 0;
}

static const char *const unfinished[] = {
	[QI_JOURNAL_NONE] = NULL,
	[QI_JOURNAL_MOVE] = "bitmap move",
	[QI_JOURNAL_DROP] = "snapshot delete or commit",
};

int qi_node_record(struct qi_node *n, struct qi_record_facts *out)
{
	const struct qi_record *r = n->record;

	*out = (struct qi_record_facts){ .tag = "", .parent_is_right = true };
	if (!r)
		return 0;
	*out = (struct qi_record_facts){
		.state = r->state,
		.image = r->image,
		.parent = r->parent,
		.drive = r->drive,
		.frozen = r->frozen,
		.shared = r->shared,
		.committed = r->committed,
		.tag = r->tag,
		.parent_is_right = qi_node_parent_is_right(n),
		.unfinished = unfinished[r->journal.kind],
		.merging = r->merging,
	};
	return 0;
}
