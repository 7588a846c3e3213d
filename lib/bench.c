/* SPDX-License-Identifier: MIT */
/*
 * bench.c - requests of one kind, so many at once, and how long they take
 *
 * Each thread takes the next request when its last one is done. What writes in
 * turn (see struct qi_writer) does so under the lock.
 */
#include <errno.h>
#include <pthread.h>

#include "lib/graph.h"
#include "lib/threads.h"
#include "lib/write.h"

#define MAX_THREADS 64

struct run {
	const struct qi_bench *b;
	struct qi_node *n;
	struct qi_writes writes;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	uint64_t issued, off;	    /* and where the next one is */
	uint64_t flushed;	    /* requests before the last flush */
	unsigned in_flight, failed; /* errno */
	bool is_flushing;
	struct qi_error error;
};

struct worker {
	struct run *run;
	uint8_t *buf;
};

/* ------------------------------------------------------------- one request */

/* Where it goes without a change of any mapping; QI_NO_OFFSET: nowhere. */
static int find_place(struct run *r, uint64_t off, uint64_t *host,
		      struct qi_error *e)
{
	struct qi_writer *w = r->writes.w;
	uint64_t len = r->b->len;

	*host = QI_NO_OFFSET;
	if (!w->ops->place_inside || !len || w->part != w->unit ||
	    (w->writes_in_turn && off / w->unit != (off + len - 1) / w->unit))
		return 0;
	return w->ops->place_inside(w, off, len, host, e);
}

static int write_one(struct run *r, uint64_t off, const void *data,
		     struct qi_error *e)
{
	const struct qi_write x = { .type = QI_WRITE_DATA,
				    .off = off,
				    .len = r->b->len,
				    .data = data };
	uint64_t host;
	int ret = find_place(r, off, &host, e);

	if (ret)
		return ret;
	if (host == QI_NO_OFFSET)
		return qi_writes_put(&r->writes, &x, e);
	pthread_mutex_unlock(&r->lock);
	ret = qi_file_write(r->writes.w->file, host, x.len, data, e);
	pthread_mutex_lock(&r->lock);
	return ret;
}

static int read_one(struct run *r, uint64_t off, void *buf, struct qi_error *e)
{
	int ret;

	pthread_mutex_unlock(&r->lock);
	ret = qi_read(r->n, off, r->b->len, buf, e);
	pthread_mutex_lock(&r->lock);
	return ret;
}

static int request(struct worker *k, struct qi_error *e)
{
	struct run *r = k->run;
	uint64_t off = r->off, size = r->n->facts.size;

	r->off = (off + (r->b->step ? r->b->step : r->b->len)) % size;
	if (!qi_fits(off, r->b->len, size))
		return qi_fail(e, EIO,
			       "a request of %llu bytes at %llu goes past the "
			       "end of '%s', which has %llu",
			       (unsigned long long)r->b->len,
			       (unsigned long long)off, r->n->path,
			       (unsigned long long)size);
	return r->b->writes ? write_one(r, off, k->buf, e) :
			      read_one(r, off, k->buf, e);
}

/* ------------------------------------------------------------------ flushes */

static bool wants_flush(const struct run *r)
{
	return r->b->interval && r->issued > r->flushed &&
	       r->issued % r->b->interval == 0;
}

/* All that is mapped so far is durable, and the editor starts again. */
static int flush_all(struct run *r, struct qi_error *e)
{
	int ret = r->writes.w->ops->finish(r->writes.w, e);

	if (ret)
		return ret;
	qi_writes_clear(&r->writes);
	return qi_writes_begin(&r->writes, r->n, e);
}

static int flush(struct run *r, struct qi_error *e)
{
	bool drains = !r->b->no_drain || r->writes.w->writes_in_turn;
	int ret;

	r->flushed = r->issued;
	if (!drains)
		return qi_file_sync(r->writes.w->file, e);
	r->is_flushing = true;
	while (r->in_flight)
		pthread_cond_wait(&r->changed, &r->lock);
	ret = flush_all(r, e);
	r->is_flushing = false;
	pthread_cond_broadcast(&r->changed);
	return ret;
}

/* ------------------------------------------------------------------ threads */

static void fail(struct run *r, int ret, const struct qi_error *e)
{
	if (!ret || r->failed)
		return;
	r->failed = (unsigned)-ret;
	r->error = *e;
}

static void *work(void *arg)
{
	struct worker *k = arg;
	struct run *r = k->run;

	pthread_mutex_lock(&r->lock);
	while (!r->failed && r->issued < r->b->count) {
		struct qi_error e = { "" };
		int ret = qi_interrupted(&e);

		if (!ret && r->is_flushing) {
			pthread_cond_wait(&r->changed, &r->lock);
			continue;
		}
		if (!ret && wants_flush(r)) {
			fail(r, flush(r, &e), &e);
			continue;
		}
		r->issued++;
		r->in_flight++;
		if (!ret)
			ret = request(k, &e);
		fail(r, ret, &e);
		r->in_flight--;
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

static int run_workers(struct run *r, struct worker *all, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		all[i].run = r;
		all[i].buf = qi_alloc_aligned(qi_max(r->b->len, 1));
		if (!all[i].buf)
			return qi_no_memory(&r->error);
		memset(all[i].buf, r->b->pattern, r->b->len);
	}
	qi_run_threads(work, all, sizeof(*all), count);
	return -(int)r->failed;
}

/* ---------------------------------------------------------------- operation */

/* Where the requests go: to the end of the disk when they come there. */
static int mark(struct run *r, struct qi_error *e)
{
	const struct qi_bench *b = r->b;
	uint64_t size = r->n->facts.size, bytes;
	struct qi_range range = { 0, size };
	uint64_t step = b->step ? b->step : b->len;

	if (qi_mul(b->count, qi_max(step, b->len), &bytes) &&
	    qi_fits(b->off, bytes, size))
		range = (struct qi_range){ b->off, bytes };
	return qi_node_mark_ranges(r->n, &range, 1, e);
}

static int prepare(struct run *r, struct qi_error *e)
{
	int ret;

	if (!r->b->depth || !r->n->facts.size)
		return qi_fail(e, EINVAL,
			       r->b->depth ? "'%s' has no bytes to work on" :
					     "'%s': no request may be made",
			       r->n->path);
	if (!r->b->writes)
		return 0;
	ret = mark(r, e);
	return ret ? ret : qi_writes_begin(&r->writes, r->n, e);
}

int qi_bench(struct qi_node *n, const struct qi_bench *b, double *seconds,
	     struct qi_error *e)
{
	unsigned count = (unsigned)qi_min(qi_min(b->depth, MAX_THREADS),
					  qi_max(b->count, 1));
	QI_AUTOFREE struct worker *all = calloc(count + 1, sizeof(*all));
	struct run r = { .b = b,
			 .n = n,
			 .off = b->off,
			 .lock = PTHREAD_MUTEX_INITIALIZER,
			 .changed = PTHREAD_COND_INITIALIZER };
	double start;
	int ret = all ? prepare(&r, e) : qi_no_memory(e);

	start = qi_seconds();
	if (!ret && run_workers(&r, all, count)) {
		ret = r.failed ? -(int)r.failed : -ENOMEM;
		if (e)
			*e = r.error;
		qi_stock(e, ret, "%s", strerror(-ret));
	}
	*seconds = qi_seconds() - start;
	if (!ret && r.writes.w)
		ret = r.writes.w->ops->finish(r.writes.w, e);
	qi_writes_clear(&r.writes);
	for (unsigned i = 0; all && i < count; i++)
		free(all[i].buf);
	return ret;
}
