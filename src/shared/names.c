/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "names.h"

#include <ctype.h>

#include "kontena-limits.h"
#include "string-util.h"

int name_validate(const char *kind, const char *name, KError *reterr) {
        if (isempty(name))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "A %s needs a name.", kind);
        if (strlen(name) > NAME_LENGTH_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The name of a %s has at most %u characters, this one %zu.", kind,
                                NAME_LENGTH_MAX, strlen(name));
        if (name[0] == '-')
                return kerror_set(
                                reterr, K_INVALID_ARGUMENT, "The name of a %s cannot begin with '-'.", kind);

        for (const char *p = name; *p; p++)
                if (!isascii(*p) || !(isalnum((unsigned char) *p) || *p == '_' || *p == '-'))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "The name of a %s has letters, digits, '_' and '-' only.", kind);

        return 0;
}

int grid_name_validate(const char *name, KError *reterr) {
        int r;

        r = name_validate("grid", name, reterr);
        if (r < 0)
                return r;
        if (strlen(name) < GRID_NAME_MIN)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The name of a grid has at least %u characters.", GRID_NAME_MIN);

        return 0;
}

char *stack_domain(const char *grid, const char *stack) {
        return streq(stack, STACK_NULL) ? strjoin(grid, ".kontena.local")
                                        : strjoin(stack, ".", grid, ".kontena.local");
}

int service_name_fits(
                const char *grid, const char *stack, const char *service, uint32_t count, KError *reterr) {
        _cleanup_free_ char *domain = NULL, *name = NULL;

        domain = stack_domain(grid, stack);
        if (!domain)
                return -ENOMEM;
        name = strprintf("%s-%u.%s", service, count, domain);
        if (!name)
                return -ENOMEM;
        if (strlen(name) > FQDN_LENGTH_MAX)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "The name '%s' has %zu characters, at most %u are possible.", name,
                                strlen(name), FQDN_LENGTH_MAX);

        return 0;
}

int service_reference_parse(
                const char *s, char **ret_grid, char **ret_stack, char **ret_service, KError *reterr) {
        static const char *const kinds[] = { "service", "stack", "grid" };
        char *parts[3] = {};
        const char *p = s, *slash;
        size_t n = 0;
        int r;

        for (;;) {
                if (n == ELEMENTSOF(parts)) {
                        r = kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' is not SERVICE, STACK/SERVICE or GRID/STACK/SERVICE.", s);
                        goto finish;
                }
                slash = strchr(p, '/');
                parts[n] = slash ? strndup(p, (size_t) (slash - p)) : strdup(p);
                if (!parts[n++]) {
                        r = -ENOMEM;
                        goto finish;
                }
                if (!slash)
                        break;
                p = slash + 1;
        }

        for (size_t i = 0; i < n; i++) {
                r = name_validate(kinds[i], parts[n - 1 - i], reterr);
                if (r < 0)
                        goto finish;
        }

        *ret_service = TAKE_PTR(parts[n - 1]);
        *ret_stack = n >= 2 ? TAKE_PTR(parts[n - 2]) : NULL;
        *ret_grid = n >= 3 ? TAKE_PTR(parts[n - 3]) : NULL;
        r = 0;

finish:
        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                parts[i] = mfree(parts[i]);
        return r;
}

/* Names have only characters that unit names may have, but '-' in a slice's name would mean a level of slices. */
char *grid_slice_name(const char *grid) {
        char *name, *p;

        name = malloc(strlen("kontena-.slice") + strlen(grid) * 4 + 1);
        if (!name)
                return NULL;

        p = stpcpy(name, "kontena-");
        for (; *grid; grid++)
                if (*grid == '-')
                        p = stpcpy(p, "\\x2d");
                else
                        *p++ = *grid;
        (void) stpcpy(p, ".slice");

        return name;
}

char *instance_unit_name(const char *grid, const char *stack, const char *service, uint32_t number) {
        return strprintf("kontena-%s-%s.%s-%u.service", grid, stack, service, number);
}

char *instance_slot_unit_name(const char *grid, const char *stack, const char *service, uint32_t number,
                const char *slot) {
        if (isempty(slot))
                return instance_unit_name(grid, stack, service, number);
        return strprintf("kontena-%s-%s.%s-%u.%s.service", grid, stack, service, number, slot);
}

char *instance_container_name(const char *stack, const char *service, uint32_t number) {
        return streq(stack, STACK_NULL) ? strprintf("%s-%u", service, number)
                                        : strprintf("%s.%s-%u", stack, service, number);
}
