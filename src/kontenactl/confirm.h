/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"

/* Asks before something that cannot be undone. force: not asked. Without a terminal --force is demanded. 0 is yes; no is K_CONFLICT. */
int confirm(bool force, KError *reterr, const char *format, ...) _printf_(3, 4);
