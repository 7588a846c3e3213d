/* SPDX-License-Identifier: MIT */
/*
 * compared.h - what a comparison has found, as text and exit code
 */
#ifndef QIMG_COMPARED_H
#define QIMG_COMPARED_H

#include "lib/qimg.h"

/* Exit codes of qemu-img compare */
enum {
	QI_COMPARED_EQUAL = 0,
	QI_COMPARED_DIFFERENT = 1,
	QI_COMPARED_NOT_OPENED = 2,
	QI_COMPARED_NOT_READ = 4,
};

/* One is longer than the other; comes first, once the common part is equal. */
void qi_compared_warn(void);
void qi_compared_text(const struct qi_comparison *c);

#endif
