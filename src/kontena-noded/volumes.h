/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "image-store.h"
#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "oci-config.h"

/* The volumes of one container:
 *
 *   "/path", and what the image declares    stateful: <instance>/volumes/<path>, kept until the instance is removed
 *                                           stateless: <generation>/volumes/<path>, gone with the container
 *   "name:/path"                            <volumes>/<name on this node>, never a link to elsewhere
 *   "/host:/path"                           the host's own
 *
 * A new directory of the first two kinds begins with what the image has at that path. */
typedef struct Volume {
        OciMount mount;
        bool copy;  /* the image's content, when it is new */
        char *name; /* of a named one, on this node; else NULL */
        uint64_t size_max;
} Volume;

typedef struct VolumePlan {
        Volume *volumes;
        size_t n_volumes;
        char *root_path; /* the container's root, mounted */
        char **layers;   /* or what it stands on: see volume_plan_copy_from_layers() */
        char *volumes_directory, *instance_id;
        bool stateful;
} VolumePlan;

VolumePlan *volume_plan_free(VolumePlan *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(VolumePlan *, volume_plan_free);

int volume_plan_new(const InstanceWant *want, const Image *image, const char *instance_directory,
                const char *generation_directory, const char *volumes_directory, const char *root_path,
                VolumePlan **ret, KError *reterr);

/* The image's content is not as it is on the disk in the root, where users are mapped: it is taken from the layers, TOP first. */
int volume_plan_copy_from_layers(VolumePlan *p, char *const *layers);

/* False: every directory is there, nothing has to be made. */
bool volume_plan_is_needed(const VolumePlan *p);

/* Makes what is missing; copies, so it runs in a job. Repeatable: a directory gets its name when it is whole. */
int volume_plan_carry_out(void *plan);

/* Why that failed, as a person understands it. Returns r. */
int volume_plan_explain(const VolumePlan *p, int r, KError *reterr);
