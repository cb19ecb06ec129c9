/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* An error that a person will read: a stable code and one sentence. It travels upwards through KError *reterr
 * parameters, gains context on the way, and each face renders it from the one table in kerror.c: D-Bus error name,
 * HTTP status, exit code. No second place chooses any of these. */
typedef enum KErrorCode {
        K_OK,
        K_INVALID_ARGUMENT, /* what was asked is malformed */
        K_NO_SUCH_GRID,
        K_NO_SUCH_NODE,
        K_NO_SUCH_STACK,
        K_NO_SUCH_SERVICE,
        K_NO_SUCH_INSTANCE,
        K_NO_SUCH_DEPLOY,
        K_NO_SUCH_VOLUME,
        K_NO_SUCH_SECRET,
        K_NO_SUCH_REGISTRY,
        K_NO_SUCH_USER,
        K_NO_SUCH_KEY,   /* of the master's configuration */
        K_NO_SUCH_TOKEN, /* also a code that was used, or has expired */
        K_NO_SUCH_OPERATION,
        K_ALREADY_EXISTS,
        K_IN_USE,   /* cannot be removed, something depends on it */
        K_CONFLICT, /* state does not allow it now */
        K_LIMIT_EXCEEDED,
        K_UNSCHEDULABLE, /* no node fits; the message says why, node by node */
        K_NODE_OFFLINE,
        K_ACCESS_DENIED,
        K_NOT_AUTHENTICATED,
        K_INVALID_TOKEN, /* a token that nobody has */
        K_TOKEN_EXPIRED,
        K_INTERACTIVE_AUTHORIZATION_REQUIRED,
        K_TIMEOUT,
        K_UNAVAILABLE, /* store full or read-only, master starting */
        K_NOT_SUPPORTED,
        K_IMAGE, /* cannot be pulled or unpacked */
        K_NETWORK,
        K_RUNTIME, /* a container or unit could not be started */
        K_INTERNAL,
        _K_ERROR_CODE_MAX,
        _K_ERROR_CODE_INVALID = -EINVAL,
} KErrorCode;

typedef struct KError {
        KErrorCode code;
        char *message; /* NULL only on K_OK or lack of memory */
} KError;

#define KERROR_NULL ((KError){})

void kerror_done(KError *e); /* free and reset */
#define _cleanup_kerror_ _cleanup_(kerror_done)

static inline bool kerror_is_set(const KError *e) {
        return e && e->code != K_OK;
}

/* A message is always UTF-8, whatever names it was made of, and wherever they were cut: D-Bus and JSON take nothing else.
 *
 * Sets the error unless one is set already or e is NULL. Returns the negative errno that belongs to the code, so:
 * return kerror_set(reterr, K_NO_SUCH_GRID, "No grid '%s'.", name); */
int kerror_set(KError *e, KErrorCode code, const char *format, ...) _printf_(3, 4);

/* The same from a negative errno of ours or the kernel's; "%m" stands for it. -ENOSPC and -EROFS are K_UNAVAILABLE,
 * -ENOMEM, and everything unknown, K_INTERNAL. Returns error. */
int kerror_set_errno(KError *e, int error, const char *format, ...) _printf_(3, 4);

/* What another program says of its failure. A code without a name here is the fallback; of the message no more is taken than a person
 * would read, and '?' for what moves a terminal. */
int kerror_set_said(KError *e, const char *bus_name, KErrorCode fallback, const char *message);

/* Puts "context: " in front of the message. */
void kerror_prefix(KError *e, const char *format, ...) _printf_(2, 3);

void kerror_move(KError *to, KError *from); /* to's old content is freed */

const char *kerror_message(const KError *e); /* never NULL */

/* The table. */
const char *kerror_bus_name(KErrorCode code);           /* "io.kontena.Error.NoSuchGrid" */
KErrorCode kerror_code_from_bus_name(const char *name); /* _K_ERROR_CODE_INVALID when unknown */
int kerror_http_status(KErrorCode code);
int kerror_exit_status(KErrorCode code);
int kerror_errno(KErrorCode code); /* negative */
