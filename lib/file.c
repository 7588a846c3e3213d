/* SPDX-License-Identifier: MIT */
/* file.c - files: open, read, write, sync, and their places in holes */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "lib/bytes.h"
#include "lib/file.h"

/* What all file systems and devices take for direct access. */
#define DIRECT_UNIT 4096
/* What is less is left to the sync, which finds more beside it. */
#define WRITE_BACK_MIN (256u << 10)

static int kernel_open(const char *path, int flags, mode_t mode)
{
	return open(path, flags, mode);
}

static int kernel_rename(const char *from, const char *to, unsigned flags)
{
	return renameat2(AT_FDCWD, from, AT_FDCWD, to, flags);
}

static int kernel_clone(int to, const struct file_clone_range *range)
{
	return ioctl(to, FICLONERANGE, range);
}

static const struct qi_file_layer kernel_layer = {
	.open = kernel_open,
	.close = close,
	.read = pread,
	.write = pwrite,
	.sync = fdatasync,
	.truncate = ftruncate,
	.fallocate = fallocate,
	.clone = kernel_clone,
	.rename = kernel_rename,
	.link = link,
	.symlink = symlink,
	.unlink = unlink,
	.mkdir = mkdir,
	.rmdir = rmdir,
};

const struct qi_file_layer *qi_file_layer(void)
{
	static const struct qi_file_layer *chosen;

	/* The first call is made before there are threads: a file is opened. */
	if (!chosen)
		chosen = qi_fault_layer(&kernel_layer);
	return chosen;
}

int qi_file_wrap(struct qi_file **out, const char *name, uint64_t size,
		 bool writable, const struct qi_file_ops *ops, void *handle,
		 struct qi_error *e)
{
	static atomic_ulong count;
	size_t n = strlen(name) + 1;
	struct qi_file *f = calloc(1, sizeof(*f) + n);

	if (!f)
		return qi_fail(e, ENOMEM, "out of memory");
	memcpy(f->path, name, n);
	f->name = f->path;
	f->fd = f->direct = -1;
	f->ops = ops;
	f->handle = handle;
	f->size = size;
	f->writable = writable;
	f->is_device = true;
	/* No file has this device; each is one for itself. */
	f->dev = (dev_t)-1;
	f->ino = atomic_fetch_add(&count, 1);
	*out = f;
	return 0;
}

static int take_facts(struct qi_file *f, struct qi_error *e)
{
	struct stat st;

	if (fstat(f->fd, &st))
		return qi_fail(e, errno, "cannot look at '%s': %s", f->name,
			       strerror(errno));
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->size = (uint64_t)st.st_size;
	if (S_ISREG(st.st_mode))
		return 0;
	if (S_ISBLK(st.st_mode)) {
		uint64_t size;

		if (ioctl(f->fd, BLKGETSIZE64, &size))
			return qi_fail(e, errno, "cannot size '%s': %s",
				       f->name, strerror(errno));
		f->size = size;
		f->is_device = true;
		return 0;
	}
	return qi_stock(
		e,
		qi_fail(e, EINVAL, "cannot open '%s': it is a %s, not a file",
			f->name,
			S_ISDIR(st.st_mode)  ? "folder" :
			S_ISFIFO(st.st_mode) ? "FIFO" :
					       "device"),
		"'file' driver requires '%s' to be a regular file", f->name);
}

static int open_with(struct qi_file **out, const char *path, int flags,
		     struct qi_error *e)
{
	size_t n = strlen(path) + 1;
	struct qi_file *f = calloc(1, sizeof(*f) + n);
	int ret;

	if (!f)
		return qi_fail(e, ENOMEM, "out of memory");
	memcpy(f->path, path, n);
	f->direct = -1;
	f->name = f->path;
	f->writable = (flags & O_ACCMODE) == O_RDWR;
	/* O_NONBLOCK: a FIFO without a writer must not hold us up. */
	f->fd = qi_file_layer()->open(path, flags | O_CLOEXEC | O_NONBLOCK,
				      flags & O_EXCL ? 0666 : 0644);
	if (f->fd < 0) {
		ret = qi_fail(e, errno, "cannot %s '%s': %s",
			      flags & O_CREAT ? "create" : "open", path,
			      strerror(errno));
		qi_stock(e, ret, "Could not %s '%s': %s",
			 flags & O_CREAT ? "create" : "open", path,
			 strerror(-ret));
		free(f);
		return ret;
	}
	ret = take_facts(f, e);
	if (ret) {
		qi_file_close(f, NULL);
		return ret;
	}
	*out = f;
	return 0;
}

int qi_file_open(struct qi_file **out, const char *path, bool writable,
		 struct qi_error *e)
{
	return open_with(out, path, writable ? O_RDWR : O_RDONLY, e);
}

int qi_file_create(struct qi_file **out, const char *path, struct qi_error *e)
{
	return open_with(out, path, O_RDWR | O_CREAT | O_EXCL, e);
}

int qi_file_open_or_create(struct qi_file **out, const char *path,
			   struct qi_error *e)
{
	return open_with(out, path, O_RDWR | O_CREAT, e);
}

int qi_file_open_alone(struct qi_file **out, const char *path,
		       struct qi_error *e)
{
	int ret = open_with(out, path, O_RDONLY | O_EXCL, e);

	return ret == -EBUSY ?
		       qi_fail(e, EBUSY,
			       "'%s' is in use: it is mounted, or part of "
			       "another device",
			       path) :
		       ret;
}

int qi_file_close(struct qi_file *f, struct qi_error *e)
{
	int ret = 0;

	if (f->ops && f->ops->close)
		f->ops->close(f);
	if (f->direct >= 0)
		qi_file_layer()->close(f->direct);
	if (!f->ops && qi_file_layer()->close(f->fd) && f->writable)
		ret = qi_fail(e, errno, "cannot close '%s': %s", f->name,
			      strerror(errno));
	free(f);
	return ret;
}

/*
 * Another descriptor of the same file, so that what is not aligned can still
 * go through the page cache; the kernel keeps the two in step.
 */
static int open_direct(struct qi_file *f, struct qi_error *e)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	f->direct =
		qi_file_layer()->open(path,
				      (f->writable ? O_RDWR : O_RDONLY) |
					      O_DIRECT | O_CLOEXEC | O_NONBLOCK,
				      0);
	if (f->direct >= 0)
		return 0;
	return qi_stock(e,
			qi_fail(e, errno,
				"'%s' cannot be read and written past the page "
				"cache: %s; choose another cache mode",
				f->name, strerror(errno)),
			errno == EINVAL ?
				"Could not open '%s': filesystem does not "
				"support O_DIRECT" :
				"Could not open '%s'",
			f->name);
}

int qi_file_set_cache(struct qi_file *f, enum qi_cache mode, struct qi_error *e)
{
	if (f->ops)
		return 0;
	f->never_syncs = mode == QI_CACHE_UNSAFE;
	f->syncs_writes = mode == QI_CACHE_WRITETHROUGH ||
			  mode == QI_CACHE_DIRECTSYNC;
	if (f->direct >= 0 ||
	    (mode != QI_CACHE_NONE && mode != QI_CACHE_DIRECTSYNC))
		return 0;
	return open_direct(f, e);
}

static int fd_for(const struct qi_file *f, uint64_t off, size_t len,
		  const void *buf)
{
	return f->direct >= 0 && qi_is_aligned(off | len | (uintptr_t)buf,
					       DIRECT_UNIT) ?
		       f->direct :
		       f->fd;
}

static ssize_t read_by_ops(struct qi_file *f, uint64_t off, size_t len,
			   void *buf, struct qi_error *e)
{
	size_t in = off < f->size ? (size_t)qi_min(len, f->size - off) : 0;
	int ret = in ? f->ops->read(f, off, in, buf, e) : 0;

	memset((char *)buf + in, 0, len - in);
	return ret ? ret : (ssize_t)in;
}

/* -EFBIG and the message when that is past the end of one that has ops. */
static int check_inside(const struct qi_file *f, uint64_t off, uint64_t len,
			struct qi_error *e)
{
	if (qi_fits(off, len, f->size))
		return 0;
	return qi_fail(e, EFBIG, "cannot write '%s' at %llu: it ends before",
		       f->name, (unsigned long long)(off + len));
}

ssize_t qi_file_read_some(struct qi_file *f, uint64_t off, size_t len,
			  void *buf, struct qi_error *e)
{
	size_t done = 0;

	if (f->ops)
		return read_by_ops(f, off, len, buf, e);
	while (done < len) {
		ssize_t n;

		if (off + done > INT64_MAX)
			break;
		n = qi_file_layer()->read(
			fd_for(f, off + done, len - done, (char *)buf + done),
			(char *)buf + done, len - done, (off_t)(off + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return qi_fail(e, errno, "cannot read '%s' at %llu: %s",
				       f->name,
				       (unsigned long long)(off + done),
				       strerror(errno));
		if (n == 0)
			break;
		done += (size_t)n;
	}
	memset((char *)buf + done, 0, len - done);
	return (ssize_t)done;
}

int qi_file_read(struct qi_file *f, uint64_t off, size_t len, void *buf,
		 struct qi_error *e)
{
	ssize_t n = qi_file_read_some(f, off, len, buf, e);

	if (n < 0)
		return (int)n;
	if ((size_t)n < len)
		return qi_fail(
			e, EUCLEAN,
			"'%s' is truncated: %zu bytes at offset %llu are "
			"missing",
			f->name, len - (size_t)n,
			(unsigned long long)(off + (size_t)n));
	return 0;
}

/* Writers in several threads may all make the file longer. */
static void note_end(struct qi_file *f, uint64_t end)
{
	uint64_t size = atomic_load(&f->size);

	while (size < end &&
	       !atomic_compare_exchange_weak(&f->size, &size, end))
		;
}

int qi_file_write(struct qi_file *f, uint64_t off, size_t len, const void *buf,
		  struct qi_error *e)
{
	size_t done = 0;

	if (f->ops) {
		int ret = check_inside(f, off, len, e);

		return ret ? ret : f->ops->write(f, off, len, buf, e);
	}
	while (done < len) {
		const char *from = (const char *)buf + done;
		ssize_t n = qi_file_layer()->write(
			fd_for(f, off + done, len - done, from), from,
			len - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return qi_fail(e, n ? errno : EIO,
				       "cannot write '%s' at %llu: %s", f->name,
				       (unsigned long long)(off + done),
				       strerror(n ? errno : EIO));
		done += (size_t)n;
	}
	note_end(f, off + len);
	return f->syncs_writes ? qi_file_sync(f, e) : 0;
}

void qi_file_write_back(const struct qi_file *f, uint64_t off, size_t len)
{
	if (!f->ops && !f->never_syncs && !f->syncs_writes && f->direct < 0 &&
	    len >= WRITE_BACK_MIN)
		sync_file_range(f->fd, (off_t)off, (off_t)len,
				SYNC_FILE_RANGE_WRITE);
}

int qi_file_write_zeroes(struct qi_file *f, uint64_t off, uint64_t len,
			 struct qi_error *e)
{
	static const _Alignas(DIRECT_UNIT) char zeroes[65536];
	int ret = 0;

	while (len && !ret) {
		size_t n = (size_t)qi_min(len, sizeof(zeroes));

		ret = qi_file_write(f, off, n, zeroes, e);
		off += n;
		len -= n;
	}
	return ret;
}

bool qi_file_can_clone(const struct qi_file *to, const struct qi_file *from,
		       uint32_t *block)
{
	/*
	 * What there is of `from` after its end: nothing. If it grows just
	 * now there is something, for which that place in `to` is no good.
	 */
	struct file_clone_range none = { .src_fd = from->fd, .dest_offset = 1 };
	struct stat st;
	int size;

	if (to->ops || from->ops ||
	    (to->dev == from->dev && to->ino == from->ino) ||
	    fstat(from->fd, &st) || ioctl(to->fd, FIGETBSZ, &size))
		return false;
	none.src_offset = (uint64_t)st.st_size;
	*block = (uint32_t)size;
	return !ioctl(to->fd, FICLONERANGE, &none);
}

int qi_file_clone(struct qi_file *to, uint64_t to_off,
		  const struct qi_file *from, uint64_t from_off, uint64_t len,
		  struct qi_error *e)
{
	const struct file_clone_range range = { from->fd, from_off, len,
						to_off };

	if (qi_file_layer()->clone(to->fd, &range))
		return 1;
	note_end(to, to_off + len);
	return to->syncs_writes ? qi_file_sync(to, e) : 0;
}

static bool punch(struct qi_file *f, uint64_t off, uint64_t len)
{
	return qi_file_layer()->fallocate(
		       f->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		       (off_t)off, (off_t)len) == 0;
}

int qi_file_punch(struct qi_file *f, uint64_t off, uint64_t len,
		  struct qi_error *e)
{
	if (f->ops) {
		int ret = check_inside(f, off, len, e);

		return ret ? ret : f->ops->zero(f, off, len, false, e);
	}
	if (punch(f, off, len))
		return 0;
	return qi_file_write_zeroes(f, off, len, e);
}

int qi_file_zero(struct qi_file *f, uint64_t off, uint64_t len,
		 struct qi_error *e)
{
	if (f->ops) {
		int ret = check_inside(f, off, len, e);

		return ret ? ret : f->ops->zero(f, off, len, true, e);
	}
	if (qi_file_layer()->fallocate(f->fd, FALLOC_FL_ZERO_RANGE, (off_t)off,
				       (off_t)len))
		return qi_file_write_zeroes(f, off, len, e);
	note_end(f, off + len);
	return 0;
}

void qi_file_discard(struct qi_file *f, uint64_t off, uint64_t len)
{
	if (off >= f->size)
		return;
	len = qi_min(len, f->size - off);
	if (f->ops)
		f->ops->discard(f, off, len);
	else if (!punch(f, off, len))
		errno = 0;
}

static int keep_room(struct qi_file *f, int mode, uint64_t off, uint64_t len,
		     struct qi_error *e)
{
	int ret;

	if (f->ops)
		return qi_fail(e, ENOTSUP, "'%s' has no room to be kept",
			       f->name);
	if (off > INT64_MAX || len > INT64_MAX - off)
		return qi_fail(e, EFBIG, "'%s' cannot be that long", f->name);
	do
		ret = qi_file_layer()->fallocate(f->fd, mode, (off_t)off,
						 (off_t)len);
	while (ret && errno == EINTR);
	if (ret)
		return qi_fail(e, errno == ENOSYS ? ENOTSUP : errno,
			       "cannot allocate %llu bytes for '%s': %s",
			       (unsigned long long)len, f->name,
			       strerror(errno));
	return 0;
}

int qi_file_allocate(struct qi_file *f, uint64_t off, uint64_t len,
		     struct qi_error *e)
{
	int ret = keep_room(f, 0, off, len, e);

	if (!ret)
		note_end(f, off + len);
	return ret;
}

int qi_file_claim(struct qi_file *f, uint64_t off, uint64_t len,
		  struct qi_error *e)
{
	return keep_room(f, FALLOC_FL_KEEP_SIZE, off, len, e);
}

void qi_file_hint(struct qi_file *f, bool nocow, uint32_t extent_size)
{
	struct fsxattr x;
	int flags;

	if (nocow && ioctl(f->fd, FS_IOC_GETFLAGS, &flags) == 0) {
		flags |= FS_NOCOW_FL;
		ioctl(f->fd, FS_IOC_SETFLAGS, &flags);
	}
	if (extent_size && ioctl(f->fd, FS_IOC_FSGETXATTR, &x) == 0) {
		x.fsx_xflags |= FS_XFLAG_EXTSIZE;
		x.fsx_extsize = extent_size;
		ioctl(f->fd, FS_IOC_FSSETXATTR, &x);
	}
}

void qi_file_copy_mode(struct qi_file *f, const char *like)
{
	struct stat st;

	if (stat(like, &st))
		return;
	/* Only root can give files away; the mode is what protects them. */
	if (fchown(f->fd, st.st_uid, st.st_gid))
		errno = 0;
	if (fchmod(f->fd, st.st_mode & 0777))
		errno = 0;
}

int qi_file_sync(struct qi_file *f, struct qi_error *e)
{
	if (f->never_syncs)
		return 0;
	if (f->ops)
		return f->ops->sync(f, e);
	if (qi_file_layer()->sync(f->fd))
		return qi_fail(e, errno, "cannot sync '%s': %s", f->name,
			       strerror(errno));
	return 0;
}

int qi_file_resize(struct qi_file *f, uint64_t size, struct qi_error *e)
{
	if (f->ops)
		return qi_fail(e, ENOTSUP, "'%s' has the size that it has",
			       f->name);
	if (size > INT64_MAX)
		return qi_fail(e, EFBIG, "cannot resize '%s': too large",
			       f->name);
	if (qi_file_layer()->truncate(f->fd, (off_t)size)) {
		int err = errno;

		qi_fail(e, err, "cannot resize '%s' to %llu: %s", f->name,
			(unsigned long long)size, strerror(err));
		return qi_stock(e, -err, "Could not resize file: %s",
				strerror(err));
	}
	f->size = size;
	return 0;
}

bool qi_file_is_regular(const struct qi_file *f)
{
	struct stat st;

	return !f->ops && !fstat(f->fd, &st) && S_ISREG(st.st_mode);
}

uint64_t qi_file_disk_size(const struct qi_file *f)
{
	struct stat st;

	if (f->ops)
		return f->ops->disk_size;
	return fstat(f->fd, &st) ? 0 : (uint64_t)st.st_blocks * 512;
}

uint64_t qi_file_run(const struct qi_file *f, uint64_t off, bool *hole)
{
	off_t end;

	if (f->ops)
		return f->ops->run(f, off, hole);
	*hole = false;
	end = lseek(f->fd, (off_t)off, SEEK_DATA);
	if (end < 0 && errno == ENXIO) {
		*hole = true;
		return f->size;
	}
	if (end < 0)
		return f->size;
	if ((uint64_t)end > off) {
		*hole = true;
		return (uint64_t)end;
	}
	end = lseek(f->fd, (off_t)off, SEEK_HOLE);
	return end > (off_t)off ? (uint64_t)end : f->size;
}

bool qi_file_is_current(const struct qi_file *f)
{
	struct stat st;

	return f->ops || (!stat(f->path, &st) && st.st_dev == f->dev &&
			  st.st_ino == f->ino);
}
