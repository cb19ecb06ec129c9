/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "manifest.h"

#include <sys/utsname.h>

#include "image-reference.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "parse-util.h"
#include "string-util.h"

#define INDEX_ENTRIES_MAX 4096U
#define LISTED_MAX        16U /* platforms in an error message */

void descriptor_done(Descriptor *d) {
        free(d->digest);
        free(d->media_type);
        *d = (Descriptor){};
}

void manifest_done(Manifest *m) {
        descriptor_done(&m->config);
        FOREACH_ARRAY(l, m->layers, m->n_layers)
                descriptor_done(l);
        free(m->layers);
        *m = (Manifest){};
}

void image_config_done(ImageConfig *c) {
        free(c->architecture);
        strv_free(c->diff_ids);
        strv_free(c->env);
        strv_free(c->entrypoint);
        strv_free(c->cmd);
        free(c->user);
        free(c->working_directory);
        free(c->stop_signal);
        strv_free(c->volumes);
        strv_free(c->exposed_ports);
        strv_free(c->labels);
        *c = (ImageConfig){};
}

/* Names and values of others go into messages for people only when they can be shown. */
static const char *shown(const char *s) {
        return s && string_is_printable(s) && strlen(s) <= 256 ? s : "(unreadable)";
}

static int parse_failed(int r, const char *what, KError *e, KError *reterr) {
        if (r == -ENOMEM)
                return r;
        return kerror_set(reterr, e->code == K_LIMIT_EXCEEDED ? K_LIMIT_EXCEEDED : K_IMAGE,
                        "its %s is malformed: %s", what, kerror_message(e));
}

static int descriptor_parse(json_object *o, Descriptor *ret, KError *reterr) {
        _cleanup_descriptor_ Descriptor d = {};
        const char *digest, *media = NULL;
        int r;

        r = json_get_string(o, "digest", &digest, reterr);
        if (r >= 0)
                r = json_get_u64(o, "size", &d.size, reterr);
        if (r >= 0)
                r = json_find_string(o, "mediaType", &media, reterr);
        if (r < 0)
                return r;
        if (!digest_hex(digest))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'%s' is not a digest that is supported, only sha256 is.", shown(digest));

        d.digest = strdup(digest);
        if (!d.digest || (media && !(d.media_type = strdup(media))))
                return -ENOMEM;

        *ret = TAKE_GENERIC(d, (Descriptor){});
        return 0;
}

static unsigned variant_number(const char *architecture, const char *variant) {
        unsigned n;

        if (variant && variant[0] == 'v' && safe_atou(variant + 1, &n) >= 0)
                return n;

        return streq(architecture, "arm64") ? 8 : streq(architecture, "arm") ? 5 : 1;
}

/* 0: does not run here. Otherwise the larger the better. */
static unsigned platform_score(
                const Platform *p, const char *os, const char *architecture, const char *variant) {
        unsigned have, want;

        if (!os || !architecture || !streq(os, "linux") || !streq(architecture, p->architecture))
                return 0;
        have = variant_number(architecture, variant);
        want = variant_number(p->architecture, p->variant);

        return have <= want ? have + 1 : 0;
}

typedef struct Choice {
        json_object *entry;
        unsigned score;
        char **listed;
} Choice;

static void choice_done(Choice *c) {
        strv_free(c->listed);
}

static int choose(json_object *entry, const Platform *platform, Choice *c, KError *reterr) {
        const char *os = NULL, *architecture = NULL, *variant = NULL;
        json_object *p = NULL;
        unsigned score;
        int r;

        r = json_find_object(entry, "platform", &p, reterr);
        if (r < 0)
                return r;
        if (r == 0) {
                /* An index of indexes: taken where nothing says more. */
                if (!c->entry)
                        c->entry = entry;
                return 0;
        }
        if ((r = json_find_string(p, "os", &os, reterr)) < 0 ||
                        (r = json_find_string(p, "architecture", &architecture, reterr)) < 0 ||
                        (r = json_find_string(p, "variant", &variant, reterr)) < 0)
                return r;

        score = platform_score(platform, os, architecture, variant);
        if (score > c->score) {
                c->score = score;
                c->entry = entry;
        }
        /* "unknown" is what signatures and the like have. */
        if (os && architecture && !streq(os, "unknown") && strv_length(c->listed) < LISTED_MAX)
                return strv_extendf(&c->listed, "%s/%s%s%s", shown(os), shown(architecture),
                                variant ? "/" : "", variant ? shown(variant) : "");

        return 0;
}

static int index_parse(json_object *o, const Platform *platform, Descriptor *ret, KError *reterr) {
        _cleanup_(choice_done) Choice c = {};
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_free_ char *list = NULL;
        json_object *manifests;
        int r;

        r = json_get_array(o, "manifests", &manifests, &e);
        if (r < 0)
                return parse_failed(r, "index", &e, reterr);
        if (json_object_array_length(manifests) > INDEX_ENTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "its index has more than %u entries.",
                                INDEX_ENTRIES_MAX);
        FOREACH_JSON_ARRAY(entry, manifests) {
                r = choose(entry, platform, &c, &e);
                if (r < 0)
                        return parse_failed(r, "index", &e, reterr);
        }

        if (c.entry) {
                r = descriptor_parse(c.entry, ret, &e);
                return r < 0 ? parse_failed(r, "index", &e, reterr) : 1;
        }

        list = strv_join(c.listed, ", ");
        if (!list)
                return -ENOMEM;
        return kerror_set(reterr, K_IMAGE, "it has no manifest for linux/%s%s%s, only for %s.",
                        platform->architecture, platform->variant ? "/" : "", strempty(platform->variant),
                        isempty(list) ? "nothing" : list);
}

static int layer_parse(json_object *o, Descriptor *ret, KError *reterr) {
        int r;

        r = descriptor_parse(o, ret, reterr);
        if (r < 0)
                return r;
        if (ret->media_type &&
                        (strstr(ret->media_type, "foreign") || strstr(ret->media_type, "nondistributable")))
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "layer %s may not be handed out by registries and is kept elsewhere; that "
                                "is not supported.",
                                ret->digest);
        if (ret->media_type && endswith(ret->media_type, "+encrypted"))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "layer %s is encrypted.", ret->digest);

        return 0;
}

static int one_manifest_parse(json_object *o, Manifest *ret, KError *reterr) {
        _cleanup_manifest_ Manifest m = {};
        json_object *config, *layers;
        size_t n;
        int r;

        r = json_get_object(o, "config", &config, reterr);
        if (r >= 0)
                r = descriptor_parse(config, &m.config, reterr);
        if (r >= 0)
                r = json_get_array(o, "layers", &layers, reterr);
        if (r < 0)
                return r;
        if (m.config.size > MANIFEST_SIZE_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED,
                                "the configuration of %llu bytes is larger than %u.",
                                (unsigned long long) m.config.size, MANIFEST_SIZE_MAX);
        n = json_object_array_length(layers);
        if (n > IMAGE_LAYERS_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "%zu layers are more than %u.", n,
                                IMAGE_LAYERS_MAX);

        m.layers = new0(Descriptor, n + 1);
        if (!m.layers)
                return -ENOMEM;
        FOREACH_JSON_ARRAY(layer, layers) {
                r = layer_parse(layer, &m.layers[m.n_layers], reterr);
                if (r < 0) {
                        descriptor_done(&m.layers[m.n_layers]);
                        return r;
                }
                if (m.layers[m.n_layers].size > IMAGE_SIZE_MAX - m.size) {
                        m.n_layers++;
                        return kerror_set(reterr, K_LIMIT_EXCEEDED, "its layers are larger than %llu bytes.",
                                        (unsigned long long) IMAGE_SIZE_MAX);
                }
                m.size += m.layers[m.n_layers++].size;
        }

        *ret = TAKE_GENERIC(m, (Manifest){});
        return 0;
}

int manifest_parse(const char *text, size_t size, const char *content_type, const Platform *platform,
                Manifest *ret_manifest, Descriptor *ret_chosen, KError *reterr) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *media = NULL;
        uint64_t schema = 0;
        int r;

        assert(text && platform && ret_manifest && ret_chosen);

        r = json_parse(text, size, MANIFEST_SIZE_MAX, &o, &e);
        if (r >= 0)
                r = json_find_u64(o, "schemaVersion", &schema, &e);
        if (r >= 0)
                r = json_find_string(o, "mediaType", &media, &e);
        if (r < 0)
                return parse_failed(r, "manifest", &e, reterr);

        if (schema == 1)
                return kerror_set(reterr, K_IMAGE,
                                "its manifest is of schema 1, which registries gave up in 2017 and cannot "
                                "be checked; push it anew.");
        if (schema != 2)
                return kerror_set(reterr, K_IMAGE, "its manifest is of the unknown schema %llu.",
                                (unsigned long long) schema);
        if (!media)
                media = content_type ?: "";
        /* OCI lets both go without; what they have in them tells then. A thing that is both is neither. */
        if (json_object_object_get_ex(o, "manifests", NULL) && json_object_object_get_ex(o, "layers", NULL))
                return kerror_set(reterr, K_IMAGE, "its manifest is an index at the same time.");
        if (STR_IN_SET(media, MEDIA_DOCKER_LIST, MEDIA_OCI_INDEX) ||
                        json_object_object_get_ex(o, "manifests", NULL))
                return index_parse(o, platform, ret_chosen, reterr);
        if (!STR_IN_SET(media, MEDIA_DOCKER_MANIFEST, MEDIA_OCI_MANIFEST) &&
                        !json_object_object_get_ex(o, "layers", NULL))
                return kerror_set(reterr, K_IMAGE,
                                "the registry answered with '%s' where a manifest was expected.",
                                shown(media));

        r = one_manifest_parse(o, ret_manifest, &e);
        if (r < 0)
                return parse_failed(r, "manifest", &e, reterr);
        return 0;
}

static int string_compare(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

/* An object whose keys are what counts, as Volumes and ExposedPorts are; with values: "key=value". */
static int object_keys(json_object *config, const char *key, bool values, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        json_object *o = NULL;
        int r;

        r = json_find_object(config, key, &o, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                json_object_object_foreach(o, name, value) {
                        if (values && value && !json_object_is_type(value, json_type_string))
                                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                                "'%s' must have strings as values.", key);
                        r = values ? strv_extendf(&l, "%s=%s", name,
                                                     value ? json_object_get_string(value) : "")
                                   : strv_extend(&l, name);
                        if (r < 0)
                                return r;
                }
        }
        if (l)
                qsort(l, strv_length(l), sizeof(char *), string_compare);

        *ret = TAKE_PTR(l);
        return 0;
}

static int find_copy(json_object *o, const char *key, char **ret, KError *reterr) {
        const char *s = NULL;
        int r;

        r = json_find_string(o, key, &s, reterr);
        if (r <= 0 || isempty(s))
                return MIN(r, 0);
        if (!string_is_printable(s))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' has control characters.", key);

        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int container_config_parse(json_object *o, ImageConfig *c, KError *reterr) {
        int r;

        if ((r = json_find_strv(o, "Env", &c->env, reterr)) < 0 ||
                        (r = json_find_strv(o, "Entrypoint", &c->entrypoint, reterr)) < 0 ||
                        (r = json_find_strv(o, "Cmd", &c->cmd, reterr)) < 0 ||
                        (r = find_copy(o, "User", &c->user, reterr)) < 0 ||
                        (r = find_copy(o, "WorkingDir", &c->working_directory, reterr)) < 0 ||
                        (r = find_copy(o, "StopSignal", &c->stop_signal, reterr)) < 0 ||
                        (r = object_keys(o, "Volumes", false, &c->volumes, reterr)) < 0 ||
                        (r = object_keys(o, "ExposedPorts", false, &c->exposed_ports, reterr)) < 0 ||
                        (r = object_keys(o, "Labels", true, &c->labels, reterr)) < 0)
                return r;

        if (strv_length(c->env) > ENV_ENTRIES_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "it sets more than %u environment variables.",
                                ENV_ENTRIES_MAX);
        if (c->working_directory && c->working_directory[0] != '/')
                return kerror_set(reterr, K_INVALID_ARGUMENT, "the working directory '%s' is not absolute.",
                                c->working_directory);
        STRV_FOREACH(v, c->volumes)
                if ((*v)[0] != '/' || !string_is_printable(*v))
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "the volume '%s' is not absolute.",
                                        shown(*v));

        return 0;
}

static int whole_config_parse(json_object *o, size_t n_layers, ImageConfig *c, KError *reterr) {
        json_object *rootfs, *config = NULL;
        int r;

        r = find_copy(o, "architecture", &c->architecture, reterr);
        if (r >= 0)
                r = json_get_object(o, "rootfs", &rootfs, reterr);
        if (r >= 0)
                r = json_find_strv(rootfs, "diff_ids", &c->diff_ids, reterr);
        if (r < 0)
                return r;
        if (strv_length(c->diff_ids) != n_layers)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "it names %zu layers, the manifest %zu.",
                                strv_length(c->diff_ids), n_layers);
        STRV_FOREACH(d, c->diff_ids)
                if (!digest_hex(*d))
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "'%s' is not a digest that is supported.", shown(*d));

        r = json_find_object(o, "config", &config, reterr);
        if (r <= 0)
                return MIN(r, 0);
        return container_config_parse(config, c, reterr);
}

int image_config_parse(const char *text, size_t size, size_t n_layers, const Platform *platform,
                ImageConfig *ret, KError *reterr) {
        _cleanup_image_config_ ImageConfig c = {};
        _cleanup_kerror_ KError e = KERROR_NULL;
        _cleanup_json_ json_object *o = NULL;
        int r;

        assert(text && platform && ret);

        r = json_parse(text, size, MANIFEST_SIZE_MAX, &o, &e);
        if (r >= 0)
                r = whole_config_parse(o, n_layers, &c, &e);
        if (r < 0)
                return parse_failed(r, "configuration", &e, reterr);
        if (c.architecture && !streq(c.architecture, platform->architecture))
                return kerror_set(reterr, K_IMAGE, "it has no manifest for linux/%s, only for linux/%s.",
                                platform->architecture, c.architecture);

        *ret = TAKE_GENERIC(c, (ImageConfig){});
        return 0;
}

Platform platform_of_machine(void) {
        static const struct {
                const char *machine;
                Platform platform;
        } table[] = {
                { "x86_64", { "amd64", NULL } },
                { "i686", { "386", NULL } },
                { "aarch64", { "arm64", "v8" } },
                { "armv8l", { "arm", "v7" } },
                { "armv7l", { "arm", "v7" } },
                { "armv6l", { "arm", "v6" } },
                { "ppc64le", { "ppc64le", NULL } },
                { "s390x", { "s390x", NULL } },
                { "riscv64", { "riscv64", NULL } },
                { "loongarch64", { "loong64", NULL } },

        };
        struct utsname u;

        if (uname(&u) >= 0)
                FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                        if (streq(t->machine, u.machine))
                                return t->platform;

        return (Platform){ "unknown", NULL };
}
