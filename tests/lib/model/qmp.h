/* SPDX-License-Identifier: MIT */
/*
 * qmp.h - a QEMU process that has the drive open, and how to talk to it
 *
 * It connects to a socket of ours, and offers the drive by NBD on another
 * one, through which the guest, qemu-io, writes.
 */
#ifndef MODEL_QMP_H
#define MODEL_QMP_H

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/lib/model/calls.h"

#define QMP_TIMEOUT 30000 /* ms */

struct vm {
	pid_t pid;
	int fd;
	FILE *in;
	bool is_quiet;	/* its commands are not noted down */
	json_t *events; /* that nobody has waited for yet */
};

/* -------------------------------------------------------------- sockets */

static int listen_at(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	unlink(path);
	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) ||
	    listen(fd, 1))
		die(path);
	return fd;
}

/* False: nothing came in time. */
static bool wait_for(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, QMP_TIMEOUT);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

/* The next message; NULL when there is none. */
static json_t *next_message(struct vm *v)
{
	char *line = NULL;
	size_t room = 0;
	json_t *o = NULL;

	if (wait_for(v->fd) && getline(&line, &room, v->in) > 0)
		o = json_loads(line, 0, NULL);
	free(line);
	if (!o)
		fail("QEMU says nothing");
	return o;
}

/* Waits for an event of that name. */
static void expect_event(struct vm *v, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach(v->events, i, o)
	{
		if (!strcmp(json_string_value(o), name)) {
			json_array_remove(v->events, i);
			return;
		}
	}
	while (!failed) {
		const char *s;
		bool found;

		o = next_message(v);
		s = json_string_value(json_object_get(o, "event"));
		found = s && !strcmp(s, name);
		json_decref(o);
		if (found)
			return;
	}
}

/* What a command returns; free it. NULL when it has failed. */
static json_t *qmp_take(struct vm *v, const char *command, json_t *arguments)
{
	json_t *o = json_pack("{s:s, s:o}", "execute", command, "arguments",
			      arguments ? arguments : json_object());
	char *text = json_dumps(o, JSON_COMPACT);
	size_t len = strlen(text);
	json_t *answer = NULL;

	if (!v->is_quiet)
		note("# QMP: %s", text);
	/* In one: QEMU may end at once. */
	text[len] = '\n';
	if (write(v->fd, text, len + 1) != (ssize_t)len + 1)
		fail("cannot talk to QEMU: %s", strerror(errno));
	json_decref(o);
	free(text);
	while (!answer && !failed) {
		o = next_message(v);
		answer = json_incref(json_object_get(o, "return"));
		if (json_object_get(o, "event"))
			json_array_append(v->events,
					  json_object_get(o, "event"));
		if (json_object_get(o, "error")) {
			text = json_dumps(o, JSON_COMPACT);
			fail("%s: %s", command, text);
			free(text);
		}
		json_decref(o);
	}
	return answer;
}

static void qmp(struct vm *v, const char *command, json_t *arguments)
{
	json_decref(qmp_take(v, command, arguments));
}

/* ----------------------------------------------------------- the process */

/* False, and a failure, when it does not start. */
static bool start_qemu(struct vm *v, bool whole)
{
	static const char *const daemon[] = {
		"qemu-storage-daemon", "--chardev",   "socket,path=qmp,id=qmp",
		"--monitor",	       "chardev=qmp", NULL
	};
	static const char *const system[] = { "qemu-system-x86_64",
					      "-S",
					      "-display",
					      "none",
					      "-nodefaults",
					      "-machine",
					      "none",
					      "-chardev",
					      "socket,path=qmp,id=qmp",
					      "-mon",
					      "chardev=qmp,mode=control",
					      NULL };
	int fd = listen_at("qmp");

	note_argv(whole ? system : daemon);
	v->pid = start_argv(whole ? system : daemon);
	v->fd = wait_for(fd) ? accept(fd, NULL, NULL) : -1;
	close(fd);
	v->in = v->fd < 0 ? NULL : fdopen(v->fd, "r");
	v->events = json_array();
	if (!v->in) {
		kill(v->pid, SIGKILL);
		end_of(v->pid);
		fail("QEMU does not start");
		return false;
	}
	/* What a buffer has could not be waited for. */
	setvbuf(v->in, NULL, _IONBF, 0);
	json_decref(next_message(v));
	qmp(v, "qmp_capabilities", NULL);
	return true;
}

static void serve_nbd(struct vm *v, const char *socket)
{
	unlink(socket);
	qmp(v, "nbd-server-start",
	    json_pack("{s:{s:s, s:{s:s}}}", "addr", "type", "unix", "data",
		      "path", socket));
}

/* Opens the image with all that it rests on, and its bitmaps; exports it. */
static void open_in_qemu(struct vm *v, const char *image, const char *name,
			 bool writable)
{
	qmp(v, "blockdev-add",
	    json_pack("{s:s, s:s, s:s, s:b, s:{s:s, s:s}}", "driver", "qcow2",
		      "node-name", name, "discard", "unmap", "read-only",
		      !writable, "file", "driver", "file", "filename", image));
	qmp(v, "block-export-add",
	    json_pack("{s:s, s:s, s:s, s:s, s:b}", "type", "nbd", "id", name,
		      "node-name", name, "name", name, "writable", writable));
}

static void close_in_qemu(struct vm *v, const char *name)
{
	qmp(v, "block-export-del",
	    json_pack("{s:s, s:s}", "id", name, "mode", "hard"));
	expect_event(v, "BLOCK_EXPORT_DELETED");
	qmp(v, "blockdev-del", json_pack("{s:s}", "node-name", name));
}

/* Ends it properly, or as a power cut would. */
static void end_qemu(struct vm *v, bool killed)
{
	int code;

	killed |= failed;
	if (killed)
		kill(v->pid, SIGKILL);
	else
		qmp(v, "quit", NULL);
	note(killed ? "# kill -9 QEMU" : "# QEMU ends");
	code = end_of(v->pid);
	fclose(v->in);
	json_decref(v->events);
	v->in = NULL;
	if (code != (killed ? 128 + 9 : 0))
		fail("QEMU: exit code %d", code);
}

/* A node as query-named-block-nodes has it; free it. NULL: none. */
static json_t *query_node(struct vm *v, const char *name)
{
	json_t *all = qmp_take(v, "query-named-block-nodes",
			       json_pack("{s:b}", "flat", 1));
	json_t *x, *found = NULL;
	size_t i;

	json_array_foreach(all, i, x)
	{
		const char *s =
			json_string_value(json_object_get(x, "node-name"));

		if (s && !strcmp(s, name))
			found = json_incref(x);
	}
	json_decref(all);
	return found;
}

#endif
