/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* A daemon's own key: 32 random bytes. It is systemd's credential of that name where the unit is given one, otherwise a file,
 * made when it is missing. whose: "master", for messages. *ret is guarded, locked memory, wiped by sodium_free(). */
#define KEY_FILE_SIZE 32U

int key_file_get(const char *whose, const char *credential, const char *path, uint8_t **ret, KError *reterr);
