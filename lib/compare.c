/* SPDX-License-Identifier: MIT */
/*
 * compare.c - do two images have the same content?
 *
 * The plan goes through the extents of both and hands out what has to be read,
 * in ascending order; it ends where something was found. What was handed out
 * before is looked at in any case, so the first of what is found is the same
 * for any number of threads.
 */
#include <errno.h>
#include <pthread.h>

#include "lib/pair.h"
#include "lib/threads.h"

struct comparison {
	pthread_mutex_t lock; /* of all below */
	struct qi_pair plan;
	bool strict, has_found;
	struct qi_comparison *out; /* the first that was found: */
	int ret;		   /* 0, or why it could not be looked at */
	uint64_t off;
	struct qi_error *error;
	uint64_t done; /* bytes that are equal */
	const struct qi_progress *progress;
};

struct worker {
	struct comparison *c;
	struct qi_pair pair; /* what is looked at */
	uint64_t len;
};

/* result, or ret and e, at off. */
static void found(struct comparison *c, uint64_t off,
		  enum qi_compare_result result, int ret,
		  const struct qi_error *e)
{
	if (c->has_found && c->off <= off)
		return;
	c->has_found = true;
	c->off = off;
	c->ret = ret;
	if (ret && c->error)
		*c->error = *e;
	c->out->result = result;
	c->out->off = off;
}

static void go_on(struct comparison *c, uint64_t len)
{
	c->done += len;
	if (c->progress && c->progress->fn)
		c->progress->fn(c->progress->arg, c->done, c->plan.end);
}

/* 1: k has a piece of a run to look at. 0: there is nothing more to do. */
static int plan_piece(struct worker *k, struct qi_error *e)
{
	struct comparison *c = k->c;
	struct qi_pair *p = &c->plan;
	uint64_t len;
	int ret = qi_interrupted(e);

	while (!ret && !c->has_found && (ret = qi_pair_run(p, &len, e)) > 0) {
		if (c->strict &&
		    (p->x[0].flags ^ p->x[1].flags) & QI_EXT_ALLOCATED) {
			found(c, p->pos, QI_COMPARE_STATUS, 0, NULL);
			return 0;
		}
		if (!qi_pair_is_equal(p)) {
			k->len = qi_min(len, QI_PAIR_PIECE);
			qi_pair_take(&k->pair, p);
			qi_pair_skip(p, k->len);
			return 1;
		}
		qi_pair_skip(p, len);
		go_on(c, len);
		ret = 0;
	}
	return ret;
}

static int take_piece(struct worker *k, struct qi_error *e)
{
	struct comparison *c = k->c;
	int ret;

	pthread_mutex_lock(&c->lock);
	ret = plan_piece(k, e);
	if (ret < 0)
		found(c, c->plan.pos, QI_COMPARE_EQUAL, ret, e);
	pthread_mutex_unlock(&c->lock);
	return ret;
}

static void look_at_piece(struct worker *k, struct qi_error *e)
{
	uint64_t len = k->len, looked, equal = 0;
	int ret = 0;

	while (k->len) {
		ret = qi_pair_compare(&k->pair, k->len, &looked, &equal, e);
		if (ret || equal < looked)
			break;
		qi_pair_skip(&k->pair, looked);
		k->len -= looked;
	}
	pthread_mutex_lock(&k->c->lock);
	if (ret)
		found(k->c, k->pair.pos, QI_COMPARE_EQUAL, ret, e);
	else if (k->len)
		found(k->c, k->pair.pos + equal, QI_COMPARE_DIFFERENT, 0, e);
	else
		go_on(k->c, len);
	pthread_mutex_unlock(&k->c->lock);
}

static void *work(void *arg)
{
	struct worker *k = arg;
	struct qi_error e = { "" };

	while (take_piece(k, &e) > 0)
		look_at_piece(k, &e);
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
