/* SPDX-License-Identifier: MIT */
/* compare.c - do two images have the same content? */
#include <errno.h>

#include "lib/pair.h"

static int look_at_run(struct qi_pair *p, uint64_t len, bool strict,
		       struct qi_comparison *out, struct qi_error *e)
{
	if (strict && (p->x[0].flags ^ p->x[1].flags) & QI_EXT_ALLOCATED) {
		out->result = QI_COMPARE_STATUS;
		out->off = p->pos;
		return 0;
	}
	if (qi_pair_is_equal(p)) {
		qi_pair_skip(p, len);
		return 0;
	}
	while (len) {
		uint64_t looked, equal;
		int ret = qi_pair_compare(p, len, &looked, &equal, e);

		if (ret)
			return ret;
		if (equal < looked) {
			out->result = QI_COMPARE_DIFFERENT;
			out->off = p->pos + equal;
			return 0;
		}
		qi_pair_skip(p, looked);
		len -= looked;
	}
	return 0;
}

int qi_compare_images(struct qi_node *a, struct qi_node *b, bool strict,
		      const struct qi_progress *progress,
		      struct qi_comparison *out, struct qi_error *e)
{
	uint64_t end = qi_max(a->facts.size, b->facts.size), len;
	struct qi_pair p = { 0 };
	int ret;

	*out = (struct qi_comparison){ .size_differs = a->facts.size !=
						       b->facts.size };
	if (strict && out->size_differs) {
		out->result = QI_COMPARE_SIZE;
		return 0;
	}
	ret = qi_pair_init(&p, a, b);
	if (ret)
		ret = qi_no_memory(e);
	else
		qi_pair_seek(&p, 0, end);
	while (!ret && out->result == QI_COMPARE_EQUAL) {
		ret = qi_pair_run(&p, &len, e);
		if (ret <= 0)
			break;
		ret = look_at_run(&p, len, strict, out, e);
		if (progress && progress->fn)
			progress->fn(progress->arg, p.pos, end);
	}
	qi_pair_clear(&p);
	return ret;
}
