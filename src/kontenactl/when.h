/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* A moment as people say it, in microseconds since 1970: "10min", "10min ago", "-10min", "today", "yesterday", "now", "09:30",
 * "2026-11-25", "2026-11-25 09:30[:15]", the same with 'T' and with 'Z' or "+02:00" behind, "@1764063000". */
int when_parse(const char *s, uint64_t now, uint64_t *ret, KError *reterr);
