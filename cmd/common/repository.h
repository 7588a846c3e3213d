/* SPDX-License-Identifier: MIT */
/*
 * repository.h - subcommands of backup, on repositories
 */
#ifndef QIMG_CMD_REPOSITORY_H
#define QIMG_CMD_REPOSITORY_H

#include "cmd/common/command.h"

extern const struct qi_command qi_backup_list, qi_backup_check, qi_backup_prune,
	qi_backup_merge, qi_backup_pin, qi_backup_unpin;

#endif
