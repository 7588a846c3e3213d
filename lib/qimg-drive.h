/* SPDX-License-Identifier: MIT */
/*
 * qimg-drive.h - the public interface of libqimg: layers of drives
 *
 * Snapshots, commits, streams, clones and rebases, and who depends on a layer.
 * Part of qimg.h, which includes it.
 */
#ifndef QI_QIMG_DRIVE_H
#define QI_QIMG_DRIVE_H

#include "qimg.h"

/* ------------------------------------------------- snapshots and commit */

struct qi_snapshot {
	const char *tag;     /* NULL: the time, as YYYYMMDDTHHMMSSZ */
	const char *overlay; /* drive link: path of the new head, or NULL */
};
struct qi_change {
	char old_head[4096]; /* paths after (snapshot), before (commit) */
	char new_head[4096];
	uint64_t bytes;	 /* guest bytes copied */
	bool is_nothing; /* it was so already; the plan says what */
	/* "", or what failed after the change was made: done, with a warning */
	char problem[2100];
};
/* What an ended run has left to do is to be written, too; then lock. */
int qi_snapshot_create_prepare(struct qi_drive *d, const char *tag,
			       struct qi_error *e);
/* Put a new head on a drive. The head must be wanted for writing. */
int qi_snapshot_create(struct qi_drive *d, const struct qi_snapshot *s,
		       struct qi_plan *plan, bool dry_run,
		       struct qi_change *out, struct qi_error *e);

/* A layer of a drive. */
struct qi_drive_layer {
	struct qi_node *node;
	/* The snapshot whose state it holds, or NULL; of the drive's own. */
	const char *tag;
	/* Of a record: made by qimg, frozen, with clones on it. */
	bool has_record, is_frozen, is_shared;
	bool is_of_other_drive;
	bool is_merging; /* a merge into it was ended: it is not whole */
};
/* All of them, the head first. Free with free(). */
int qi_drive_layers(struct qi_drive *d, struct qi_drive_layer **out,
		    size_t *count, struct qi_error *e);

/* Find what is to be written; the graph is to be locked then. */
int qi_snapshot_revert_prepare(struct qi_drive *d, const char *tag,
			       struct qi_error *e);
/*
 * A fresh head on the layer that the snapshot holds, in place of the present
 * one, whose data is lost. Bitmaps keep their starts: what this changes is
 * dirty.
 */
int qi_snapshot_revert(struct qi_drive *d, const char *tag,
		       struct qi_plan *plan, bool dry_run,
		       struct qi_change *out, struct qi_error *e);

struct qi_snapshot_delete {
	const char *tag;
	struct qi_progress progress;
	unsigned threads;
};
int qi_snapshot_delete_prepare(struct qi_drive *d,
			       const struct qi_snapshot_delete *s,
			       struct qi_error *e);
/*
 * Merge the layer that the snapshot holds with the one above it, whichever
 * way copies less. The drive reads as before.
 */
int qi_snapshot_delete(struct qi_drive *d, const struct qi_snapshot_delete *s,
		       struct qi_plan *plan, bool dry_run,
		       struct qi_change *out, struct qi_error *e);

struct qi_commit {
	const char *into; /* path of a layer below the head; NULL: the next */
	struct qi_progress progress;
	unsigned threads;
	struct qi_node *base; /* set by qi_commit_prepare() */
};
/* Find the layer that becomes the head; the graph is to be locked then. */
int qi_commit_prepare(struct qi_drive *d, struct qi_commit *c,
		      struct qi_error *e);
/*
 * Merge the head of a drive, and the layers between, into a layer below it,
 * which becomes the head.
 */
int qi_commit_drive(struct qi_drive *d, const struct qi_commit *c,
		    struct qi_plan *plan, bool dry_run, struct qi_change *out,
		    struct qi_error *e);

struct qi_stream {
	const char *base;	 /* path of a lower layer; NULL: none */
	uint64_t offset, length; /* a range; both 0: the whole disk */
	bool compress;		 /* what is copied */
	unsigned threads;
	struct qi_progress progress;
	struct qi_node *node; /* set by qi_stream_prepare() */
};
int qi_stream_prepare(struct qi_drive *d, struct qi_stream *s,
		      struct qi_error *e);
/*
 * Copy what the layers above base have into the head. The whole disk: it rests
 * on base then, and the layers between are left. A range: nothing else changes.
 */
int qi_stream_drive(struct qi_drive *d, const struct qi_stream *s,
		    struct qi_plan *plan, bool dry_run, struct qi_change *out,
		    struct qi_error *e);

struct qi_clone {
	const char *path; /* of the new drive */
	const char *at;	  /* a snapshot; NULL: as the drive is now */
	const char *tag;  /* of the snapshot that the drive gets, if it must */
};
int qi_clone_prepare(struct qi_drive *d, const struct qi_clone *c,
		     struct qi_error *e);
/* A new drive on a layer of this one, which is marked as shared. */
int qi_clone_drive(struct qi_drive *d, const struct qi_clone *c,
		   struct qi_plan *plan, bool dry_run, struct qi_change *out,
		   struct qi_error *e);
/* Its clones are gone: it may be changed again. */
int qi_node_unshare(struct qi_node *n, struct qi_plan *plan, bool dry_run,
		    struct qi_error *e);

struct qi_commit_image {
	const char *format; /* of the image; NULL: found by probing */
	const char *base;   /* a layer below; NULL: the next one */
	bool keep;	    /* do not empty the image; implied by base */
	unsigned threads;
	struct qi_progress progress;
	struct qi_node *top, *below; /* set by qi_commit_open() */
};
/*
 * Add the image, unless it is c->top already, and find the layer that is to be
 * written; to be locked then.
 */
int qi_commit_open(struct qi_graph *g, const char *path,
		   struct qi_commit_image *c, struct qi_error *e);
/*
 * Write what the image reads into the layer below, and empty the image, which
 * stays what it is: it reads as before. Bytes of guest data in *bytes.
 */
int qi_commit_run(const struct qi_commit_image *c, struct qi_plan *plan,
		  bool dry_run, uint64_t *bytes, struct qi_error *e);

/* ---------------------------------------------------------------- rebase */

struct qi_rebase {
	const char *format;	    /* of the image; NULL: found by probing */
	const char *backing_name;   /* as recorded; NULL or "": none */
	const char *backing_format; /* the same; NULL: found by probing */
	bool unsafe;		    /* change the header, whatever is below */
	bool compress;
	bool base_force_share; /* of the new backing file */
	unsigned threads;
	struct qi_progress progress;
	struct qi_node *node, *base; /* set by qi_rebase_open() */
};
/* Add the image, unless it is r->node already, and in safe mode what it shall
 * rest on; to be locked then. */
int qi_rebase_open(struct qi_graph *g, const char *path, struct qi_rebase *r,
		   struct qi_error *e);
/* Give the image another backing file; in safe mode it reads as before. */
int qi_rebase_run(const struct qi_rebase *r, struct qi_plan *plan, bool dry_run,
		  struct qi_copy_stats *stats, struct qi_error *e);

/* ------------------------------------------------- dependents and graph */

/* Paths of images in a folder; symbolic links too. Free with qi_files_free. */
struct qi_files {
	char **path;
	size_t count;
};
int qi_folder_images(const char *dir, struct qi_files *out, struct qi_error *e);
/* Its symbolic links that lead nowhere; those are no images. */
int qi_folder_broken_links(const char *dir, struct qi_files *out,
			   struct qi_error *e);
/*
 * Look for overlays in this folder, too, not only in that of the node that is
 * asked for. -errno when it cannot be read.
 */
int qi_graph_scan(struct qi_graph *g, const char *folder, struct qi_error *e);
/*
 * Images in these folders, or that a link there leads to, whose backing file is
 * n, but for `except`. Found by their headers alone; each file once.
 */
int qi_node_dependents(struct qi_node *n, const struct qi_node *except,
		       struct qi_files *out, struct qi_error *e);
void qi_files_free(struct qi_files *f);

#endif
