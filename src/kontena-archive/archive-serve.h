/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "macro.h"

/* One request of kontena-noded over a stream socket, in frames (frame.h):
 *
 *   to us     a byte with descriptors: the directory, and those that are hidden in it (tar-path.h)
 *             FRAME_CONFIG  {"mode": "pack"|"unpack", "volume": bool, "owner": "root"|"keep", "path", "name", "follow": bool, "uid_base": int}
 *             FRAME_BINARY  of the archive, FRAME_CLOSE: that was all
 *   from us   FRAME_STATUS  {}: path is found, the work begins
 *             FRAME_BINARY  of the archive
 *             FRAME_CLOSED  {"error": null|{"code","message"}, "entries", "bytes", "skipped", "changed"}, last
 *
 * With volume the directory itself is meant, with devices, and nobody sees it yet; else path in it, as a container does. A socket that ends
 * before FRAME_CLOSE is no end of an archive. Returns the exit status. */
int archive_serve(int fd);
