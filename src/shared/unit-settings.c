/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "unit-settings.h"

#include "parse-util.h"
#include "string-util.h"

#define CPU_NUMBER_MAX         8191U
#define DEVICES_MAX            32U
#define DEVICE_PATH_MAX        256U
#define DEVICE_PATH_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@"

typedef enum Kind {
        KIND_NUMBER,   /* min..max */
        KIND_LIMIT,    /* the same, or infinity */
        KIND_BYTES,    /* with suffix, at least min, or infinity */
        KIND_QUOTA,    /* "150%" of one CPU */
        KIND_PERIOD,   /* a time, min..max in microseconds */
        KIND_SET,      /* "0-3,7" */
        KIND_DEVICES,  /* "PATH BYTES,PATH BYTES" */
        KIND_IOPS,     /* "PATH COUNT,..." */
        KIND_WEIGHTS,  /* "PATH WEIGHT,..." */
        KIND_RLIMIT,   /* "VALUE" or "SOFT:HARD", each a number with suffix, or infinity */
        KIND_INTEGER,  /* min..max, with a sign */
        KIND_WORD,     /* one of words */
        KIND_PRESSURE, /* "60%" */
} Kind;

typedef struct Property {
        const char *name, *bus; /* bus: NULL: the same */
        Kind kind;
        int64_t min, max;
        const char *words;
} Property;

static const Property properties[] = {
        { "AllowedCPUs", NULL, KIND_SET },
        { "AllowedMemoryNodes", NULL, KIND_SET },
        { "CPUQuota", "CPUQuotaPerSecUSec", KIND_QUOTA, 1, 819200 },
        { "CPUQuotaPeriodSec", "CPUQuotaPeriodUSec", KIND_PERIOD, 1000, 1000000 },
        { "CPUWeight", NULL, KIND_NUMBER, 1, 10000 },
        { "IODeviceWeight", NULL, KIND_WEIGHTS, 1, 10000 },
        { "IOReadBandwidthMax", NULL, KIND_DEVICES, 1 },
        { "IOReadIOPSMax", NULL, KIND_IOPS, 1, INT64_MAX },
        { "IOWeight", NULL, KIND_NUMBER, 1, 10000 },
        { "IOWriteBandwidthMax", NULL, KIND_DEVICES, 1 },
        { "IOWriteIOPSMax", NULL, KIND_IOPS, 1, INT64_MAX },
        { "LimitCORE", NULL, KIND_RLIMIT },
        { "LimitMEMLOCK", NULL, KIND_RLIMIT },
        { "LimitNOFILE", NULL, KIND_RLIMIT },
        { "LimitNPROC", NULL, KIND_RLIMIT },
        { "LimitSTACK", NULL, KIND_RLIMIT },
        { "ManagedOOMMemoryPressure", NULL, KIND_WORD, .words = "auto|kill" },
        { "ManagedOOMMemoryPressureLimit", NULL, KIND_PRESSURE, 1, 100 },
        { "ManagedOOMPreference", NULL, KIND_WORD, .words = "none|avoid|omit" },
        { "ManagedOOMSwap", NULL, KIND_WORD, .words = "auto|kill" },
        { "MemoryHigh", NULL, KIND_BYTES, 1 },
        { "MemoryLow", NULL, KIND_BYTES },
        { "MemoryMax", NULL, KIND_BYTES, 1 },
        { "MemoryMin", NULL, KIND_BYTES },
        { "MemorySwapMax", NULL, KIND_BYTES },
        { "Nice", NULL, KIND_INTEGER, -20, 19 },
        { "OOMScoreAdjust", NULL, KIND_INTEGER, -1000, 1000 },
        { "StartupCPUWeight", NULL, KIND_NUMBER, 1, 10000 },
        { "StartupIOWeight", NULL, KIND_NUMBER, 1, 10000 },
        { "TasksMax", NULL, KIND_LIMIT, 1, 4194304 },
};

static const Property *find_property(const char *name, size_t n) {
        FOREACH_ARRAY(p, properties, ELEMENTSOF(properties))
                if (strneq(p->name, name, n) && p->name[n] == '\0')
                        return p;
        return NULL;
}

static const char *bus_name(const Property *p) {
        return p->bus ?: p->name;
}

static int parse_bounded(const Property *p, const char *s, uint64_t *ret) {
        uint64_t v;
        int r;

        r = safe_atou64(s, &v);
        if (r < 0)
                return r;
        if (v < (uint64_t) p->min || v > (uint64_t) p->max)
                return -ERANGE;

        *ret = v;
        return 0;
}

static int parse_bytes(const char *s, uint64_t min, uint64_t *ret) {
        uint64_t v;
        int r;

        if (streq(s, "infinity")) {
                *ret = UINT64_MAX;
                return 0;
        }
        r = parse_size(s, &v);
        if (r < 0)
                return r;
        if (v < min || v > INT64_MAX)
                return -ERANGE;

        *ret = v;
        return 0;
}

static int parse_percent(const Property *p, const char *s, uint64_t *ret) {
        _cleanup_free_ char *number = NULL;
        const char *e = endswith(s, "%");

        if (!e)
                return -EINVAL;
        number = strndup(s, (size_t) (e - s));
        if (!number)
                return -ENOMEM;
        return parse_bounded(p, number, ret);
}

static int parse_rlimit(const char *s, uint64_t *ret_soft, uint64_t *ret_hard) {
        const char *colon = strchr(s, ':');
        _cleanup_free_ char *first = NULL;
        uint64_t soft, hard;
        int r;

        first = strndup(s, colon ? (size_t) (colon - s) : strlen(s));
        if (!first)
                return -ENOMEM;
        r = parse_bytes(first, 0, &soft);
        if (r < 0)
                return r;
        hard = soft;
        if (colon) {
                r = parse_bytes(colon + 1, 0, &hard);
                if (r < 0)
                        return r;
        }
        if (soft > hard)
                return -EINVAL;

        *ret_soft = soft;
        *ret_hard = hard;
        return 0;
}

/* A bit for each number, as long as the highest needs. */
static int parse_set(const char *s, uint8_t mask[static(CPU_NUMBER_MAX + 1) / 8], size_t *ret_size) {
        _cleanup_strv_free_ char **l = NULL;
        size_t size = 0;
        int r;

        r = strv_split(s, ", ", &l);
        if (r < 0)
                return r;
        if (strv_length(l) == 0)
                return -EINVAL;
        STRV_FOREACH(range, l) {
                char *dash = strchr(*range, '-');
                unsigned a, b;

                if (dash)
                        *dash = '\0';
                if (safe_atou(*range, &a) < 0 || safe_atou(dash ? dash + 1 : *range, &b) < 0 || a > b)
                        return -EINVAL;
                if (b > CPU_NUMBER_MAX)
                        return -ERANGE;
                for (unsigned i = a; i <= b; i++)
                        mask[i / 8] |= (uint8_t) (1U << i % 8);
                size = MAX(size, (size_t) b / 8 + 1);
        }

        *ret_size = size;
        return 0;
}

/* "PATH VALUE"; cuts it in two. */
static int parse_device(const Property *p, char *entry, uint64_t *ret) {
        char *blank;

        /* systemd writes the path into a file of its own as it is, and reads it again at a reload: nothing that it would read as
         * something else. */
        blank = strchr(entry, ' ');
        if (!blank || entry[0] != '/' || (size_t) (blank - entry) >= DEVICE_PATH_MAX ||
                        strspn(entry, DEVICE_PATH_CHARACTERS) != (size_t) (blank - entry) ||
                        strstr(entry, "/.."))
                return -EINVAL;

        *blank++ = '\0';
        blank += strspn(blank, " ");
        return p->kind == KIND_DEVICES ? parse_bytes(blank, (uint64_t) p->min, ret)
                                       : parse_bounded(p, blank, ret);
}

static int split_devices(const char *s, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = strv_split(s, ",", &l);
        if (r < 0)
                return r;
        if (strv_length(l) == 0 || strv_length(l) > DEVICES_MAX)
                return -EINVAL;
        STRV_FOREACH(e, l)
                memmove(*e, *e + strspn(*e, " "), strlen(*e + strspn(*e, " ")) + 1);

        *ret = TAKE_PTR(l);
        return 0;
}

static bool is_word(const char *words, const char *s) {
        size_t n = strlen(s);

        for (const char *p = words; n > 0; p += strcspn(p, "|") + 1) {
                if (strcspn(p, "|") == n && strneq(p, s, n))
                        return true;
                if (p[strcspn(p, "|")] == '\0')
                        break;
        }

        return false;
}

/* Appends to m, or without m just looks. */
static int append_devices(const Property *p, const char *s, sd_bus_message *m) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        r = split_devices(s, &l);
        if (r < 0)
                return r;
        if (m) {
                r = sd_bus_message_open_container(m, 'r', "sv");
                if (r >= 0)
                        r = sd_bus_message_append(m, "s", bus_name(p));
                if (r >= 0)
                        r = sd_bus_message_open_container(m, 'v', "a(st)");
                if (r >= 0)
                        r = sd_bus_message_open_container(m, 'a', "(st)");
                if (r < 0)
                        return r;
        }
        STRV_FOREACH(e, l) {
                uint64_t v;

                r = parse_device(p, *e, &v);
                if (r >= 0 && m)
                        r = sd_bus_message_append(m, "(st)", *e, v);
                if (r < 0)
                        return r;
        }
        for (int i = 0; i < 3 && m; i++) {
                r = sd_bus_message_close_container(m);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int append_set(const Property *p, const char *s, sd_bus_message *m) {
        uint8_t mask[(CPU_NUMBER_MAX + 1) / 8] = {};
        size_t size;
        int r;

        r = parse_set(s, mask, &size);
        if (r < 0 || !m)
                return r;
        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", bus_name(p));
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', mask, size);
        for (int i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_rlimit(const Property *p, const char *s, sd_bus_message *m) {
        _cleanup_free_ char *soft_name = NULL;
        uint64_t soft, hard;
        int r;

        r = parse_rlimit(s, &soft, &hard);
        if (r < 0 || !m)
                return r;
        soft_name = strjoin(bus_name(p), "Soft");
        if (!soft_name)
                return -ENOMEM;
        r = sd_bus_message_append(m, "(sv)", bus_name(p), "t", hard);
        if (r < 0)
                return r;
        return sd_bus_message_append(m, "(sv)", soft_name, "t", soft);
}

static int append_number(const Property *p, const char *s, sd_bus_message *m) {
        uint64_t v;
        int r;

        switch (p->kind) {
        case KIND_BYTES:
                r = parse_bytes(s, (uint64_t) p->min, &v);
                break;
        case KIND_QUOTA:
                /* Per cent of a second are 10 ms. */
                r = parse_percent(p, s, &v);
                if (r >= 0)
                        v *= 10000U;
                break;
        case KIND_PERIOD:
                r = parse_sec(s, &v);
                if (r >= 0 && (v < (uint64_t) p->min || v > (uint64_t) p->max))
                        r = -ERANGE;
                break;
        case KIND_LIMIT:
                if (streq(s, "infinity")) {
                        v = UINT64_MAX;
                        r = 0;
                        break;
                }
                _fallthrough_;
        default:
                r = parse_bounded(p, s, &v);
        }
        if (r < 0 || !m)
                return r;
        return sd_bus_message_append(m, "(sv)", bus_name(p), "t", v);
}

/* Appends to m, or without m just looks whether value is good. */
static int append_property(const Property *p, const char *value, sd_bus_message *m) {
        uint64_t v;
        int64_t i;
        int r;

        switch (p->kind) {
        case KIND_SET:
                return append_set(p, value, m);
        case KIND_DEVICES:
        case KIND_IOPS:
        case KIND_WEIGHTS:
                return append_devices(p, value, m);
        case KIND_RLIMIT:
                return append_rlimit(p, value, m);
        case KIND_WORD:
                if (!is_word(p->words, value))
                        return -EINVAL;
                return m ? sd_bus_message_append(m, "(sv)", bus_name(p), "s", value) : 0;
        case KIND_INTEGER:
                r = safe_atoi64(value, &i);
                if (r >= 0 && (i < p->min || i > p->max))
                        r = -ERANGE;
                if (r < 0 || !m)
                        return r;
                return sd_bus_message_append(m, "(sv)", bus_name(p), "i", (int32_t) i);
        case KIND_PRESSURE:
                r = parse_percent(p, value, &v);
                if (r < 0 || !m)
                        return r;
                /* Scaled so that all bits are the whole. */
                return sd_bus_message_append(
                                m, "(sv)", bus_name(p), "u", (uint32_t) (v * UINT32_MAX / 100U));
        default:
                return append_number(p, value, m);
        }
}

static char *describe(const Property *p) {
        switch (p->kind) {
        case KIND_NUMBER:
        case KIND_INTEGER:
                return strprintf("a whole number between %" PRIi64 " and %" PRIi64, p->min, p->max);
        case KIND_LIMIT:
                return strprintf("a whole number between %" PRIi64 " and %" PRIi64 ", or infinity", p->min,
                                p->max);
        case KIND_BYTES:
                return strdup("bytes, say 512M, or infinity");
        case KIND_QUOTA:
                return strdup("per cent of one CPU, say 150%");
        case KIND_PERIOD:
                return strdup("a time between 1ms and 1s");
        case KIND_SET:
                return strdup("numbers and ranges, say 0-3,7");
        case KIND_DEVICES:
                return strdup("a device and bytes in a second, say \"/dev/sda 10M\"; more behind commas");
        case KIND_IOPS:
                return strdup("a device and operations in a second, say \"/dev/sda 1000\"; more behind "
                              "commas");
        case KIND_WEIGHTS:
                return strprintf("a device and a weight between %" PRIi64 " and %" PRIi64
                                 ", say \"/dev/sda 200\"; more behind commas",
                                p->min, p->max);
        case KIND_RLIMIT:
                return strdup("a number, SOFT:HARD or infinity, say 1024:64K");
        case KIND_WORD:
                return strjoin("one of ", p->words);
        default:
                return strdup("per cent, say 60%");
        }
}

static int unknown_property(const char *property, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *all = NULL;
        int r;

        FOREACH_ARRAY(p, properties, ELEMENTSOF(properties)) {
                if (strcasecmp(p->name, property) == 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'systemd' has no property '%s'; '%s' is meant.", property, p->name);
                r = strv_extend(&l, p->name);
                if (r < 0)
                        return r;
        }
        all = strv_join(l, ", ");
        if (!all)
                return -ENOMEM;
        return kerror_set(reterr, K_INVALID_ARGUMENT, "'systemd' has no property '%.64s', but: %s.",
                        property, all);
}

int unit_setting_validate(const char *property, const char *value, KError *reterr) {
        _cleanup_free_ char *expected = NULL;
        const Property *p;
        int r;

        assert(property);
        assert(value);

        p = find_property(property, strlen(property));
        if (!p)
                return unknown_property(property, reterr);
        r = append_property(p, value, NULL);
        if (r == -ENOMEM || r >= 0)
                return r;

        expected = describe(p);
        if (!expected)
                return -ENOMEM;
        return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' of 'systemd' is %s, not '%.64s'.", property,
                        expected, value);
}

static const Property *setting_property(const char *setting) {
        return find_property(setting, strcspn(setting, "="));
}

bool unit_settings_have(char *const *settings, const char *bus_property) {
        STRV_FOREACH(s, settings) {
                const Property *p = setting_property(*s);

                if (!p)
                        continue;
                if (streq(bus_name(p), bus_property))
                        return true;
                if (p->kind == KIND_RLIMIT) {
                        const char *rest = startswith(bus_property, bus_name(p));

                        if (rest && streq(rest, "Soft"))
                                return true;
                }
        }

        return false;
}

int unit_settings_append(char *const *settings, sd_bus_message *m) {
        int r;

        assert(m);

        STRV_FOREACH(s, settings) {
                const char *equal = strchr(*s, '=');
                const Property *p = setting_property(*s);

                if (!equal || !p)
                        return -EINVAL;
                r = append_property(p, equal + 1, m);
                if (r < 0)
                        return r;
        }

        return 0;
}
