/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "kerror.h"

#include <stdarg.h>

#include "string-util.h"

#define SAID_MAX 1024

/* Exit codes follow systemctl where it has one: 1 failure, 2 usage, 3 not running, 4 no such thing; ours from 5. */
static const struct {
        const char *bus_name;
        int http_status;
        int exit_status;
        int error;
} table[_K_ERROR_CODE_MAX] = {
        [K_OK] = { NULL, 200, 0, 0 },
        [K_INVALID_ARGUMENT] = { "io.kontena.Error.InvalidArgument", 422, 2, -EINVAL },
        [K_NO_SUCH_GRID] = { "io.kontena.Error.NoSuchGrid", 404, 4, -ENOENT },
        [K_NO_SUCH_NODE] = { "io.kontena.Error.NoSuchNode", 404, 4, -ENOENT },
        [K_NO_SUCH_STACK] = { "io.kontena.Error.NoSuchStack", 404, 4, -ENOENT },
        [K_NO_SUCH_SERVICE] = { "io.kontena.Error.NoSuchService", 404, 4, -ENOENT },
        [K_NO_SUCH_INSTANCE] = { "io.kontena.Error.NoSuchInstance", 404, 4, -ENOENT },
        [K_NO_SUCH_DEPLOY] = { "io.kontena.Error.NoSuchDeploy", 404, 4, -ENOENT },
        [K_NO_SUCH_VOLUME] = { "io.kontena.Error.NoSuchVolume", 404, 4, -ENOENT },
        [K_NO_SUCH_SECRET] = { "io.kontena.Error.NoSuchSecret", 404, 4, -ENOENT },
        [K_NO_SUCH_REGISTRY] = { "io.kontena.Error.NoSuchRegistry", 404, 4, -ENOENT },
        [K_NO_SUCH_USER] = { "io.kontena.Error.NoSuchUser", 404, 4, -ENOENT },
        [K_NO_SUCH_KEY] = { "io.kontena.Error.NoSuchKey", 404, 4, -ENOENT },
        [K_NO_SUCH_TOKEN] = { "io.kontena.Error.NoSuchToken", 404, 4, -ENOENT },
        [K_NO_SUCH_OPERATION] = { "io.kontena.Error.NoSuchOperation", 404, 4, -ENOENT },
        [K_ALREADY_EXISTS] = { "io.kontena.Error.AlreadyExists", 422, 5, -EEXIST },
        [K_IN_USE] = { "io.kontena.Error.InUse", 422, 5, -EBUSY },
        [K_CONFLICT] = { "io.kontena.Error.Conflict", 422, 5, -ESTALE },
        [K_LIMIT_EXCEEDED] = { "io.kontena.Error.LimitExceeded", 422, 5, -E2BIG },
        [K_UNSCHEDULABLE] = { "io.kontena.Error.Unschedulable", 422, 6, -ESRCH },
        [K_NODE_OFFLINE] = { "io.kontena.Error.NodeOffline", 503, 6, -EHOSTDOWN },
        [K_ACCESS_DENIED] = { "io.kontena.Error.AccessDenied", 403, 7, -EACCES },
        [K_NOT_AUTHENTICATED] = { "io.kontena.Error.NotAuthenticated", 401, 7, -EACCES },
        [K_INVALID_TOKEN] = { "io.kontena.Error.InvalidToken", 403, 7, -EACCES },
        [K_TOKEN_EXPIRED] = { "io.kontena.Error.TokenExpired", 403, 7, -EKEYEXPIRED },
        [K_INTERACTIVE_AUTHORIZATION_REQUIRED] = { "io.kontena.Error.InteractiveAuthorizationRequired", 403,
                        7, -EACCES },
        [K_TIMEOUT] = { "io.kontena.Error.Timeout", 504, 8, -ETIMEDOUT },
        [K_UNAVAILABLE] = { "io.kontena.Error.Unavailable", 503, 8, -ENOSPC },
        [K_NOT_SUPPORTED] = { "io.kontena.Error.NotSupported", 501, 1, -EOPNOTSUPP },
        [K_IMAGE] = { "io.kontena.Error.Image", 422, 1, -EBADMSG },
        [K_NETWORK] = { "io.kontena.Error.Network", 500, 1, -EHOSTUNREACH },
        [K_RUNTIME] = { "io.kontena.Error.Runtime", 500, 1, -EIO },
        [K_INTERNAL] = { "io.kontena.Error.Internal", 500, 1, -EIO },
};

void kerror_done(KError *e) {
        if (!e)
                return;

        e->message = mfree(e->message);
        e->code = K_OK;
}

int kerror_set(KError *e, KErrorCode code, const char *format, ...) {
        va_list ap;

        assert(code > K_OK && code < _K_ERROR_CODE_MAX);

        if (e && e->code == K_OK) {
                e->code = code;
                va_start(ap, format);
                e->message = utf8_repair(strvprintf(format, ap));
                va_end(ap);
        }

        return table[code].error;
}

static KErrorCode code_from_errno(int error) {
        switch (abs(error)) {
        case ENOSPC:
        case EDQUOT:
        case EROFS:
                return K_UNAVAILABLE;
        case EINVAL:
                return K_INVALID_ARGUMENT;
        case ETIMEDOUT:
                return K_TIMEOUT;
        case EACCES:
        case EPERM:
                return K_ACCESS_DENIED;
        case EOPNOTSUPP:
                return K_NOT_SUPPORTED;
        default:
                return K_INTERNAL;
        }
}

int kerror_set_errno(KError *e, int error, const char *format, ...) {
        va_list ap;

        if (e && e->code == K_OK) {
                e->code = code_from_errno(error);
                errno = abs(error);
                va_start(ap, format);
                e->message = utf8_repair(strvprintf(format, ap));
                va_end(ap);
        }

        return -abs(error);
}

int kerror_set_said(KError *e, const char *bus_name, KErrorCode fallback, const char *message) {
        KErrorCode code = kerror_code_from_bus_name(bus_name);
        bool first = e && e->code == K_OK;
        int r;

        r = kerror_set(e, code > K_OK ? code : fallback, "%.*s", SAID_MAX, message);
        if (first)
                for (char *p = e->message; p && *p; p++)
                        if ((unsigned char) *p < 0x20 || *p == 0x7f)
                                *p = '?';
        return r;
}

void kerror_prefix(KError *e, const char *format, ...) {
        _cleanup_free_ char *context = NULL;
        char *joined;
        va_list ap;

        if (!kerror_is_set(e))
                return;

        va_start(ap, format);
        context = strvprintf(format, ap);
        va_end(ap);
        if (!context)
                return;

        joined = utf8_repair(strjoin(context, ": ", kerror_message(e)));
        if (!joined)
                return;
        free(e->message);
        e->message = joined;
}

void kerror_move(KError *to, KError *from) {
        if (to) {
                kerror_done(to);
                *to = *from;
                *from = KERROR_NULL;
        } else
                kerror_done(from);
}

const char *kerror_message(const KError *e) {
        if (e && e->message)
                return e->message;
        return kerror_is_set(e) ? "Out of memory." : "Success.";
}

const char *kerror_bus_name(KErrorCode code) {
        assert(code > K_OK && code < _K_ERROR_CODE_MAX);
        return table[code].bus_name;
}

KErrorCode kerror_code_from_bus_name(const char *name) {
        for (size_t i = 1; i < ELEMENTSOF(table); i++)
                if (name && streq(table[i].bus_name, name))
                        return (KErrorCode) i;
        return _K_ERROR_CODE_INVALID;
}

int kerror_http_status(KErrorCode code) {
        assert(code >= K_OK && code < _K_ERROR_CODE_MAX);
        return table[code].http_status;
}

int kerror_exit_status(KErrorCode code) {
        assert(code >= K_OK && code < _K_ERROR_CODE_MAX);
        return table[code].exit_status;
}

int kerror_errno(KErrorCode code) {
        assert(code >= K_OK && code < _K_ERROR_CODE_MAX);
        return table[code].error;
}
