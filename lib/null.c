/* SPDX-License-Identifier: MIT */
/* null.c - a disk that reads as zero and forgets what is written */
#include "lib/bytes.h"
#include "lib/file.h"

static int null_read(struct qi_file *f, uint64_t off, size_t len, void *buf,
		     struct qi_error *e)
{
	(void)f;
	(void)off;
	(void)e;
	memset(buf, 0, len);
	return 0;
}

static int null_write(struct qi_file *f, uint64_t off, size_t len,
		      const void *buf, struct qi_error *e)
{
	(void)f;
	(void)off;
	(void)len;
	(void)buf;
	(void)e;
	return 0;
}

static int null_zero(struct qi_file *f, uint64_t off, uint64_t len, bool keep,
		     struct qi_error *e)
{
	(void)f;
	(void)off;
	(void)len;
	(void)keep;
	(void)e;
	return 0;
}

static void null_discard(struct qi_file *f, uint64_t off, uint64_t len)
{
	(void)f;
	(void)off;
	(void)len;
}

static int null_sync(struct qi_file *f, struct qi_error *e)
{
	(void)f;
	(void)e;
	return 0;
}

static uint64_t null_run(const struct qi_file *f, uint64_t off, bool *hole)
{
	(void)off;
	*hole = true;
	return f->size;
}

static const struct qi_file_ops null_ops = {
	.read = null_read,
	.write = null_write,
	.zero = null_zero,
	.discard = null_discard,
	.sync = null_sync,
	.run = null_run,
};

int qi_file_open_null(struct qi_file **out, const char *name, uint64_t size,
		      struct qi_error *e)
{
	return qi_file_wrap(out, name, size, true, &null_ops, NULL, e);
}
