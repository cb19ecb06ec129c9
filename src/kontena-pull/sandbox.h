/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* From here on this process can talk to the network and write files, and nothing else. Called when libraries are set
 * up and the request is read, before the first byte from afar. Beside it stands the unit's own sandbox (pull.c of
 * noded): this filter is narrower, as it knows the arguments. */
int sandbox_enter(void);
