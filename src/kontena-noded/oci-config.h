/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <sys/stat.h>

#include "image-store.h"
#include "instance-want.h"
#include "kerror.h"
#include "macro.h"
#include "user-lookup.h"

/* Makes the OCI runtime configuration of one container. Pure: whatever must be asked of the machine comes in. */

/* A directory or file of the host at a place in the container. */
typedef struct OciMount {
        char *source, *path;
        bool read_only;
        const char *propagation; /* NULL: private */
} OciMount;

typedef struct OciDevice {
        char *path;  /* in the container */
        mode_t mode; /* type and permissions */
        dev_t number;
        uid_t uid;
        gid_t gid;
} OciDevice;

typedef struct OciInput {
        const InstanceWant *want;
        const Image *image;
        const char *node_name;
        const char *root_path;
        const char *files_directory;  /* hosts, hostname, resolv.conf */
        const char *output_directory; /* the FIFO of output.h, the socket of notify-socket.h */
        const char *netns_path;       /* NULL: the host's */
        const char *cgroup_path;
        const UserIdentity *identity;
        const OciMount *mounts;
        size_t n_mounts;
        char *const *secret_env;       /* "NAME=value" */
        const char *secrets_directory; /* NULL: none are files */
        const OciDevice *devices;
        size_t n_devices;
        uint64_t capabilities;  /* what a container can have here at all */
        bool with_device_rules; /* the runtime has rules of its own that must be opened */
} OciInput;

void oci_mounts_free(OciMount *mounts, size_t n);
void oci_devices_free(OciDevice *devices, size_t n);

int oci_config_build(const OciInput *in, json_object **ret, KError *reterr);

/* Parts of it. */
int oci_args(const InstanceWant *want, const Image *image, char ***ret, KError *reterr);
int oci_env_set(char ***env, const char *entry,
                KError *reterr); /* KEY=value; in the place of an earlier one */
int oci_env(const InstanceWant *want, const Image *image, const char *node_name, const char *home,
                char ***ret, KError *reterr);
uint64_t oci_capabilities(const ServiceSpec *spec, uint64_t available);

/* Contents of the files that every container gets. NULL on lack of memory. */
char *oci_hosts_file(const InstanceWant *want);
char *oci_resolv_file(const InstanceWant *want, const char *resolver);
const char *oci_hostname(const InstanceWant *want);
