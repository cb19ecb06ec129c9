/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-follow.h"
#include "string-util.h"

int command_service_move(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *text = arguments_arg(a, 0);
        _cleanup_service_name_ ServiceName n = {};
        _cleanup_free_ char *success = NULL;
        unsigned number = 0;
        FollowRequest f;
        int r;

        r = follow_request_init(&f, a, reterr);
        if (r >= 0)
                r = ctl_instance_name(c, text, &n, &number, reterr);
        if (r < 0)
                return r;
        if (number == 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is a service; say which instance is to be moved, as '%s-1'.", text,
                                text);
        r = ctl_message(c, "MoveInstance", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "sssus", n.grid, n.stack, n.service, number, arguments_arg(a, 1));
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");

        success = strprintf("'%s' runs on node '%s' now, with its data", text, arguments_arg(a, 1));
        if (!success)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        f.service = &n;
        f.success = success;
        f.call = m;
        return deploy_follow(c, &f, reterr);
}
