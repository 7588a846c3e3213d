/* SPDX-License-Identifier: MIT */
/*
 * qimg.h - the public interface of libqimg
 *
 * Disk images as a graph of nodes (image files) under drives (what a guest
 * sees), dirty bitmaps that belong to either, and the operations on them.
 *
 * Conventions, unless a comment says otherwise:
 *  - functions return 0 or a count on success and -errno on failure; where a
 *    struct qi_error is passed it then holds one line for the user;
 *  - offsets and lengths are bytes of the guest's disk (off, len) or of the
 *    image file (host_off); ranges are half open;
 *  - strings are copied, never kept; what a function hands out through a
 *    struct ** is freed by the *_free() of the same noun;
 *  - a graph and what hangs on it belong to one thread; qi_read() alone may
 *    be called from several at once.
 */
#ifndef QIMG_H
#define QIMG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QI_VERSION "0.1.0"
#define QI_NO_OFFSET UINT64_MAX
#define QI_NAME_MAX 1023 /* bytes of a bitmap name, as in QEMU */

/* ------------------------------------------------------------- errors */

/*
 * One line for the user, without a newline. Nothing to free. stock: the same in
 * the words of qemu-img, for programs that look for those; "": it has none.
 */
struct qi_error {
	char text[1024];
	char stock[1024];
};

/*
 * Fill *e (may be NULL) and return -err. The errno carries the class:
 * EUCLEAN damaged data, EBUSY in use elsewhere, ESTALE a chain or bitmap
 * that cannot serve, ENOSPC/EDQUOT no space, EINTR interrupted.
 */
int qi_fail(struct qi_error *e, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Put context in front of the text of *e; returns ret unchanged. */
int qi_context(struct qi_error *e, int ret, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Say what failed just now in the words of qemu-img, too, or put context in
 * front of them if there are any. Both return ret unchanged.
 */
int qi_stock(struct qi_error *e, int ret, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
int qi_stock_context(struct qi_error *e, int ret, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * A name as a shell takes it, for a command in a message: itself, or with
 * backslashes in *w. QI_WORD() lasts as long as the block it is in.
 */
struct qi_word {
	char text[1024]; /* what is longer is cut, as a message is */
};
const char *qi_word(struct qi_word *w, const char *name);
#define QI_WORD(name) qi_word(&(struct qi_word){ "" }, name)

/* The exit code of the native commands for a result: 0, 1, 4, 5, 6, 7, 130. */
int qi_exit_code(int ret);

/* Ask running operations to stop with -EINTR. Async-signal-safe. */
void qi_interrupt(void);
/* -EINTR and the message once that was called, else 0. */
int qi_interrupted(struct qi_error *e);

/* Seconds of a clock that nobody sets: differences are what counts. */
double qi_seconds(void);

/* A file of that text, durably and at once, in place of one that is there. */
int qi_replace_text(const char *path, const char *text, struct qi_error *e);

/* -------------------------------------------------------------- graph */

struct qi_graph; /* nodes that were opened together */
struct qi_node;	 /* one image file */

enum qi_access {
	QI_ACCESS_NONE,	 /* metadata only, coexists with a writer (info) */
	QI_ACCESS_READ,	 /* guest data is read: excludes writers */
	QI_ACCESS_WRITE, /* excludes everybody else */
};

/*
 * How a file is read and written: past the page cache of the system (direct,
 * where the file system can), and when it is durable. WRITEBACK: at the end of
 * an operation and where its order of writes needs it.
 */
enum qi_cache {
	QI_CACHE_WRITEBACK,
	QI_CACHE_NONE,	       /* direct */
	QI_CACHE_WRITETHROUGH, /* every write is durable at once */
	QI_CACHE_DIRECTSYNC,   /* both */
	QI_CACHE_UNSAFE,       /* never; a crash of the system loses data */
};
/* As people write it: writeback, none (or off), ... False: it is none. */
bool qi_cache_parse(const char *text, enum qi_cache *out);

/* One internal snapshot, by either or both; all NULL: none is wanted. */
struct qi_snapshot_choice {
	const char *id;
	const char *name;
	const char *name_or_id; /* this alone: the id is tried first */
	bool keeps_size;	/* that of the disk now, as in qemu-img */
};

struct qi_open {
	const char *format;    /* NULL: found by probing */
	enum qi_access access; /* of the named node; backing nodes: READ */
	bool force_share;      /* no refusal because of a writer; read only */
	bool no_backing;       /* this node alone */
	bool strict;	       /* of a drive: see qi_drive_check_strict() */
	bool layer;	       /* of a drive: see qi_drive_add() */
	bool to_check;	       /* damage that a check finds is no obstacle */
	enum qi_cache cache;   /* of the named node */
	/*
	 * The disk as it was then, at the size that it had; read only. It is a
	 * node beside that of the file itself.
	 */
	struct qi_snapshot_choice snapshot;
	bool is_options;  /* the name is a list, as for --image-opts */
	bool strict_name; /* "word:" in front of it is no path, ever */
};

/* What a caller may know of a node. Valid as long as its graph. */
struct qi_node_facts {
	const char *path;	    /* as found from the caller's folder */
	const char *filename;	    /* as qemu-img shows it; often the path */
	const char *driver;	    /* the same of its format: "file", too */
	const char *format;	    /* driver name */
	uint64_t size;		    /* virtual disk */
	uint32_t cluster_size;	    /* 0: the format has none */
	uint64_t file_size;	    /* length of the file */
	uint64_t disk_size;	    /* bytes allocated; QI_NO_OFFSET: unknown */
	const char *backing_name;   /* as recorded, or NULL */
	const char *backing_format; /* as recorded, or NULL */
	struct qi_node *backing;    /* NULL: none, or not opened */
	bool is_encrypted;	    /* its data cannot be read */
	bool is_dirty;		    /* refcounts were not written at the end */
};

int qi_graph_new(struct qi_graph **out);
void qi_graph_free(struct qi_graph *g);

/* Called for each thing a user should see that is no failure. */
void qi_graph_on_warning(struct qi_graph *g,
			 void (*fn)(void *arg, const char *text), void *arg);

/*
 * From now on operations do to the nodes of g what qemu-img does, though it may
 * harm images that rest on them, or what drives know of them, and refuse what
 * qemu-img refuses.
 */
void qi_graph_be_stock(struct qi_graph *g);

/*
 * Add the image `name` (a path, file:PATH, json:{...}, null-co://, nbd:...; or
 * driver=qcow2,file.filename=PATH and so on) and its backing chain.
 * A file that the graph has already is the same node. Takes no locks.
 */
int qi_graph_add(struct qi_graph *g, const char *name,
		 const struct qi_open *how, struct qi_node **out,
		 struct qi_error *e);

/* Raise the access wanted on one node before qi_graph_lock(). */
void qi_node_want(struct qi_node *n, enum qi_access access);

/*
 * Lock all nodes in (dev, inode) order with QEMU's lock bytes and read their
 * headers again. wait: seconds to wait for other processes, -1 for ever.
 * -EBUSY names the holder. Locks are held until the graph is freed.
 */
int qi_graph_lock(struct qi_graph *g, int wait, struct qi_error *e);

const struct qi_node_facts *qi_node_facts(const struct qi_node *n);
/* The file that host offsets of its data point into. */
const char *qi_node_data_path(const struct qi_node *n);

/* Length of the chain under (and with) n. */
unsigned qi_chain_depth(const struct qi_node *n);

/* -ENOTSUP when the data of n, or of a layer below, cannot be read. */
int qi_chain_check_readable(const struct qi_node *n, struct qi_error *e);

/* ------------------------------------------------------ format details */

enum qi_fact_type {
	QI_FACT_STR,
	QI_FACT_UINT,
	QI_FACT_BOOL,
	/* What follows up to END is inside; members of a list have no key. */
	QI_FACT_GROUP,
	QI_FACT_LIST,
	QI_FACT_END,
};

/* One format specific detail: key for JSON, label for people. */
struct qi_fact {
	const char *key;
	const char *label;
	enum qi_fact_type type;
	const char *str;
	uint64_t num; /* UINT and BOOL */
};

/* Calls fn for each detail in the order in which qemu-img prints them. */
int qi_node_details(struct qi_node *n,
		    void (*fn)(void *arg, const struct qi_fact *f), void *arg);

/* Names of all formats, NULL at the end; and the options of one. */
struct qi_format_option {
	const char *name; /* as in -o name=value */
	const char *arg;  /* "size", "str", "bool", "num" */
	const char *help;
	bool is_kept; /* how an image is made inside: a restore keeps it */
	bool is_ours; /* QEMU does not have it, nor has the drop-in */
};
const char *const *qi_format_names(void);
const struct qi_format_option *qi_format_options(const char *format);
bool qi_format_can_create(const char *format);
/*
 * Cut the first element off *text, a list "a=b,c=d" as after -o; ",," in it
 * stands for a comma. malloc'd; NULL without memory.
 */
char *qi_option_next(const char **text);
/*
 * The last value of a name in such a list, malloc'd; NULL: it is not there.
 * -ENOMEM.
 */
int qi_options_find(const char *text, const char *name, char **value);

/* "64k", "0x200", "1.5G": bytes, up to 2^63 - 1. False when it is no size. */
bool qi_parse_size(const char *text, uint64_t *out);
/* on, yes, true, y; off, no, false, n. False when it is none of these. */
bool qi_parse_bool(const char *text, bool *out);

/* ------------------------------------------------------------- extents */

enum qi_extent_flags {
	QI_EXT_ALLOCATED = 1,  /* some layer has it; else it reads as zero */
	QI_EXT_ZERO = 2,       /* reads as zero */
	QI_EXT_DATA = 4,       /* has bytes to read */
	QI_EXT_COMPRESSED = 8, /* ... packed */
};

/* A run of guest bytes in one state. */
struct qi_extent {
	uint64_t off;
	uint64_t len;
	uint64_t host_off; /* of the first byte, or QI_NO_OFFSET */
	unsigned flags;
	unsigned depth;	      /* 0 is the node that was asked */
	struct qi_node *node; /* that decides the content; NULL if none does */
};

struct qi_scan;

/*
 * Walk the extents of the guest view of `top`, layers down to but without
 * `base` (NULL: to the root). Bounded memory; adjacent equal runs are joined.
 */
int qi_scan_new(struct qi_scan **out, struct qi_node *top,
		const struct qi_node *base, uint64_t off, uint64_t len);
/*
 * From now on data in a hole of the file is ZERO, too, in images that were
 * preallocated. Before the first qi_scan_next().
 */
void qi_scan_see_holes(struct qi_scan *s);
/* 1 and the next extent, 0 at the end. */
int qi_scan_next(struct qi_scan *s, struct qi_extent *out, struct qi_error *e);
void qi_scan_free(struct qi_scan *s);

/* Read the guest view; bytes past the node's size read as zero. */
int qi_read(struct qi_node *n, uint64_t off, size_t len, void *buf,
	    struct qi_error *e);

/* -------------------------------------------------------------- ranges */

/* An iterator over sorted, disjoint, not adjacent ranges. */
struct qi_ranges;
struct qi_range {
	uint64_t off;
	uint64_t len;
};
/* 1 and the next range, 0 at the end. */
int qi_ranges_next(struct qi_ranges *r, struct qi_range *out,
		   struct qi_error *e);
void qi_ranges_free(struct qi_ranges *r);

/* -------------------------------------------------------------- drives */

struct qi_uuid {
	uint8_t b[16];
};
#define QI_UUID_TEXT 37
void qi_uuid_format(const struct qi_uuid *u, char text[QI_UUID_TEXT]);
bool qi_uuid_is_null(const struct qi_uuid *u);

/* A drive: a symbolic link to its head, or the head's own file. */
struct qi_drive;

/*
 * Open the chain of a drive into g; access is that of the head. layer: the
 * path is that of one of its layers, and the drive as it is there: it cannot
 * be changed, only read.
 */
int qi_drive_add(struct qi_graph *g, const char *path,
		 const struct qi_open *how, struct qi_drive **out,
		 struct qi_error *e);
void qi_drive_free(struct qi_drive *d);
const char *qi_drive_path(const struct qi_drive *d);
bool qi_drive_is_link(const struct qi_drive *d);
struct qi_node *qi_drive_head(const struct qi_drive *d);
/*
 * -ESTALE when the drive was added as `strict` and a layer above the start of
 * its bitmaps has no record of it: another tool made it. To be asked once all
 * is locked; what changes a drive, or backs it up, asks by itself.
 */
int qi_drive_check_strict(struct qi_drive *d, struct qi_error *e);
/* The drive's identity; null when no layer has a record of one. */
struct qi_uuid qi_drive_uuid(const struct qi_drive *d);

/* ------------------------------------------------------------- records */

/* What the private header extension of a node says; see qimg-format(7). */
enum qi_record_state {
	QI_RECORD_NONE, /* the image has none */
	QI_RECORD_VALID,
	QI_RECORD_UNKNOWN, /* damaged or of a later version */
};
struct qi_record_facts {
	enum qi_record_state state;
	struct qi_uuid image, parent, drive;
	bool frozen, shared;
	bool committed;	 /* all it had is in the layer below */
	bool merging;	 /* below another: a merge into it is not at its end */
	const char *tag; /* of the snapshot that it was made on; "" if none */
	bool parent_is_right;	/* the layer below is the one it was made on */
	const char *unfinished; /* NULL, or the command that was interrupted */
};
/* Of a node whose chain was not opened, the parent is not right. */
int qi_node_record(struct qi_node *n, struct qi_record_facts *out);

/* ------------------------------------------------------------- bitmaps */

enum qi_attachment { QI_ON_NODE, QI_ON_DRIVE };

/* One bitmap of one image's directory. */
struct qi_bitmap_facts {
	const char *name;
	enum qi_attachment attachment; /* DRIVE: it is a segment */
	bool enabled;		       /* records writes ("auto") */
	bool in_use;		   /* a writer did not close it: bits lost */
	bool unreadable;	   /* its directory entry or table is bad */
	const char *problem;	   /* NULL, or why its bits cannot be read */
	bool anchor;		   /* segment: the record starts here */
	bool paused;		   /* segment: disabled by the user */
	uint32_t granularity;	   /* bytes */
	struct qi_uuid checkpoint; /* segment: start of the record */
	uint64_t min_size;	   /* segment: smallest size since then */
};

/* All bitmaps of a node's directory, stored order. Free with free(). */
int qi_node_bitmaps(struct qi_node *n, struct qi_bitmap_facts **out,
		    size_t *count, struct qi_error *e);
/* NULL, or why the image's bitmaps as a whole are not to be trusted. */
const char *qi_node_bitmaps_problem(struct qi_node *n);
/* Set bits of one node bitmap or segment as ranges. */
int qi_node_bitmap_ranges(struct qi_node *n, const char *name,
			  struct qi_ranges **out, struct qi_error *e);
/* The same of the one at `index` in the list of qi_node_bitmaps(). */
int qi_node_bitmap_ranges_at(struct qi_node *n, size_t index,
			     struct qi_ranges **out, struct qi_error *e);

/* A drive bitmap as seen from the head. */
struct qi_drive_bitmap {
	char name[QI_NAME_MAX + 1];
	bool paused;
	uint32_t granularity; /* of the topmost segment; bytes */
	struct qi_uuid checkpoint;
};
/* All bitmaps that address (drive, name) finds. Free with free(). */
int qi_drive_bitmaps(struct qi_drive *d, struct qi_drive_bitmap **out,
		     size_t *count, struct qi_error *e);

enum qi_layer_status {
	QI_LAYER_EXACT,	    /* its stored bits */
	QI_LAYER_PAUSED,    /* its stored bits; later writes were not wanted */
	QI_LAYER_ESTIMATED, /* its allocation map */
	QI_LAYER_FULL,	    /* the whole disk */
};
const char *qi_layer_status_name(enum qi_layer_status s);

struct qi_layer {
	struct qi_node *node;
	enum qi_layer_status status;
	bool anchor;
	char reason[160]; /* why not exact; "" when exact */
};

/* The dirty set of a drive bitmap (qimg-drives(7)). */
struct qi_dirty;
/* -ENOENT: no such bitmap. Walks from the head to the anchor. */
int qi_dirty_new(struct qi_drive *d, const char *name, struct qi_dirty **out,
		 struct qi_error *e);
void qi_dirty_free(struct qi_dirty *dirty);
const struct qi_layer *qi_dirty_layers(const struct qi_dirty *dirty,
				       size_t *count);
/* The worst status of all layers. */
enum qi_layer_status qi_dirty_status(const struct qi_dirty *dirty);
struct qi_uuid qi_dirty_checkpoint(const struct qi_dirty *dirty);
/* Was it paused since it starts? Then it serves no incremental backup. */
bool qi_dirty_has_gap(const struct qi_dirty *dirty);
/* The set itself; may be asked for again and again. */
int qi_dirty_ranges(const struct qi_dirty *dirty, struct qi_ranges **out);
/* Sum of its ranges in bytes. */
int qi_dirty_bytes(const struct qi_dirty *dirty, uint64_t *out,
		   struct qi_error *e);

/* --------------------------------------------------- plans and progress */

/*
 * The steps of a mutating operation as text, filled by its *_plan function
 * before anything is written; shown by --dry-run.
 */
struct qi_plan {
	char **steps;
	size_t count;
	uint64_t bytes; /* of guest data to be copied, counted for dry runs */
};
void qi_plan_free(struct qi_plan *p);

/* Called by long operations as they go on. */
struct qi_progress {
	void (*fn)(void *arg, uint64_t done, uint64_t total);
	void *arg;
};

struct qi_copy_stats {
	uint64_t read;	  /* guest bytes read */
	uint64_t written; /* guest bytes stored as data */
	uint64_t zero;	  /* guest bytes stored as zero */
};

/* --------------------------------------------------------- bitmap verbs */

enum qi_bitmap_verb {
	QI_BITMAP_ADD,
	QI_BITMAP_REMOVE,
	QI_BITMAP_CLEAR,
	QI_BITMAP_ENABLE,
	QI_BITMAP_DISABLE,
};
/* May one bit stand for so many bytes? A power of two from 512 to 2G. */
bool qi_bitmap_is_granularity(uint64_t g);

struct qi_bitmap_edit {
	enum qi_bitmap_verb verb;
	const char *name;
	uint32_t granularity;		  /* ADD: bytes, 0 for the default */
	bool disabled;			  /* ADD: created disabled */
	const struct qi_uuid *checkpoint; /* CLEAR on a drive; NULL: random */
};
/* The verbs on (node, name) and on (drive, name). One header write each. */
int qi_node_bitmap_edit(struct qi_node *n, const struct qi_bitmap_edit *edit,
			struct qi_plan *plan, bool dry_run, struct qi_error *e);
int qi_drive_bitmap_edit(struct qi_drive *d, const struct qi_bitmap_edit *edit,
			 struct qi_plan *plan, bool dry_run,
			 struct qi_error *e);

#include "qimg-drive.h"

#include "qimg-image.h"

#include "qimg-backup.h"

#include "qimg-bitmap.h"

#endif
