/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "kerror.h"
#include "macro.h"

/* On whose behalf an operation runs. Each face makes its own kind; operations see only this. */
typedef struct Caller Caller;
struct LogSink;
struct StreamSink;
struct UserRow;

typedef struct AuthorizationRequest {
        const char *action; /* "io.kontena.master1.read" */
        const char *role;
        const char *grid, *node, *stack, *service; /* NULL: has none */
        bool interactive;                          /* a person may be asked for a password */
} AuthorizationRequest;

/* error NULL: allowed. Called exactly once for each authorize() that returned 0, never from inside it, unless the caller's last
 * reference goes away before. By then the caller's uid is known. */
typedef void (*authorize_done_t)(const KError *error, void *userdata);

typedef struct CallerVTable {
        const char *kind; /* "dbus", "token", "internal": for the audit */
        int (*authorize)(Caller *c, const AuthorizationRequest *q, authorize_done_t done, void *userdata);
        /* Where entries of a log go that this caller opens; NULL: this face has no streams. */
        int (*log_sink)(Caller *c, const struct LogSink **ret, void **ret_userdata);
        /* The same for bytes of a stream. */
        int (*stream_sink)(Caller *c, const struct StreamSink **ret, void **ret_userdata);
        void (*free)(Caller *c); /* what the face has put behind the struct */
} CallerVTable;

/* The same of a face whose callers are made elsewhere, as those with a token are: set after the making, freed with the caller. What is
 * not here is looked for in the vtable. */
typedef struct CallerSinks {
        int (*log)(void *userdata, const struct LogSink **ret, void **ret_userdata);
        int (*stream)(void *userdata, const struct StreamSink **ret, void **ret_userdata);
        void (*free)(void *userdata);
} CallerSinks;

struct Caller {
        unsigned n_ref;
        const CallerVTable *vtable;
        char *name; /* for people: "anna", "token deploy-bot" */
        uid_t uid;  /* (uid_t) -1: unknown */
        pid_t pid;
        char *unit, *session; /* systemd's unit and logind's session of it; NULL: unknown */
        char *address;        /* bus name or remote address */
        const CallerSinks *sinks;
        void *sinks_userdata;
        char *user_agent;    /* what its program calls itself; NULL: unknown */
        char *user;          /* e-mail of whom it speaks for; NULL: of nobody that the master knows */
        char *token;         /* last four characters of the token it came with; NULL: of none */
        struct UserRow *row; /* see caller_user() */
};

Caller *caller_ref(Caller *c);
Caller *caller_unref(Caller *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(Caller *, caller_unref);

/* -EOPNOTSUPP: this face has none. */
int caller_log_sink(Caller *c, const struct LogSink **ret, void **ret_userdata);
int caller_stream_sink(Caller *c, const struct StreamSink **ret, void **ret_userdata);
bool caller_has_stream_sink(const Caller *c);
/* The user it speaks for, as of the last authorize(): the owner of its token, or whom its uid is mapped to. NULL: of nobody. */
const struct UserRow *caller_user(const Caller *c);
/* row is consumed, also on failure; NULL: nobody any more. */
int caller_set_user(Caller *c, struct UserRow *row);

/* For the engine itself: may do everything. vtable->authorize is NULL. */
int caller_new_internal(const char *name, Caller **ret);
