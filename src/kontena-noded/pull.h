/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "image-store.h"
#include "kerror.h"
#include "macro.h"

/* Fetches images by kontena-pull, each in a sandboxed unit of its own. At most PULLS_RUNNING_MAX at a time, others
 * wait in the order they came; who asks for an image that is being pulled already with the same credentials joins
 * that pull. */
typedef struct PullManager PullManager;
typedef struct Pull Pull;

#define PULL_FRESH_USEC (10ULL * 60ULL * 1000000ULL)

/* What the operator's configuration says about one registry. Copied. */
typedef struct RegistrySettings {
        const char *registry; /* "registry:5000"; "docker.io" and "index.docker.io" are one */
        const char *ca_file;  /* PEM; trusted beside the system's, or NULL */
        const char *username; /* NULL: anonymous, unless somebody else has credentials: see below */
        const char *password;
        char *const *mirrors; /* "host[:port]", asked first and in this order; their own
                                                          * settings (credentials, CA, insecure) are looked up by name */
        bool insecure;        /* a certificate nobody signed, or plain HTTP, will do */
} RegistrySettings;

/* Credentials from elsewhere, which win over those of the configuration. They are asked for when a pull begins, go into its request,
 * and are erased. Registries are called as in registry_canonical(). */
typedef struct RegistryCredentials {
        /* 1: to be sent there; the caller frees, and erases the password. 0: none. */
        int (*open)(const char *registry, char **ret_username, char **ret_password, KError *reterr,
                        void *userdata);
        /* Another text whenever open() has another answer, without what is secret in it; NULL: none. */
        int (*mark)(const char *registry, char **ret, void *userdata);
        void *userdata;
} RegistryCredentials;

typedef struct PullProgress {
        uint64_t bytes; /* of the compressed layers, those we had included */
        uint64_t total; /* 0: not yet known */
        bool queued;    /* waits for its turn */
        bool waiting;   /* for another pull that fetches the same layer */
        bool unpacking;
} PullProgress;

/* bus may be NULL only where no pull is ever started (tests). The store must live longer. */
int pull_manager_new(sd_event *event, sd_bus *bus, ImageStore *store, PullManager **ret);
PullManager *pull_manager_free(PullManager *m); /* cancels all; no callback is called */
DEFINE_TRIVIAL_CLEANUP_FUNC(PullManager *, pull_manager_free);

/* Another kontena-pull than the installed one. */
int pull_manager_set_program(PullManager *m, const char *path);
/* A PEM file trusted for all registries beside the system's. */
int pull_manager_set_ca_file(PullManager *m, const char *path);
/* Adds or replaces. -E2BIG above REGISTRIES_MAX. Does not touch pulls that run. */
int pull_manager_set_registry(PullManager *m, const RegistrySettings *s);
void pull_manager_set_credentials(PullManager *m, const RegistryCredentials *c); /* copied */
void pull_manager_clear_registries(PullManager *m); /* before a reload of the configuration */

/* Called at most some times a second, from the event loop. */
typedef void (*pull_progress_t)(Pull *p, const PullProgress *progress, void *userdata);

/* Called once, from the event loop, never from inside pull_image(); the pull is freed after it returns.
 *   result 0: image is what the registry has now (or had within PULL_FRESH_USEC, for the same revision)
 *   result 1: the registry could not be asked or has no such image, and the image of an earlier pull is given;
 *             error says why: pass it on as a note
 *   negative: image is NULL, error says why
 * Take a reference to keep image. */
typedef void (*pull_done_t)(Pull *p, int result, Image *image, const KError *error, void *userdata);

/* revision is the deploy revision on whose behalf this is (NULL: always ask the registry). An image pulled with
 * success within PULL_FRESH_USEC for the same revision is not pulled again. A malformed reference is refused at once
 * (K_INVALID_ARGUMENT, through reterr). Transient failures are tried again, up to 10 times in all, by kontena-pull. */
int pull_image(PullManager *m, const char *reference, const char *revision, pull_progress_t progress,
                pull_done_t done, void *userdata, Pull **ret, KError *reterr);

/* What a reference means now. Called once, from the event loop; the pull is freed after it returns.
 *   result 0: digest is what the registry says
 *   result 1: the registry could not be asked, and digest is that of an earlier pull; error says why
 *   negative: error says why; also when the registry has no such image, whatever is here */
typedef void (*pull_resolved_t)(
                Pull *p, int result, const char *digest, const KError *error, void *userdata);
int pull_resolve(PullManager *m, const char *reference, pull_resolved_t done, void *userdata, Pull **ret,
                KError *reterr);

/* Something is being fetched, or has been and who waits for it was not told yet: images that nobody seems to use may be about to be. */
bool pull_manager_is_busy(const PullManager *m);

/* The digest that others know the image by: of the index where there is one. */
const char *pull_image_digest(const Image *i);

/* No callback comes any more; the fetching stops when nobody else waits for it. NULL is fine. Returns NULL. Do not
 * call it for a pull whose done has been called. */
Pull *pull_cancel(Pull *p);
