/* SPDX-License-Identifier: MIT */
/* copy.c - the copy engine: plan, read and pack in parallel, place in turn */
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "lib/copy.h"
#include "lib/ranges.h"

#define WINDOW_BYTES (1u << 20)
#define MAX_WINDOW (2u << 20) /* the largest cluster */
#define MAX_UNITS 2048
/* Sectors in a window, and ends of layers at odd places. */
#define MAX_EXTENTS (MAX_WINDOW / 512 + 64)
#define MAX_THREADS 16

/* A piece of work: some bytes, or a run of zeroes of any length. */
struct job {
	uint64_t seq;
	uint64_t off, len;
	bool is_zero;
	unsigned extent_count;
	struct qi_extent extent[MAX_EXTENTS];
};

enum unit_state { UNIT_ZERO, UNIT_PLAIN, UNIT_PACKED };

/* Something that was placed and is to be written. */
struct placed {
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
};

struct engine {
	const struct qi_copy *copy;
	struct qi_copy_stats *stats;
	struct qi_writer *w;
	uint64_t size; /* of the source */
	uint32_t window;

	pthread_mutex_t plan_lock;
	struct qi_scan *scan;
	struct qi_range range; /* what is left of the current one */
	struct qi_extent cur;  /* the extent at range.off, if len */
	bool all_given;
	uint64_t next_seq;

	pthread_mutex_t turn_lock;
	pthread_cond_t turn_changed;
	uint64_t turn, done; /* the job whose turn it is; bytes */
	int failed;
	struct qi_error error;
};

/* ----------------------------------------------------------------- plan */

/* Make range.off the start of something to copy; 0 at the end. */
static int next_range(struct engine *g, struct qi_error *e)
{
	int ret = 1;

	if (g->range.len)
		return 1;
	if (g->copy->ranges) {
		ret = qi_ranges_next(g->copy->ranges, &g->range, e);
	} else {
		if (g->all_given)
			return 0;
		g->all_given = true;
		g->range = (struct qi_range){ 0, g->size };
		ret = g->size > 0;
	}
	g->cur.len = 0;
	if (ret > 0)
		qi_scan_seek(g->scan, g->range.off, g->range.len);
	return ret;
}

static int next_extent(struct engine *g, struct qi_error *e)
{
	int ret;

	if (g->cur.len)
		return 0;
	ret = qi_scan_next(g->scan, &g->cur, e);
	if (ret == 0) {
		/* Ranges are rounded; what is past the end is zero. */
		g->cur = (struct qi_extent){ g->range.off,
					     g->range.len,
					     QI_NO_OFFSET,
					     QI_EXT_ZERO,
					     0,
					     NULL };
	}
	return ret < 0 ? ret : 0;
}

static void advance(struct engine *g, uint64_t len)
{
	g->cur.off += len;
	g->cur.len -= len;
	if (g->cur.host_off != QI_NO_OFFSET)
		g->cur.host_off += len;
	g->range.off += len;
	g->range.len -= len;
}

/* A job of zeroes, when there is at least a window of them. */
static bool plan_zero(struct engine *g, struct job *job)
{
	uint64_t unit = qi_max(g->w->unit, QI_HASH_UNIT);
	uint64_t len = qi_min(g->cur.len, g->range.len);

	if (!(g->cur.flags & QI_EXT_ZERO) || len < g->window)
		return false;
	if (len < g->range.len)
		len = qi_round_down(g->range.off + len, unit) - g->range.off;
	job->is_zero = true;
	job->off = g->range.off;
	job->len = len;
	advance(g, len);
	return true;
}

/* 1 and a job, 0 when all is planned. */
static int plan(struct engine *g, struct job *job, struct qi_error *e)
{
	int ret = next_range(g, e);

	if (ret <= 0)
		return ret;
	ret = next_extent(g, e);
	if (ret)
		return ret;
	job->seq = g->next_seq++;
	job->extent_count = 0;
	job->is_zero = false;
	if (plan_zero(g, job))
		return 1;
	job->off = g->range.off;
	job->len = qi_min(g->range.len,
			  g->window - (g->range.off & (g->window - 1)));
	for (uint64_t left = job->len; left;) {
		struct qi_extent *x = &job->extent[job->extent_count];

		if (job->extent_count++ == MAX_EXTENTS)
			return qi_fail(e, EFBIG,
				       "'%s' has too many layers of "
				       "odd sizes",
				       g->copy->src->path);
		ret = next_extent(g, e);
		if (ret)
			return ret;
		*x = g->cur;
		x->len = qi_min(x->len, left);
		left -= x->len;
		advance(g, x->len);
	}
	return 1;
}

static int take_job(struct worker *k, struct qi_error *e)
{
	struct engine *g = k->engine;
	int ret;

	pthread_mutex_lock(&g->plan_lock);
	ret = qi_interrupted(e);
	if (!ret)
		ret = plan(g, &k->job, e);
	pthread_mutex_unlock(&g->plan_lock);
	return ret;
}

/* ------------------------------------------------------ parallel part */

static int read_window(struct worker *k, struct qi_error *e)
{
	struct job *job = &k->job;
	size_t padded = (size_t)qi_round_up(job->len, k->engine->w->unit);

	for (unsigned i = 0; i < job->extent_count; i++) {
		struct qi_extent *x = &job->extent[i];
		int ret = 0;

		if (x->flags & QI_EXT_DATA)
			ret = qi_rate_take(k->engine->copy->rate, x->len, e);
		if (!ret)
			ret = qi_extent_read(x, x->off, (size_t)x->len,
					     k->buf + (x->off - job->off), e);
		if (ret)
			return ret;
	}
	memset(k->buf + job->len, 0, padded - job->len);
	return 0;
}

static void look_at_units(struct worker *k)
{
	struct qi_writer *w = k->engine->w;
	size_t unit = w->unit;
	size_t units = (size_t)qi_div_up(k->job.len, unit);

	for (size_t i = 0; i < units; i++) {
		const uint8_t *data = k->buf + i * unit;
		size_t n = 0;

		if (qi_is_zero(data, unit)) {
			k->state[i] = UNIT_ZERO;
			continue;
		}
		if (k->packer)
			n = qi_pack(k->packer, data, unit, k->packed + i * unit,
				    unit - 1);
		k->state[i] = n ? UNIT_PACKED : UNIT_PLAIN;
		k->packed_len[i] = (uint32_t)n;
	}
}

static void hash_chunks(struct worker *k)
{
	size_t count = (size_t)qi_div_up(k->job.len, QI_HASH_UNIT);

	for (size_t i = 0; i < count; i++) {
		size_t at = i * QI_HASH_UNIT;
		/* The disk may end inside the last one. */
		size_t len = (size_t)qi_min(k->job.len - at, QI_HASH_UNIT);

		k->hash_is_zero[i] = qi_is_zero(k->buf + at, len);
		if (!k->hash_is_zero[i])
			k->hash[i] = qi_hash_of(k->buf + at, len);
	}
}

/* -------------------------------------------------------- part in turn */

static void note(struct worker *k, uint64_t host_off, const uint8_t *data,
		 size_t len)
{
	k->placed[k->placed_count++] = (struct placed){ host_off, data, len };
}

static int write_placed(struct worker *k, struct qi_error *e)
{
	int ret = 0;

	for (unsigned i = 0; i < k->placed_count && !ret; i++)
		ret = qi_file_write(k->engine->w->file, k->placed[i].host_off,
				    k->placed[i].len, k->placed[i].data, e);
	k->placed_count = 0;
	return ret;
}

static int place_plain(struct worker *k, size_t first, size_t count,
		       struct qi_error *e)
{
	struct qi_writer *w = k->engine->w;
	uint64_t off = k->job.off + (uint64_t)first * w->unit;
	const uint8_t *data = k->buf + first * w->unit;
	uint64_t len = (uint64_t)count * w->unit;

	while (len) {
		uint64_t host_off, host_len;
		int ret = w->ops->place(w, off, len, &host_off, &host_len, e);

		if (ret)
			return ret;
		note(k, host_off, data, (size_t)host_len);
		/* The next place() may make this mapping durable. */
		ret = w->writes_in_turn ? write_placed(k, e) : 0;
		if (ret)
			return ret;
		off += host_len;
		data += host_len;
		len -= host_len;
	}
	return 0;
}

/* A run of units in the same state. */
static int place_run(struct worker *k, size_t first, size_t count,
		     struct qi_error *e)
{
	struct qi_writer *w = k->engine->w;
	uint64_t off = k->job.off + (uint64_t)first * w->unit;
	int ret = 0;

	if (!w->ops)
		return 0; /* it is hashed alone */
	switch (k->state[first]) {
	case UNIT_ZERO:
		ret = w->ops->zero(w, off, (uint64_t)count * w->unit, e);
		/* A format without zero clusters gets the zeroes themselves. */
		if (ret == -ENOTSUP)
			ret = place_plain(k, first, count, e);
		break;
	case UNIT_PLAIN:
		ret = place_plain(k, first, count, e);
		break;
	case UNIT_PACKED:
		for (size_t i = first; i < first + count && !ret; i++) {
			uint64_t host_off;

			ret = w->ops->place_packed(
				w, k->job.off + (uint64_t)i * w->unit,
				k->packed_len[i], &host_off, e);
			if (ret)
				break;
			note(k, host_off, k->packed + i * w->unit,
			     k->packed_len[i]);
			ret = w->writes_in_turn ? write_placed(k, e) : 0;
		}
		break;
	}
	return ret;
}

static int place_window(struct worker *k, struct qi_error *e)
{
	size_t unit = k->engine->w->unit;
	size_t units = (size_t)qi_div_up(k->job.len, unit), i = 0;
	struct qi_copy_stats *stats = k->engine->stats;

	while (i < units) {
		size_t end = i + 1;
		uint64_t bytes;
		int ret;

		while (end < units && k->state[end] == k->state[i])
			end++;
		ret = place_run(k, i, end - i, e);
		if (ret)
			return ret;
		bytes = qi_min(end * unit, k->job.len) - i * unit;
		if (k->state[i] == UNIT_ZERO)
			stats->zero += bytes;
		else
			stats->written += bytes;
		i = end;
	}
	for (unsigned j = 0; j < k->job.extent_count; j++)
		if (k->job.extent[j].flags & QI_EXT_DATA)
			stats->read += k->job.extent[j].len;
	return 0;
}

/* A long run of zeroes into a format that cannot say zero. */
static int write_zeroes(struct worker *k, struct qi_error *e)
{
	uint64_t end = k->job.off + k->job.len;
	int ret = 0;

	memset(k->buf, 0, k->engine->window);
	while (k->job.off < end && !ret) {
		k->job.len = qi_min(end - k->job.off, k->engine->window);
		ret = place_plain(k, 0,
				  qi_div_up(k->job.len, k->engine->w->unit), e);
		if (!ret)
			ret = write_placed(k, e);
		k->job.off += k->job.len;
	}
	return ret;
}

static int place_zero(struct worker *k, uint64_t off, uint64_t len,
		      struct qi_error *e)
{
	struct engine *g = k->engine;
	int ret = g->w->ops ? g->w->ops->zero(g->w, off, len, e) : 0;

	g->stats->zero += len;
	return ret == -ENOTSUP ? write_zeroes(k, e) : ret;
}

/* Hand over the hashes of the window, runs of zero chunks apart. */
static int give_hashes(struct worker *k, struct qi_error *e)
{
	const struct qi_copy *copy = k->engine->copy;
	size_t count = (size_t)qi_div_up(k->job.len, QI_HASH_UNIT), i = 0;

	if (k->job.is_zero)
		return copy->hashed(copy->arg, k->job.off, count, NULL, e);
	while (i < count) {
		size_t end = i + 1;
		int ret;

		while (end < count &&
		       k->hash_is_zero[end] == k->hash_is_zero[i])
			end++;
		ret = copy->hashed(copy->arg,
				   k->job.off + (uint64_t)i * QI_HASH_UNIT,
				   end - i,
				   k->hash_is_zero[i] ? NULL : &k->hash[i], e);
		if (ret)
			return ret;
		i = end;
	}
	return 0;
}

static int do_turn(struct worker *k, struct qi_error *e)
{
	struct engine *g = k->engine;
	uint64_t bytes = k->job.len;
	int ret = g->copy->hashed ? give_hashes(k, e) : 0;

	if (!ret && k->job.is_zero) {
		ret = place_zero(k, k->job.off, k->job.len, e);
	} else if (!ret) {
		ret = place_window(k, e);
		if (!ret && g->w->writes_in_turn)
			ret = write_placed(k, e);
	}
	g->done += bytes;
	if (!ret && g->copy->progress.fn)
		g->copy->progress.fn(g->copy->progress.arg, g->done, g->size);
	return ret;
}

/* Wait until all earlier jobs had their turn. False when one failed. */
static bool begin_turn(struct worker *k)
{
	struct engine *g = k->engine;

	pthread_mutex_lock(&g->turn_lock);
	while (g->turn != k->job.seq && !g->failed)
		pthread_cond_wait(&g->turn_changed, &g->turn_lock);
	return !g->failed;
}

/* The first one counts. */
static void note_failure(struct engine *g, int ret, const struct qi_error *e)
{
	if (g->failed || !ret)
		return;
	g->failed = ret;
	g->error = *e;
}

/* Nobody has a turn after one that failed. */
static void end_turn(struct worker *k, int ret, const struct qi_error *e)
{
	note_failure(k->engine, ret, e);
	k->engine->turn++;
	pthread_cond_broadcast(&k->engine->turn_changed);
	pthread_mutex_unlock(&k->engine->turn_lock);
}

static void fail_all(struct engine *g, int ret, const struct qi_error *e)
{
	pthread_mutex_lock(&g->turn_lock);
	note_failure(g, ret, e);
	pthread_cond_broadcast(&g->turn_changed);
	pthread_mutex_unlock(&g->turn_lock);
}

static int run_job(struct worker *k, struct qi_error *e)
{
	int ret;

	if (!k->job.is_zero) {
		ret = read_window(k, e);
		if (ret)
			return ret;
		look_at_units(k);
		if (k->engine->copy->hashed)
			hash_chunks(k);
	}
	ret = begin_turn(k) ? do_turn(k, e) : -ECANCELED;
	end_turn(k, ret, e);
	return ret ? ret : write_placed(k, e);
}

static void *work(void *arg)
{
	struct worker *k = arg;
	struct qi_error e = { "" };
	int ret;

	while ((ret = take_job(k, &e)) > 0) {
		ret = run_job(k, &e);
		if (ret)
			break;
	}
	if (ret && ret != -ECANCELED)
		fail_all(k->engine, ret, &e);
	return NULL;
}

/* ---------------------------------------------------------------- set up */

static int worker_init(struct worker *k, struct engine *g)
{
	k->engine = g;
	k->buf = qi_alloc_aligned(g->window);
	if (!k->buf)
		return -ENOMEM;
	if (!g->copy->compress || !g->w->ops || !g->w->ops->place_packed)
		return 0;
	k->packed = malloc(g->window);
	return k->packed ? qi_packer_new(&k->packer, g->w->codec) : -ENOMEM;
}

static unsigned thread_count(const struct qi_copy *copy)
{
	long n = copy->threads ? (long)copy->threads :
				 sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : (unsigned)n;
}

static int run_workers(struct engine *g, struct worker *workers, unsigned count,
		       struct qi_error *e)
{
	unsigned started = 0;

	for (unsigned i = 0; i < count; i++)
		if (worker_init(&workers[i], g))
			return qi_no_memory(e);
	/* The caller's thread is the first worker. */
	for (unsigned i = 1; i < count; i++, started++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			break;
	work(&workers[0]);
	for (unsigned i = 1; i <= started; i++)
		pthread_join(workers[i].thread, NULL);
	if (g->failed && e)
		*e = g->error;
	return g->failed;
}

int qi_copy_run(const struct qi_copy *copy, struct qi_copy_stats *stats,
		struct qi_error *e)
{
	unsigned count = thread_count(copy);
	struct qi_writer none = { .unit = QI_HASH_UNIT };
	struct qi_writer *w = copy->writer ? copy->writer : &none;
	struct engine g = {
		.copy = copy,
		.stats = stats,
		.w = w,
		.size = copy->src->facts.size,
		.window = (uint32_t)qi_min(qi_max(WINDOW_BYTES, w->unit),
					   (uint64_t)MAX_UNITS * w->unit),
		.plan_lock = PTHREAD_MUTEX_INITIALIZER,
		.turn_lock = PTHREAD_MUTEX_INITIALIZER,
		.turn_changed = PTHREAD_COND_INITIALIZER,
	};
	struct worker *workers;
	int ret = qi_scan_new(&g.scan, copy->src, NULL, 0, g.size);

	*stats = (struct qi_copy_stats){ 0 };
	if (ret == -EINVAL)
		return qi_fail(e, EINVAL,
			       "'%s' was opened without its backing file",
			       copy->src->path);
	workers = calloc(count, sizeof(*workers));
	if (ret || !workers)
		ret = qi_no_memory(e);
	else
		ret = run_workers(&g, workers, count, e);
	for (unsigned i = 0; workers && i < count; i++) {
		free(workers[i].buf);
		free(workers[i].packed);
		qi_packer_free(workers[i].packer);
	}
	free(workers);
	qi_scan_free(g.scan);
	return ret;
}
