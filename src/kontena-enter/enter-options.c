/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "enter.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "string-util.h"

int enter_options_parse(int argc, char *argv[], EnterOptions *ret, KError *reterr) {
        EnterOptions o = {};
        const struct {
                const char *name;
                const char **value;
        } table[] = {
                { "--log", &o.log },
                { "--log-format", NULL },
                { "--pid-file", &o.pid_file },
                { "--process", &o.process },
                { "--console-socket", &o.console_socket },
        };
        bool exec = false;

        for (int i = 1; i < argc; i++) {
                bool known = false;

                if (argv[i][0] != '-') {
                        if (!exec && streq(argv[i], "exec"))
                                exec = true;
                        else if (exec && !o.directory)
                                o.directory = argv[i];
                        else
                                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is one word too many.",
                                                argv[i]);
                        continue;
                }
                if (startswith(argv[i], "--cgroup-manager="))
                        continue;
                FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                        if (!streq(t->name, argv[i]))
                                continue;
                        if (++i == argc)
                                return kerror_set(
                                                reterr, K_INVALID_ARGUMENT, "'%s' needs a value.", t->name);
                        if (t->value)
                                *t->value = argv[i];
                        known = true;
                        break;
                }
                if (!known)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "Unknown option '%s'.", argv[i]);
        }

        if (!o.directory || !o.process)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "Usage: kontena-enter [--log FILE] exec [--pid-file FILE] [--console-socket "
                                "SOCKET] "
                                "--process FILE DIRECTORY");
        *ret = o;
        return 0;
}

void enter_process_done(EnterProcess *p) {
        STRV_FOREACH(e, p->env)
                erase_memory(*e, strlen(*e));
        strv_free(p->args);
        strv_free(p->env);
        free(p->cwd);
        free(p->groups);
        *p = (EnterProcess){};
}

static int parse_user(json_object *o, EnterProcess *p, KError *reterr) {
        json_object *user = NULL, *groups = NULL;
        uint64_t uid = 0, gid = 0;
        int r;

        r = json_find_object(o, "user", &user, reterr);
        if (r <= 0)
                return r;
        r = json_find_u64(user, "uid", &uid, reterr);
        if (r >= 0)
                r = json_find_u64(user, "gid", &gid, reterr);
        if (r >= 0)
                r = json_find_array(user, "additionalGids", &groups, reterr);
        if (r < 0)
                return r;
        if (uid >= UINT32_MAX || gid >= UINT32_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No user or group has so large a number.");
        p->uid = (uint32_t) uid;
        p->gid = (uint32_t) gid;

        p->groups = new0(gid_t, (groups ? json_object_array_length(groups) : 0) + 1);
        if (!p->groups)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(g, groups) {
                int64_t number = json_object_is_type(g, json_type_int) ? json_object_get_int64(g) : -1;

                if (number < 0 || number >= UINT32_MAX)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'additionalGids' has something that is no group.");
                p->groups[p->n_groups++] = (gid_t) number;
        }
        return 0;
}

int enter_process_parse(json_object *o, EnterProcess *ret, KError *reterr) {
        _cleanup_(enter_process_done) EnterProcess p = {};
        const char *cwd = "/";
        int r;

        r = json_find_strv(o, "args", &p.args, reterr);
        if (r >= 0)
                r = json_find_strv(o, "env", &p.env, reterr);
        if (r >= 0)
                r = json_find_string(o, "cwd", &cwd, reterr);
        if (r >= 0)
                r = json_find_bool(o, "terminal", &p.terminal, reterr);
        if (r >= 0)
                r = parse_user(o, &p, reterr);
        if (r < 0)
                return r;
        if (strv_length(p.args) == 0 || isempty(p.args[0]))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "No command is given.");
        p.cwd = strdup(cwd[0] == '/' ? cwd : "/");
        if (!p.cwd)
                return -ENOMEM;

        *ret = p;
        p = (EnterProcess){};
        return 0;
}
