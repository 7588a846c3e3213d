/* SPDX-License-Identifier: MIT */
/* record.c - reading and writing the private header extension */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <xxhash.h>

#include "lib/record.h"

#define RECORD_VERSION 1
#define FLAG_FROZEN 1u
#define FLAG_SHARED 2u
#define FLAG_COMMITTED 4u
#define FLAG_JOURNAL 8u
#define FLAG_MERGING 16u
#define BITMAP_ANCHOR 1u
#define BITMAP_PAUSED 2u
#define BITMAP_REMOVED 4u
#define BITMAP_GAP 8u

/* On disk; all big endian. Head, tag, bitmaps, and the journal if any. */
struct disk_record {
	be32 version;
	be32 length;   /* of the whole record */
	be64 checksum; /* XXH3-64 of the record with this field zero */
	struct qi_uuid image;
	struct qi_uuid parent;
	struct qi_uuid drive;
	be32 flags;
	be16 tag_length; /* the tag follows the struct, padded to 8 */
	be16 bitmap_count;
};
_Static_assert(sizeof(struct disk_record) == 72, "record header");

struct disk_bitmap {
	be16 flags;
	be16 name_length; /* the name follows, padded to 8 */
	be32 reserved;
	be64 min_size;
	struct qi_uuid checkpoint;
};
_Static_assert(sizeof(struct disk_bitmap) == 32, "record bitmap");

struct disk_journal {
	be16 kind;
	be16 source_length; /* the two texts follow, each padded to 8 */
	be16 name_length;
	be16 reserved;
	struct qi_uuid uuid;
};
_Static_assert(sizeof(struct disk_journal) == 24, "record journal");

/* ---------------------------------------------------------------- uuids */

struct qi_uuid qi_uuid_random(void)
{
	struct qi_uuid u;

	qi_random(u.b, sizeof(u.b));
	/* RFC 4122, version 4. */
	u.b[6] = (uint8_t)((u.b[6] & 0x0f) | 0x40);
	u.b[8] = (uint8_t)((u.b[8] & 0x3f) | 0x80);
	return u;
}

bool qi_uuid_equal(const struct qi_uuid *a, const struct qi_uuid *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool qi_uuid_is_null(const struct qi_uuid *u)
{
	return qi_is_zero(u->b, sizeof(u->b));
}

void qi_uuid_format(const struct qi_uuid *u, char text[QI_UUID_TEXT])
{
	char *p = text;

	for (int i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		p += snprintf(p, 3, "%02x", u->b[i]);
	}
}

bool qi_uuid_parse(struct qi_uuid *out, const char *text)
{
	for (int i = 0; i < 16; i++) {
		unsigned byte;

		if (i == 4 || i == 6 || i == 8 || i == 10)
			if (*text++ != '-')
				return false;
		if (!isxdigit((unsigned char)text[0]) ||
		    !isxdigit((unsigned char)text[1]) ||
		    sscanf(text, "%2x", &byte) != 1)
			return false;
		out->b[i] = (uint8_t)byte;
		text += 2;
	}
	return *text == '\0';
}

/* -------------------------------------------------------------- records */

void qi_record_free(struct qi_record *r)
{
	if (!r)
		return;
	free(r->bitmaps);
	free(r);
}

static uint64_t checksum(const uint8_t *blob, size_t len)
{
	uint8_t copy[QI_RECORD_MAX];

	memcpy(copy, blob, len);
	memset(copy + offsetof(struct disk_record, checksum), 0, sizeof(be64));
	return XXH3_64bits(copy, len);
}

/* Takes len bytes of text, padded to 8, off the front of *p. */
static const uint8_t *take_text(const uint8_t **p, const uint8_t *end,
				size_t len)
{
	const uint8_t *text = *p;
	size_t padded = qi_round_up(len, 8);

	if ((size_t)(end - *p) < padded || memchr(text, 0, len))
		return NULL;
	*p += padded;
	return text;
}

static int parse_bitmaps(struct qi_record *r, size_t count, const uint8_t **at,
			 const uint8_t *end)
{
	const uint8_t *p = *at;

	while (count--) {
		struct disk_bitmap d;
		struct qi_record_bitmap *b;
		char name[QI_NAME_MAX + 1] = "";
		const uint8_t *text;
		size_t len;

		if ((size_t)(end - p) < sizeof(d))
			return -EUCLEAN;
		memcpy(&d, p, sizeof(d));
		p += sizeof(d);
		len = be16_get(d.name_length);
		text = len && len <= QI_NAME_MAX ? take_text(&p, end, len) :
						   NULL;
		if (!text)
			return -EUCLEAN;
		memcpy(name, text, len);
		if (qi_record_find(r, name))
			return -EUCLEAN;
		b = qi_record_put(r, name);
		if (!b)
			return -ENOMEM;
		b->anchor = be16_get(d.flags) & BITMAP_ANCHOR;
		b->paused = be16_get(d.flags) & BITMAP_PAUSED;
		b->removed = be16_get(d.flags) & BITMAP_REMOVED;
		b->gap = be16_get(d.flags) & BITMAP_GAP;
		b->min_size = be64_get(d.min_size);
		b->checkpoint = d.checkpoint;
	}
	*at = p;
	return 0;
}

static int parse_journal(struct qi_record *r, const uint8_t *p,
			 const uint8_t *end)
{
	struct disk_journal d;
	const uint8_t *source, *name = NULL;
	size_t source_len, name_len;

	if ((size_t)(end - p) < sizeof(d))
		return -EUCLEAN;
	memcpy(&d, p, sizeof(d));
	p += sizeof(d);
	source_len = be16_get(d.source_length);
	name_len = be16_get(d.name_length);
	if (source_len > QI_NAME_MAX || name_len > QI_NAME_MAX)
		return -EUCLEAN;
	source = take_text(&p, end, source_len);
	if (source)
		name = take_text(&p, end, name_len);
	r->journal.kind = (enum qi_journal_kind)be16_get(d.kind);
	if (!name || (r->journal.kind != QI_JOURNAL_MOVE &&
		      r->journal.kind != QI_JOURNAL_DROP))
		return -EUCLEAN;
	r->journal.uuid = d.uuid;
	memcpy(r->journal.source, source, source_len);
	memcpy(r->journal.name, name, name_len);
	return 0;
}

static int parse(struct qi_record *r, const uint8_t *blob, size_t len)
{
	struct disk_record d;
	const uint8_t *p = blob + sizeof(d), *end = blob + len, *tag;
	size_t tag_len;
	int ret;

	if (len < sizeof(d) || len > QI_RECORD_MAX)
		return -EUCLEAN;
	memcpy(&d, blob, sizeof(d));
	tag_len = be16_get(d.tag_length);
	if (be32_get(d.version) != RECORD_VERSION ||
	    be32_get(d.length) != len ||
	    be64_get(d.checksum) != checksum(blob, len) || tag_len > QI_TAG_MAX)
		return -EUCLEAN;
	tag = take_text(&p, end, tag_len);
	if (!tag)
		return -EUCLEAN;
	memcpy(r->tag, tag, tag_len);
	r->image = d.image;
	r->parent = d.parent;
	r->drive = d.drive;
	r->frozen = be32_get(d.flags) & FLAG_FROZEN;
	r->shared = be32_get(d.flags) & FLAG_SHARED;
	r->committed = be32_get(d.flags) & FLAG_COMMITTED;
	r->merging = be32_get(d.flags) & FLAG_MERGING;
	ret = parse_bitmaps(r, be16_get(d.bitmap_count), &p, end);
	if (!ret && be32_get(d.flags) & FLAG_JOURNAL)
		ret = parse_journal(r, p, end);
	return ret;
}

int qi_record_parse(struct qi_record **out, const void *blob, size_t len)
{
	struct qi_record *r = calloc(1, sizeof(*r));
	int ret = r ? parse(r, blob, len) : -ENOMEM;

	if (ret == -EUCLEAN) {
		free(r->bitmaps);
		*r = (struct qi_record){ .state = QI_RECORD_UNKNOWN };
		ret = 0;
	} else if (!ret) {
		r->state = QI_RECORD_VALID;
	}
	if (ret)
		qi_record_free(r);
	else
		*out = r;
	return ret;
}

int qi_record_copy(struct qi_record **out, const struct qi_record *r)
{
	struct qi_record *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	if (!r || r->state != QI_RECORD_VALID) {
		c->state = QI_RECORD_VALID;
		c->image = qi_uuid_random();
		*out = c;
		return 0;
	}
	*c = *r;
	c->bitmaps = calloc(r->count + 1, sizeof(*r->bitmaps));
	if (!c->bitmaps) {
		free(c);
		return -ENOMEM;
	}
	if (r->count)
		memcpy(c->bitmaps, r->bitmaps, r->count * sizeof(*r->bitmaps));
	*out = c;
	return 0;
}

static size_t put_text(uint8_t *to, const char *text, size_t len)
{
	memcpy(to, text, len);
	return qi_round_up(len, 8);
}

static size_t serialised_length(const struct qi_record *r)
{
	const struct qi_journal *j = &r->journal;
	size_t total =
		sizeof(struct disk_record) + qi_round_up(strlen(r->tag), 8);

	for (size_t i = 0; i < r->count; i++)
		total += sizeof(struct disk_bitmap) +
			 qi_round_up(strlen(r->bitmaps[i].name), 8);
	if (j->kind)
		total += sizeof(struct disk_journal) +
			 qi_round_up(strlen(j->source), 8) +
			 qi_round_up(strlen(j->name), 8);
	return total;
}

static size_t put_bitmap(uint8_t *to, const struct qi_record_bitmap *b)
{
	size_t n = strlen(b->name);
	unsigned flags = (b->anchor ? BITMAP_ANCHOR : 0) |
			 (b->paused ? BITMAP_PAUSED : 0) |
			 (b->removed ? BITMAP_REMOVED : 0) |
			 (b->gap ? BITMAP_GAP : 0);
	struct disk_bitmap d = {
		.flags = be16_put((uint16_t)flags),
		.name_length = be16_put((uint16_t)n),
		.min_size = be64_put(b->min_size),
		.checkpoint = b->checkpoint,
	};

	memcpy(to, &d, sizeof(d));
	return sizeof(d) + put_text(to + sizeof(d), b->name, n);
}

static void put_journal(uint8_t *to, const struct qi_journal *j)
{
	struct disk_journal d = {
		.kind = be16_put((uint16_t)j->kind),
		.source_length = be16_put((uint16_t)strlen(j->source)),
		.name_length = be16_put((uint16_t)strlen(j->name)),
		.uuid = j->uuid,
	};

	memcpy(to, &d, sizeof(d));
	to += sizeof(d);
	to += put_text(to, j->source, strlen(j->source));
	put_text(to, j->name, strlen(j->name));
}

int qi_record_serialise(const struct qi_record *r, void **blob, size_t *len)
{
	size_t tag_len = strlen(r->tag), total = serialised_length(r), pos;
	struct disk_record head = {
		.version = be32_put(RECORD_VERSION),
		.length = be32_put((uint32_t)total),
		.image = r->image,
		.parent = r->parent,
		.drive = r->drive,
		.flags = be32_put((r->frozen ? FLAG_FROZEN : 0) |
				  (r->shared ? FLAG_SHARED : 0) |
				  (r->committed ? FLAG_COMMITTED : 0) |
				  (r->merging ? FLAG_MERGING : 0) |
				  (r->journal.kind ? FLAG_JOURNAL : 0)),
		.tag_length = be16_put((uint16_t)tag_len),
		.bitmap_count = be16_put((uint16_t)r->count),
	};
	uint8_t *out;

	if (total > QI_RECORD_MAX)
		return -E2BIG;
	out = calloc(1, total);
	if (!out)
		return -ENOMEM;
	pos = sizeof(head);
	pos += put_text(out + pos, r->tag, tag_len);
	for (size_t i = 0; i < r->count; i++)
		pos += put_bitmap(out + pos, &r->bitmaps[i]);
	if (r->journal.kind)
		put_journal(out + pos, &r->journal);
	memcpy(out, &head, sizeof(head));
	head.checksum = be64_put(checksum(out, total));
	memcpy(out, &head, sizeof(head));
	*blob = out;
	*len = total;
	return 0;
}

int qi_record_note_size(const struct qi_node *n, uint64_t size, void **blob,
			size_t *len, struct qi_error *e)
{
	QI_AUTORECORD struct qi_record *r = NULL;

	*blob = NULL;
	if (qi_record_state_of(n) != QI_RECORD_VALID || !n->record->count)
		return 0;
	if (qi_record_copy(&r, n->record))
		return qi_no_memory(e);
	for (size_t i = 0; i < r->count; i++)
		r->bitmaps[i].min_size = qi_min(r->bitmaps[i].min_size, size);
	return qi_record_serialise(r, blob, len) ? qi_no_memory(e) : 0;
}

struct qi_record_bitmap *qi_record_find(const struct qi_record *r,
					const char *name)
{
	for (size_t i = 0; r && i < r->count; i++)
		if (strcmp(r->bitmaps[i].name, name) == 0)
			return &r->bitmaps[i];
	return NULL;
}

struct qi_record_bitmap *qi_record_put(struct qi_record *r, const char *name)
{
	struct qi_record_bitmap *b = qi_record_find(r, name);

	if (b)
		return b;
	b = realloc(r->bitmaps, (r->count + 1) * sizeof(*b));
	if (!b)
		return NULL;
	r->bitmaps = b;
	b += r->count++;
	*b = (struct qi_record_bitmap){ 0 };
	memcpy(b->name, name, strnlen(name, QI_NAME_MAX));
	return b;
}

void qi_record_drop(struct qi_record *r, const char *name)
{
	struct qi_record_bitmap *b = qi_record_find(r, name);

	if (b)
		*b = r->bitmaps[--r->count];
}

void qi_journal_set(struct qi_record *r, enum qi_journal_kind kind,
		    const struct qi_uuid *uuid, const char *source,
		    const char *name)
{
	r->journal = (struct qi_journal){ .kind = kind, .uuid = *uuid };
	memcpy(r->journal.source, source, strnlen(source, QI_NAME_MAX));
	memcpy(r->journal.name, name, strnlen(name, QI_NAME_MAX));
}

enum qi_record_state qi_record_state_of(const struct qi_node *n)
{
	return n->record ? n->record->state : QI_RECORD_NONE;
}

struct qi_uuid qi_node_uuid(const struct qi_node *n)
{
	return n && qi_record_state_of(n) == QI_RECORD_VALID ?
		       n->record->image :
		       (struct qi_uuid){ { 0 } };
}
