/* SPDX-License-Identifier: MIT */
/*
 * qimg-image.h - the public interface of libqimg: single images
 *
 * Making, reading, checking, writing and changing them. Part of qimg.h, which
 * includes it.
 */
#ifndef QI_QIMG_IMAGE_H
#define QI_QIMG_IMAGE_H

#include "qimg.h"

/* ------------------------------------------------------ making images */

/* What a new part of a disk is given before it is written. */
enum qi_preallocation {
	QI_PREALLOC_OFF,
	QI_PREALLOC_METADATA, /* a place in the image */
	QI_PREALLOC_FALLOC,   /* ... and room in the file system */
	QI_PREALLOC_FULL,     /* ... written with zeroes */
};
/* As people write it: off, metadata, falloc, full. */
int qi_preallocation_parse(const char *text, enum qi_preallocation *out,
			   struct qi_error *e);

struct qi_create {
	const char *format;	    /* driver name */
	const char *options;	    /* "a=b,c=d" as after -o; commas doubled */
	uint64_t size;		    /* QI_NO_OFFSET: from the backing file */
	const char *backing_name;   /* NULL: none (or in options) */
	const char *backing_format; /* as recorded */
	bool unchecked_backing;	    /* do not open the backing file (-u) */
	bool replace;		    /* existing files may be replaced */
	bool ignores_size_option;   /* else `size` rules out size= in options */
	/*
	 * As qemu-img does it: written under its name. A file that is there is
	 * emptied, whatever `replace` says, and stays the same file, with its
	 * links and mode; a device is written; links are followed. What fails
	 * half-way leaves half an image.
	 */
	bool in_place;
	enum qi_cache cache; /* how it is written; see there */
};

/*
 * Create an empty image under a temporary name and rename it into place, or in
 * place.
 */
int qi_create_image(const char *path, const struct qi_create *c,
		    struct qi_error *e);
/* The size the image got, for messages: as c->size, resolved. */
int qi_create_size(const char *path, const struct qi_create *c, uint64_t *size,
		   struct qi_error *e);

/* What a conversion left out without a failure. */
struct qi_skipped {
	uint64_t off, len;  /* could not be read; multiples of 512 */
	const char *bitmap; /* or the name of a bitmap; NULL: it is no bitmap */
	int error;	    /* errno of what cannot be read */
};

/* What is as long as this, and zero, becomes a hole unless told otherwise. */
#define QI_CONVERT_HOLE 4096u

struct qi_convert {
	struct qi_create target; /* size is that of the source */
	bool compress;
	unsigned threads; /* 0: as many as there are processors */
	struct qi_progress progress;
	struct qi_expected *expected; /* what it must read as; NULL: all goes */
	/*
	 * This layer of the source and those below are not copied: the target
	 * has them by its backing file, and reads as zero past the end of that.
	 * NULL: all is copied. qemu-img leaves out facts.backing of the source
	 * whenever the target has a backing file.
	 */
	const struct qi_node *base;
	/* It is the layer of the source that the target's backing file is. */
	bool finds_base;
	/* What qemu-img says first when a target cannot be made, or NULL. */
	const char *unmade;
	bool dry_run; /* qi_convert_into(): see whether it can be done */
	/*
	 * Zeroes that are at least that long, multiples of 512, become holes;
	 * 0: QI_CONVERT_HOLE. Clusters decide in formats that have them. With
	 * 0, a new image shares the blocks of data with the source where the
	 * file system can; then shorter zeroes than 64 KiB stay data.
	 */
	uint64_t hole;
	bool offloads;	    /* what is shared is not looked at for zeroes */
	bool no_holes;	    /* zeroes are written like any other data */
	uint64_t rate;	    /* bytes a second that are copied; 0: any */
	bool reads_as_zero; /* qi_convert_into(): all of the target does */
	bool bitmaps;	    /* those of the source itself, too */
	bool skips_bitmaps; /* ... but for the inconsistent ones */
	bool salvages;	    /* what cannot be read is zero */
	/*
	 * With skips_bitmaps and salvages: called for each thing that was left
	 * out, one at a time, in ascending order. May be NULL.
	 */
	void (*skipped)(void *arg, const struct qi_skipped *s);
	void *arg;
};
/* Write the guest view of src into a new image at path. */
int qi_convert_image(struct qi_node *src, const char *path,
		     const struct qi_convert *c, struct qi_copy_stats *stats,
		     struct qi_error *e);
/*
 * Write it into an image that is there: target is locked for writing and was
 * opened with its backing file. It must not be smaller; what it has more
 * stays. Its enabled bitmaps get all that is written. c->target is not used.
 * After a failure it holds a part.
 */
int qi_convert_into(struct qi_node *src, struct qi_node *target,
		    const struct qi_convert *c, struct qi_copy_stats *stats,
		    struct qi_error *e);

/* ------------------------------------------------------------ measuring */

struct qi_measure {
	const char *format;  /* of the image that would be made */
	const char *options; /* as after -o */
	uint64_t size;	     /* of an empty disk, when there is no source */
};
struct qi_measurement {
	uint64_t required;	  /* bytes of the file of that data */
	uint64_t fully_allocated; /* ... of any data */
	uint64_t bitmaps;	  /* ... of the bitmaps of the source */
	bool has_bitmaps;	  /* source and target can have some */
};
/*
 * How large an image would be that gets what src reads as (NULL: nothing).
 * With a backing file in the options, only what src has itself. The same
 * numbers as qemu-img measure.
 */
int qi_measure(struct qi_node *src, const struct qi_measure *m,
	       struct qi_measurement *out, struct qi_error *e);

/* --------------------------------------------------------- benchmarking */

/* Requests of one kind, as qemu-img bench makes them. */
struct qi_bench {
	bool writes;	   /* else reads; the node is open for writing */
	uint64_t count;	   /* of requests */
	unsigned depth;	   /* so many at once */
	uint64_t off;	   /* of the first */
	uint64_t len;	   /* of each */
	uint64_t step;	   /* from one to the next; 0: len */
	uint8_t pattern;   /* of bytes that are written */
	unsigned interval; /* of writes after which there is a flush; 0: none */
	bool no_drain;	   /* a flush does not wait for writes in flight */
};
/*
 * Offsets start again when they have come to the end; a request that goes past
 * it fails, as with qemu-img. *seconds: what all of them took. Writes are
 * durable when this returns.
 */
int qi_bench(struct qi_node *n, const struct qi_bench *b, double *seconds,
	     struct qi_error *e);

/* ------------------------------------------------------- reading images */

/* A part of what a guest reads of a node; past its end that is zero. */
struct qi_slice {
	struct qi_node *node;
	uint64_t off;
	uint64_t len; /* bytes; QI_NO_OFFSET: its rest, in whole sectors */
};
/*
 * A node that reads as all the slices, one after the other, and cannot be
 * written. It belongs to the graph, and does not outlive that. Runs of zeroes
 * are known as such. Not before qi_graph_lock().
 */
int qi_join_node(struct qi_graph *g, const struct qi_slice *slices,
		 size_t count, struct qi_node **out, struct qi_error *e);

enum qi_compare_result {
	QI_COMPARE_EQUAL,
	QI_COMPARE_DIFFERENT, /* content differs at `off` */
	QI_COMPARE_SIZE,      /* strict: sizes differ */
	QI_COMPARE_STATUS,    /* strict: allocation differs at `off` */
};
struct qi_comparison {
	enum qi_compare_result result;
	uint64_t off;
	bool size_differs; /* equal, but one is longer (with zeroes) */
};
int qi_compare_images(struct qi_node *a, struct qi_node *b, bool strict,
		      const struct qi_progress *progress,
		      struct qi_comparison *out, struct qi_error *e);

enum qi_repair { QI_REPAIR_NONE, QI_REPAIR_LEAKS, QI_REPAIR_ALL };
struct qi_check {
	enum qi_repair repair; /* the node must be open for writing */
	uint64_t corruptions_fixed;
	uint64_t leaks_fixed;
	/* What is left: */
	uint64_t corruptions;
	uint64_t leaks;
	uint64_t errors; /* that kept parts from being checked */
	uint64_t total_clusters;
	uint64_t allocated_clusters;
	uint64_t compressed_clusters;
	uint64_t fragmented_clusters;
	uint64_t image_end;
	/* Called with each finding, the first QI_CHECK_MESSAGES of them. */
	void (*finding)(void *arg, const char *text);
	void *arg;
};
#define QI_CHECK_MESSAGES 1000
/* -ENOTSUP: the format has no check. Findings are counts, not failures. */
int qi_check_image(struct qi_node *n, struct qi_check *check,
		   struct qi_error *e);

/* ------------------------------------------------------ writing images */

/* One change of guest data in one image; layers below stay as they are. */
enum qi_write_type {
	QI_WRITE_DATA,
	/* Whole clusters, the last may be cut by the end of the disk. */
	QI_WRITE_COMPRESSED, /* stored packed where that is smaller */
	QI_WRITE_ZERO,	     /* reads as zero; clusters stay if they can */
	QI_WRITE_UNMAP,	     /* reads as zero; clusters are given back */
	/*
	 * Whole clusters alone, the rest is left. They read as zero, or, where
	 * the format cannot say that above a backing file, as before.
	 */
	QI_WRITE_DISCARD,
};
struct qi_write {
	enum qi_write_type type;
	uint64_t off, len; /* any alignment, inside the disk */
	const void *data;  /* DATA and COMPRESSED: len bytes */
};
/*
 * Do `count` writes in order; durable when this returns. Enabled bitmaps of
 * the node, segments too, get all ranges first, by one header write. On
 * failure or a crash each cluster is old or new. The backing chain must be
 * open where something of it has to be copied.
 */
int qi_node_write(struct qi_node *n, const struct qi_write *writes,
		  size_t count, struct qi_error *e);

/* ------------------------------------------------------ changing images */

/*
 * Another size of the virtual disk. A new part reads as zero, also where the
 * backing file is longer than the node was. What is past a smaller end is
 * deleted. Bitmaps of the node follow; drive bitmaps know the smallest size.
 */
struct qi_resize {
	uint64_t size;			     /* bytes, more than 0 */
	bool shrink;			     /* it may get smaller */
	enum qi_preallocation preallocation; /* of a new part */
};
/* The node must be open for writing, with its backing chain. */
int qi_resize_image(struct qi_node *n, const struct qi_resize *r,
		    struct qi_plan *plan, bool dry_run, struct qi_error *e);

/* Options of a format that can be changed later; NULL: none can. */
const struct qi_format_option *qi_format_amend_options(const char *format);
struct qi_amend {
	const char *options; /* "a=b,c=d" as after -o; commas doubled */
	struct qi_progress progress;
};
int qi_amend_image(struct qi_node *n, const struct qi_amend *a,
		   struct qi_plan *plan, bool dry_run, struct qi_error *e);

/* -------------------------------------------------- internal snapshots */

/* Kept inside one image (qcow2), as by qemu-img snapshot. */
struct qi_internal_snapshot {
	char *id;
	char *name;
	uint64_t disk_size;
	uint64_t vm_state_size;
	uint64_t vm_clock_nsec;
	uint64_t icount;
	uint32_t date_sec; /* since the epoch */
	uint32_t date_nsec;
};
/* In stored order. Free with qi_internal_snapshots_free(). */
int qi_internal_snapshots(struct qi_node *n, struct qi_internal_snapshot **out,
			  size_t *count, struct qi_error *e);
void qi_internal_snapshots_free(struct qi_internal_snapshot *all, size_t count);

enum qi_internal_verb {
	QI_INTERNAL_CREATE,
	QI_INTERNAL_APPLY, /* enabled bitmaps get what it changes */
	QI_INTERNAL_DELETE,
};
/* name: that of the new one, else name or id of one that is there. */
int qi_internal_snapshot_edit(struct qi_node *n, enum qi_internal_verb verb,
			      const char *name, struct qi_error *e);

#endif
