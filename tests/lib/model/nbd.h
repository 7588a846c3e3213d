/* SPDX-License-Identifier: MIT */
/*
 * nbd.h - reading an image through a QEMU that runs all life long
 *
 * A tool that is started for each look costs ten times as much.
 */
#ifndef MODEL_NBD_H
#define MODEL_NBD_H

#include "tests/lib/model/qmp.h"

static struct vm reader;

/* --------------------------------------------------- the protocol's words */

struct nbd_hello {
	uint8_t magic[8], option_magic[8];
	be16 flags;
};

struct nbd_option {
	be32 flags;
	uint8_t magic[8];
	be32 option, len;
};

struct nbd_export {
	be64 size;
	be16 flags;
};

struct nbd_request {
	be32 magic;
	be16 flags, type;
	be64 cookie, off;
	be32 len;
};

struct nbd_reply {
	be32 magic, error;
	be64 cookie;
};

#define NBD_FIXED_NO_ZEROES 3
#define NBD_OPT_EXPORT_NAME 1
#define NBD_REQUEST_MAGIC 0x25609513u
#define NBD_REPLY_MAGIC 0x67446698u

static void get_all(int fd, void *buf, size_t len)
{
	if (recv(fd, buf, len, MSG_WAITALL) != (ssize_t)len)
		fail("QEMU does not answer by NBD");
}

static void put_all(int fd, const void *buf, size_t len)
{
	if (send(fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		fail("QEMU does not listen to NBD");
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&a, sizeof(a)))
		die(path);
	return fd;
}

/* Reads all of an export into buf[MAX_SIZE]; its size. */
static uint64_t read_nbd(const char *socket, const char *name, uint8_t *buf)
{
	struct nbd_option o = { .magic = "IHAVEOPT" };
	struct nbd_request q = { .cookie = { { 0 } } };
	struct nbd_hello hello;
	struct nbd_export export = { .size = { { 0 } } };
	struct nbd_reply reply;
	uint64_t size;
	int fd;

	if (failed)
		return 0;
	fd = connect_to(socket);
	get_all(fd, &hello, sizeof(hello));
	o.flags = be32_put(NBD_FIXED_NO_ZEROES);
	o.option = be32_put(NBD_OPT_EXPORT_NAME);
	o.len = be32_put((uint32_t)strlen(name));
	put_all(fd, &o, sizeof(o));
	put_all(fd, name, strlen(name));
	get_all(fd, &export, sizeof(export));
	size = be64_get(export.size);
	q.magic = be32_put(NBD_REQUEST_MAGIC);
	q.len = be32_put((uint32_t)qi_min(size, MAX_SIZE));
	put_all(fd, &q, sizeof(q));
	get_all(fd, &reply, sizeof(reply));
	if (be32_get(reply.magic) != NBD_REPLY_MAGIC || be32_get(reply.error))
		fail("QEMU cannot read %s: error %u", name,
		     be32_get(reply.error));
	else
		get_all(fd, buf, qi_min(size, MAX_SIZE));
	close(fd);
	return size;
}

static void start_reader(void)
{
	reader.is_quiet = true;
	if (start_qemu(&reader, false))
		serve_nbd(&reader, "reader-nbd");
}

#endif
