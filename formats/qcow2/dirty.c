/* SPDX-License-Identifier: MIT */
/*
 * dirty.c - the mark that refcounts and copied flags may disagree
 *
 * It is set around changes of many refcounts that are not done in one step.
 * Whoever finds it counts all references anew: QEMU when it opens the image
 * for writing, and `check -r all`. Version 2 has no such mark.
 */
#include "formats/qcow2/qcow2.h"

void qcow2_mark_dirty(struct qcow2 *q, bool dirty)
{
	if (q->h.version < 3)
		return;
	if (dirty)
		q->h.incompatible |= QCOW2_INCOMPAT_DIRTY;
	else
		q->h.incompatible &= ~(uint64_t)QCOW2_INCOMPAT_DIRTY;
}

int qcow2_write_dirty(struct qcow2 *q, bool dirty, struct qi_error *e)
{
	int ret;

	if (q->h.version < 3)
		return 0;
	/* When it goes, what it stands for is on the disk. */
	ret = dirty ? 0 : qcow2_refcounts_write(q, e);
	if (ret)
		return ret;
	qcow2_mark_dirty(q, dirty);
	return qcow2_header_commit(q, e);
}
