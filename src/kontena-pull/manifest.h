/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"

/* What a registry says about an image: index, manifest and configuration, in Docker's (schema 2) and OCI's form. All of
 * it is from afar. Errors are K_IMAGE or K_LIMIT_EXCEEDED, sentences without the image's name. */

#define MEDIA_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST     "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_OCI_MANIFEST    "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_OCI_INDEX       "application/vnd.oci.image.index.v1+json"

#define MANIFEST_ACCEPT                                                                                     \
        MEDIA_OCI_INDEX ", " MEDIA_DOCKER_LIST ", " MEDIA_OCI_MANIFEST ", " MEDIA_DOCKER_MANIFEST

typedef struct Platform {
        const char *architecture; /* as Go calls it: "amd64", "arm64", "arm" */
        const char *variant;      /* "v7", or NULL: what all machines of this kind run */
} Platform;

typedef struct Descriptor {
        char *digest;
        uint64_t size;
        char *media_type; /* may be NULL */
} Descriptor;

typedef struct Manifest {
        Descriptor config;
        Descriptor *layers; /* lowest first */
        size_t n_layers;
        uint64_t size; /* of all layers */
} Manifest;

typedef struct ImageConfig {
        char *architecture;
        char **diff_ids; /* lowest first, digests */
        char **env, **entrypoint, **cmd;
        char *user, *working_directory, *stop_signal;
        char **volumes, **exposed_ports, **labels; /* sorted */
} ImageConfig;

void descriptor_done(Descriptor *d);
void manifest_done(Manifest *m);
void image_config_done(ImageConfig *c);
#define _cleanup_descriptor_   _cleanup_(descriptor_done)
#define _cleanup_manifest_     _cleanup_(manifest_done)
#define _cleanup_image_config_ _cleanup_(image_config_done)

/* Reads a manifest into ret_manifest and returns 0, or an index, of which the manifest for this platform goes into
 * ret_chosen, and returns 1. content_type is the HTTP header, for what does not say itself what it is; may be NULL. */
int manifest_parse(const char *text, size_t size, const char *content_type, const Platform *platform,
                Manifest *ret_manifest, Descriptor *ret_chosen, KError *reterr);

/* n_layers is the manifest's: the configuration must agree. */
int image_config_parse(const char *text, size_t size, size_t n_layers, const Platform *platform,
                ImageConfig *ret, KError *reterr);

/* This machine's. */
Platform platform_of_machine(void);
