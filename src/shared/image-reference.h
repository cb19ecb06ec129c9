/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* "redis", "bitnami/redis:6", "registry:5000/team/web:1.2", "web@sha256:...", "web:1@sha256:...".
 *
 * What stands before the first '/' is a registry if it has a '.' or a ':' or is "localhost", otherwise Docker's, where
 * a name of one part is in "library/". The tag is "latest" where neither tag nor digest is given; a digest wins over a
 * tag. */
typedef struct ImageReference {
        char *registry;   /* "docker.io" for Docker's, else as written, lower case */
        char *repository; /* "library/redis" */
        char *tag;        /* NULL if only a digest was given */
        char *digest;     /* "sha256:<64 hex>", or NULL */
} ImageReference;

void image_reference_done(ImageReference *r);
#define _cleanup_image_reference_ _cleanup_(image_reference_done)

/* Errors are K_INVALID_ARGUMENT and name the part. */
int image_reference_parse(const char *s, ImageReference *ret, KError *reterr);

/* "docker.io/library/redis:latest"; with a digest the tag is left out. Equal for all ways to write the same. */
char *image_reference_normalized(const ImageReference *r);

/* The host to connect to: "registry-1.docker.io" for Docker's. */
const char *image_reference_host(const ImageReference *r);

/* "sha256:" and 64 lower-case hexadecimal digits: the only digest we take. Returns the digits, or NULL. */
const char *digest_hex(const char *digest) _pure_;

/* A registry as a person writes it: "docker.io", "Registry:5000", "https://index.docker.io/v1/". *ret is as in ImageReference. What no
 * image can name is refused: "registry" is a user of Docker's. */
int registry_name_parse(const char *s, char **ret, KError *reterr);

/* One name for Docker's registry, whichever of its names is written. Borrowed from s or static. */
const char *registry_canonical(const char *s);
