/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "kerror.h"
#include "macro.h"

/* The masters that somebody has logged in to: $XDG_CONFIG_HOME/kontena/contexts.json (0600, in a directory with 0700). It has tokens in
 * it, so one that others can read is refused. Changes are made under a lock and replace the file as a whole. */
typedef struct Context {
        char *name;
        char *url;                   /* https://HOST:PORT */
        char *ca;                    /* PEM of the one authority that is trusted */
        char *fingerprint;           /* of it */
        char *user;                  /* NULL: not logged in */
        char *master;                /* what it calls itself; NULL: nothing */
        char *token, *refresh_token; /* NULL: none */
        char *token_id;              /* NULL: the token was made elsewhere, and is not ours to revoke */
        uint64_t expires_at;         /* seconds since 1970; 0: never */
} Context;

typedef struct Contexts {
        Context *list;
        size_t n;
        char *current; /* NULL: the bus of this machine */
} Contexts;

#define CONTEXT_LOCAL     "local" /* stands for the bus of this machine */
#define CONTEXTS_MAX      256U
#define CONTEXTS_SIZE_MAX (1024U * 1024U)

void context_done(Context *c);
#define _cleanup_context_ _cleanup_(context_done)
void contexts_done(Contexts *l);
#define _cleanup_contexts_ _cleanup_(contexts_done)

bool context_name_is_valid(const char *name);
int context_copy(const Context *c, Context *ret);
Context *contexts_find(Contexts *l, const char *name);
Context *contexts_find_url(Contexts *l, const char *url);
/* Replaces one of that name; c is consumed. */
int contexts_put(Contexts *l, Context *c);
int contexts_remove(Contexts *l, const char *name); /* -ENOENT */

/* Without lock: what a user reads. A missing file is an empty list. Nothing is made. */
int contexts_load(Contexts *ret, KError *reterr);

/* Under the lock: loaded, changed, and stored when change returns 0; 1: nothing is to be stored. */
typedef int (*contexts_change_t)(Contexts *l, void *userdata, KError *reterr);
int contexts_change(contexts_change_t change, void *userdata, KError *reterr);

/* The text by itself. */
int contexts_parse(const char *text, size_t size, Contexts *ret, KError *reterr);
int contexts_format(const Contexts *l, char **ret); /* erase it */
