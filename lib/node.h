/* SPDX-License-Identifier: MIT */
/* node.h - opening one node; for graph.c */
#ifndef QI_NODE_H
#define QI_NODE_H

#include "lib/graph.h"
#include "lib/name.h"

/*
 * Open what the name says, read only; the node is not in the graph's list. On
 * success what is in *name belongs to the node. *out: see qi_node_free().
 */
int qi_node_new(struct qi_graph *g, struct qi_name *name,
		const struct qi_open *how, struct qi_node **out,
		struct qi_error *e);
/* The same of a file that is open: a raw node; f is closed if that fails. */
int qi_node_of_file(struct qi_graph *g, struct qi_file *f, struct qi_node **out,
		    struct qi_error *e);
void qi_node_free(struct qi_node *n);
/* Get a writable handle, if that is the access which is wanted. */
int qi_node_make_writable(struct qi_node *n, struct qi_error *e);
/* -EACCES when the user said that it must not be written. */
int qi_node_check_access(const struct qi_node *n, struct qi_error *e);

#endif
