/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* Which users of this machine stand for the users of an instance's machine. From the upper end of what systemd sets aside for
 * containers (524288 to 1879048191), where its own choice by name falls last. Who has a range holds it by a symbolic link named
 * after it below the directory, which is in /run: an instance keeps it as long as it is on the node, and after a reboot
 * any other will do, because no file on a disk knows the number. */

#define UID_RANGE_SIZE  65536U
#define UID_RANGE_FIRST 0x60000000U
#define UID_RANGES      4096U

/* Its range, or one that is free, which it holds from now on. K_LIMIT_EXCEEDED: there are no more. */
int uid_range_claim(const char *directory, const char *id, uint32_t *ret_base, KError *reterr);
/* None is fine. */
int uid_range_release(const char *directory, const char *id);
