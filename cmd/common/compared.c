// SPDX-License-Identifier: MIT
/*
 * compared.c - what a comparison has found, as text
 */
#include "cmd/common/compared.h"

#include <stdio.h>

void qi_compared_warn(void)
{
	puts("Warning: Image size mismatch!");
}

void qi_compared_text(const struct qi_comparison *c)
{
	unsigned long long off = c->off;

	switch (c->result) {
	case QI_COMPARE_EQUAL:
		puts("Images are identical.");
		break;
	case QI_COMPARE_DIFFERENT:
		printf("Content mismatch at offset %llu!\n", off);
		break;
	case QI_COMPARE_SIZE:
		puts("Strict mode: Image size mismatch!");
		break;
	case QI_COMPARE_STATUS:
		printf("Strict mode: Offset %llu block status mismatch!\n",
		       off);
		break;
	}
}
