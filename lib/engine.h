/* SPDX-License-Identifier: MIT */
/* engine.h - the parts of the copy engine for each other */
#ifndef QI_ENGINE_H
#define QI_ENGINE_H

#include <pthread.h>

#include "lib/copy.h"

#define WINDOW_BYTES (1u << 20)
#define MAX_WINDOW (2u << 20) /* the largest cluster */
#define MAX_UNITS 2048
/* Sectors in a window, and ends of layers at odd places. */
#define MAX_EXTENTS (MAX_WINDOW / 512 + 64)
/* What is read again when more could not be read. */
#define SALVAGE_BYTES 512u
/* Of an extent in a job: what its bytes are cannot be told. */
#define QI_EXT_LOST (1u << 31)

/*
 * What of a run of data is not longer is as soon written as shared, and would
 * only break up the file.
 */
#define SHARED_MIN (64u << 10)
/* One call for that much, which ends before anybody waits for it. */
#define SHARED_BYTES (64u << 20)

/*
 * A piece of work: a window of bytes, a run of zeroes of any length, or data of
 * MAX_UNITS units at most whose extents can all be shared with the target.
 */
struct job {
	uint64_t seq;
	uint64_t off, len;
	bool is_zero, is_shared;
	int lost_error; /* of LOST extents */
	unsigned extent_count;
	struct qi_extent extent[MAX_EXTENTS];
};

enum unit_state { UNIT_ZERO, UNIT_PLAIN, UNIT_PACKED };

/* Something that was placed and is to be written. */
struct placed {
	uint64_t off;
	uint64_t host_off;
	const uint8_t *data; /* NULL: of the shared job */
	size_t len;
};

struct worker {
	struct engine *engine;
	struct job job;
	uint8_t *buf;	 /* a window */
	uint8_t *packed; /* as large; each unit in its place */
	struct qi_packer *packer;
	enum unit_state state[MAX_UNITS];
	uint32_t packed_len[MAX_UNITS];
	unsigned placed_count;
	struct placed placed[MAX_UNITS];
	struct qi_hash hash[MAX_WINDOW / QI_HASH_UNIT];
	bool hash_is_zero[MAX_WINDOW / QI_HASH_UNIT];
	/* Pieces of SALVAGE_BYTES of the window that could not be read. */
	bool has_lost;
	int lost_error;
	bool is_lost[MAX_WINDOW / SALVAGE_BYTES];
};

struct engine {
	const struct qi_copy *copy;
	struct qi_copy_stats *stats;
	struct qi_writer *w;
	uint64_t size; /* of the source */
	uint32_t window;
	uint32_t grain; /* holes are that large and so aligned; 0: units */

	bool shares;		     /* as far as copy and writer decide */
	uint32_t block;		     /* of the file system, when it can */
	const struct qi_file *asked; /* the last file; can it be shared? */
	bool can_share;

	pthread_mutex_t plan_lock;
	struct qi_scan *scan;
	struct qi_range range; /* what is left of the current one */
	struct qi_extent cur;  /* the extent at range.off, if len */
	bool all_given;
	int lost_error; /* of cur, when it is LOST */
	uint64_t next_seq;

	pthread_mutex_t turn_lock;
	pthread_cond_t turn_changed;
	uint64_t turn, done; /* the job whose turn it is; bytes */
	int failed;
	struct qi_error error;
};

/* copy-plan.c: 1 and a job, 0 when all is planned. */
int qi_engine_plan(struct engine *g, struct job *job, struct qi_error *e);

/* copy-read.c: read a window, find zeroes in it, pack and hash the rest. */
int qi_engine_read(struct worker *k, struct qi_error *e);
/* An extent, or a part of one, to some place in k->buf. */
int qi_engine_read_extent(struct worker *k, const struct qi_extent *x,
			  uint8_t *to, struct qi_error *e);

/* copy-share.c: is there anything that could be shared? */
bool qi_engine_shares(const struct engine *g);
/* Bytes at range.off, with its extent in cur, that are; 0: none. */
uint64_t qi_engine_can_share(struct engine *g);
/* Find zeroes in a shared job. */
int qi_engine_look(struct worker *k, struct qi_error *e);
/* What of it was placed. */
int qi_engine_share(struct worker *k, const struct placed *p,
		    struct qi_error *e);

/* copy-place.c: what is done in turn, */
int qi_engine_place(struct worker *k, struct qi_error *e);
/* and what need not be: write what was placed. */
int qi_engine_write(struct worker *k, struct qi_error *e);

#endif
