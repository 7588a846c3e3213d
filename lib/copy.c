/* SPDX-License-Identifier: MIT */
/* copy.c - the copy engine: plan, read and pack in parallel, place in turn */
#include <errno.h>

#include "lib/engine.h"
#include "lib/threads.h"

static int take_job(struct worker *k, struct qi_error *e)
{
	struct engine *g = k->engine;
	int ret;

	pthread_mutex_lock(&g->plan_lock);
	ret = qi_interrupted(e);
	if (!ret)
		ret = qi_engine_plan(g, &k->job, e);
	pthread_mutex_unlock(&g->plan_lock);
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
		ret = k->job.is_shared ? qi_engine_look(k, e) :
					 qi_engine_read(k, e);
		if (ret)
			return ret;
	}
	ret = begin_turn(k) ? qi_engine_place(k, e) : -ECANCELED;
	end_turn(k, ret, e);
	return ret ? ret : qi_engine_write(k, e);
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
	return k->packed ? qi_packer_new(&k->packer, g->w) : -ENOMEM;
}

static int run_workers(struct engine *g, struct worker *workers, unsigned count,
		       struct qi_error *e)
{
	for (unsigned i = 0; i < count; i++)
		if (worker_init(&workers[i], g))
			return qi_no_memory(e);
	qi_run_threads(work, workers, sizeof(*workers), count);
	if (g->failed && e)
		*e = g->error;
	return g->failed;
}

/* As QEMU rounds it: a power of two, in a window of ours. */
static void take_hole(struct engine *g, uint64_t hole)
{
	uint64_t max = qi_min(MAX_WINDOW, (uint64_t)MAX_UNITS * g->w->unit);

	if (hole <= g->w->unit)
		return;
	g->grain = g->w->unit;
	while (g->grain * 2ull <= qi_min(hole, max))
		g->grain *= 2;
	g->window = qi_max(g->window, g->grain);
}

int qi_copy_run(const struct qi_copy *copy, struct qi_copy_stats *stats,
		struct qi_error *e)
{
	unsigned count = qi_thread_count(copy->threads);
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
	take_hole(&g, copy->hole);
	g.shares = qi_engine_shares(&g);
	if (ret == -EINVAL)
		return qi_fail(e, EINVAL,
			       "'%s' was opened without its backing file",
			       copy->src->path);
	if (!ret && copy->sees_holes)
		qi_scan_see_holes(g.scan);
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
