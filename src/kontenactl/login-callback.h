/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* Where a browser brings the code of a login: a port of this machine's loopback, under a path that nobody can guess. Otherwise any page in
 * the browser, and any user of the machine, could log this one in as somebody else. */
typedef struct LoginCallback LoginCallback;

int login_callback_new(LoginCallback **ret, KError *reterr);
LoginCallback *login_callback_free(LoginCallback *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(LoginCallback *, login_callback_free);
const char *login_callback_url(const LoginCallback *c); /* http://localhost:PORT/cb/WORD */
int login_callback_wait(LoginCallback *c, uint64_t timeout_usec, char **ret_code, KError *reterr);

/* A request's head as it came, for "/cb/WORD". 1: whole, *ret_code or reterr is set; 0: more is needed, or it was for something else and
 * *ret_other is set. */
int login_callback_parse(const char *path, const char *data, size_t size, char **ret_code, bool *ret_other,
                KError *reterr);
