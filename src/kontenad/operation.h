/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "caller.h"
#include "kerror.h"
#include "macro.h"
#include "master.h"
#include "store.h"

/* Every change and every query is a row of one table. Faces (D-Bus now, REST later) find an operation, turn a request into a JSON
 * object of its parameters, call it, and turn the JSON result into an answer. Nothing below knows a bus or HTTP type. */

typedef enum ParameterType {
        PARAMETER_STRING,
        PARAMETER_BOOL,
        PARAMETER_U32,
        PARAMETER_OBJECT,
        PARAMETER_SECRET, /* a string of up to SECRET_SIZE_MAX with anything in it; never audited nor logged, erased after use */
        PARAMETER_STRINGS, /* words of a command: of them only the first is audited */
        PARAMETER_PATH,    /* of a file in an instance: up to IMAGE_PATH_MAX bytes */
        PARAMETER_VALUES, /* an object of which only the keys are audited, and the values erased after use */
        PARAMETER_BYTES,  /* any, as a string of that length; never audited nor logged, erased after use */
} ParameterType;

typedef enum OperationFlags {
        OPERATION_CHANGES = 1 << 0, /* runs in a transaction of the store */
        OPERATION_AUDITED = 1 << 1,
        OPERATION_LONG = 1 << 2, /* gives the id of something to follow */
        OPERATION_GRID = 1 << 3, /* parameter "grid" must name one; likewise: */
        OPERATION_NODE = 1 << 4,
        OPERATION_SERVICE = 1 << 5, /* "stack" and "service" */
        OPERATION_DEPLOY = 1 << 6,  /* "deploy", an id; brings its grid and service */
        OPERATION_OPEN = 1 << 7,    /* without authorization: guarded by something only its owner knows */
        OPERATION_VALUES =
                        1 << 8, /* shows settings; what may be secret in them to those who may change them */
        OPERATION_SECRET = 1 << 12, /* gives a "value", a token or a code, erased after use */
} OperationFlags;

typedef struct OperationParameter {
        const char *name;
        ParameterType type;
        bool required;
} OperationParameter;

#define OPERATION_PARAMETERS_MAX 7

typedef struct OperationCall OperationCall;

typedef struct Operation {
        const char *name;   /* "service.create" */
        const char *method; /* member of io.kontena.Master1.Manager; NULL: on another interface */
        const char *action; /* of polkit */
        const char *role;   /* for callers with a token: see caller-token.h */
        const char *own; /* of a parameter that names a user: without it, or with "", the matter is the caller's own, and then */
        const char *own_action, *own_role; /* are those instead of the two above */
        unsigned flags;
        OperationParameter parameters[OPERATION_PARAMETERS_MAX + 1];
        const char *results
                        [4]; /* keys of the result for faces that give values by position; "" is all of it */

        /* When the caller may, and before perform, outside of a transaction: what takes time to find out. Returns 0, or 1:
         * operation_call_continue() is called later. NULL: nothing. */
        int (*prepare)(OperationCall *call, KError *reterr);

        /* Returns 0 with *ret set (NULL: nothing to say), or 1: operation_call_finish() is called later. In a transaction,
         * and not authorized twice: what it needs to know is in call. */
        int (*perform)(OperationCall *call, json_object **ret, KError *reterr);
} Operation;

/* Called exactly once, perhaps from inside operation_call(). result is borrowed; NULL when error is set or nothing is to be said. */
typedef void (*operation_done_t)(json_object *result, const KError *error, void *userdata);

struct OperationCall {
        Master *master;
        const Operation *operation;
        Caller *caller;
        json_object *parameters;
        bool interactive;
        bool only_asked; /* by operation_ask() */
        bool prepared;
        struct CalendarQuery *calendar; /* that prepare waits for; likewise: */
        struct LoginAttempt *login;
        bool sees_values; /* with OPERATION_VALUES: the caller may change what is shown */

        /* Looked up as the flags say, fresh at the time of perform */
        GridRow *grid;
        NodeRow *node;
        ServiceRow *service;
        DeployRow *deploy;

        operation_done_t done;
        void *userdata;
        uint64_t started;
        KError missing; /* what a lookup did not find */
        OperationCall *prev, *next;
};

/* When the master ends: calls that have no answer yet never get one. */
void operations_abort(Master *m);

/* The table; NULL behind the last. */
const Operation *operation_by_index(size_t i);
const Operation *operation_find(const char *name);
const Operation *operation_find_by_method(const char *method);

/* params are consumed. In this order: parameters are checked, names looked up, the caller authorized (with grid, node, stack and
 * service), names looked up again, performed within one transaction, audited (refusals too), answered. That something does not
 * exist is told only to who may read there. */
void operation_call(Master *m, Caller *caller, const Operation *o, json_object *params, bool interactive,
                operation_done_t done, void *userdata);

/* Whether the caller may read what that operation shows, with the same refusals and their audit; nothing is performed, and there is no result. For
 * operations that only read. */
void operation_ask(Master *m, Caller *caller, const Operation *o, json_object *params, operation_done_t done,
                void *userdata);

/* For prepare that returned 1: exactly once. With an error that is the answer. */
void operation_call_continue(OperationCall *call, const KError *error);

/* For operations that returned 1: exactly once; the call is freed. */
void operation_call_finish(OperationCall *call, json_object *result, const KError *error);

/* Each op-*.c has one array. */
#define OPERATION_DECLARE(name)                                                                             \
        extern const Operation name##_operations[];                                                         \
        extern const size_t n_##name##_operations
/* Of op-login.c, for who frees a call. */
typedef struct LoginAttempt LoginAttempt;
LoginAttempt *login_attempt_free(LoginAttempt *a);

/* Parts that many operations share. */
int call_string(OperationCall *c, const char *key, const char **ret, KError *reterr); /* "" when missing */
/* With a parameter as operation->own: whom it names, otherwise whom the caller speaks for. K_NO_SUCH_USER. */
int call_user(OperationCall *c, const char *key, UserRow **ret, KError *reterr);
/* Who it was that came with a code is known only now: for the audit. */
int call_becomes(OperationCall *c, const UserRow *user);
/* Whether the caller may do all that its face leaves to it: polkit has agreed, it is the master itself, or a master_admin. */
bool call_is_admin(const OperationCall *c);
bool call_has_role(const OperationCall *c, const char *role);     /* master_admin has all */
bool call_sees_grid(const OperationCall *c, const char *grid_id); /* for lists over grids */
int call_settings(OperationCall *c, const char *key, const char *const *allowed, json_object **ret,
                KError *reterr);
int labels_validate(char *const *labels, KError *reterr);

OPERATION_DECLARE(grid);
OPERATION_DECLARE(node);
OPERATION_DECLARE(node_token);
OPERATION_DECLARE(service);
OPERATION_DECLARE(deploy);
OPERATION_DECLARE(revision);
OPERATION_DECLARE(move);
OPERATION_DECLARE(event);
OPERATION_DECLARE(status);
OPERATION_DECLARE(log);
OPERATION_DECLARE(job);
OPERATION_DECLARE(vault);
OPERATION_DECLARE(registry);
OPERATION_DECLARE(image);
OPERATION_DECLARE(volume);
OPERATION_DECLARE(archive);
OPERATION_DECLARE(exec);
OPERATION_DECLARE(stream);
OPERATION_DECLARE(instance);
OPERATION_DECLARE(audit);
OPERATION_DECLARE(ca);
OPERATION_DECLARE(user);
OPERATION_DECLARE(token);
OPERATION_DECLARE(member);
OPERATION_DECLARE(config);
OPERATION_DECLARE(login);
OPERATION_DECLARE(admin_code);
