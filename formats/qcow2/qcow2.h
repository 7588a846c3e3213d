/* SPDX-License-Identifier: MIT */
/*
 * qcow2.h - the parts of the qcow2 driver for each other
 *
 * Each section below is named after the file that has its functions.
 */
#ifndef QCOW2_H
#define QCOW2_H

#include <pthread.h>

#include "formats/qcow2/disk.h"
#include "lib/format.h"

/* A header extension as it was read; data is kept for the rewrite. */
struct qcow2_extension {
	uint32_t type;
	uint32_t len;
	uint8_t *data; /* malloc'd */
};

/* The header in host byte order, checked. */
struct qcow2_header {
	unsigned version;
	unsigned cluster_bits;
	uint64_t size;
	unsigned crypt_method;
	uint32_t l1_size; /* entries */
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t snapshot_count;
	uint64_t snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	unsigned refcount_order;
	uint32_t length;
	enum qi_codec codec;
	unsigned level; /* of packing into a new image; 0: as usual */
	uint8_t raw[QCOW2_HEADER_MAX]; /* as read: fields we do not know stay */
	size_t extension_count;
	struct qcow2_extension *extensions;
	char *backing_name; /* NULL: none */
};

struct qcow2_cache;
struct qcow2_refcounts;

/* A directory entry with its bitmap table's place. */
struct qcow2_bitmap {
	struct qi_stored_bitmap facts;
	uint64_t table_offset;
	uint32_t table_size;  /* entries */
	uint32_t flags;	      /* as stored */
	bool is_inconsistent; /* in use, and nothing else is wrong with it */
	bool has_double;      /* there is another of its name */
	be64 *table;	      /* loaded when first used */
	bool is_new; /* update: table and data are not referenced yet */
};

struct qcow2_bitmaps {
	size_t count;
	struct qcow2_bitmap *entries;
	struct qi_stored_bitmap *facts; /* of entries, for list() */
	uint64_t directory_offset;
	uint64_t directory_size;
	const char *problem; /* why the directory is not used, or NULL */
	size_t salvaged;     /* then: entries that can be read all the same */
};

struct qcow2 {
	struct qi_node *node;
	struct qi_file *file;
	struct qi_file *data; /* external data file; NULL: none, or not open */
	struct qcow2_header h;
	uint32_t cluster_size;
	unsigned l2_entry_size; /* bytes */
	unsigned l2_bits;	/* log2 of entries in an L2 table */
	pthread_mutex_t lock;	/* guards l1 and l2 */
	be64 *l1;		/* loaded when first used */
	struct qcow2_cache *l2;
	struct qcow2_refcounts *refcounts; /* for writing only, else NULL */
	struct qcow2_bitmaps bitmaps;
};

static inline struct qcow2 *qcow2_of(const struct qi_node *n)
{
	return n->state;
}

/* Are guest clusters in an external data file, at their guest offset? */
static inline bool qcow2_has_data_file(const struct qcow2 *q)
{
	return q->h.incompatible & QCOW2_INCOMPAT_DATA_FILE;
}

static inline uint64_t qcow2_clusters(const struct qcow2 *q, uint64_t bytes)
{
	return qi_div_up(bytes, q->cluster_size);
}

/* -EUCLEAN with the file and what is wrong in it. */
int qcow2_damaged(const struct qcow2 *q, struct qi_error *e, const char *fmt,
		  ...) __attribute__((format(printf, 3, 4)));

/* ----------------------------------------------------------- header.c */

int qcow2_header_read(struct qcow2 *q, struct qi_error *e);
/* What qcow2_header_read() asks of what it read: header-check.c. */
int qcow2_header_check_numbers(struct qcow2 *q, struct qi_error *e);
int qcow2_header_check_tables(struct qcow2 *q, struct qi_error *e);
int qcow2_header_unknown_feature(const struct qcow2 *q, uint64_t bits,
				 struct qi_error *e);
void qcow2_header_free(struct qcow2_header *h);
const struct qcow2_extension *qcow2_header_find(const struct qcow2_header *h,
						uint32_t type);
/* Replace or add (data is copied), or remove with data NULL. */
int qcow2_header_set(struct qcow2_header *h, uint32_t type, const void *data,
		     size_t len);
/* A copy to change, so that what cannot be written leaves nothing behind. */
int qcow2_header_copy(struct qcow2_header *out, const struct qcow2_header *h);
/*
 * Write header, extensions and backing name as one write of at most 4 KiB,
 * between two syncs: a commit point. -E2BIG before anything is written.
 */
int qcow2_header_commit(struct qcow2 *q, struct qi_error *e);
/* The bytes of the header; *len is a multiple of 512. malloc'd. */
int qcow2_header_serialise(const struct qcow2_header *h, uint8_t **out,
			   size_t *len, struct qi_error *e);
/* Has it room for bitmaps, and a record of so many bytes (0: as it is)? */
int qcow2_header_check_growth(const struct qcow2 *q, bool bitmaps,
			      size_t record_len, struct qi_error *e);
/* Can the header be written at all? -E2BIG. */
int qcow2_header_check_room(const struct qcow2 *q, struct qi_error *e);
/* Autoclear bits that are not known must be gone before anything is written. */
int qcow2_header_autoclear(struct qcow2 *q, struct qi_error *e);
/* The names of all features that are known, for new images. */
int qcow2_header_add_feature_names(struct qcow2_header *h);
uint64_t qcow2_l1_entries(unsigned cluster_bits, unsigned l2_bits,
			  uint64_t size);

/* ---------------------------------------------------------- backing.c */

int qcow2_peek_backing(struct qi_file *f, const uint8_t *head, size_t len,
		       char **out, struct qi_error *e);
int qcow2_check_backing(struct qi_node *n, const char *name, const char *format,
			struct qi_error *e);
int qcow2_set_backing(struct qi_node *n, const char *name, const char *format,
		      struct qi_error *e);

/* ------------------------------------------------------------ cache.c */

/* Slices of tables by their file offset. Callers lock. */
int qcow2_cache_new(struct qcow2_cache **out, struct qi_file *file,
		    size_t slice_size, unsigned slices);
void qcow2_cache_free(struct qcow2_cache *c);
/*
 * The slice at off (a multiple of the slice size); *data is good until the
 * next call. Never drops a dirty slice: -ENOBUFS when all are dirty.
 */
int qcow2_cache_get(struct qcow2_cache *c, uint64_t off, uint8_t **data,
		    struct qi_error *e);
/* A slice that is known to be all zero on disk, or will be written whole. */
int qcow2_cache_get_new(struct qcow2_cache *c, uint64_t off, uint8_t **data,
			struct qi_error *e);
void qcow2_cache_dirty(struct qcow2_cache *c, const uint8_t *data);
/* Is more than half of it dirty? Then flush before the next change. */
bool qcow2_cache_is_filled(const struct qcow2_cache *c);
int qcow2_cache_write(struct qcow2_cache *c, struct qi_error *e);
/* The tables were changed on disk behind the cache, or changes are void. */
void qcow2_cache_forget(struct qcow2_cache *c);
size_t qcow2_cache_slice_size(const struct qcow2_cache *c);

/* --------------------------------------------------------------- l2.c */

/* Open the external data file, if there is one. Caller holds q->lock. */
int qcow2_open_data(struct qcow2 *q, struct qi_error *e);

int qcow2_map(struct qi_node *n, uint64_t off, uint64_t len,
	      struct qi_extent *out, unsigned max, struct qi_error *e);
int qcow2_read_packed(struct qi_node *n, uint64_t off, size_t len, void *buf,
		      struct qi_error *e);
/* Load the L1 table. Caller holds q->lock. */
int qcow2_l1_load(struct qcow2 *q, struct qi_error *e);
/* -EUCLEAN unless a whole cluster of the file is at `table`, for off. */
int qcow2_check_table(struct qcow2 *q, uint64_t table, uint64_t off,
		      struct qi_error *e);
/* A checked copy of any L1 table; malloc'd. */
int qcow2_l1_read(struct qcow2 *q, uint64_t off, uint32_t entries, be64 **out,
		  struct qi_error *e);
/* Where the bytes of a compressed cluster are: [host, host + *len). */
void qcow2_packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *host,
			uint64_t *len);

/* --------------------------------------------------------- refcount.c */

int qcow2_refcounts_open(struct qcow2 *q, struct qi_error *e);
void qcow2_refcounts_close(struct qcow2 *q);
int qcow2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *out,
		       struct qi_error *e);
/* Damaged tables may call metadata free: -EUCLEAN when a range is in it. */
int qcow2_check_overlap(struct qcow2 *q, uint64_t off, uint64_t len,
			struct qi_error *e);
/* count adjacent free clusters, refcount now 1; in memory until _write. */
int qcow2_alloc(struct qcow2 *q, uint64_t count, uint64_t *host_off,
		struct qi_error *e);
/* The first free run, of at most *count clusters, which becomes its length. */
int qcow2_alloc_some(struct qcow2 *q, uint64_t *count, uint64_t *host_off,
		     struct qi_error *e);
/* Room for len packed bytes, after the last ones if that can be. */
int qcow2_alloc_bytes(struct qcow2 *q, size_t len, uint64_t *host_off,
		      struct qi_error *e);
/* -EFBIG when a cluster that is touched cannot be counted once more. */
int qcow2_refcount_check(struct qcow2 *q, uint64_t host_off, uint64_t len,
			 struct qi_error *e);
/* Write data into new clusters, padded with zeroes; *off is 0 for no bytes. */
int qcow2_store(struct qcow2 *q, const void *data, uint64_t bytes,
		uint64_t *off, struct qi_error *e);
/* Raise (1) or lower (-1) the refcount of each cluster that is touched. */
int qcow2_refcount_add(struct qcow2 *q, uint64_t host_off, uint64_t len,
		       int delta, struct qi_error *e);
/*
 * The same with -1. What becomes free becomes a hole: nothing on the disk may
 * refer to it any more.
 */
int qcow2_free(struct qcow2 *q, uint64_t host_off, uint64_t len,
	       struct qi_error *e);
/* Write what changed; no sync. Safe at any time. */
int qcow2_refcounts_write(struct qcow2 *q, struct qi_error *e);
/* ----------------------------------------------------- refcount-bits.c */

/* One entry of a refcount block of 1 << order bits. */
uint64_t qcow2_refcount_load(const uint8_t *block, uint64_t i, unsigned order);
void qcow2_refcount_store(uint8_t *block, uint64_t i, unsigned order,
			  uint64_t value);
/* The first entry of 0 from i on, below end; or end. */
uint64_t qcow2_refcount_find_zero(const uint8_t *block, uint64_t i,
				  uint64_t end, unsigned order);

/* ----------------------------------------------- qcow2.c and crypto.c */

/* Where the details of qi_format.details go. */
struct qcow2_details {
	void (*fn)(void *arg, const struct qi_fact *f);
	void *arg;
};
/* A text that is NULL is left out. */
void qcow2_say_text(const struct qcow2_details *d, const char *key,
		    const char *label, const char *text);
void qcow2_say_bool(const struct qcow2_details *d, const char *key,
		    const char *label, bool value);
void qcow2_say_uint(const struct qcow2_details *d, const char *key,
		    const char *label, uint64_t value);
/* GROUP, LIST or END. */
void qcow2_say_group(const struct qcow2_details *d, enum qi_fact_type type,
		     const char *key, const char *label);
/* How an encrypted image is encrypted; nothing for others. */
void qcow2_say_crypto(struct qcow2 *q, const struct qcow2_details *d);

/* ----------------------- options.c, measure.c, build.c and write.c */

/* Fill a zeroed header from options; h is to be freed also on failure. */
int qcow2_take_options(struct qcow2_header *h, const struct qi_image_spec *spec,
		       enum qi_preallocation *prealloc, struct qi_error *e);
/* Those alone that decide how large the tables are. */
int qcow2_take_layout(struct qcow2_header *h, const struct qi_options *o,
		      struct qi_error *e);
int qcow2_can_build(const struct qi_image_spec *spec, struct qi_error *e);

int qcow2_measure(const struct qi_image_spec *spec, struct qi_node *src,
		  struct qi_measurement *out, struct qi_error *e);
int qcow2_build(struct qi_file *file, const struct qi_image_spec *spec,
		struct qi_writer **out, struct qi_error *e);
int qcow2_edit(struct qi_node *n, struct qi_writer **out, struct qi_error *e);
int qcow2_can_write(struct qi_node *n, struct qi_error *e);
extern const struct qi_format_option qcow2_options[];

/* ----------------------------------------------------------- width.c */

/* New refcount structures that the header does not refer to yet. */
struct qcow2_rebuilt {
	unsigned order;
	uint64_t table_offset;
	uint32_t table_clusters;
};
/* Do all refcounts fit 1 << order bits? */
int qcow2_width_check(struct qcow2 *q, unsigned order, struct qi_error *e);
/* The same refcounts in another width, in unused clusters. */
int qcow2_width_build(struct qcow2 *q, unsigned order,
		      const struct qi_progress *progress,
		      struct qcow2_rebuilt *out, struct qi_error *e);
/* Commit the header with them, then free the old ones. */
int qcow2_width_switch(struct qcow2 *q, const struct qcow2_rebuilt *new,
		       struct qi_error *e);

/* ------------------- resize.c, trim.c, amend.c and downgrade.c */

/* Why a disk of this size cannot be kept in version 2; changes nothing. */
int qcow2_downgrade_check(struct qcow2 *q, uint64_t size, struct qi_error *e);
int qcow2_downgrade(struct qcow2 *q, const struct qi_progress *progress,
		    struct qi_error *e);

extern const struct qi_resize_ops qcow2_resize_ops;
/* Cut the file after its last used cluster; no reference may be unwritten. */
int qcow2_trim(struct qcow2 *q, struct qi_error *e);
extern const struct qi_amend_ops qcow2_amend_ops;

/* ------------------------------------------------------------ empty.c */

int qcow2_make_empty(struct qi_node *n, struct qi_error *e);

/* ------------------------------------------------ bitmap.c, check.c */

/* Reads the directory; what is wrong with it becomes ->problem. */
int qcow2_bitmaps_load(struct qcow2 *q, struct qi_error *e);
void qcow2_bitmaps_free(struct qcow2 *q);
/* Load the table of an entry that has no problem. */
int qcow2_bitmap_table(struct qcow2 *q, struct qcow2_bitmap *b,
		       struct qi_error *e);
/* What a resize wants changed in the header by the same commit. */
struct qcow2_resize {
	uint64_t size;
	uint64_t l1_offset;
	uint32_t l1_size;
};
/*
 * qi_bitmap_ops.update, and with `resize` a new size of image and bitmaps;
 * then the smallest sizes in the record follow.
 */
int qcow2_bitmaps_update(struct qcow2 *q,
			 const struct qi_bitmap_change *changes, size_t count,
			 const void *record, size_t record_len,
			 const struct qcow2_resize *resize, struct qi_error *e);
/* Bytes of the directory entry of a bitmap of that name, with padding. */
size_t qcow2_bitmap_entry_bytes(const char *name);
/* Write a directory entry without its padding; bytes with padding. */
size_t qcow2_bitmap_put_entry(uint8_t *to, const struct qcow2_bitmap *b);
extern const struct qi_bitmap_ops qcow2_bitmap_ops;
int qcow2_check(struct qi_node *n, struct qi_check *check, struct qi_error *e);

/* ------------------------------------ snapshot.c and snapshot-edit.c */

/* An entry of the snapshot table, and where its bytes are in there. */
struct qcow2_snapshot {
	struct qi_internal_snapshot facts;
	uint64_t l1_offset;
	uint32_t l1_size;
	uint64_t pos, len;
};
struct qcow2_snapshots {
	size_t count;
	struct qcow2_snapshot *entries;
	uint64_t bytes; /* length of the table */
};
int qcow2_snapshots_read(struct qcow2 *q, struct qcow2_snapshots *out,
			 struct qi_error *e);
void qcow2_snapshots_free(struct qcow2_snapshots *s);
/* Make the disk of q that of a snapshot, for reading. */
int qcow2_snapshot_show(struct qcow2 *q,
			const struct qi_snapshot_choice *choice,
			struct qi_error *e);
extern const struct qi_snapshot_ops qcow2_snapshot_ops;

/* ------------------------------------------------------------ dirty.c */

/* Set or clear the dirty bit, for the next write of the header. */
void qcow2_mark_dirty(struct qcow2 *q, bool dirty);
/* The same and write the header; durable. Nothing in version 2. */
int qcow2_write_dirty(struct qcow2 *q, bool dirty, struct qi_error *e);

/* ------------------------------------------------------------ share.c */

/* Read the L2 table of an L1 entry, if there is one. */
int qcow2_l2_read(struct qcow2 *q, be64 l1_entry, be64 *table, bool *exists,
		  struct qi_error *e);
/* What an L2 entry refers to in the image's own file; false: nothing. */
bool qcow2_entry_place(const struct qcow2 *q, uint64_t entry, uint64_t *host,
		       uint64_t *len);
/* -EFBIG when a refcount that qcow2_share() would raise is at its maximum. */
int qcow2_check_shareable(struct qcow2 *q, const be64 *l1, uint32_t entries,
			  struct qi_error *e);
/*
 * Raise or lower by one the refcount of all that an L1 table reaches: L2
 * tables, clusters, packed clusters. On failure what was done is undone.
 */
int qcow2_share(struct qcow2 *q, const be64 *l1, uint32_t entries, int delta,
		struct qi_error *e);
/*
 * Make the copied flags say what the refcounts say: in the L2 tables of l1 on
 * disk, and in l1 itself, which the caller writes if *changed.
 */
int qcow2_update_copied(struct qcow2 *q, be64 *l1, uint32_t entries,
			bool *changed, struct qi_error *e);
/* Guest ranges that two L1 tables map differently; takes neither over. */
int qcow2_ranges_differing(struct qi_ranges **out, struct qcow2 *q,
			   const be64 *a, uint32_t a_entries, const be64 *b,
			   uint32_t b_entries);

#endif
