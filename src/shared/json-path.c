/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-path.h"

#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

#define NAME_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
#define STEPS_MAX       16U
#define VISITS_MAX      65536U /* members and elements that one search looks at */

typedef enum StepType { STEP_MEMBER, STEP_ANY_DEPTH, STEP_ELEMENT } StepType;

typedef struct Step {
        StepType type;
        const char *name; /* not terminated */
        size_t n;
        unsigned index;
} Step;

typedef struct Path {
        Step steps[STEPS_MAX];
        size_t n;
        unsigned visits;
} Path;

static int parse_step(const char **p, Step *ret) {
        if (**p == '[') {
                const char *end = strchr(*p, ']');
                _cleanup_free_ char *number = NULL;
                int r;

                if (!end)
                        return -EINVAL;
                number = strndup(*p + 1, (size_t) (end - *p - 1));
                if (!number)
                        return -ENOMEM;
                *ret = (Step){ .type = STEP_ELEMENT };
                r = safe_atou(number, &ret->index);
                if (r < 0)
                        return -EINVAL;
                *p = end + 1;
                return 0;
        }

        if (startswith(*p, "..")) {
                ret->type = STEP_ANY_DEPTH;
                *p += 2;
        } else if (**p == '.') {
                ret->type = STEP_MEMBER;
                (*p)++;
        } else
                return -EINVAL;
        ret->name = *p;
        ret->n = strspn(*p, NAME_CHARACTERS);
        *p += ret->n;
        return ret->n > 0 ? 0 : -EINVAL;
}

static int parse_path(const char *s, Path *ret) {
        int r;

        *ret = (Path){};
        if (*s != '$')
                return -EINVAL;
        for (s++; *s;) {
                if (ret->n >= STEPS_MAX)
                        return -EINVAL;
                r = parse_step(&s, ret->steps + ret->n);
                if (r < 0)
                        return r;
                ret->n++;
        }

        return ret->n > 0 ? 0 : -EINVAL;
}

static const char *scalar(json_object *o) {
        if (json_object_is_type(o, json_type_array) && json_object_array_length(o) > 0)
                o = json_object_array_get_idx(o, 0);
        if (!o || json_object_is_type(o, json_type_object) || json_object_is_type(o, json_type_array))
                return NULL;
        return empty_to_null(json_object_get_string(o));
}

static bool is_named(const Step *s, const char *key) {
        return strlen(key) == s->n && strneq(key, s->name, s->n);
}

static const char *follow(Path *p, size_t step, json_object *o);

/* What is here comes before what is further down. */
static const char *descend(Path *p, size_t step, json_object *o, unsigned depth) {
        const char *found;

        if (depth > JSON_DEPTH_MAX || p->visits++ > VISITS_MAX)
                return NULL;
        if (json_object_is_type(o, json_type_object)) {
                json_object_object_foreach(o, key, value)
                        if (is_named(p->steps + step, key) && (found = follow(p, step + 1, value)))
                                return found;
                json_object_object_foreach(o, name, below) {
                        (void) name;
                        found = descend(p, step, below, depth + 1);
                        if (found)
                                return found;
                }
        } else if (json_object_is_type(o, json_type_array))
                FOREACH_JSON_ARRAY(e, o) {
                        found = descend(p, step, e, depth + 1);
                        if (found)
                                return found;
                }

        return NULL;
}

static const char *follow(Path *p, size_t step, json_object *o) {
        const Step *s = p->steps + step;

        if (step == p->n)
                return scalar(o);
        if (p->visits++ > VISITS_MAX)
                return NULL;

        switch (s->type) {
        case STEP_ANY_DEPTH:
                return descend(p, step, o, 0);
        case STEP_ELEMENT:
                if (!json_object_is_type(o, json_type_array) || s->index >= json_object_array_length(o))
                        return NULL;
                return follow(p, step + 1, json_object_array_get_idx(o, s->index));
        case STEP_MEMBER:
                if (json_object_is_type(o, json_type_object)) {
                        json_object_object_foreach(o, key, value)
                                if (is_named(s, key))
                                        return follow(p, step + 1, value);
                }
                return NULL;
        }

        return NULL;
}

int json_path_find(json_object *o, const char *paths, char **ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        const char *found = NULL;
        Path path;
        int r;

        assert(paths);
        assert(ret);

        r = strv_split(paths, ";,", &l);
        if (r < 0)
                return r;
        STRV_FOREACH(s, l) { /* all of them, so that a wrong one is noticed */
                char *trimmed = *s + strspn(*s, " ");

                trimmed[strcspn(trimmed, " ")] = '\0';
                r = parse_path(trimmed, &path);
                if (r == -EINVAL)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' is not a path: '$..NAME', or '$.A.B'.", trimmed);
                if (r < 0)
                        return r;
                if (!found)
                        found = follow(&path, 0, o);
        }
        if (!found)
                return 0;

        *ret = strdup(found);
        return *ret ? 1 : -ENOMEM;
}
