/* SPDX-License-Identifier: MIT */
/* drive.h - drives and their bitmaps, for the operations in lib */
#ifndef QI_DRIVE_H
#define QI_DRIVE_H

#include "lib/graph.h"
#include "lib/ranges.h"
#include "lib/record.h"

struct qi_drive {
	char *path;
	bool is_link;
	bool strict;	 /* no layers made by other tools */
	bool is_layer;	 /* the head is any layer of it, and stays as it is */
	bool is_warned;	 /* of a head made by another tool */
	char *head_path; /* where the links end; malloc'd */
	struct qi_node *head;
};

/* Has n nothing allocated? False, too, when that cannot be read. */
bool qi_node_is_empty(struct qi_node *n);
/* The topmost layer whose record names the drive; NULL: none does. */
struct qi_node *qi_drive_recorded(const struct qi_drive *d);

/* Does n's record name another drive? */
bool qi_node_is_of_other(const struct qi_drive *d, const struct qi_node *n);
/* Does n's record say that `name` is a segment of this drive? */
const struct qi_record_bitmap *qi_drive_segment(const struct qi_drive *d,
						const struct qi_node *n,
						const char *name);
/* The same, but of one that is there: none that was removed. */
bool qi_drive_owns(const struct qi_drive *d, const struct qi_node *n,
		   const char *name);
/* Index in n's directory, or -1. */
int qi_node_find_bitmap(struct qi_node *n, const char *name);
/* Is this directory entry what the record promises? Else why not. */
const char *qi_segment_problem(struct qi_node *n,
			       const struct qi_record_bitmap *b, int *which);

/*
 * What layer n adds to the dirty set of `name` by SEMANTICS section 3, as a
 * stream; *status and reason (may be NULL) say how it is known.
 */
int qi_layer_ranges(const struct qi_drive *d, struct qi_node *n,
		    const char *name, struct qi_ranges **out);
enum qi_layer_status qi_layer_status_of(const struct qi_drive *d,
					struct qi_node *n, const char *name,
					char *reason, size_t reason_len);

/*
 * The layer of the drive that was made by the snapshot `tag`, above what that
 * holds; NULL: it has none.
 */
struct qi_node *qi_drive_find_tag(const struct qi_drive *d, const char *tag);
/* The same, with -ENOENT and where to look, when it has none. */
int qi_drive_need_tag(const struct qi_drive *d, const char *tag,
		      struct qi_node **out, struct qi_error *e);

/* Has a merge into n begun, and not come to its end? */
bool qi_node_is_merging(const struct qi_node *n);
/* -ESTALE when it is so: n does not read as the snapshot that it holds. */
int qi_drive_check_whole(const struct qi_drive *d, const struct qi_node *n,
			 struct qi_error *e);

/* Is the layer below the one that this one was made on? */
bool qi_node_parent_is_right(const struct qi_node *n);
/* Of the snapshot that the layer below is; "": it is none, or another one. */
const char *qi_node_tag(const struct qi_node *n);
/*
 * May this drive be changed? Not when its head is a frozen layer that others
 * rest on: then it is not the head. Warns of a head made by another tool.
 */
int qi_drive_check(struct qi_drive *d, struct qi_error *e);
/*
 * Is the image at path a new head for this drive that a snapshot has written,
 * but that the drive link was not pointed at before the end? It is empty.
 * tag: NULL, or gets its tag then.
 */
bool qi_drive_is_unfinished(const struct qi_drive *d, const char *path,
			    char tag[QI_TAG_MAX + 1]);
/*
 * A record for d's head to be changed and stored: a copy of what it has, or a
 * new one that continues the drive of the layers below.
 */
int qi_drive_head_record(const struct qi_drive *d, struct qi_record **out,
			 struct qi_error *e);
/* Store a record, and bitmaps, in one node by one header write. */
int qi_node_store(struct qi_node *n, const struct qi_record *r,
		  const struct qi_bitmap_change *changes, size_t count,
		  struct qi_error *e);
/* Will they have room there? Nothing is written. */
int qi_node_check_room(struct qi_node *n, const struct qi_record *r,
		       bool bitmaps, struct qi_error *e);
/* 0, or why n can hold no record and segments, with what would help. */
int qi_node_can_store(struct qi_node *n, struct qi_error *e);
/* The same of node bitmaps, which need no record. */
int qi_node_can_hold(struct qi_node *n, struct qi_error *e);

/*
 * Point the drive's link at another head, atomically and durably. The target
 * is written relative when both are in one folder. 1 and *e: it is done, but
 * a power cut may undo it.
 */
int qi_drive_flip(struct qi_drive *d, const char *head, struct qi_error *e);
/* Note in *c what failed, with e->text, when the change itself is made. */
void qi_change_problem(struct qi_change *c, const struct qi_error *e,
		       const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A node bitmap of n that is no segment, or NULL: rule 2 protects those. */
const char *qi_node_own_bitmap(struct qi_node *n);
/*
 * A link to n in the folders of its graph, malloc'd; *out NULL: none besides
 * `except`, a path or NULL.
 */
int qi_node_find_link(struct qi_node *n, const char *except, char **out,
		      struct qi_error *e);
/* The same questions about n of another graph, by the folders of g. */
int qi_graph_find_link(struct qi_graph *g, struct qi_node *n,
		       const char *except, char **out, struct qi_error *e);
int qi_graph_dependents(struct qi_graph *g, struct qi_node *n,
			const struct qi_node *except, struct qi_files *out,
			struct qi_error *e);
/* Answer from now on as if the file of n, of any graph, were removed. */
int qi_graph_dismiss(struct qi_graph *g, const struct qi_node *n,
		     struct qi_error *e);
/*
 * -ESTALE when n is marked as a layer that images in folders that are not seen
 * may rest on. what: would be done to it.
 */
int qi_node_check_marks(const struct qi_node *n, const char *what,
			struct qi_error *e);
/* -ESTALE with the list, when images other than `except` depend on n. */
int qi_node_check_dependents(struct qi_node *n, const struct qi_node *except,
			     const char *what, struct qi_error *e);
/* Are the two paths in the same folder? */
bool qi_same_folder(const char *a, const char *b);

/* As an image at `overlay` should record it: relative in one folder. malloc'd
 */
char *qi_backing_name(const char *base, const char *overlay);

/* Changes of bitmaps in the making, with the streams that feed them. */
struct qi_edits {
	size_t count, room;
	struct qi_bitmap_change *changes;
};
/* NULL without memory. */
struct qi_bitmap_change *qi_edits_add(struct qi_edits *l);
void qi_edits_clear(struct qi_edits *l);

/* Is n in the chain that starts at `chain` (NULL: an empty one)? */
bool qi_node_is_in_chain(const struct qi_node *n, const struct qi_node *chain);
/*
 * What becomes of drive bitmaps when the layers from drive.head down to but
 * without `base` become one, `into`: the topmost (base takes the place of what
 * lies below) or the lowest of them (base is its backing node).
 */
struct qi_carry {
	struct qi_drive drive;	  /* as seen from the topmost; not owned */
	struct qi_node *into;	  /* gets the record and the segments */
	struct qi_node *base;	  /* NULL: none */
	uint64_t smallest;	  /* 0, or a size that `into` has had */
	bool discards;		  /* a new layer gets it; their data is lost */
	struct qi_record *record; /* of into; NULL: it stays as it is */
	struct qi_edits edits;
	struct qi_drive_bitmap *all;
};
/* Find conflicts; nothing is written. */
int qi_carry_plan(struct qi_carry *c, struct qi_error *e);
/* When the drive's view does not change by it; the record has the old parent.
 */
int qi_carry_store(struct qi_carry *c, struct qi_error *e);
void qi_carry_clear(struct qi_carry *c);

/*
 * 0, or why guest data (compressed, too) cannot be written into n; to be
 * asked first of all.
 */
int qi_node_check_edit(struct qi_node *n, bool compress, struct qi_error *e);
/*
 * Record another backing file (NULL: none), and r (NULL: as it is), by one
 * header write. dry_run: only tell whether that can be done.
 */
int qi_node_set_backing(struct qi_node *n, const char *name, const char *format,
			const struct qi_record *r, bool dry_run,
			struct qi_error *e);

/* Add a step to a plan (may be NULL). */
int qi_plan_step(struct qi_plan *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/*
 * The step that copies data into a layer: of the layer from (NULL: of several),
 * so many bytes (NULL: not counted).
 */
int qi_plan_copy(struct qi_plan *p, const char *from, const char *into,
		 const uint64_t *bytes);
/* The step that gives a layer another backing file, or none (NULL). */
int qi_plan_backing(struct qi_plan *p, const char *layer, const char *name);

/* ---- of one bitmap */

/* In n's directory, or NULL. */
const struct qi_stored_bitmap *qi_node_stored_bitmap(struct qi_node *n,
						     const char *name);
/* What n's record says of a segment of any drive; NULL: it is none. */
const struct qi_record_bitmap *qi_node_segment(const struct qi_node *n,
					       const char *name);
/* -ESTALE when it is one; 'qimg bitmap INSTEAD' is named as what to use. */
int qi_node_refuse_segment(struct qi_node *n, const char *name,
			   const char *instead, struct qi_error *e);
/* -ENOENT, without a message, when the drive has none. */
int qi_drive_find_bitmap(struct qi_drive *d, const char *name,
			 struct qi_drive_bitmap *out, struct qi_error *e);
/*
 * -EEXIST when a layer has a node bitmap of that name: a commit may have to
 * make a segment there.
 */
int qi_drive_check_conflicts(struct qi_drive *d, const char *name,
			     struct qi_error *e);
/* The same of a name that the drive gets, and so may be another one. */
int qi_drive_check_new_name(struct qi_drive *d, const char *name,
			    struct qi_error *e);
/* Does a record below n, of this drive, mention the name? */
bool qi_drive_knows_below(const struct qi_drive *d, const struct qi_node *n,
			  const char *name);

const char *qi_bitmap_verb_name(enum qi_bitmap_verb v);
/* QEMU's words for what ret is: no such bitmap, or one that was left in use. */
int qi_stock_no_bitmap(struct qi_error *e, int ret, const char *name);
int qi_stock_bad_bitmap(struct qi_error *e, int ret,
			const struct qi_stored_bitmap *b);
/* log2 of the granularity of a new bitmap; 0: the default. */
unsigned qi_bitmap_new_bits(const struct qi_node *n, uint32_t granularity);
/* Can n hold a bitmap of that name, and a record? */
int qi_bitmap_check_place(struct qi_node *n, const char *name, bool record,
			  struct qi_error *e);
int qi_bitmap_check_edit(struct qi_node *n, const struct qi_bitmap_edit *edit,
			 bool record, struct qi_error *e);

/* What one header write changes, mostly of a drive's head. */
struct qi_head_edit {
	struct qi_drive *drive; /* NULL: not as the head of one */
	struct qi_node *node;
	struct qi_record *record; /* NULL: it stays as it is */
	struct qi_edits edits;	  /* names are the caller's */
	struct qi_drive_bitmap *all;
};
int qi_head_edit_begin(struct qi_head_edit *w, struct qi_drive *d,
		       struct qi_error *e);
/* A change of the stored bitmap, until the next one is added. */
struct qi_bitmap_change *qi_head_edit_add(struct qi_head_edit *w,
					  const char *name);
/* A bitmap starts here; *out (may be NULL) can be given bits. */
int qi_head_edit_start(struct qi_head_edit *w, const char *name, bool paused,
		       unsigned granularity_bits, struct qi_bitmap_change **out,
		       struct qi_error *e);
/* keep_stored: what is in the directory stays, or is changed otherwise. */
int qi_head_edit_remove(struct qi_head_edit *w, const char *name,
			bool keep_stored, struct qi_error *e);
/*
 * The bitmap goes on, in the state that *now has: the head gets a segment that
 * says what it contributes, where it has none.
 */
int qi_head_edit_keep(struct qi_head_edit *w, const struct qi_drive_bitmap *now,
		      struct qi_bitmap_change **out, struct qi_error *e);
/*
 * Where the head is on another layer than it was made on: one that starts now
 * need not mind, so the head gets that parent. The drive's other ones must,
 * and become full, but for the one that ends (may be NULL).
 */
int qi_head_edit_adopt(struct qi_head_edit *w, const char *starts,
		       const char *ends, struct qi_error *e);
int qi_head_edit_store(struct qi_head_edit *w, struct qi_error *e);
void qi_head_edit_clear(struct qi_head_edit *w);

#endif
