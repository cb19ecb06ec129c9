/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "digest.h"
#include "kerror.h"
#include "macro.h"
#include "report.h"

/* One registry that speaks the registry API, version 2, over libcurl. Blocking. */
typedef struct Registry Registry;

typedef struct RegistryOptions {
        const char *host;                /* "registry:5000" */
        const char *username, *password; /* or NULL */
        const char *ca_file;             /* trusted beside the system's, or NULL */
        bool insecure;                   /* any certificate, then plain HTTP */
        uint64_t stall_usec;             /* without a byte for so long is a failure; 0: 30 s */
        unsigned attempts;               /* at one question; 0: PULL_ATTEMPTS_MAX */
} RegistryOptions;

int registry_new(const RegistryOptions *o, Report *report, Registry **ret);
Registry *registry_free(Registry *g);
DEFINE_TRIVIAL_CLEANUP_FUNC(Registry *, registry_free);

const char *registry_host(const Registry *g);

/* Where an answer goes. begin is called before the first byte, again for each attempt, with the offset at which the
 * registry begins: the one asked for, or 0. Both return negative errno to end the transfer; they set their own error. */
typedef struct RegistrySink {
        int (*begin)(uint64_t offset, void *userdata);
        int (*data)(const void *data, size_t n, void *userdata);
        uint64_t (*offset)(void *userdata); /* from where the next attempt shall go on; NULL: 0 */
        void *userdata;
} RegistrySink;

typedef struct RegistryAnswer {
        char *content_type;
        char *digest; /* Docker-Content-Digest */
} RegistryAnswer;
void registry_answer_done(RegistryAnswer *a);
#define _cleanup_registry_answer_ _cleanup_(registry_answer_done)

/* GET /v2/<repository>/<path> with authentication as asked for, redirects, and further attempts after transient
 * failures. Returns -ENOENT for what the registry does not have; -ECANCELED when nobody waits any more. */
int registry_get(Registry *g, const char *repository, const char *path, const char *accept,
                const RegistrySink *sink, RegistryAnswer *ret, KError *reterr);

/* The same into memory. -EFBIG above max. */
int registry_get_text(Registry *g, const char *repository, const char *path, const char *accept, size_t max,
                char **ret, size_t *ret_size, RegistryAnswer *ret_answer, KError *reterr);
