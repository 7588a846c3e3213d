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

#include <dlfcn.h>
#include <libnbd.h>
#include <pthread.h>
#include <stdio.h>

#define MAX_DATA (16u << 20) /* of one request; every server takes that */
#define MAX_RANGE (1u << 30) /* of one that has no data */
#define STATUS "base:allocation"
#define STATE_ZERO 2u

/*
 * Loaded by the first name that asks for it: libnbd brings libraries with it
 * that take longer to load than most commands run.
 */
#define LIBRARY "libnbd.so.0"
#define EACH_CALL(X)        \
	X(add_meta_context) \
	X(block_status)     \
	X(can_flush)        \
	X(can_meta_context) \
	X(can_trim)         \
	X(can_zero)         \
	X(close)            \
	X(connect_tcp)      \
	X(connect_unix)     \
	X(create)           \
	X(flush)            \
	X(get_errno)        \
	X(get_error)        \
	X(get_size)         \
	X(is_read_only)     \
	X(pread)            \
	X(pwrite)           \
	X(set_export_name)  \
	X(shutdown)         \
	X(trim)             \
	X(zero)
#define MEMBER(name) __typeof__(&nbd_##name) name;
#define SYMBOL(name) { "nbd_" #name, (void **)&lib.name },

static struct {
	EACH_CALL(MEMBER)
} lib;
static const struct {
	const char *name;
	void **to;
} symbols[] = { EACH_CALL(SYMBOL) };
static char load_error[256]; /* empty when it is there */

static void load(void)
{
	void *so = dlopen(LIBRARY, RTLD_LAZY | RTLD_LOCAL);

	for (size_t i = 0; so && i < QI_ARRAY_SIZE(symbols); i++) {
		*symbols[i].to = dlsym(so, symbols[i].name);
		if (!*symbols[i].to)
			so = NULL;
	}
	if (!so)
		snprintf(load_error, sizeof(load_error), "%s", dlerror());
}

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
	int err = lib.get_errno();

	return qi_fail(e, err ? err : EIO, "cannot %s '%s': %s", what, f->name,
		       lib.get_error());
}

static int remote_read(struct qi_file *f, uint64_t off, size_t len, void *buf,
		       struct qi_error *e)
{
	struct nbd *n = f->handle;
	int ret = 0;

	pthread_mutex_lock(&n->lock);
	while (len && !ret) {
		size_t some = (size_t)qi_min(len, MAX_DATA);

		if (lib.pread(n->h, buf, some, off, 0))
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

		if (lib.pwrite(n->h, buf, some, off, 0))
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

		if (lib.zero(n->h, some, off,
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

		if (lib.trim(n->h, some, off, 0))
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
	if (n->can_flush && lib.flush(n->h, 0))
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
		if (lib.block_status(n->h, qi_min(end - off, MAX_RANGE), off,
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
	lib.close(n->h);
	pthread_mutex_destroy(&n->lock);
	free(n);
}

static void remote_close(struct qi_file *f)
{
	struct nbd *n = f->handle;

	lib.shutdown(n->h, 0);
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
	const char *why = lib.get_error();
	int err = lib.get_errno();
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
	if (lib.set_export_name(n->h, name->export) ||
	    lib.add_meta_context(n->h, STATUS))
		return -1;
	return name->socket ? lib.connect_unix(n->h, name->socket) :
			      lib.connect_tcp(n->h, name->host, name->port);
}

int qi_nbd_open(struct qi_file **out, const struct qi_nbd_name *name,
		const char *path, struct qi_error *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct nbd *n;
	int64_t size = -1;
	int ret = 0;

	pthread_once(&once, load);
	if (*load_error)
		return qi_fail(e, ENOTSUP,
			       "cannot open '%s': libnbd cannot be loaded: %s",
			       path, load_error);
	n = calloc(1, sizeof(*n));
	if (!n)
		return qi_no_memory(e);
	pthread_mutex_init(&n->lock, NULL);
	n->h = lib.create();
	if (!n->h || connect_to(n, name))
		ret = refused(name, path, e);
	if (!ret)
		size = lib.get_size(n->h);
	if (!ret && size < 0)
		ret = refused(name, path, e);
	if (!ret) {
		n->has_status = lib.can_meta_context(n->h, STATUS) == 1;
		n->can_zero = lib.can_zero(n->h) == 1;
		n->can_trim = lib.can_trim(n->h) == 1;
		n->can_flush = lib.can_flush(n->h) == 1;
		ret = qi_file_wrap(out, path, (uint64_t)size,
				   lib.is_read_only(n->h) == 0, &nbd_ops, n, e);
	}
	if (ret)
		nbd_free(n);
	return ret;
}

#endif
