/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "caller.h"

#include <unistd.h>

#include "store.h"
#include "string-util.h"

static const CallerVTable internal_vtable = { .kind = "internal" };

Caller *caller_ref(Caller *c) {
        assert(c);
        assert(c->n_ref > 0);

        c->n_ref++;
        return c;
}

Caller *caller_unref(Caller *c) {
        if (!c)
                return NULL;

        assert(c->n_ref > 0);
        if (--c->n_ref > 0)
                return NULL;

        if (c->sinks && c->sinks->free)
                c->sinks->free(c->sinks_userdata);
        free(c->name);
        free(c->address);
        free(c->unit);
        free(c->session);
        free(c->user_agent);
        free(c->user);
        free(c->token);
        user_row_free(c->row);
        if (c->vtable->free)
                c->vtable->free(c);
        free(c);
        return NULL;
}

const UserRow *caller_user(const Caller *c) {
        return c->row;
}

int caller_set_user(Caller *c, UserRow *row) {
        int r = free_and_strdup(&c->user, row ? row->email : NULL);

        user_row_free(c->row);
        c->row = row;
        return MIN(r, 0);
}

int caller_new_internal(const char *name, Caller **ret) {
        _cleanup_(caller_unrefp) Caller *c = NULL;

        assert(ret);

        c = new0(Caller, 1);
        if (!c)
                return -ENOMEM;
        *c = (Caller){ .n_ref = 1, .vtable = &internal_vtable, .uid = getuid(), .pid = getpid() };

        c->name = strdup(name);
        if (!c->name)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

int caller_log_sink(Caller *c, const struct LogSink **ret, void **ret_userdata) {
        if (c->sinks && c->sinks->log)
                return c->sinks->log(c->sinks_userdata, ret, ret_userdata);
        return c->vtable->log_sink ? c->vtable->log_sink(c, ret, ret_userdata) : -EOPNOTSUPP;
}

bool caller_has_stream_sink(const Caller *c) {
        return c->vtable->stream_sink || (c->sinks && c->sinks->stream);
}

int caller_stream_sink(Caller *c, const struct StreamSink **ret, void **ret_userdata) {
        if (c->sinks && c->sinks->stream)
                return c->sinks->stream(c->sinks_userdata, ret, ret_userdata);
        return c->vtable->stream_sink ? c->vtable->stream_sink(c, ret, ret_userdata) : -EOPNOTSUPP;
}
