/* SPDX-License-Identifier: MIT */
/* graph.h - what other parts of lib may do to a graph and its nodes */
#ifndef QI_GRAPH_H
#define QI_GRAPH_H

#include "lib/format.h"

/* Longest backing chain that is followed. */
#define QI_CHAIN_MAX 10000

/* Does the image n record `path` as its backing file (by device and inode)? */
bool qi_node_is_file(const struct qi_node *n, const char *path);
/* Does it rest on a file, by its header or by what the user said? */
bool qi_node_wants_backing(const struct qi_node *n);
/* Is it the file of a node of g, or where the guest data of one is? */
bool qi_graph_has_file(const struct qi_graph *g, const char *path);
/* -EACCES and why, unless n was opened for writing and may be written. */
int qi_node_check_writable(struct qi_node *n, struct qi_error *e);
/* A raw node of what is in f, which is the graph's from now on. */
int qi_graph_add_file(struct qi_graph *g, struct qi_file *f,
		      struct qi_node **out, struct qi_error *e);
/* Read the header again after it was changed by another handle of ours. */
int qi_node_reload(struct qi_node *n, struct qi_error *e);

/* Which disk of its file a node is: see struct qi_open. Owned texts. */
int qi_snapshot_choice_copy(struct qi_snapshot_choice *to,
			    const struct qi_snapshot_choice *c);
void qi_snapshot_choice_clear(struct qi_snapshot_choice *c);
bool qi_snapshot_choice_is_equal(const struct qi_snapshot_choice *a,
				 const struct qi_snapshot_choice *b);
/* Why the format cannot give the one that the node is to be, or 0. */
int qi_node_check_snapshot(const struct qi_node *n, struct qi_error *e);

/* Where overlays are looked for, and what was found: kept by dependents.c. */
struct qi_folders;
struct qi_folders **qi_graph_folders(struct qi_graph *g);
void qi_folders_free(struct qi_folders *f);
/* Whether qi_graph_be_stock() was called. */
bool qi_graph_is_stock(const struct qi_graph *g);
/* Read folders anew: a backing file may be another one now. */
void qi_graph_forget_folders(struct qi_graph *g);

#endif
