/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* SHA-256 over a stream; GnuTLS has the processor's instructions for it. */
typedef struct Digest {
        void *handle; /* gnutls_hash_hd_t */
} Digest;

#define DIGEST_STRING_SIZE sizeof("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")

int digest_init(Digest *d); /* also to begin anew */
void digest_done(Digest *d);
#define _cleanup_digest_ _cleanup_(digest_done)

int digest_add(Digest *d, const void *data, size_t n);
/* "sha256:...", and begins anew. */
int digest_finish(Digest *d, char ret[static DIGEST_STRING_SIZE]);

int digest_of(const void *data, size_t n, char ret[static DIGEST_STRING_SIZE]);
