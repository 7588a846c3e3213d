/* SPDX-License-Identifier: MIT */
/*
 * nbd.c - disks that an NBD server has, as files
 *
 * One connection, which one request at a time goes over: a lock makes calls
 * from several threads wait for each other.
 */
#include <errno.h>

#include "lib/bytes.h"
#include "lib/format.h"
#include "lib/nbd.h"

#ifndef HAVE_LIBNBD

int qi_nbd_open(struct qi_file **out, const struct qi_nbd_name *name,
		const char *path, struct qi_error *e)
{
	(void)out;
	(void)name;
	return qi_fail(e, ENOTSUP,
		       "cannot open '%s': this qimg was built without libnbd",
		       path);
}

#else

#include <libnbd.h>
#include <pthread.h>

#define MAX_DATA (16u << 20) /* of one request; every server takes that */
#define MAX_RANGE (1u << 30) /* of one that has no data */
#define STATUS "base:allocation"
#define STATE_ZERO 2u

struct nbd {
	pthread_mutex_t lock;
	struct nbd_handle *h;
	bool has_status, can_zero, can_trim, can_flush;
	/* The run that was asked for last. */
	uint64_t run_start, run_end;
	bool run_is_hole;
};

static int failed(const struct qi_file *f, const char *what, struct qi_error *e)
{
	int err = nbd_get_errno();

	return qi_fail(e, err ? err : EIO, "cannot %s '%s': %s", what, f->name,
		       nbd_get_error());
}

static int remote_read(struct qi_file *f, uint64_t off, size_t len, void *buf,
		       struct qi_error *e)
{
	struct nbd *n = f->handle;
	int ret = 0;

	pthread_mutex_lock(&n->lock);
	while (len && !ret) {
		size_t some = (size_t)qi_min(len, MAX_DATA);

		if (nbd_pread(n->h, buf, some, off, 0))
			ret = failed(f, "read", e);
		buf = (char *)buf + some;
		off += some;
		len -= some;
	}
	pthread_mutex_unlock(&n->lock);
	return ret;
}

static int remote_write(struct qi_file *f, uint64_t off, size_t len,
			const void *buf, struct qi_error *e)
{
	struct nbd *n = f->handle;
	int ret = 0;

	pthread_mutex_lock(&n->lock);
	n->run_end = 0;
	while (len && !ret) {
		size_t some = (size_t)qi_min(len, MAX_DATA);

		if (nbd_pwrite(n->h, buf, some, off, 0))
			ret = failed(f, "write", e);
		buf = (const char *)buf + some;
		off += some;
		len -= some;
	}
	pthread_mutex_unlock(&n->lock);
	return ret;
}

static int remote_zero(struct qi_file *f, uint64_t off, uint64_t len, bool keep,
		       struct qi_error *e)
{
	struct nbd *n = f->handle;
	int ret = 0;

	if (!n->can_zero)
		return qi_file_write_zeroes(f, off, len, e);
	pthread_mutex_lock(&n->lock);
	n->run_end = 0;
	while (len && !ret) {
		uint64_t some = qi_min(len, MAX_RANGE);

		if (nbd_zero(n->h, some, off,
			     keep ? LIBNBD_CMD_FLAG_NO_HOLE : 0))
			ret = failed(f, "write", e);
		off += some;
		len -= some;
	}
	pthread_mutex_unlock(&n->lock);
	return ret;
}

static void remote_discard(struct qi_file *f, uint64_t off, uint64_t len)
{
	struct nbd *n = f->handle;

	pthread_mutex_lock(&n->lock);
	n->run_end = 0;
	while (len && n->can_trim) {
		uint64_t some = qi_min(len, MAX_RANGE);

		if (nbd_trim(n->h, some, off, 0))
			break;
		off += some;
		len -= some;
	}
	pthread_mutex_unlock(&n->lock);
}

static int remote_sync(struct qi_file *f, struct qi_error *e)
{
	struct nbd *n = f->handle;
	int ret = 0;

	pthread_mutex_lock(&n->lock);
	if (n->can_flush && nbd_flush(n->h, 0))
		ret = failed(f, "sync", e);
	pthread_mutex_unlock(&n->lock);
	return ret;
}

/* Entries are pairs of a length and a state; the first run is what counts. */
static int on_status(void *arg, const char *context, uint64_t off,
		     uint32_t *entries, size_t count, int *error)
{
	struct nbd *n = arg;

	(void)off;
	(void)error;
	if (strcmp(context, STATUS))
		return 0;
	for (size_t i = 0; i + 1 < count; i += 2) {
		bool hole = entries[i + 1] & STATE_ZERO;

		if (n->run_end > n->run_start && hole != n->run_is_hole)
			break;
		n->run_is_hole = hole;
		n->run_end += entries[i];
	}
	return 0;
}

static uint64_t remote_run(const struct qi_file *f, uint64_t off, bool *hole)
{
	struct nbd *n = f->handle;
	uint64_t end = f->size;

	*hole = false;
	if (!n->has_status || off >= end)
		return end;
	pthread_mutex_lock(&n->lock);
	if (off < n->run_start || off >= n->run_end) {
		n->run_start = n->run_end = off;
		n->run_is_hole = false;
		/* Who does not say gets read. */
		if (nbd_block_status(n->h, qi_min(end - off, MAX_RANGE), off,
				     (nbd_extent_callback){ .callback =
								    on_status,
							    .user_data = n },
				     0) ||
		    n->run_end == off) {
			n->run_end = 0;
			pthread_mutex_unlock(&n->lock);
			return end;
		}
	}
	*hole = n->run_is_hole;
	end = qi_min(end, n->run_end);
	pthread_mutex_unlock(&n->lock);
	return end;
}

static void nbd_free(struct nbd *n)
{
	nbd_close(n->h);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static void remote_close(struct qi_file *f)
{
	struct nbd *n = f->handle;

	nbd_shutdown(n->h, 0);
	nbd_free(n);
}

static const struct qi_file_ops nbd_ops = {
	.read = remote_read,
	.write = remote_write,
	.zero = remote_zero,
	.discard = remote_discard,
	.sync = remote_sync,
	.run = remote_run,
	.close = remote_close,
	.disk_size = QI_NO_OFFSET,
};

static int refused(const struct qi_nbd_name *name, const char *path,
		   struct qi_error *e)
{
	const char *why = nbd_get_error();
	int err = nbd_get_errno();
	int ret =
		qi_fail(e, err ? err : EIO, "cannot open '%s': %s", path, why);

	/* It has answered. */
	if (strstr(why, "handshake"))
		return qi_stock(e, ret,
				"Requested export not available\n"
				"server reported: export '%s' not present",
				name->export);
	if (name->socket)
		return qi_stock(e, ret, "Failed to connect to '%s': %s",
				name->socket, strerror(err));
	return qi_stock(e, ret, "Failed to connect to '%s:%s': %s", name->host,
			name->port, strerror(err));
}

static int connect_to(struct nbd *n, const struct qi_nbd_name *name)
{
	if (nbd_set_export_name(n->h, name->export) ||
	    nbd_add_meta_context(n->h, STATUS))
		return -1;
	return name->socket ? nbd_connect_unix(n->h, name->socket) :
			      nbd_connect_tcp(n->h, name->host, name->port);
}

int qi_nbd_open(struct qi_file **out, const struct qi_nbd_name *name,
		const char *path, struct qi_error *e)
{
	struct nbd *n = calloc(1, sizeof(*n));
	int64_t size = -1;
	int ret = 0;

	if (!n)
		return qi_no_memory(e);
	pthread_mutex_init(&n->lock, NULL);
	n->h = nbd_create();
	if (!n->h || connect_to(n, name))
		ret = refused(name, path, e);
	if (!ret)
		size = nbd_get_size(n->h);
	if (!ret && size < 0)
		ret = refused(name, path, e);
	if (!ret) {
		n->has_status = nbd_can_meta_context(n->h, STATUS) == 1;
		n->can_zero = nbd_can_zero(n->h) == 1;
		n->can_trim = nbd_can_trim(n->h) == 1;
		n->can_flush = nbd_can_flush(n->h) == 1;
		ret = qi_file_wrap(out, path, (uint64_t)size,
				   nbd_is_read_only(n->h) == 0, &nbd_ops, n, e);
	}
	if (ret)
		nbd_free(n);
	return ret;
}

#endif
