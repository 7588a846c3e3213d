/* SPDX-License-Identifier: MIT */
/*
 * file.h - all access to files goes through here
 *
 * A layer is a table of calls on file descriptors and names. The bottom layer
 * is the kernel; the fault layer (fault.c) sits on top of it when a test asks
 * for one. Nothing else in lib or formats calls the kernel about files.
 */
#ifndef QI_FILE_H
#define QI_FILE_H

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "lib/qimg.h"

struct qi_file;
struct file_clone_range; /* of the kernel */

struct qi_file_layer {
	int (*open)(const char *path, int flags, mode_t mode);
	int (*close)(int fd);
	ssize_t (*read)(int fd, void *buf, size_t len, off_t off);
	ssize_t (*write)(int fd, const void *buf, size_t len, off_t off);
	int (*sync)(int fd);
	int (*truncate)(int fd, off_t size);
	int (*fallocate)(int fd, int mode, off_t off, off_t len);
	int (*clone)(int to, const struct file_clone_range *range);
	int (*rename)(const char *from, const char *to, unsigned flags);
	int (*link)(const char *from, const char *to);
	int (*symlink)(const char *target, const char *path);
	int (*unlink)(const char *path);
	int (*mkdir)(const char *path, mode_t mode);
	int (*rmdir)(const char *path);
};

/* The layer that tests asked for by QIMG_FAULT, or the kernel's own. */
const struct qi_file_layer *qi_fault_layer(const struct qi_file_layer *below);

/* The one that is used. For file.c and folder.c alone. */
const struct qi_file_layer *qi_file_layer(void);

/*
 * What is no file of the kernel but reads like one. Ranges are inside it; read
 * and run may be called by several threads at once.
 */
struct qi_file_ops {
	int (*read)(struct qi_file *f, uint64_t off, size_t len, void *buf,
		    struct qi_error *e);
	int (*write)(struct qi_file *f, uint64_t off, size_t len,
		     const void *buf, struct qi_error *e);
	/* Reads as zero then; keep: its room stays. */
	int (*zero)(struct qi_file *f, uint64_t off, uint64_t len, bool keep,
		    struct qi_error *e);
	void (*discard)(struct qi_file *f, uint64_t off, uint64_t len);
	int (*sync)(struct qi_file *f, struct qi_error *e);
	/* As qi_file_run(). */
	uint64_t (*run)(const struct qi_file *f, uint64_t off, bool *hole);
	void (*close)(struct qi_file *f);
	uint64_t disk_size; /* bytes that it takes; QI_NO_OFFSET: unknown */
};

/* An open regular file or block device. path is for messages. */
struct qi_file {
	const struct qi_file_ops *ops; /* NULL: the kernel's, of fd */
	void *handle;		       /* of ops */
	int fd;
	int direct;	   /* past the page cache; -1: there is none */
	bool syncs_writes; /* each one is durable at once */
	bool never_syncs;
	bool writable;
	bool is_device;	       /* its size is what it is */
	_Atomic uint64_t size; /* at open; kept by our own writes */
	dev_t dev;
	ino_t ino;
	const char *name; /* in messages; path, unless that is a hidden one */
	char path[];
};

/*
 * Open what exists; FIFOs, sockets, folders and character devices are
 * refused without blocking. *out is closed with qi_file_close().
 */
int qi_file_open(struct qi_file **out, const char *path, bool writable,
		 struct qi_error *e);
/*
 * From now on it is read and written that way. EINVAL: the file system has no
 * direct access. No thread uses the file meanwhile.
 */
int qi_file_set_cache(struct qi_file *f, enum qi_cache mode,
		      struct qi_error *e);
/* One with calls of its own, of a size that stays; its name is for messages. */
int qi_file_wrap(struct qi_file **out, const char *name, uint64_t size,
		 bool writable, const struct qi_file_ops *ops, void *handle,
		 struct qi_error *e);
/* One that reads as zero and forgets what is written. */
int qi_file_open_null(struct qi_file **out, const char *name, uint64_t size,
		      struct qi_error *e);
/* Make a new file that must not exist yet, mode 0666 less the umask. */
int qi_file_create(struct qi_file **out, const char *path, struct qi_error *e);
/* Open what is there, or make it, where a link points to, mode 0644. */
int qi_file_open_or_create(struct qi_file **out, const char *path,
			   struct qi_error *e);
/*
 * Open a device that nobody mounts, or makes part of another one, as long as
 * this is open. EBUSY when somebody has.
 */
int qi_file_open_alone(struct qi_file **out, const char *path,
		       struct qi_error *e);
/* Close errors are returned: on some file systems they are write errors. */
int qi_file_close(struct qi_file *f, struct qi_error *e);
static inline void qi_file_closep(struct qi_file **f)
{
	if (*f)
		qi_file_close(*f, NULL);
}
#define QI_AUTOCLOSE __attribute__((cleanup(qi_file_closep)))

/* All of len bytes, or a failure; a file that ends before is EUCLEAN. */
int qi_file_read(struct qi_file *f, uint64_t off, size_t len, void *buf,
		 struct qi_error *e);
/* As much as there is; the rest of buf is zeroed. Returns bytes found. */
ssize_t qi_file_read_some(struct qi_file *f, uint64_t off, size_t len,
			  void *buf, struct qi_error *e);
int qi_file_write(struct qi_file *f, uint64_t off, size_t len, const void *buf,
		  struct qi_error *e);
/*
 * Have the disk begin with what was written, as a sync will want it: a hint,
 * for which there is usually nothing to wait. Files that need none are left
 * alone.
 */
void qi_file_write_back(const struct qi_file *f, uint64_t off, size_t len);
int qi_file_write_zeroes(struct qi_file *f, uint64_t off, uint64_t len,
			 struct qi_error *e);
/*
 * Can a range of `from` be put into `to` without a copy of it: do both belong
 * to one file system that lets files share blocks (reflink)? *block: what
 * offsets and lengths must be multiples of. Nothing is changed.
 */
bool qi_file_can_clone(const struct qi_file *to, const struct qi_file *from,
		       uint32_t *block);
/*
 * Do it: the range of `to` shares the blocks of `from` until one of them is
 * written. 1: it cannot be done, and some of the range may be; write it then.
 */
int qi_file_clone(struct qi_file *to, uint64_t to_off,
		  const struct qi_file *from, uint64_t from_off, uint64_t len,
		  struct qi_error *e);
/* Give f the mode, and where that is allowed the owner, of another file. */
void qi_file_copy_mode(struct qi_file *f, const char *like);
/* Make a range read as zero, as a hole where the file system can. */
int qi_file_punch(struct qi_file *f, uint64_t off, uint64_t len,
		  struct qi_error *e);
/* The same, but the room for it stays, or is made. */
int qi_file_zero(struct qi_file *f, uint64_t off, uint64_t len,
		 struct qi_error *e);
/* Give the room of a range back, where the file system can; it may read as
 * anything then. Never fails. */
void qi_file_discard(struct qi_file *f, uint64_t off, uint64_t len);
/*
 * Have the file system keep room for a range, past the end of the file too,
 * which it makes longer; what is there stays. -ENOTSUP: it cannot.
 */
int qi_file_allocate(struct qi_file *f, uint64_t off, uint64_t len,
		     struct qi_error *e);
/* The same, and the file stays as long as it is. */
int qi_file_claim(struct qi_file *f, uint64_t off, uint64_t len,
		  struct qi_error *e);
/*
 * Wishes of an empty file to its file system, which may not know them: no
 * copy on write, and space in pieces of extent_size bytes (0: as it likes).
 */
void qi_file_hint(struct qi_file *f, bool nocow, uint32_t extent_size);
/* Data and size reach the disk, or this fails (once: it is never retried). */
int qi_file_sync(struct qi_file *f, struct qi_error *e);
int qi_file_resize(struct qi_file *f, uint64_t size, struct qi_error *e);
/* Not a device: it can change its length. */
bool qi_file_is_regular(const struct qi_file *f);
/* Bytes that the file system holds for the file; QI_NO_OFFSET: unknown. */
uint64_t qi_file_disk_size(const struct qi_file *f);
/*
 * The run of data or hole at off: its end, and whether it is a hole. File
 * systems that cannot tell say data.
 */
uint64_t qi_file_run(const struct qi_file *f, uint64_t off, bool *hole);
/* Is the file at f->path still the one that was opened? */
bool qi_file_is_current(const struct qi_file *f);

int qi_rename(const char *from, const char *to, struct qi_error *e);
/* Fails with EEXIST when there is something at `to`. */
int qi_rename_new(const char *from, const char *to, struct qi_error *e);
int qi_link(const char *from, const char *to, struct qi_error *e);
int qi_symlink(const char *target, const char *path, struct qi_error *e);
int qi_unlink(const char *path, struct qi_error *e);
/* How often this process has changed a name: what was read is old then. */
unsigned long qi_name_changes(void);
int qi_mkdir(const char *path, struct qi_error *e);
int qi_rmdir(const char *path, struct qi_error *e);
/* Make the names in the folder that holds `path` durable. */
int qi_sync_folder_of(const char *path, struct qi_error *e);
int qi_sync_folder(const char *dir, struct qi_error *e);

/* The folder part of path as "dir" ("." when there is none); malloc'd. */
char *qi_path_folder(const char *path);
/* Last component of path, inside path. */
const char *qi_path_name(const char *path);
/* dir/name, or name when it is absolute; malloc'd, NULL without memory. */
char *qi_path_join(const char *dir, const char *name);
/* The hidden name of path in the making: DIR/.NAME.qimg; malloc'd. */
char *qi_path_temporary(const char *path);
/* Is it the name of such a file, without its folder? */
bool qi_path_is_temporary(const char *name);
/* printf into new memory; NULL without memory. */
char *qi_format_text(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
/* Fill buf with random bytes from the kernel. */
void qi_random(void *buf, size_t len);

#endif
