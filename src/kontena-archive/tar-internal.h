/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <archive_entry.h>
#include <locale.h>

#include "macro.h"

/* Shared by tar-pack.c and tar-unpack.c. */

DEFINE_TRIVIAL_CLEANUP_FUNC(struct archive_entry *, archive_entry_free);

/* Names in archives are UTF-8 whatever the user speaks; what is none is kept as bytes. For this thread, until the end. */
locale_t tar_locale_begin(void);
void tar_locale_donep(locale_t *l);
