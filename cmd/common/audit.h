/* SPDX-License-Identifier: MIT */
/*
 * audit.h - qimg backup audit: a live drive against a point
 */
#ifndef QIMG_CMD_AUDIT_H
#define QIMG_CMD_AUDIT_H

#include "cmd/common/command.h"

extern const struct qi_command qi_backup_audit;

#endif
