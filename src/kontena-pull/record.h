/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>

#include "macro.h"
#include "manifest.h"
#include "request.h"

/* What noded's image-store.c will read. */
typedef struct Record {
        const Request *request;
        const char *digest;       /* of the manifest */
        const char *index_digest; /* or NULL */
        const Manifest *manifest;
        const ImageConfig *config;
        char *const *layers; /* names in layers/, lowest first, each once */
} Record;

/* Writes images/<digest>.json, then refs/<reference>.json; both reach the disk before it returns. */
int record_write(const Record *d);

/* The line for noded. */
int record_result(const Record *d, json_object **ret);
