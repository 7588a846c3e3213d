/* SPDX-License-Identifier: MIT */
/*
 * lock.c - QEMU's image locks
 *
 * Byte 100 + i says "I use permission i", byte 200 + i "I do not share
 * permission i". All are read locks; a conflict is found by asking whether
 * a write lock on the opposite byte would be granted.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/bytes.h"
#include "lib/lock.h"

enum permission { READ, WRITE, WRITE_UNCHANGED, RESIZE, PERMISSIONS };
#define BIT(p) (1u << (p))
#define USES_BASE 100
#define UNSHARED_BASE 200

static const char *const permission_names[PERMISSIONS] = { "reading", "writing",
							   "writing",
							   "resizing" };

static int set_byte(struct qi_file *f, off_t byte, short type)
{
	struct flock l = { .l_type = type,
			   .l_whence = SEEK_SET,
			   .l_start = byte,
			   .l_len = 1 };

	return fcntl(f->fd, F_OFD_SETLK, &l) ? -errno : 0;
}

/* Does anybody else hold this byte? */
static bool byte_is_held(struct qi_file *f, off_t byte)
{
	struct flock l = { .l_type = F_WRLCK,
			   .l_whence = SEEK_SET,
			   .l_start = byte,
			   .l_len = 1 };

	return fcntl(f->fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

/* ------------------------------------------------------- who holds it? */

/* Does a "lock:" line of /proc/PID/fdinfo/FD cover `byte` of the file? */
static bool line_matches(const char *line, const struct qi_file *f, off_t byte)
{
	unsigned maj, min;
	unsigned long long ino, first;
	char last[32];
	const char *p = strstr(line, "OFDLCK");

	if (!p)
		return false;
	if (sscanf(p, "OFDLCK %*s %*s %*d %x:%x:%llu %llu %31s", &maj, &min,
		   &ino, &first, last) != 5)
		return false;
	return ino == f->ino && maj == major(f->dev) && min == minor(f->dev) &&
	       first <= (unsigned long long)byte &&
	       (!strcmp(last, "EOF") ||
		strtoull(last, NULL, 10) >= (unsigned long long)byte);
}

static bool fd_holds(const char *path, const struct qi_file *f, off_t byte)
{
	FILE *in = fopen(path, "re");
	char line[256];
	bool found = false;

	if (!in)
		return false;
	while (!found && fgets(line, sizeof(line), in))
		found = line_matches(line, f, byte);
	fclose(in);
	return found;
}

static bool process_holds(const char *pid, const struct qi_file *f, off_t byte)
{
	char path[300];
	DIR *dir;
	struct dirent *d;
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%.20s/fdinfo", pid);
	dir = opendir(path);
	if (!dir)
		return false;
	while (!found && (d = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/%.20s/fdinfo/%.20s", pid,
			 d->d_name);
		found = isdigit((unsigned char)d->d_name[0]) &&
			fd_holds(path, f, byte);
	}
	closedir(dir);
	return found;
}

/* "process 123 (qemu-system-x86)", or what can be said without rights. */
static void name_holder(const struct qi_file *f, off_t byte, char *out,
			size_t len)
{
	char path[64], name[32] = "?";
	DIR *proc = opendir("/proc");
	struct dirent *d;
	FILE *in;

	snprintf(out, len, "another process");
	while (proc && (d = readdir(proc))) {
		if (!isdigit((unsigned char)d->d_name[0]) ||
		    strtol(d->d_name, NULL, 10) == getpid() ||
		    !process_holds(d->d_name, f, byte))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", d->d_name);
		in = fopen(path, "re");
		if (in) {
			if (fgets(name, sizeof(name), in))
				name[strcspn(name, "\n")] = '\0';
			fclose(in);
		}
		snprintf(out, len, "process %.20s (%s)", d->d_name, name);
		break;
	}
	if (proc)
		closedir(proc);
}

/* As QEMU names the permission; others of ours do not conflict. */
static const char *const stock_names[PERMISSIONS] = {
	"consistent read", "write", "write unchanged", "resize"
};

static int refuse(struct qi_file *f, off_t byte, enum permission p,
		  struct qi_error *e)
{
	char holder[80];
	int ret;

	name_holder(f, byte, holder, sizeof(holder));
	ret = qi_fail(e, EBUSY,
		      "'%s' is in use: %s %s %s; try again when it "
		      "has ended, or with --wait",
		      f->path, holder,
		      byte >= UNSHARED_BASE ? "does not allow" :
					      "has it open "
					      "for",
		      permission_names[p]);
	return qi_stock(e, ret,
			"Failed to get %s\"%s\" lock\n"
			"Is another process using the image [%s]?",
			byte >= UNSHARED_BASE ? "" : "shared ", stock_names[p],
			f->path);
}

/* ------------------------------------------------------------ take them */

static void wanted(enum qi_access access, bool force_share, unsigned *uses,
		   unsigned *unshared)
{
	*uses = 0;
	*unshared = BIT(WRITE) | BIT(RESIZE);
	if (access == QI_ACCESS_READ)
		*uses = BIT(READ);
	if (access == QI_ACCESS_WRITE)
		*uses = BIT(READ) | BIT(WRITE) | BIT(RESIZE);
	else if (force_share)
		*unshared = 0;
}

static int set_bytes(struct qi_file *f, off_t base, unsigned bits, short type)
{
	for (int i = 0; i < PERMISSIONS; i++) {
		int ret = bits & BIT(i) ? set_byte(f, base + i, type) : 0;

		if (ret)
			return ret;
	}
	return 0;
}

void qi_unlock(struct qi_file *f)
{
	if (f->ops)
		return;
	set_bytes(f, USES_BASE, ~0u, F_UNLCK);
	set_bytes(f, UNSHARED_BASE, ~0u, F_UNLCK);
}

int qi_lock(struct qi_file *f, enum qi_access access, bool force_share,
	    struct qi_error *e)
{
	unsigned uses, unshared;
	int ret;

	if (f->ops)
		return 0;
	wanted(access, force_share, &uses, &unshared);
	ret = set_bytes(f, USES_BASE, uses, F_RDLCK);
	if (!ret)
		ret = set_bytes(f, UNSHARED_BASE, unshared, F_RDLCK);
	if (ret == -EAGAIN || ret == -EACCES) {
		qi_unlock(f);
		return refuse(f, USES_BASE, WRITE, e);
	}
	if (ret)
		return qi_fail(e, ENOLCK, "cannot lock '%s': %s", f->path,
			       strerror(-ret));
	for (int i = 0; i < PERMISSIONS; i++) {
		off_t byte = 0;

		if (uses & BIT(i) && byte_is_held(f, UNSHARED_BASE + i))
			byte = UNSHARED_BASE + i;
		else if (unshared & BIT(i) && byte_is_held(f, USES_BASE + i))
			byte = USES_BASE + i;
		if (byte) {
			qi_unlock(f);
			return refuse(f, byte, (enum permission)i, e);
		}
	}
	return 0;
}

bool qi_claim(struct qi_file *f)
{
	/* Where there are no such locks, everybody is believed. */
	return f->ops || flock(f->fd, LOCK_EX | LOCK_NB) == 0 ||
	       errno != EWOULDBLOCK;
}
