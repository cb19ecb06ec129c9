/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* An absolute path inside a container or on a host, without "..". what is for the sentence. */
int spec_path_validate(const char *what, const char *path, KError *reterr);
