/* SPDX-License-Identifier: MIT */
/*
 * format.h - what a format driver provides, and what it may rely on
 *
 * A driver is one const struct qi_format. The core checks ranges, alignment
 * and write permission once before each call; drivers do not repeat it.
 * Functions that only read a node may be called from several threads.
 */
#ifndef QI_FORMAT_H
#define QI_FORMAT_H

#include "lib/bytes.h"
#include "lib/file.h"
#include "lib/qimg.h"

struct qi_name;
struct qi_record;
struct qi_writer;
struct qi_options;

struct qi_node {
	struct qi_node_facts
		facts; /* open() sets size, cluster_size, backing */
	struct qi_graph *graph;
	const struct qi_format *format;
	struct qi_file *file;
	struct qi_file *data; /* where host offsets of data point */
	void *state;	      /* the driver's own */
	uint8_t *record_blob; /* private extension as stored, or NULL */
	size_t record_len;
	struct qi_record *record; /* parsed; see record.h */
	enum qi_access access;
	enum qi_cache cache;
	bool force_share;
	bool is_named;	    /* by the caller; else found as a backing file */
	bool opens_backing; /* false: the caller wants this node alone */
	bool to_check;	    /* open what is damaged, as far as can be */
	bool mark;	    /* for walks of the graph */
	char *path, *backing_name, *backing_format; /* owned text of facts */
	struct qi_snapshot_choice snapshot; /* owned texts; see qi_open */
	char *data_name;      /* of an external data file, as the caller said */
	struct qi_name *name; /* what was said of it; see lib/name.h */
	char *shown;	      /* owned text of facts.filename */
	char *spelling;	      /* the name that the caller gave, or NULL */
	struct qi_node *next; /* in the graph */
};

/* A bitmap as its directory entry has it; bits are read by the chunk. */
struct qi_stored_bitmap {
	char *name;
	uint32_t granularity_bits;
	bool enabled;
	bool in_use;
	const char *problem;  /* NULL, or why its bits cannot be read */
	uint64_t chunk_bytes; /* of bits in one chunk */
	uint64_t chunks;
};

enum qi_chunk { QI_CHUNK_ZEROES, QI_CHUNK_ONES, QI_CHUNK_BITS };

/* What becomes of one bitmap in an update; those not named are kept as is. */
struct qi_bitmap_change {
	const char *name;
	bool remove;
	bool enabled;
	bool keep_bits; /* only the flags change */
	uint32_t granularity_bits;
	struct qi_ranges *bits; /* new content; NULL: empty. Not freed. */
};

struct qi_bitmap_ops {
	/*
	 * Why no bitmap can be stored here, or none with a record, with what
	 * would help.
	 */
	int (*can_store)(struct qi_node *n, bool record, struct qi_error *e);
	/* NULL, or why the directory as a whole cannot be trusted. */
	const char *(*problem)(struct qi_node *n);
	/* The directory, owned by the node until the next update. */
	const struct qi_stored_bitmap *(*list)(struct qi_node *n,
					       size_t *count);
	/* Chunk `index` of bitmap `which`; buf of chunk_bytes for BITS. */
	int (*chunk)(struct qi_node *n, size_t which, uint64_t index,
		     uint8_t *buf, enum qi_chunk *kind, struct qi_error *e);
	/*
	 * Change bitmaps and the record by one header write: all or nothing
	 * after a crash. record NULL: as it is.
	 */
	int (*update)(struct qi_node *n, const struct qi_bitmap_change *changes,
		      size_t count, const void *record, size_t record_len,
		      struct qi_error *e);
	/*
	 * Will the header have room for a record of that length, and for
	 * bitmaps? Nothing is written.
	 */
	int (*check_room)(struct qi_node *n, bool bitmaps, size_t record_len,
			  struct qi_error *e);
};

struct qi_snapshot_ops {
	int (*list)(struct qi_node *n, struct qi_internal_snapshot **out,
		    size_t *count, struct qi_error *e);
	int (*create)(struct qi_node *n, const char *name, struct qi_error *e);
	/* which: an index into the list. */
	int (*apply)(struct qi_node *n, size_t which, struct qi_error *e);
	int (*remove)(struct qi_node *n, size_t which, struct qi_error *e);
};

struct qi_resize_ops {
	/* Why the disk cannot get this size; nothing is changed. */
	int (*check)(struct qi_node *n, uint64_t size, struct qi_error *e);
	/*
	 * Before a larger size: drop what is mapped past the end, and make
	 * room, so that an edit can write there before set() shows it.
	 */
	int (*prepare)(struct qi_node *n, uint64_t size, struct qi_error *e);
	/* The new size, of a larger disk after prepare(). */
	int (*set)(struct qi_node *n, uint64_t size, struct qi_error *e);
};

struct qi_amend_ops {
	const struct qi_format_option *options;
	/* Why the options cannot be had; nothing is changed. */
	int (*check)(struct qi_node *n, const struct qi_options *o,
		     struct qi_error *e);
	/* After check(). Each step is whole or not done after a crash. */
	int (*run)(struct qi_node *n, const struct qi_options *o,
		   const struct qi_progress *progress, struct qi_error *e);
};

/* Everything about a new image but its data. */
struct qi_image_spec {
	uint64_t size;
	const struct qi_options *options;
	const char *backing_name;
	const char *backing_format;
	const char *data_name; /* NULL: guest data is in the image itself */
	struct qi_file *data;  /* ... or in this empty file */
	/*
	 * Give the first block of a disk without metadata room: there QEMU
	 * looks for the alignment that direct access needs.
	 */
	bool has_first_block;
};

struct qi_format {
	const char *name;
	const struct qi_format_option *options; /* NULL: cannot be made */
	/* 0 (not mine) to 100 (signature found), by the file's name, too. */
	int (*probe)(const uint8_t *head, size_t len, const char *name);
	/*
	 * Do files of this format, but no raw ones, end with such a sector? It
	 * is no reason to take them for it, but to warn. NULL: none do.
	 */
	bool (*ends)(const uint8_t *sector);
	int (*open)(struct qi_node *n, struct qi_error *e);
	/* Can open() give the disk of n->snapshot? */
	bool opens_snapshots;
	void (*close)(struct qi_node *n); /* NULL: it keeps nothing */
	/*
	 * The backing name of an image that may be damaged, hostile or huge,
	 * by its header alone: 1 and *out, malloc'd, or 0. head: its first
	 * bytes. NULL: the format has no backing files.
	 */
	int (*peek_backing)(struct qi_file *f, const uint8_t *head, size_t len,
			    char **out, struct qi_error *e);
	/* Open what else the guest data is in, as n->data. NULL: nothing. */
	int (*open_data)(struct qi_node *n, struct qi_error *e);
	/*
	 * The extents of this layer alone from off on, in order and without
	 * gaps: 1 to max of them, which may end before off + len. Unallocated
	 * ones have no flags, but a host_off where there is a place for them.
	 * NULL: a format that is recognised alone; see qi_node_map().
	 */
	int (*map)(struct qi_node *n, uint64_t off, uint64_t len,
		   struct qi_extent *out, unsigned max, struct qi_error *e);
	/*
	 * Was space given to data that nobody has written, so that holes of
	 * the file matter? NULL: no, or map() shows them.
	 */
	bool (*is_sparse)(struct qi_node *n);
	/* Read inside one compressed cluster. NULL: there are none. */
	int (*read_packed)(struct qi_node *n, uint64_t off, size_t len,
			   void *buf, struct qi_error *e);
	void (*details)(struct qi_node *n,
			void (*fn)(void *arg, const struct qi_fact *f),
			void *arg);
	int (*check)(struct qi_node *n, struct qi_check *check,
		     struct qi_error *e);
	/* What build() would say of these options. NULL: it takes all. */
	int (*can_build)(const struct qi_image_spec *spec, struct qi_error *e);
	/*
	 * How large an image of spec->size would be; with src, which may have
	 * another size, of what that reads as. See qi_measure().
	 */
	int (*measure)(const struct qi_image_spec *spec, struct qi_node *src,
		       struct qi_measurement *out, struct qi_error *e);
	/* Start a new image in an empty file, which stays the caller's. */
	int (*build)(struct qi_file *file, const struct qi_image_spec *spec,
		     struct qi_writer **out, struct qi_error *e);
	/* Start writing guest data into an existing image. */
	int (*edit)(struct qi_node *n, struct qi_writer **out,
		    struct qi_error *e);
	/* Forget all guest data at once; what is below shows. NULL: cannot. */
	int (*make_empty)(struct qi_node *n, struct qi_error *e);
	/*
	 * Record another backing file; name NULL: none. What is in
	 * n->record_blob goes along. One header write: all or nothing. NULL
	 * op: the format has no backing files.
	 */
	int (*set_backing)(struct qi_node *n, const char *name,
			   const char *format, struct qi_error *e);
	/* Whether that can be done; nothing is written. */
	int (*check_backing)(struct qi_node *n, const char *name,
			     const char *format, struct qi_error *e);
	/* Why the image must not be written, or 0. NULL: it may. */
	int (*can_write)(struct qi_node *n, struct qi_error *e);
	const struct qi_bitmap_ops *bitmaps;	 /* NULL: cannot hold any */
	const struct qi_snapshot_ops *snapshots; /* NULL: the same */
	const struct qi_resize_ops *resize;	 /* NULL: one size for ever */
	const struct qi_amend_ops *amend; /* NULL: no option can change */
};

/* Filled by the build: all formats, raw last, NULL at the end. */
extern const struct qi_format *const qi_formats[];
const struct qi_format *qi_format_find(const char *name);
/* The best match for a file's first bytes and name; raw when nothing else. */
const struct qi_format *qi_format_probe(const uint8_t *head, size_t len,
					const char *name);
/* The same of a file that is open, or -errno. */
int qi_file_probe(struct qi_file *f, const struct qi_format **out,
		  struct qi_error *e);
/* The format which ends with that last sector of a file, or NULL. */
const struct qi_format *qi_format_ending(const uint8_t *sector);
#define QI_PROBE_BYTES 2048

/* The driver's map(); -ENOTSUP when its format is recognised alone. */
int qi_node_map(struct qi_node *n, uint64_t off, uint64_t len,
		struct qi_extent *out, unsigned max, struct qi_error *e);
/* -ENOTSUP and why, when that is so. */
int qi_node_check_known(const struct qi_node *n, struct qi_error *e);

/* -------------------------------------------------------------- writers */

enum qi_codec { QI_CODEC_NONE, QI_CODEC_ZLIB, QI_CODEC_ZSTD };

/*
 * How guest data gets into an image, a new one or an old one. place(),
 * reserve(), place_packed() and zero() are called by one thread at a time in
 * ascending order; the caller then writes the data itself at the host offset it
 * got.
 */
struct qi_writer_ops {
	/* Whole units. The first run of [off, off + len) and where it goes. */
	int (*place)(struct qi_writer *w, uint64_t off, uint64_t len,
		     uint64_t *host_off, uint64_t *host_len,
		     struct qi_error *e);
	/*
	 * As place(), for whole units that are not written now: what they
	 * read as stays, zero or what lies below. NULL or -ENOTSUP: place and
	 * write zeroes.
	 */
	int (*reserve)(struct qi_writer *w, uint64_t off, uint64_t len,
		       uint64_t *host_off, uint64_t *host_len,
		       struct qi_error *e);
	/* One unit that was packed into len bytes. NULL: not supported. */
	int (*place_packed)(struct qi_writer *w, uint64_t off, size_t len,
			    uint64_t *host_off, struct qi_error *e);
	/*
	 * Bytes inside one unit, of any alignment or in whole parts: where
	 * they go when the rest of the unit can stay as it is, which is not
	 * written then. QI_NO_OFFSET: place the unit. NULL: always that.
	 */
	int (*place_inside)(struct qi_writer *w, uint64_t off, uint64_t len,
			    uint64_t *host_off, struct qi_error *e);
	/* Whole units read as zero. -ENOTSUP: place zeroes instead. */
	int (*zero)(struct qi_writer *w, uint64_t off, uint64_t len,
		    struct qi_error *e);
	/* The same, but their room stays allocated. NULL: zero() does it. */
	int (*zero_kept)(struct qi_writer *w, uint64_t off, uint64_t len,
			 struct qi_error *e);
	/* Whole parts inside one unit read as zero. NULL: as with -ENOTSUP. */
	int (*zero_inside)(struct qi_writer *w, uint64_t off, uint64_t len,
			   struct qi_error *e);
	/* All data is written: make the metadata complete and durable. */
	int (*finish)(struct qi_writer *w, struct qi_error *e);
	void (*free)(struct qi_writer *w);
};

struct qi_writer {
	const struct qi_writer_ops *ops;
	struct qi_file *file;
	uint64_t size;
	uint32_t unit;	   /* a power of two; the last one is padded */
	uint32_t part;	   /* of a unit: for place_inside, zero_inside */
	bool gets_backing; /* set by the caller: zero() must be explicit */
	bool starts_zero;  /* what is never written reads as zero */
	bool shares; /* it may share blocks with files that have the data */
	bool writes_in_turn; /* data must be written before the next place() */
	enum qi_codec codec; /* of packed units */
	unsigned level;	     /* of packing; 0: as fast as QEMU's size allows */
	/* The option that rules out place_packed(); NULL: none does. */
	const char *unpacked_by;
};

/* ------------------------------------------------------------- services */

static inline bool qi_is_snapshot(const struct qi_snapshot_choice *c)
{
	return c->id || c->name || c->name_or_id;
}

int qi_no_memory(struct qi_error *e);
/* The name that an image has in messages of QEMU; another one each time. */
#define QI_STOCK_NODE "#block100"
/* Go on with another range. */
void qi_scan_seek(struct qi_scan *s, uint64_t off, uint64_t len);
/* Bytes of an extent of qi_scan_next(), inside it. */
int qi_extent_read(const struct qi_extent *x, uint64_t off, size_t len,
		   void *buf, struct qi_error *e);
void qi_warn(struct qi_graph *g, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Options as after -o: a=b,c=d, where ",," stands for a comma. */
int qi_options_parse(struct qi_options **out, const char *text,
		     const struct qi_format_option *known, const char *format,
		     struct qi_error *e);
void qi_options_free(struct qi_options *o);
const char *qi_options_get(const struct qi_options *o, const char *name);
/* Options of the file, not of the format: qi_image_start() sees to them. */
#define QI_OPTION_EXTENT_SIZE_HINT                          \
	{                                                   \
		"extent_size_hint", "size",                 \
			"allocation unit of the file (XFS)" \
	}
#define QI_OPTION_NOCOW                                                 \
	{                                                               \
		"nocow", "bool", "no copy on write of the file (btrfs)" \
	}
/* The value of a size, number or on/off option, or dflt when not given. */
int qi_options_get_size(const struct qi_options *o, const char *name,
			uint64_t dflt, uint64_t *out, struct qi_error *e);
int qi_options_get_bool(const struct qi_options *o, const char *name, bool dflt,
			bool *out, struct qi_error *e);

/* Exactly one unit out of (a prefix of) src. */
int qi_unpack(enum qi_codec codec, const void *src, size_t src_len, void *dst,
	      size_t dst_len);
/* Levels of packing are from 1, the fastest, to this. */
unsigned qi_max_level(enum qi_codec codec);
struct qi_packer;
int qi_packer_new(struct qi_packer **out, const struct qi_writer *w);
/* Bytes used, or 0 when it does not get smaller than dst_len. */
size_t qi_pack(struct qi_packer *p, const void *src, size_t src_len, void *dst,
	       size_t dst_len);
void qi_packer_free(struct qi_packer *p);

#endif
