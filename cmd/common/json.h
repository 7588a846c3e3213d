/* SPDX-License-Identifier: MIT */
/*
 * json.h - JSON documents that are written as they grow
 *
 * A document is one object. Its small members are jansson values; lists of
 * unknown length are opened, filled and closed, and never held in memory.
 */
#ifndef QIMG_JSON_H
#define QIMG_JSON_H

#include <jansson.h>

#include "lib/qimg.h"

struct qi_json {
	bool list;  /* a list is open */
	bool first; /* nothing was written on this level yet */
};

/* Start the document on stdout: {"qimg": VERSION. */
void qi_json_begin(struct qi_json *j);
/* Takes the reference to value, as do all below. */
void qi_json_member(struct qi_json *j, const char *key, json_t *value);
void qi_json_list_begin(struct qi_json *j, const char *key);
void qi_json_element(struct qi_json *j, json_t *value);
void qi_json_list_end(struct qi_json *j);
/* Close what is open; after a failure (ret < 0) with a member "error". */
void qi_json_end(struct qi_json *j, int ret, const struct qi_error *e);

/* Print a whole document without the frame, as qemu-img does. */
void qi_json_print(json_t *value);

/* Text that may not be UTF-8; NULL becomes null. */
json_t *qi_json_text(const char *text);
json_t *qi_json_uint(uint64_t value);
/* null for the null UUID */
json_t *qi_json_uuid(const struct qi_uuid *u);
/* As "2026-11-23T08:36:54Z". */
json_t *qi_json_time(int64_t time);
/* What the record of an image says. */
json_t *qi_json_record(const struct qi_record_facts *r);
/* Steps of a plan. */
json_t *qi_json_plan(const struct qi_plan *plan);

#endif
