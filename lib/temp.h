/* SPDX-License-Identifier: MIT */
/*
 * temp.h - files that appear under their name complete, or not at all
 *
 * The file is written under a hidden name in the same folder, synced, renamed,
 * and the folder synced. An end before that leaves nothing under the name.
 */
#ifndef QI_TEMP_H
#define QI_TEMP_H

#include "lib/file.h"

enum qi_temp_mode {
	QI_TEMP_NEW,	 /* there must be nothing at the name: EEXIST */
	QI_TEMP_REPLACE, /* what is there goes, unless it is in use: EBUSY */
	QI_TEMP_OWNED,	 /* what is there goes, and is locked by us already */
	/*
	 * No hidden name: what is there is locked and emptied, and written
	 * under its name, through links; a device is written from its start.
	 */
	QI_TEMP_IN_PLACE,
};

struct qi_temp {
	struct qi_file *file; /* write here */
	char *path;	      /* the hidden name; NULL in place */
	char *target;	      /* the name it will get */
	char *name;	      /* the same as the caller said it */
	enum qi_temp_mode mode;
	bool is_synced;
	bool is_new; /* in place: there was none */
};

/* A link at the name is followed, unless it must be new. */
int qi_temp_open(struct qi_temp *t, const char *path, enum qi_temp_mode mode,
		 struct qi_error *e);
/* For those who publish several: what fails most does so before the first. */
int qi_temp_sync(struct qi_temp *t, struct qi_error *e);
/* Sync unless that is done, close, rename, sync the folder. t is empty then. */
int qi_temp_publish(struct qi_temp *t, struct qi_error *e);
/*
 * Remove what was not published; harmless on an empty one. In place, what was
 * there before stays, half-written.
 */
void qi_temp_discard(struct qi_temp *t);
#define QI_AUTOTEMP __attribute__((cleanup(qi_temp_discard)))

#endif
