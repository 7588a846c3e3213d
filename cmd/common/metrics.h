/* SPDX-License-Identifier: MIT */
/*
 * metrics.h - how a backup went, for Prometheus
 */
#ifndef QIMG_METRICS_H
#define QIMG_METRICS_H

#include "lib/qimg.h"

struct qi_metrics {
	const char *repository;	      /* its path, a label of each value */
	const struct qi_repo *repo;   /* NULL: it could not be opened */
	const struct qi_point *point; /* NULL: none was made */
	int64_t start;		      /* seconds since the epoch */
	double seconds;
	int exit_code;
};

/* 0, or an error when a file of something else is there already. */
int qi_metrics_check(const char *path, struct qi_error *e);
/* Replace the file by one with these values, in the text format. */
int qi_metrics_write(const char *path, const struct qi_metrics *m,
		     struct qi_error *e);

#endif
