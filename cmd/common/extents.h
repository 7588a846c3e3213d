/* SPDX-License-Identifier: MIT */
/*
 * extents.h - which file holds which part of a disk, as text and JSON
 */
#ifndef QIMG_EXTENTS_H
#define QIMG_EXTENTS_H

#include "lib/qimg.h"

enum qi_extents_form {
	QI_EXTENTS_TEXT,
	QI_EXTENTS_PLAIN, /* as qemu-img: it ends at compressed data */
	QI_EXTENTS_JSON,
};
/* Print those of a range, which may go past the end, as qemu-img does. */
int qi_extents_print(struct qi_node *n, uint64_t off, uint64_t len,
		     enum qi_extents_form form, struct qi_error *e);

#endif
