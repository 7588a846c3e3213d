/* SPDX-License-Identifier: MIT */
/*
 * qimg-backup.h - the public interface of libqimg: backup repositories
 *
 * Part of qimg.h, which includes it.
 */
#ifndef QI_QIMG_BACKUP_H
#define QI_QIMG_BACKUP_H

#include "qimg.h"

struct qi_expected; /* see qi_repo_expected() */
struct qi_hash {
	uint8_t b[16]; /* XXH3-128, canonical form */
};
#define QI_HASH_TEXT 33 /* hexadecimal, with the null byte */
void qi_hash_format(const struct qi_hash *h, char text[QI_HASH_TEXT]);
/*
 * What the guest reads, as one hash: equal for equal size and content, however
 * they are stored. It is the root of a point of it. threads 0: one a processor.
 */
int qi_digest(struct qi_node *n, unsigned threads,
	      const struct qi_progress *progress, struct qi_hash *out,
	      struct qi_error *e);

enum qi_backup_type {
	QI_BACKUP_FULL,	       /* all of the disk, on nothing */
	QI_BACKUP_INCREMENTAL, /* what is dirty, on the point before */
	QI_BACKUP_RESYNC,      /* what differs from the point before */
	QI_BACKUP_AUTO /* the last that is sound of: full, resync, incremental
			*/
};
/* "full" and so on; what a point is never "auto". */
const char *qi_backup_type_name(enum qi_backup_type type);

struct qi_backup {
	enum qi_backup_type type;
	struct qi_drive **drives;
	size_t drive_count;
	/* Of the only drive in the repository; NULL: as its file is called. */
	const char *name;
	/* NULL: no increments. It is cleared; not that of a layer. */
	const char *bitmap;
	bool compress;
	unsigned threads;
	uint64_t rate;	    /* bytes a second that are read, at most; 0: any */
	uint64_t threshold; /* no point when fewer bytes have changed */
	struct qi_progress progress;
};
struct qi_backed_up {
	const struct qi_point *point; /* NULL: none; the repository's */
	/* Of all drives: dirty, different, or all of the disk. */
	uint64_t changed;
};

/* What a drive was like, so that a restore can make it so again. */
struct qi_origin {
	char *format;  /* of its head: driver name */
	char *options; /* of that, as after -o; "" */
	struct qi_origin_bitmap {
		char *name;
		uint32_t granularity; /* bytes */
		bool paused;
	} * bitmaps;
	size_t bitmap_count;
};

/* One drive in one point. Strings belong to the point. */
struct qi_point_drive {
	char *name;
	enum qi_backup_type type;
	char *parent; /* id of the point it is an increment of, or NULL */
	char *file;   /* path inside the point's folder */
	char *hashes; /* the same for its list of hashes */
	uint64_t size;
	uint64_t dirty;	 /* bytes of the dirty set */
	uint64_t stored; /* bytes stored as data */
	uint64_t zero;	 /* bytes stored as zero */
	bool compressed;
	char *bitmap; /* or NULL */
	struct qi_uuid drive, from, to;
	struct qi_hash root;  /* of all of its content; see hashtree.h */
	struct qi_hash image; /* see qi_hash_image() */
	/* "", or why the dirty set was not exact, or was not used */
	char *reason;
	struct qi_origin origin;
};

/* A restore point. Belongs to its repository. */
struct qi_point {
	char *id;
	char *problem; /* NULL, or why its manifest cannot be used */
	char *parent;  /* of its first drive; NULL for a full one */
	enum qi_backup_type type;
	bool pinned;  /* prune leaves it alone */
	size_t chain; /* points that a restore reads, with it; 0: some miss */
	struct {
		int64_t time;  /* 0: never, as far as is known */
		uint32_t read; /* of its data; as in struct qi_verify */
		uint32_t next; /* where the next part begins */
		uint64_t problems;
		bool is_damaged; /* there is a note that cannot be used */
	} verified;
	int64_t time;		 /* seconds since the epoch, UTC */
	uint64_t file_size;	 /* bytes of its image files */
	double seconds;		 /* it took */
	struct qi_hash manifest; /* of the file it was read from */
	struct qi_point_drive *drives;
	size_t drive_count;
};
struct qi_repo;
enum qi_repo_mode {
	QI_REPO_OPEN, /* it must be there */
	/*
	 * Make it if the folder is empty or missing. Its points are read when
	 * it is locked, and it is removed again when it is unlocked without
	 * one.
	 */
	QI_REPO_MAKE,
	QI_REPO_PLAN, /* one that is not there is empty, and stays so */
};
int qi_repo_open(const char *path, enum qi_repo_mode mode, struct qi_repo **out,
		 struct qi_error *e);
void qi_repo_free(struct qi_repo *r);
/*
 * Exclusive use for a writer, as what writes takes it by itself; it ends with
 * the repository. wait: as in qi_graph_lock(). Points are read anew.
 */
int qi_repo_lock(struct qi_repo *r, int wait, struct qi_error *e);
/* Let others write; points can still be read. */
void qi_repo_unlock(struct qi_repo *r);
/*
 * Finish what interrupted runs have left, where nobody writes to the repository
 * and it can be written: true then. Points are read anew.
 */
bool qi_repo_settle(struct qi_repo *r);
/* Points, oldest first. Valid until the repository is freed. */
const struct qi_point *qi_repo_points(const struct qi_repo *r, size_t *count);
/* Point by id, unique prefix of one, or "last"; or the last not after a time
 * (YYYY-MM-DD[THH:MM[:SS]], UTC). NULL and *e when there is none. */
const struct qi_point *qi_repo_find(const struct qi_repo *r, const char *which,
				    struct qi_error *e);

/*
 * Take a point. The graph of the drives must be locked, heads for writing when
 * there is a bitmap.
 */
int qi_repo_backup(struct qi_repo *r, const struct qi_backup *b,
		   struct qi_plan *plan, bool dry_run, struct qi_backed_up *out,
		   struct qi_error *e);

/* How many of the last points of each kind are kept. */
struct qi_keep {
	unsigned last; /* whatever their time */
	unsigned hourly, daily, weekly, monthly, yearly; /* in UTC */
};
struct qi_prune {
	struct qi_keep keep;
	/* Or, not NULL: all from first on go, up to but without last. */
	const struct qi_point *first, *last;
	unsigned threads;
	struct qi_progress progress;
};
struct qi_pruned {
	size_t removed, merged; /* points */
	uint64_t freed;		/* bytes of image files that were removed */
};
/*
 * Remove points; those that rest on them get what they need of them. The last
 * point of each drive, and what is pinned, stays. Points are read anew.
 */
int qi_repo_prune(struct qi_repo *r, const struct qi_prune *how,
		  struct qi_plan *plan, bool dry_run, struct qi_pruned *out,
		  struct qi_error *e);
/* Points that are pinned stay. They may be read anew by this. */
int qi_repo_pin(struct qi_repo *r, const struct qi_point *p, bool pin,
		struct qi_error *e);

#define QI_VERIFY_ALL 1000000u
struct qi_verify {
	/*
	 * How much of the stored data is compared with the hashes, in
	 * millionths. A part goes on where the last one that was noted ends.
	 */
	uint32_t read;
	bool record;	       /* note the results in the repository */
	uint64_t files, bytes; /* looked at */
	uint64_t problems;
	void (*finding)(void *arg, const char *text);
	void *arg;
	struct qi_progress progress;
};
/* Verify one point and what it rests on. Problems are counts. */
int qi_repo_verify(struct qi_repo *r, const struct qi_point *p,
		   struct qi_verify *v, struct qi_error *e);

/* What an audit finds, in whole chunks of 64 KiB. */
enum qi_audit_kind {
	QI_AUDIT_EXPECTED, /* differs, and is dirty or there is no bitmap */
	QI_AUDIT_MISSED,   /* differs, and is not dirty */
	QI_AUDIT_SPARE,	   /* is dirty, and does not differ */
	QI_AUDIT_KINDS,
};
struct qi_audit {
	const char *name;   /* in the repository; NULL: as its file is called */
	const char *bitmap; /* NULL: only what differs is of interest */
	/* To compare with; NULL: the one that a backup would rest on, which it
	 * is set to. */
	const struct qi_point *point;
	unsigned threads;
	uint64_t rate;			/* as in struct qi_backup */
	uint64_t bytes[QI_AUDIT_KINDS]; /* of each kind */
	/* Called in ascending order. */
	void (*finding)(void *arg, enum qi_audit_kind kind,
			const struct qi_range *r);
	void *arg;
	struct qi_progress progress;
};
/*
 * Is what differs between the live drive and a point what the bitmap says? All
 * of the drive is read, and nothing is written. The graph of the drive must be
 * locked. -ESTALE where no increment could be taken by the bitmap.
 */
int qi_repo_audit(struct qi_repo *r, struct qi_drive *d, struct qi_audit *a,
		  struct qi_error *e);

struct qi_repo_check {
	/* What is missing is a problem, what is too much is not. */
	void (*finding)(void *arg, bool is_problem, const char *text);
	void *arg;
	uint64_t problems, notes; /* how many */
};
/* Is there in the repository what should be, and nothing else? */
int qi_repo_check(struct qi_repo *r, struct qi_repo_check *c,
		  struct qi_error *e);

/*
 * What a drive of a point reads as, by its hashes, to be compared while it is
 * read. The repository must stay open as long.
 */
int qi_repo_expected(const struct qi_repo *r, const struct qi_point *p,
		     const char *drive, struct qi_expected **out,
		     struct qi_error *e);
void qi_expected_free(struct qi_expected *x);

/* Open the image of one drive of a point, to be read like any node. */
int qi_repo_open_image(struct qi_repo *r, const struct qi_point *p,
		       const char *drive, struct qi_graph *g,
		       struct qi_node **out, struct qi_error *e);

/* One drive on its way out of a repository. */
struct qi_restored {
	const char *drive;  /* its name in the point */
	const char *target; /* path of an image, or of a device */
	/* Set by qi_restore_open(): */
	const struct qi_create *create; /* a new image; in place, its format */
	uint64_t size;			/* bytes of the disk */
	bool in_place; /* the target is there, and is written to */
	struct qi_restore_job *job;
	/* By qi_restore_plan(), in place: */
	uint64_t differing; /* bytes that are not as in the point, for delta */
	uint64_t past_end;  /* of a device: bytes that stay as they are */
	/* By qi_restore_run(): */
	struct qi_copy_stats stats;
	size_t bitmaps; /* that a new image got */
};
struct qi_restore {
	struct qi_repo *repo;
	const struct qi_point *point;
	struct qi_restored *drives;
	size_t count;
	const char *format;  /* NULL: that of the drive, of a device raw */
	const char *options; /* of new images as after -o; NULL: as it had */
	bool delta;	     /* write where the target differs, in place */
	bool replace;	     /* a file, or all that is on a device */
	bool compress;	     /* new images */
	unsigned threads;
	struct qi_progress progress;
};
/* Are these options for a restore, and one of so many drives? */
int qi_restore_check_options(const struct qi_restore *r, struct qi_error *e);
/*
 * Add what is read, and what is written in place; all is to be locked then. To
 * be closed before the graph is freed, also when this fails.
 */
int qi_restore_open(struct qi_graph *g, struct qi_restore *r,
		    struct qi_error *e);
/*
 * Find what stands against writing in place, and, for delta, what differs: all
 * of the target is read.
 */
int qi_restore_plan(struct qi_restore *r, struct qi_error *e);
/*
 * Restore. Each chunk is compared with its hash before it is written. New
 * images appear complete, and all or none; but what replaced a file before
 * another one failed stays, and the message names it.
 */
int qi_restore_run(struct qi_restore *r, struct qi_error *e);
void qi_restore_close(struct qi_restore *r);

#endif
