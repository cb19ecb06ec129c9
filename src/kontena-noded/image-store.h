/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <sys/types.h>

#include "kerror.h"
#include "macro.h"

/* The node's images, by default below /var/lib/kontena/images (0700 root: layers hold setuid programs):
 *
 *   layers/<64 hex>/         one unpacked layer, complete as soon as it has this name. The number is the layer's
 *                            diff id, or its chain id where the content needs the layers below (a hard link to one
 *                            of their files). Whiteouts are overlayfs' own: character device 0:0, and the attribute
 *                            user.overlay.opaque="y".
 *   images/<64 hex>.json     our record of one image, named by the digest of its manifest
 *   refs/<64 hex>.json       reference and digest; named by the SHA-256 of the normalized reference
 *   staging/                 what is not complete: partly fetched blobs, layers being unpacked, trees being removed
 *   lock                     flock: shared by each running kontena-pull, exclusive for the moment of a collection
 *
 * Mounting: pass the option "userxattr" to overlayfs. Setting user.* attributes needs no privilege, so that
 * kontena-pull does without CAP_SYS_ADMIN; the default trusted.* would need it.
 *
 * kontena-pull writes layers, images and refs. This module reads only records which kontena-pull wrote, and checks
 * them as if it did not trust it. */

#define IMAGE_MOUNT_OPTION "userxattr"

typedef struct ImageStore ImageStore;

/* Immutable. Vectors are never NULL-checked by value: an empty one is NULL, as everywhere. */
typedef struct Image {
        unsigned n_ref;
        char *digest;       /* of the manifest for this architecture: "sha256:..." */
        char *index_digest; /* of the index it was chosen from, or NULL */
        char *reference;    /* normalized, as it was pulled last */
        char *architecture; /* "amd64" */
        char **env;         /* "NAME=value" */
        char **entrypoint;
        char **cmd;
        char *user;              /* "user", "uid", "user:group"; NULL: root */
        char *working_directory; /* absolute, or NULL */
        char *stop_signal;       /* "SIGQUIT" or "3", or NULL */
        char **volumes;          /* absolute paths in the container, sorted */
        char **exposed_ports;    /* "80/tcp", sorted */
        char **labels;           /* "name=value", sorted */
        char **layers;           /* directories, TOP first, as lowerdir= wants them */
        uint64_t size;           /* compressed bytes of all layers */
} Image;

Image *image_ref(Image *i);
Image *image_unref(Image *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(Image *, image_unref);

/* Makes the folders below path where they are missing and cleans staging/ of what an earlier run left there (in
 * slices: see image_store_step()). Loads nothing else. */
int image_store_new(const char *path, ImageStore **ret);
ImageStore *image_store_free(ImageStore *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(ImageStore *, image_store_free);

const char *image_store_path(const ImageStore *s);

/* By reference as a person writes it ("redis", "registry:5000/web:1", "web@sha256:...") or by bare digest
 * ("sha256:...", the manifest's or that of the index it was chosen from). Returns 1 with *ret set; 0 where there is none, or where a part of it is missing on disk (it has to
 * be pulled again); -EINVAL for a malformed reference; a negative errno where the disk fails. Some small reads. */
int image_store_find(ImageStore *s, const char *reference, Image **ret);

/* When the reference was last pulled with success by this machine, CLOCK_REALTIME; 0: never. */
uint64_t image_store_pulled_at(ImageStore *s, const char *reference);

/* Forgets images (their names, then layers that no other image has) which have been outside in_use (digests) for
 * min_age_usec; the time starts when a call first sees one unused, and anew after a restart. now is CLOCK_MONOTONIC.
 * Call it every minute or so: the time of last change of an image's record is when it was last seen in use. What is dropped is renamed into staging/ and removed by image_store_step(). Returns the
 * number of images dropped; -EAGAIN while a pull runs (try at the next turn). */
int image_store_collect(ImageStore *s, char *const *in_use, uint64_t now, uint64_t min_age_usec);

/* Forgets these images (digests of manifests), and layers that no other image has; the caller knows that nothing uses or is about to use
 * them. Returns the number of images dropped; -EAGAIN as above. */
int image_store_remove(ImageStore *s, char *const *digests);

/* Removes some of what lies in staging/ for removal: at most about 10 ms a call. Call it from an idle event source or
 * timer while it returns IMAGE_STORE_AGAIN. */
typedef enum ImageStoreStep {
        IMAGE_STORE_DONE,
        IMAGE_STORE_AGAIN,
} ImageStoreStep;
int image_store_step(ImageStore *s);
