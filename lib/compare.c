/* SPDX-License-Identifier: MIT */
/*
 * compare.c - do two images have the same content?
 *
 * A step is some runs that are equal as their extents say, and a piece of one
 * that has to be read. Threads look at pieces at the same time, and tell in
 * turn what they found, so it is the same for any number of them.
 */
#include <errno.h>
#include <pthread.h>

#include "lib/pair.h"
#include "lib/threads.h"

#define EQUAL_RUNS 32 /* in a step, at most */

struct comparison {
	bool strict;
	const struct qi_progress *progress;
	pthread_mutex_t lock; /* of all below */
	struct qi_pair plan;
	uint64_t planned; /* steps */
	bool all_planned;
	uint64_t turn; /* the step whose turn it is */
	pthread_cond_t turn_changed;
	bool has_found;
	struct qi_comparison *out; /* what was found */
	int ret;		   /* or why it could not be looked at */
	struct qi_error *error;
};

/* A thread, with its step. */
struct worker {
	struct comparison *c;
	uint64_t step;
	unsigned equal_count;
	uint64_t equal_end[EQUAL_RUNS];
	struct qi_pair pair;
	uint64_t off, len; /* of the piece; none: 0, and the step ends at off */
	/* What is at off: */
	enum qi_compare_result result;
	int ret;
	struct qi_error error;
};

/* 1: a step. 0: it is the last. */
static int plan_step(struct worker *k)
{
	struct qi_pair *p = &k->c->plan;
	uint64_t len;

	while (k->equal_count < EQUAL_RUNS) {
		int ret = qi_pair_run(p, &len, &k->error);

		if (ret <= 0)
			return ret;
		if (k->c->strict &&
		    (p->x[0].flags ^ p->x[1].flags) & QI_EXT_ALLOCATED) {
			k->result = QI_COMPARE_STATUS;
			return 0;
		}
		if (!qi_pair_is_equal(p)) {
			k->len = qi_min(len, QI_PAIR_PIECE);
			qi_pair_take(&k->pair, p);
			qi_pair_skip(p, k->len);
			return 1;
		}
		qi_pair_skip(p, len);
		k->equal_end[k->equal_count++] = p->pos;
	}
	return 1;
}

static bool take_step(struct worker *k)
{
	struct comparison *c = k->c;
	bool is_more;
	int ret;

	pthread_mutex_lock(&c->lock);
	is_more = !c->all_planned;
	if (is_more) {
		k->step = c->planned++;
		k->equal_count = 0;
		k->len = 0;
		k->result = QI_COMPARE_EQUAL;
		ret = qi_interrupted(&k->error);
		if (!ret)
			ret = plan_step(k);
		c->all_planned = ret <= 0;
		k->ret = ret < 0 ? ret : 0;
		k->off = k->len ? k->pair.pos : c->plan.pos;
	}
	pthread_mutex_unlock(&c->lock);
	return is_more;
}

static void look_at_piece(struct worker *k)
{
	uint64_t looked, equal;

	k->ret = qi_pair_compare(&k->pair, k->len, &looked, &equal, &k->error);
	if (k->ret || equal == k->len)
		return;
	k->result = QI_COMPARE_DIFFERENT;
	k->off += equal;
}

static void show(const struct comparison *c, uint64_t done)
{
	if (c->progress && c->progress->fn)
		c->progress->fn(c->progress->arg, done, c->plan.end);
}

static void tell_step(const struct worker *k)
{
	struct comparison *c = k->c;

	for (unsigned i = 0; i < k->equal_count; i++)
		show(c, k->equal_end[i]);
	if (!k->ret && k->result == QI_COMPARE_EQUAL) {
		if (k->len)
			show(c, k->off + k->len);
		return;
	}
	c->has_found = c->all_planned = true;
	c->out->result = k->result;
	c->out->off = k->off;
	c->ret = k->ret;
	if (k->ret && c->error)
		*c->error = k->error;
}

static void *work(void *arg)
{
	struct worker *k = arg;
	struct comparison *c = k->c;

	while (take_step(k)) {
		if (k->len)
			look_at_piece(k);
		pthread_mutex_lock(&c->lock);
		while (c->turn != k->step)
			pthread_cond_wait(&c->turn_changed, &c->lock);
		if (!c->has_found)
			tell_step(k);
		c->turn++;
		pthread_cond_broadcast(&c->turn_changed);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static int run_workers(struct comparison *c, struct qi_error *e)
{
	unsigned count = qi_thread_count(0);
	struct worker *workers = calloc(count, sizeof(*workers));
	int ret = workers ? 0 : qi_no_memory(e);

	for (unsigned i = 0; i < count && !ret; i++) {
		workers[i].c = c;
		if (qi_pair_init(&workers[i].pair, NULL, NULL))
			ret = qi_no_memory(e);
	}
	if (!ret)
		qi_run_threads(work, workers, sizeof(*workers), count);
	for (unsigned i = 0; workers && i < count; i++)
		qi_pair_clear(&workers[i].pair);
	free(workers);
	return ret ? ret : c->ret;
}

int qi_compare_images(struct qi_node *a, struct qi_node *b, bool strict,
		      const struct qi_progress *progress,
		      struct qi_comparison *out, struct qi_error *e)
{
	uint64_t end = qi_max(a->facts.size, b->facts.size);
	struct comparison c = {
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.turn_changed = PTHREAD_COND_INITIALIZER,
		.strict = strict,
		.out = out,
		.error = e,
		.progress = progress,
	};
	int ret;

	*out = (struct qi_comparison){ .size_differs = a->facts.size !=
						       b->facts.size };
	if (strict && out->size_differs) {
		out->result = QI_COMPARE_SIZE;
		return 0;
	}
	ret = qi_pair_init(&c.plan, a, b);
	if (ret) {
		ret = qi_no_memory(e);
	} else {
		qi_pair_seek(&c.plan, 0, end);
		ret = run_workers(&c, e);
	}
	qi_pair_clear(&c.plan);
	return ret;
}
