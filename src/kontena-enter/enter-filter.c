/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "enter-filter.h"

#include <errno.h>

#include "json-util.h"
#include "string-util.h"

static int action_of(json_object *rule, uint32_t *ret) {
        const char *action;
        uint64_t number = EPERM;
        int r;

        r = json_get_string(rule, "action", &action, NULL);
        if (r >= 0)
                r = json_find_u64(rule, "errnoRet", &number, NULL);
        if (r < 0)
                return r;
        if (streq(action, "SCMP_ACT_ALLOW"))
                *ret = SCMP_ACT_ALLOW;
        else if (streq(action, "SCMP_ACT_ERRNO"))
                *ret = SCMP_ACT_ERRNO((uint32_t) number & 0xffffU);
        else
                return -EINVAL;
        return 0;
}

static int condition_of(json_object *rule, struct scmp_arg_cmp *ret) {
        uint64_t index = 0, value = 0, value_two = 0;
        json_object *args = NULL, *arg;
        const char *op;
        int r;

        r = json_find_array(rule, "args", &args, NULL);
        if (r <= 0)
                return r;
        if (json_object_array_length(args) != 1)
                return -EINVAL;
        arg = json_object_array_get_idx(args, 0);
        r = json_get_string(arg, "op", &op, NULL);
        if (r >= 0)
                r = json_get_u64(arg, "index", &index, NULL);
        if (r >= 0)
                r = json_get_u64(arg, "value", &value, NULL);
        if (r >= 0)
                r = json_find_u64(arg, "valueTwo", &value_two, NULL);
        if (r < 0)
                return r;
        if (index > 5)
                return -EINVAL;

        if (streq(op, "SCMP_CMP_EQ"))
                *ret = SCMP_CMP((unsigned) index, SCMP_CMP_EQ, value);
        else if (streq(op, "SCMP_CMP_NE"))
                *ret = SCMP_CMP((unsigned) index, SCMP_CMP_NE, value);
        else if (streq(op, "SCMP_CMP_MASKED_EQ"))
                *ret = SCMP_CMP((unsigned) index, SCMP_CMP_MASKED_EQ, value, value_two);
        else
                return -EINVAL;
        return 1;
}

static int add_rule(scmp_filter_ctx filter, json_object *rule) {
        _cleanup_strv_free_ char **names = NULL;
        struct scmp_arg_cmp condition;
        uint32_t action;
        int r, n;

        r = action_of(rule, &action);
        if (r >= 0)
                r = json_find_strv(rule, "names", &names, NULL);
        n = r >= 0 ? condition_of(rule, &condition) : r;
        if (n < 0)
                return n;

        STRV_FOREACH(name, names) {
                int number = seccomp_syscall_resolve_name(*name);

                if (number == __NR_SCMP_ERROR)
                        continue; /* of another architecture */
                r = seccomp_rule_add_array(filter, action, number, (unsigned) n, &condition);
                if (r < 0 && r != -EDOM && r != -EACCES) /* that is the default action anyway */
                        return r;
        }
        return 0;
}

int enter_filter_new(json_object *seccomp, scmp_filter_ctx *ret) {
        _cleanup_strv_free_ char **arches = NULL;
        json_object *rules = NULL;
        uint64_t number = EPERM;
        scmp_filter_ctx filter;
        int r;

        r = json_find_u64(seccomp, "defaultErrnoRet", &number, NULL);
        if (r >= 0)
                r = json_get_array(seccomp, "syscalls", &rules, NULL);
        if (r >= 0)
                r = json_find_strv(seccomp, "architectures", &arches, NULL);
        if (r < 0)
                return r;
        filter = seccomp_init(SCMP_ACT_ERRNO((uint32_t) number & 0xffffU));
        if (!filter)
                return -ENOMEM;

        STRV_FOREACH(a, arches) {
                static const char prefix[] = "SCMP_ARCH_";
                const char *name = startswith(*a, prefix);
                _cleanup_free_ char *lower = name ? strdup(name) : NULL;
                uint32_t arch;

                for (char *p = lower; p && *p; p++)
                        *p = (char) (*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
                arch = lower ? seccomp_arch_resolve_name(lower) : 0;
                if (arch != 0 && seccomp_arch_exist(filter, arch) == -EEXIST)
                        r = seccomp_arch_add(filter, arch);
                if (r < 0)
                        break;
        }
        FOREACH_JSON_ARRAY(rule, rules)
                if (r >= 0)
                        r = add_rule(filter, rule);
        /* The machine may have programs that gain rights by being executed, as sudo. */
        if (r >= 0)
                r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
        if (r < 0) {
                seccomp_release(filter);
                return r;
        }

        *ret = filter;
        return 0;
}
