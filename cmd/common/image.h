/* SPDX-License-Identifier: MIT */
/*
 * image.h - opening images and drives the way all commands do
 */
#ifndef QIMG_IMAGE_H
#define QIMG_IMAGE_H

#include "cmd/common/option.h"
#include "lib/qimg.h"

/* Freed at the end of the scope. */
void qi_auto_graph(struct qi_graph **g);
void qi_auto_drive(struct qi_drive **d);
void qi_auto_repo(struct qi_repo **r);
void qi_auto_plan(struct qi_plan *p);
#define QI_AUTO_GRAPH __attribute__((cleanup(qi_auto_graph)))
#define QI_AUTO_DRIVE __attribute__((cleanup(qi_auto_drive)))
#define QI_AUTO_REPO __attribute__((cleanup(qi_auto_repo)))
#define QI_AUTO_PLAN __attribute__((cleanup(qi_auto_plan)))

/* A new graph whose warnings go to stderr. */
struct qi_graph *qi_new_graph(void);

/* --scan: further folders in which overlays are looked for. */
int qi_scan_folders(struct qi_graph *g, const struct qi_list *folders,
		    struct qi_error *e);

/* Add one image to g and lock all of g; wait as for --wait. */
int qi_open_image(struct qi_graph *g, const char *name,
		  const struct qi_open *how, int wait, struct qi_node **out,
		  struct qi_error *e);
/* The same for a drive; --strict is seen to. */
int qi_open_drive(struct qi_graph *g, const char *path,
		  const struct qi_open *how, int wait, struct qi_drive **out,
		  struct qi_error *e);

/*
 * Path of the backing file as seen from the caller's folder, found by name
 * alone, or NULL without one. Freed by the caller.
 */
char *qi_backing_path(const struct qi_node_facts *facts);
/* The same, of the name `name` in an image at `overlay`; never NULL. */
char *qi_path_beside(const char *overlay, const char *name);

/* A bitmap of a node by its name; NULL if there is none. Free *all. */
const struct qi_bitmap_facts *qi_find_bitmap(struct qi_node *n,
					     const char *name,
					     struct qi_bitmap_facts **all,
					     int *ret, struct qi_error *e);
/* "enabled", "disabled", "in use", ...: the state of a bitmap in one word. */
const char *qi_bitmap_state(const struct qi_bitmap_facts *b);
/* Sum of ranges. */
int qi_ranges_bytes(struct qi_ranges *r, uint64_t *out, struct qi_error *e);

/*
 * What --dry-run of create and convert does: find bad options and the size,
 * and refuse a target that could not be made.
 */
int qi_try_create(const char *path, const struct qi_create *c, uint64_t *size,
		  struct qi_error *e);

/* -o given several times is one list. Freed by the caller; NULL if empty. */
char *qi_join_options(const struct qi_list *list);
/* Whether `-o help` is among them, and what it prints. */
bool qi_options_want_help(const struct qi_list *list);
void qi_options_print(const char *title, const struct qi_format_option *o);
/* Whether `-o help` was asked for; then the options were printed. */
bool qi_options_asked(const struct qi_list *list, const char *format,
		      int *code);

#endif
