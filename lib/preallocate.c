/* SPDX-License-Identifier: MIT */
/* preallocate.c - making room for guest data before it is written */
#include <errno.h>

#include "lib/preallocate.h"

/* Done in one go, between two looks at whether to stop. */
#define FALLOC_BYTES (1ull << 30)
#define ZERO_BYTES (1u << 20)

static const char *const names[] = {
	[QI_PREALLOC_OFF] = "off",
	[QI_PREALLOC_METADATA] = "metadata",
	[QI_PREALLOC_FALLOC] = "falloc",
	[QI_PREALLOC_FULL] = "full",
};

int qi_preallocation_parse(const char *text, enum qi_preallocation *out,
			   struct qi_error *e)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		if (strcmp(text, names[i]))
			continue;
		*out = (enum qi_preallocation)i;
		return 0;
	}
	return qi_fail(e, EINVAL,
		       "preallocation '%s' is none of off, metadata, falloc, "
		       "full",
		       text);
}

struct job {
	struct qi_writer *w;
	enum qi_preallocation mode;
	uint8_t *zeroes; /* ZERO_BYTES of them, once they are needed */
};

static int write_zeroes(struct job *job, uint64_t host_off, uint64_t len,
			struct qi_error *e)
{
	int ret = 0;

	if (!job->zeroes) {
		job->zeroes = qi_alloc_aligned(ZERO_BYTES);
		if (!job->zeroes)
			return qi_no_memory(e);
		memset(job->zeroes, 0, ZERO_BYTES);
	}
	while (len && !ret) {
		size_t n = (size_t)qi_min(len, ZERO_BYTES);

		ret = qi_interrupted(e);
		if (!ret)
			ret = qi_file_write(job->w->file, host_off, n,
					    job->zeroes, e);
		host_off += n;
		len -= n;
	}
	return ret;
}

static int allocate(struct job *job, uint64_t host_off, uint64_t len,
		    struct qi_error *e)
{
	int ret = 0;

	while (len && !ret) {
		uint64_t n = qi_min(len, FALLOC_BYTES);

		ret = qi_interrupted(e);
		if (!ret)
			ret = qi_file_allocate(job->w->file, host_off, n, e);
		if (ret == -ENOTSUP)
			ret = write_zeroes(job, host_off, n, e);
		host_off += n;
		len -= n;
	}
	return ret;
}

/*
 * Ask for all the room at once, so that a disk that is too small is known
 * before hours of writing. Units mostly go one after the other.
 */
static int claim(struct job *job, uint64_t host_off, uint64_t len,
		 struct qi_error *e)
{
	int ret = qi_file_claim(job->w->file, host_off, len, e);

	return ret == -ENOSPC || ret == -EDQUOT ? ret : 0;
}

/* The first run of [off, off + len); *is_new: it may hold anything. */
static int reserve(struct job *job, uint64_t off, uint64_t len,
		   uint64_t *host_off, uint64_t *host_len, bool *is_new,
		   struct qi_error *e)
{
	const struct qi_writer_ops *ops = job->w->ops;
	int ret = -ENOTSUP;

	if (ops->reserve)
		ret = ops->reserve(job->w, off, len, host_off, host_len, e);
	*is_new = ret == -ENOTSUP;
	if (*is_new)
		ret = ops->place(job->w, off, len, host_off, host_len, e);
	return ret;
}

static int run(struct job *job, uint64_t off, uint64_t len, struct qi_error *e)
{
	bool claimed = job->mode != QI_PREALLOC_FULL;
	int ret = 0;

	while (len && !ret) {
		uint64_t host_off, host_len;
		bool is_new;

		ret = qi_interrupted(e);
		if (!ret)
			ret = reserve(job, off, len, &host_off, &host_len,
				      &is_new, e);
		if (!ret && !claimed)
			ret = claim(job, host_off, len, e);
		claimed = true;
		if (ret)
			break;
		if (is_new || job->mode == QI_PREALLOC_FULL)
			ret = write_zeroes(job, host_off, host_len, e);
		else if (job->mode == QI_PREALLOC_FALLOC)
			ret = allocate(job, host_off, host_len, e);
		off += host_len;
		len -= host_len;
	}
	return ret;
}

int qi_preallocate(struct qi_writer *w, uint64_t off, uint64_t len,
		   enum qi_preallocation mode, struct qi_error *e)
{
	uint64_t start = qi_round_up(off, w->unit);
	uint64_t end = qi_round_up(off + len, w->unit);
	struct job job = { .w = w, .mode = mode };
	int ret;

	if (mode == QI_PREALLOC_OFF || start >= end)
		return 0;
	ret = run(&job, start, end - start, e);
	free(job.zeroes);
	return ret;
}
