/* SPDX-License-Identifier: MIT */
/*
 * calls.h - running commands in the folder of a life, for model.c
 *
 * The commands of the last steps are kept, and shown when one fails.
 */
#ifndef MODEL_CALLS_H
#define MODEL_CALLS_H

#include <dirent.h>

#include "tests/lib/model/state.h"

#define STEPS_KEPT 4

static struct {
	char *text[STEPS_KEPT]; /* a ring, the oldest first at `next` */
	unsigned next;
	char *now;
	size_t len;
	FILE *f;
	bool says_all;
} trace;

/* ------------------------------------------------------------- the log */

static void note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Write down what is done, as a line for the shell or a comment. */
static void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(trace.f, fmt, ap);
	va_end(ap);
	fputc('\n', trace.f);
}

static void print_commented(const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");

		printf("#   %.*s\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void start_step(void)
{
	trace.f = open_memstream(&trace.now, &trace.len);
	if (!trace.f)
		die("open_memstream");
	note("# step %u", m.step);
}

static void end_step(void)
{
	fclose(trace.f);
	if (trace.says_all)
		print_commented(trace.now);
	free(trace.text[trace.next]);
	trace.text[trace.next] = trace.now;
	trace.next = (trace.next + 1) % STEPS_KEPT;
}

/* After the end of the step that failed. */
static void show_last_steps(void)
{
	printf("# the last steps, in folder '%s':\n", m.life);
	for (unsigned i = 0; i < STEPS_KEPT; i++) {
		char *text = trace.text[(trace.next + i) % STEPS_KEPT];

		if (text)
			print_commented(text);
	}
	printf("# again: make check T=tests/lib/model.c QIMG_SEED=%llu "
	       "QIMG_MODEL_LIFE=%s QIMG_MODEL_STEPS=%u QIMG_MODEL_SAY=1\n",
	       (unsigned long long)m.seed, m.life, m.step);
}

static void forget_steps(void)
{
	for (unsigned i = 0; i < STEPS_KEPT; i++) {
		free(trace.text[i]);
		trace.text[i] = NULL;
	}
}

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Only the first failure of a life says something. */
static void fail(const char *fmt, ...)
{
	va_list ap;

	if (failed)
		return;
	failed = true;
	printf("# step %u: ", m.step);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	show_messages();
}

/* Of the number as text; good until the tenth call after. */
static const char *text_of(uint64_t n)
{
	static char text[10][24];
	static unsigned next;
	char *t = text[next++ % 10];

	snprintf(t, sizeof(text[0]), "%llu", (unsigned long long)n);
	return t;
}

/* ------------------------------------------------------------ commands */

static void note_argv(const char *const argv[])
{
	for (size_t i = 0; argv[i]; i++) {
		const char *w = argv[i] == qimg ? "qimg" : argv[i];
		bool quoted = !*w || strpbrk(w, " ,*;?");

		fprintf(trace.f, "%s%s%s%s", i ? " " : "", quoted ? "'" : "", w,
			quoted ? "'" : "");
	}
	fputc('\n', trace.f);
}

static int call_argv(const char *const argv[])
{
	int code;

	note_argv(argv);
	code = run_argv(argv);
	if (code)
		note("# exit code %d", code);
	return code;
}

#define call(...) call_argv((const char *[]){ __VA_ARGS__, NULL })

/* Something of a foreign tool that is sure to work. */
static void foreign_argv(const char *const argv[])
{
	int code = call_argv(argv);

	if (code)
		fail("%s %s: exit code %d", argv[0], argv[1], code);
}

#define foreign(...) foreign_argv((const char *[]){ __VA_ARGS__, NULL })

static const char *any_tool(void)
{
	return one_in(2) ? "qemu-img" : qimg;
}

static void move_file(const char *from, const char *to)
{
	note("mv %s %s", from, to);
	if (rename(from, to))
		die(from);
	move_node_bitmaps(from, to);
}

static void remove_file(const char *path)
{
	note("rm %s", path);
	if (unlink(path))
		die(path);
}

static void point_link_at(const char *path)
{
	note("ln -sf %s %s", path, drive);
	if (unlink(drive) || symlink(path, drive))
		die(path);
}

/* ------------------------------------------------------------ refusals */

static uint64_t mix(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--)
		h = (h ^ *p++) * 0x100000001b3ull;
	return h;
}

/* Of all images and links to them, without their access times. */
static uint64_t fingerprint(void)
{
	DIR *d = opendir(".");
	struct dirent *entry;
	uint64_t sum = 0;

	if (!d)
		die(m.life);
	while ((entry = readdir(d))) {
		uint64_t h = 0xcbf29ce484222325ull;
		char target[256];
		struct stat st;
		ssize_t n;

		if (!strstr(entry->d_name, "qcow2"))
			continue;
		if (lstat(entry->d_name, &st))
			die(entry->d_name);
		h = mix(h, entry->d_name, strlen(entry->d_name));
		h = mix(h, &st.st_ino, sizeof(st.st_ino));
		h = mix(h, &st.st_size, sizeof(st.st_size));
		h = mix(h, &st.st_mtim.tv_sec, sizeof(st.st_mtim.tv_sec));
		h = mix(h, &st.st_mtim.tv_nsec, sizeof(st.st_mtim.tv_nsec));
		n = readlink(entry->d_name, target, sizeof(target));
		sum += n > 0 ? mix(h, target, (size_t)n) : h;
	}
	closedir(d);
	return sum;
}

#define OK_OR_REFUSED (-1) /* 0 or 6: the model does not know which */

/*
 * Our program, with the exit code that is due. What fails changes nothing.
 * True when it did its work.
 */
static bool ours_argv(int want, const char *const argv[])
{
	uint64_t before = fingerprint();
	int code = call_argv(argv);

	if (code != want &&
	    !(want == OK_OR_REFUSED && (code == 0 || code == 6)))
		fail("exit code %d, expected %d: qimg %s %s", code, want,
		     argv[1], argv[2]);
	else if (code && fingerprint() != before)
		fail("it failed, and changed something: qimg %s %s", argv[1],
		     argv[2]);
	return code == 0 && !failed;
}

#define ours(want, ...) \
	ours_argv(want, (const char *[]){ qimg, __VA_ARGS__, NULL })

/* ----------------------------------------------------------- the chain */

/* Where the head really is. */
static void find_head(char path[64])
{
	ssize_t n = readlink(drive, path, 63);

	if (n < 0)
		n = snprintf(path, 64, "%s", drive);
	path[n] = '\0';
}

/* Its name in this folder. */
static const char *name_of(json_t *image)
{
	json_t *o = json_object_get(image, "filename");
	const char *path = json_string_value(o);
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path ? path : "";
}

/* Which files are the layers now? QEMU says. */
static void find_layers(void)
{
	json_t *chain, *image;
	size_t i;

	if (failed)
		return;
	m.has_leftovers = m.compare_layers = true;
	if (call("qemu-img", "info", "--backing-chain", "--output=json",
		 drive)) {
		fail("qemu-img cannot read the chain");
		return;
	}
	chain = output_json();
	if (json_array_size(chain) != m.layers)
		fail("the chain has %zu layers, expected %u",
		     json_array_size(chain), m.layers);
	json_array_foreach(chain, i, image)
	{
		struct layer *l = m.layer[m.layers - 1 - i];

		if (failed)
			break;
		snprintf(l->path, sizeof(l->path), "%s", name_of(image));
	}
	json_decref(chain);
	find_head(head()->path);
}

/* The head becomes a layer; an empty one is on top of it. */
static void push_layer(const char *tag)
{
	struct layer *l = head();

	l->size = m.size;
	memcpy(l->content, m.guest, MAX_SIZE);
	snprintf(l->tag, sizeof(l->tag), "%s", tag);
	m.layers++;
	head()->was_shared = head()->is_broken = false;
	m.is_torn = m.is_marked = m.inner.exists = false;
}

/* Layer `from` and those above it, up to `to`, are gone. */
static void drop_layers(unsigned from, unsigned to)
{
	for (unsigned n = to - from; n; n--) {
		struct layer *l = m.layer[from];

		memmove(&m.layer[from], &m.layer[from + 1],
			(MAX_LAYERS - from) * sizeof(struct layer *));
		m.layer[MAX_LAYERS] = l;
		m.layers--;
	}
}

static const char *new_name(char out[32], const char *stem)
{
	snprintf(out, 32, "%s%u.qcow2", stem, ++m.serial);
	return out;
}

static const char *new_tag(char out[16])
{
	snprintf(out, 16, "t%u", ++m.serial);
	return out;
}

#endif
