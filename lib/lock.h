/* SPDX-License-Identifier: MIT */
/* lock.h - QEMU's image locks: open file description locks on single bytes */
#ifndef QI_LOCK_H
#define QI_LOCK_H

#include "lib/file.h"

/*
 * Take the lock bytes for `access` on an open image. -EBUSY: another process
 * has it, and *e names that. -ENOLCK: the file system has no such locks.
 * The lock lives as long as the descriptor. One thread at a time.
 */
int qi_lock(struct qi_file *f, enum qi_access access, bool force_share,
	    struct qi_error *e);
void qi_unlock(struct qi_file *f);

/*
 * Is this unfinished file ours alone? For as long as it is open. Has nothing
 * to do with QEMU's locks.
 */
bool qi_claim(struct qi_file *f);

#endif
