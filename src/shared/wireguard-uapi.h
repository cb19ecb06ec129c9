/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "wireguard.h"

/* The text that a user-space WireGuard speaks on its socket (wireguard.com/xplatform, "Cross-platform userspace implementation"). No
 * I/O here. Both sides' texts end with an empty line. */

#define WG_UAPI_READ       "get=1\n\n"
#define WG_UAPI_ANSWER_MAX (4U * 1024U * 1024U)

/* A change as one request, without the NUL in *ret_size. The keys in it are the caller's to erase. */
int wg_uapi_request(const WgDevice *want, const WgChange *change, char **ret, size_t *ret_size);
/* The whole answer to WG_UAPI_READ. ret is sorted. -EBADMSG: malformed; the error the other side tells, negative. */
int wg_uapi_parse_device(const char *text, size_t size, WgDevice *ret);
/* The answer to a request: 0, or that error. -EBADMSG. */
int wg_uapi_parse_result(const char *text, size_t size);
