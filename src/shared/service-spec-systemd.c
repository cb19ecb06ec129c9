/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "json-util.h"
#include "service-spec-internal.h"
#include "unit-settings.h"

static int compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

int spec_parse_systemd(json_object *o, ServiceSpec *s, KError *reterr) {
        json_object *settings;
        int r;

        r = json_find_object(o, "systemd", &settings, reterr);
        if (r <= 0)
                return r;

        json_object_object_foreach(settings, key, value) {
                /* 200 and "200" are the same to who writes it. */
                if (!json_object_is_type(value, json_type_string) &&
                                !json_object_is_type(value, json_type_int))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%.64s' of 'systemd' must be a text or a whole number.", key);
                r = unit_setting_validate(key, json_object_get_string(value), reterr);
                if (r < 0)
                        return r;
                r = strv_extendf(&s->systemd, "%s=%s", key, json_object_get_string(value));
                if (r < 0)
                        return r;
        }

        if (s->systemd)
                qsort(s->systemd, strv_length(s->systemd), sizeof(char *), compare);
        return 0;
}
