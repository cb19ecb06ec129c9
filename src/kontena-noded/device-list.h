/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "kerror.h"
#include "macro.h"
#include "oci-config.h"

/* The device nodes that a service asks for, as they are on this machine now. */
typedef struct DeviceList {
        OciDevice *devices;
        size_t n_devices;
        char **allow; /* "/dev/fuse rwm", for the unit's DeviceAllow= */
} DeviceList;

void device_list_done(DeviceList *l);

/* A directory stands for the nodes in it. Privileged: all of /dev. */
int device_list_resolve(const ServiceSpec *spec, DeviceList *ret, KError *reterr);
