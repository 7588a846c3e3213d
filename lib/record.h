/* SPDX-License-Identifier: MIT */
/*
 * record.h - the private header extension: who a node is, and which drive
 * bitmaps have a segment in it
 *
 * Layout and rules: qimg-format(7). A record that cannot be read is UNKNOWN,
 * which makes dirty sets full; it is never taken for absent.
 */
#ifndef QI_RECORD_H
#define QI_RECORD_H

#include "lib/format.h"

#define QI_TAG_MAX 255
/* Bytes. With header, extensions and a backing name it fits into 4 KiB. */
#define QI_RECORD_MAX 1920

struct qi_record_bitmap {
	char name[QI_NAME_MAX + 1];
	bool anchor;
	bool paused;
	bool gap;     /* it was paused at some time since it starts */
	bool removed; /* (drive, name) is gone; segments below are leftovers */
	struct qi_uuid checkpoint;
	uint64_t min_size;
};

/* What an operation on this image and another one still has to do. */
enum qi_journal_kind {
	QI_JOURNAL_NONE,
	QI_JOURNAL_MOVE, /* take bitmap `name` away from where it was */
	QI_JOURNAL_DROP, /* remove the files of layers that were merged */
};
struct qi_journal {
	enum qi_journal_kind kind;
	/* MOVE: the drive or image that had it; DROP: the topmost layer. */
	struct qi_uuid uuid;
	/* MOVE: the name there; DROP: that of its file, as it was recorded. */
	char source[QI_NAME_MAX + 1];
	/* MOVE: the name here; DROP: tag of the snapshot, or "". */
	char name[QI_NAME_MAX + 1];
};

struct qi_record {
	enum qi_record_state state;
	struct qi_uuid image, parent, drive;
	bool frozen, shared;
	bool committed; /* all it had is in its parent: it may be deleted */
	bool merging;	/* it may have a part of what is in layers above */
	char tag[QI_TAG_MAX + 1];
	struct qi_journal journal;
	size_t count;
	struct qi_record_bitmap *bitmaps;
};

/* *out is UNKNOWN for a blob that cannot be read; fails without memory only. */
int qi_record_parse(struct qi_record **out, const void *blob, size_t len);
void qi_record_free(struct qi_record *r);
/* A copy to change; of a node without a record a new one with an image id. */
int qi_record_copy(struct qi_record **out, const struct qi_record *r);
/* -E2BIG when it does not fit QI_RECORD_MAX. *blob is malloc'd. */
int qi_record_serialise(const struct qi_record *r, void **blob, size_t *len);

/*
 * The record of n when its disk has had `size` bytes: what was past the end at
 * some time is dirty when the disk gets there again. *blob is malloc'd, NULL
 * when there is nothing to note.
 */
int qi_record_note_size(const struct qi_node *n, uint64_t size, void **blob,
			size_t *len, struct qi_error *e);

struct qi_record_bitmap *qi_record_find(const struct qi_record *r,
					const char *name);
/* Find or add; NULL without memory. */
struct qi_record_bitmap *qi_record_put(struct qi_record *r, const char *name);
void qi_record_drop(struct qi_record *r, const char *name);

/* Note what is left to be done; names that are too long are cut. */
void qi_journal_set(struct qi_record *r, enum qi_journal_kind kind,
		    const struct qi_uuid *uuid, const char *source,
		    const char *name);
/* NONE for a node without one. */
enum qi_record_state qi_record_state_of(const struct qi_node *n);
/* The null UUID for no node, or one without a valid record. */
struct qi_uuid qi_node_uuid(const struct qi_node *n);
struct qi_uuid qi_uuid_random(void);
bool qi_uuid_equal(const struct qi_uuid *a, const struct qi_uuid *b);
/* False when text is no id. */
bool qi_uuid_parse(struct qi_uuid *out, const char *text);

static inline void qi_record_freep(struct qi_record **r)
{
	qi_record_free(*r);
}
#define QI_AUTORECORD __attribute__((cleanup(qi_record_freep)))

#endif
