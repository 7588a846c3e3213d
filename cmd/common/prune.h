/* SPDX-License-Identifier: MIT */
/*
 * prune.h - subcommands of backup that change which points there are
 */
#ifndef QIMG_CMD_PRUNE_H
#define QIMG_CMD_PRUNE_H

#include "cmd/common/command.h"

extern const struct qi_command qi_backup_prune, qi_backup_merge, qi_backup_pin,
	qi_backup_unpin;

#endif
