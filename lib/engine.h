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
#define MAX_THREADS 16
/* What is read again when more could not be read. */
#define SALVAGE_BYTES 512u
/* Of an extent in a job: what its bytes are cannot be told. */
#define QI_EXT_LOST (1u << 31)

/* A piece of work: some bytes, or a run of zeroes of any length. */
struct job {
	uint64_t seq;
	uint64_t off, len;
	bool is_zero;
	int lost_error; /* of LOST extents */
	unsigned extent_count;
	struct qi_extent extent[MAX_EXTENTS];
};

enum unit_state { UNIT_ZERO, UNIT_PLAIN, UNIT_PACKED };

/* Something that was placed and is to be written. */
struct placed {
	uint64_t off;
	uint64_t host_off;
	const uint8_t *data;
	size_t len;
};

struct worker {
	struct engine *engine;
	pthread_t thread;
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

/* copy-place.c: what is done in turn, */
int qi_engine_place(struct worker *k, struct qi_error *e);
/* and what need not be: write what was placed. */
int qi_engine_write(struct worker *k, struct qi_error *e);

#endif
