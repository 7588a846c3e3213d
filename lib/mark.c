/* SPDX-License-Identifier: MIT */
/* mark.c - bits in recording bitmaps, before guest data is written */
#include <errno.h>

#include "lib/mark.h"

/* The old bits and what is added, as a change of bitmap `which`. */
static int mark_one(struct qi_bitmap_change *c, struct qi_node *n, size_t which,
		    const struct qi_stored_bitmap *b, struct qi_ranges *added)
{
	struct qi_ranges *in[2] = { NULL, added };
	int ret = qi_ranges_bitmap(&in[0], n, which);

	if (ret) {
		qi_ranges_free(added);
		return ret;
	}
	*c = (struct qi_bitmap_change){
		.name = b->name,
		.enabled = b->enabled,
		.granularity_bits = b->granularity_bits,
	};
	return qi_ranges_union(&c->bits, in, 2);
}

int qi_marks_make(struct qi_marks *m, struct qi_node *n, qi_marks_fn *fn,
		  void *arg, struct qi_error *e)
{
	const struct qi_stored_bitmap *all = NULL;
	size_t count = 0;
	int ret = 0;

	*m = (struct qi_marks){ NULL, 0 };
	if (n->format->bitmaps)
		all = n->format->bitmaps->list(n, &count);
	if (!count)
		return 0;
	m->changes = calloc(count, sizeof(*m->changes));
	if (!m->changes)
		return qi_no_memory(e);
	for (size_t i = 0; i < count && ret >= 0; i++) {
		struct qi_ranges *added;

		if (all[i].in_use)
			continue;
		/* What cannot be read now may look as if it could be later. */
		if (all[i].problem) {
			ret = qi_fail(e, EUCLEAN,
				      "bitmap '%s' of '%s' cannot record what "
				      "is written: %s; 'qimg check -r all %s' "
				      "or 'qimg bitmap remove --node %s %s' "
				      "drops it",
				      all[i].name, n->path, all[i].problem,
				      QI_WORD(n->path), QI_WORD(n->path),
				      QI_WORD(all[i].name));
			break;
		}
		ret = fn(arg, &all[i], &added);
		if (ret > 0)
			ret = mark_one(&m->changes[m->count++], n, i, &all[i],
				       added);
		if (ret < 0)
			qi_no_memory(e);
	}
	if (ret < 0)
		qi_marks_clear(m);
	return ret < 0 ? ret : 0;
}

void qi_marks_clear(struct qi_marks *m)
{
	for (size_t i = 0; i < m->count; i++)
		qi_ranges_free(m->changes[i].bits);
	free(m->changes);
	*m = (struct qi_marks){ NULL, 0 };
}

int qi_node_mark(struct qi_node *n, qi_marks_fn *fn, void *arg,
		 struct qi_error *e)
{
	struct qi_marks m;
	int ret = qi_marks_make(&m, n, fn, arg, e);

	if (ret)
		return ret;
	/* Where a bitmap is, one can be stored, whatever made it. */
	if (m.count)
		ret = n->format->bitmaps->update(n, m.changes, m.count, NULL, 0,
						 e);
	qi_marks_clear(&m);
	return ret;
}
