// SPDX-License-Identifier: MIT
/*
 * metrics.c - how a backup went, for Prometheus
 *
 * The text format: for each metric its help, its type, and a line for each
 * set of labels.
 */
#include "cmd/common/metrics.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd/common/print.h"

/* A value of a label, in quotes. */
static void put_label(FILE *out, const char *name, const char *value)
{
	fprintf(out, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '\\' || *value == '"')
			fputc('\\', out);
		if (*value == '\n')
			fputs("\\n", out);
		else
			fputc(*value, out);
	}
	fputc('"', out);
}

#define HELP "# HELP qimg_backup_"

static void put_head(FILE *out, const char *name, const char *help)
{
	fprintf(out, HELP "%s %s\n", name, help);
	fprintf(out, "# TYPE qimg_backup_%s gauge\n", name);
}

static void put_name(FILE *out, const struct qi_metrics *m, const char *name)
{
	fprintf(out, "qimg_backup_%s{", name);
	put_label(out, "repository", m->repository);
}

static void put(FILE *out, const struct qi_metrics *m, const char *name,
		const char *help, double value)
{
	put_head(out, name, help);
	put_name(out, m, name);
	fprintf(out, "} %.17g\n", value);
}

static void put_run(FILE *out, const struct qi_metrics *m)
{
	put(out, m, "exit_status", "Exit status of the last run.",
	    m->exit_code);
	put(out, m, "start_time_seconds", "When the last run began.",
	    (double)m->start);
	put(out, m, "duration_seconds", "How long the last run took.",
	    m->seconds);
}

static void put_repository(FILE *out, const struct qi_metrics *m)
{
	const struct qi_point *p, *last = NULL;
	uint64_t bytes = 0;
	size_t count;

	p = qi_repo_points(m->repo, &count);
	for (size_t i = 0; i < count; i++) {
		bytes += p[i].file_size;
		if (!p[i].problem)
			last = &p[i];
	}
	put(out, m, "points", "Points of the repository.", (double)count);
	put(out, m, "file_bytes", "Bytes of all image files in it.",
	    (double)bytes);
	if (last)
		put(out, m, "last_point_time_seconds",
		    "When the last point was taken.", (double)last->time);
}

enum drive_value { SIZE, DIRTY, STORED, ZERO, DRIVE_VALUES };

static void put_drives(FILE *out, const struct qi_metrics *m)
{
	static const char *const name[] = { "drive_size_bytes",
					    "drive_dirty_bytes",
					    "drive_stored_bytes",
					    "drive_zero_bytes" };
	static const char *const help[] = {
		"Size of the disk.", "Bytes that were dirty or different.",
		"Bytes that the new point stores as data.",
		"Bytes that the new point stores as zero."
	};

	for (unsigned v = 0; v < DRIVE_VALUES; v++) {
		put_head(out, name[v], help[v]);
		for (size_t i = 0; i < m->point->drive_count; i++) {
			const struct qi_point_drive *d = &m->point->drives[i];
			const uint64_t value[] = { d->size, d->dirty, d->stored,
						   d->zero };

			put_name(out, m, name[v]);
			fputc(',', out);
			put_label(out, "drive", d->name);
			fputc(',', out);
			put_label(out, "type", qi_backup_type_name(d->type));
			fprintf(out, "} %llu\n", (unsigned long long)value[v]);
		}
	}
}

int qi_metrics_check(const char *path, struct qi_error *e)
{
	char start[sizeof(HELP)] = "";
	struct stat st;
	FILE *in;

	if (stat(path, &st) || (S_ISREG(st.st_mode) && !st.st_size))
		return 0;
	in = S_ISREG(st.st_mode) ? fopen(path, "re") : NULL;
	if (in) {
		start[fread(start, 1, sizeof(start) - 1, in)] = '\0';
		fclose(in);
	}
	return !strcmp(start, HELP) ?
		       0 :
		       qi_fail(e, EEXIST,
			       "'%s' is not a file of metrics of qimg, and is "
			       "not replaced",
			       path);
}

int qi_metrics_write(const char *path, const struct qi_metrics *m,
		     struct qi_error *e)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int ret;

	if (!out)
		return qi_fail(e, ENOMEM, "out of memory");
	put_run(out, m);
	if (m->repo)
		put_repository(out, m);
	if (m->point)
		put_drives(out, m);
	ret = fclose(out) ? qi_fail(e, ENOMEM, "out of memory") :
			    qi_replace_text(path, text, e);
	free(text);
	return ret;
}
