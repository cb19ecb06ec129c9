/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "commands.h"
#include "ctl.h"

static int read_token(sd_bus_message *reply, const char **ret, KError *reterr) {
        int r;

        r = sd_bus_message_read(reply, "s", ret);
        return r < 0 ? kerror_set_errno(reterr, r, "The master's answer cannot be read: %m") : 0;
}

int command_node_token(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *grid, *token;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call(c, "GetNodeToken", &reply, reterr, "ss", grid, arguments_arg(a, 0));
        if (r >= 0)
                r = read_token(reply, &token, reterr);
        return r < 0 ? r : ctl_print_text(c, "token", token, reterr);
}

int command_node_reset_token(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *grid, *token, *node = arguments_arg(a, 0);
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call(c, "ResetNodeToken", &reply, reterr, "ssb", grid, node,
                                (int) !arguments_has(a, "keep-connection"));
        if (r >= 0)
                r = read_token(reply, &token, reterr);
        if (r >= 0)
                r = ctl_print_text(c, "token", token, reterr);
        if (r < 0)
                return r;
        ctl_warn("The machine that was '%s' needs this token to come back: kontenactl node leave, then "
                 "kontenactl node join.",
                        node);
        return 0;
}

int command_node_clear_token(Ctl *c, const Arguments *a, KError *reterr) {
        const char *grid, *node = arguments_arg(a, 0);
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r >= 0)
                r = ctl_call(c, "ClearNodeToken", NULL, reterr, "ss", grid, node);
        if (r < 0)
                return r;
        ctl_say(c, "Node '%s' has no token of its own any more.", node);
        return 0;
}
