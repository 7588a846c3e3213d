/* SPDX-License-Identifier: MIT */
/* hashlist.c - writing and reading lists of content hashes */
#include <errno.h>
#include <xxhash.h>

#include "lib/hashlist.h"

#define MAGIC "qimghash"
#define VERSION 1u
#define RUN_ZERO 1u
#define BUFFER 65536u

struct disk_head {
	char magic[8];
	be32 version;
	be32 unit;
	be64 disk_size;
};
_Static_assert(sizeof(struct disk_head) == 24, "hash list head");

struct disk_run {
	be64 first; /* chunk */
	be32 count;
	be32 flags; /* zero: no hashes follow */
};
_Static_assert(sizeof(struct disk_run) == 16, "hash list run");

/* --------------------------------------------------------------- writing */

struct qi_hash_writer {
	struct qi_file *file;
	uint64_t off;
	size_t used;
	uint8_t buf[BUFFER];
};

static int put(struct qi_hash_writer *w, const void *data, size_t len,
	       struct qi_error *e)
{
	while (len) {
		size_t n = (size_t)qi_min(len, BUFFER - w->used);

		memcpy(w->buf + w->used, data, n);
		w->used += n;
		data = (const char *)data + n;
		len -= n;
		if (w->used == BUFFER) {
			int ret = qi_file_write(w->file, w->off, w->used,
						w->buf, e);

			if (ret)
				return ret;
			w->off += w->used;
			w->used = 0;
		}
	}
	return 0;
}

int qi_hash_writer_new(struct qi_hash_writer **out, const char *path,
		       uint64_t disk_size, struct qi_error *e)
{
	struct disk_head head = { .version = be32_put(VERSION),
				  .unit = be32_put(QI_HASH_UNIT),
				  .disk_size = be64_put(disk_size) };
	struct qi_hash_writer *w = calloc(1, sizeof(*w));
	int ret;

	if (!w)
		return qi_no_memory(e);
	memcpy(head.magic, MAGIC, sizeof(head.magic));
	ret = qi_file_create(&w->file, path, e);
	if (!ret)
		ret = put(w, &head, sizeof(head), e);
	if (ret) {
		qi_hash_writer_free(w);
		return ret;
	}
	*out = w;
	return 0;
}

int qi_hash_writer_add(void *arg, uint64_t off, uint64_t count,
		       const struct qi_hash *hashes, struct qi_error *e)
{
	uint64_t first = off / QI_HASH_UNIT;

	while (count) {
		uint32_t n = (uint32_t)qi_min(count, UINT32_MAX);
		struct disk_run run = { be64_put(first), be32_put(n),
					be32_put(hashes ? 0 : RUN_ZERO) };
		int ret = put(arg, &run, sizeof(run), e);

		if (!ret && hashes)
			ret = put(arg, hashes, n * sizeof(*hashes), e);
		if (ret)
			return ret;
		first += n;
		count -= n;
	}
	return 0;
}

int qi_hash_writer_finish(struct qi_hash_writer *w, struct qi_error *e)
{
	int ret = qi_file_write(w->file, w->off, w->used, w->buf, e);

	return ret ? ret : qi_file_sync(w->file, e);
}

void qi_hash_writer_free(struct qi_hash_writer *w)
{
	if (!w)
		return;
	if (w->file)
		qi_file_close(w->file, NULL);
	free(w);
}

/* --------------------------------------------------------------- reading */

struct qi_hash_reader {
	struct qi_file *file;
	uint64_t chunks; /* of the disk */
	uint64_t off;
	uint64_t next; /* chunk */
	uint64_t left; /* in this run */
	bool is_zero;
	uint64_t buf_off;
	size_t buf_len;
	uint8_t buf[BUFFER];
};

static int get(struct qi_hash_reader *r, void *to, size_t len,
	       struct qi_error *e)
{
	if (r->off < r->buf_off || r->off + len > r->buf_off + r->buf_len) {
		ssize_t n =
			qi_file_read_some(r->file, r->off, BUFFER, r->buf, e);

		if (n < 0)
			return (int)n;
		if ((size_t)n < len)
			return qi_fail(e, EUCLEAN, "'%s' is truncated",
				       r->file->path);
		r->buf_off = r->off;
		r->buf_len = (size_t)n;
	}
	memcpy(to, r->buf + (r->off - r->buf_off), len);
	r->off += len;
	return 0;
}

int qi_hash_reader_new(struct qi_hash_reader **out, const char *path,
		       uint64_t disk_size, struct qi_error *e)
{
	struct qi_hash_reader *r = calloc(1, sizeof(*r));
	struct disk_head head;
	int ret;

	if (!r)
		return qi_no_memory(e);
	ret = qi_file_open(&r->file, path, false, e);
	if (!ret)
		ret = get(r, &head, sizeof(head), e);
	if (!ret && (memcmp(head.magic, MAGIC, sizeof(head.magic)) ||
		     be32_get(head.version) != VERSION ||
		     be32_get(head.unit) != QI_HASH_UNIT ||
		     be64_get(head.disk_size) != disk_size))
		ret = qi_fail(e, EUCLEAN,
			      "'%s' is no list of hashes for this "
			      "disk",
			      path);
	if (ret) {
		qi_hash_reader_free(r);
		return ret;
	}
	r->chunks = qi_div_up(disk_size, QI_HASH_UNIT);
	*out = r;
	return 0;
}

static int next_run(struct qi_hash_reader *r, struct qi_error *e)
{
	struct disk_run run;
	uint64_t first;
	int ret;

	if (r->off >= r->file->size)
		return 0;
	ret = get(r, &run, sizeof(run), e);
	if (ret)
		return ret;
	first = be64_get(run.first);
	if (first < r->next || !qi_fits(first, be32_get(run.count), r->chunks))
		return qi_fail(e, EUCLEAN,
			       "'%s' has a run of hashes out of "
			       "place",
			       r->file->path);
	r->next = first;
	r->left = be32_get(run.count);
	r->is_zero = be32_get(run.flags) & RUN_ZERO;
	return 1;
}

int qi_hash_reader_next(struct qi_hash_reader *r, uint64_t *off,
			struct qi_hash *hash, bool *is_zero, struct qi_error *e)
{
	int ret;

	while (!r->left) {
		ret = next_run(r, e);
		if (ret <= 0)
			return ret;
	}
	*off = r->next * QI_HASH_UNIT;
	*is_zero = r->is_zero;
	r->next++;
	r->left--;
	ret = r->is_zero ? 0 : get(r, hash, sizeof(*hash), e);
	return ret ? ret : 1;
}

void qi_hash_reader_free(struct qi_hash_reader *r)
{
	if (!r)
		return;
	if (r->file)
		qi_file_close(r->file, NULL);
	free(r);
}

int qi_hash_file(const char *path, struct qi_hash *out, struct qi_error *e)
{
	QI_AUTOCLOSE struct qi_file *f = NULL;
	XXH3_state_t *state = XXH3_createState();
	QI_AUTOFREE uint8_t *buf = malloc(BUFFER);
	XXH128_canonical_t canonical;
	uint64_t off = 0;
	ssize_t n = 1;
	int ret = state && buf ? qi_file_open(&f, path, false, e) :
				 qi_no_memory(e);

	if (!ret)
		XXH3_128bits_reset(state);
	while (!ret && n > 0) {
		n = qi_file_read_some(f, off, BUFFER, buf, e);
		if (n < 0) {
			ret = (int)n;
			break;
		}
		XXH3_128bits_update(state, buf, (size_t)n);
		off += (uint64_t)n;
	}
	if (!ret) {
		XXH128_canonicalFromHash(&canonical,
					 XXH3_128bits_digest(state));
		memcpy(out->b, canonical.digest, sizeof(out->b));
	}
	XXH3_freeState(state);
	return ret;
}
