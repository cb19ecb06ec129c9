/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pull-request.h"

#include "image-reference.h"
#include "json-util.h"
#include "string-util.h"

/* Somebody waits for the answer, and can do without. */
#define RESOLVE_ATTEMPTS  3U
#define RESOLVE_STALL_SEC 10U

static void settings_done(Settings *s) {
        free(s->registry);
        free(s->ca_file);
        free(s->username);
        erase_and_freep(&s->password);
        strv_free(s->mirrors);
        *s = (Settings){};
}

int pull_config_init(PullConfig *c) {
        c->program = strdup(LIBEXECDIR "/kontena-pull");
        return c->program ? 0 : -ENOMEM;
}

void pull_config_clear_registries(PullConfig *c) {
        FOREACH_ARRAY(s, c->registries, c->n_registries)
                settings_done(s);
        c->n_registries = 0;
}

void pull_config_done(PullConfig *c) {
        pull_config_clear_registries(c);
        free(c->program);
        free(c->ca_file);
}

static const Settings *find(const PullConfig *c, const char *registry) {
        FOREACH_ARRAY(s, c->registries, c->n_registries)
                if (streq(s->registry, registry_canonical(registry)))
                        return s;

        return NULL;
}

int pull_config_set_registry(PullConfig *c, const RegistrySettings *s) {
        _cleanup_(settings_done) Settings n = { .insecure = s->insecure };
        Settings *place;

        assert(s->registry);

        if (strv_length(s->mirrors) > REGISTRIES_MAX)
                return -E2BIG;
        if (!(n.registry = strdup(registry_canonical(s->registry))) ||
                        (s->ca_file && !(n.ca_file = strdup(s->ca_file))) ||
                        (s->username && !(n.username = strdup(s->username))) ||
                        (s->password && !(n.password = strdup(s->password))) ||
                        (s->mirrors && s->mirrors[0] && !(n.mirrors = strv_copy(s->mirrors))))
                return -ENOMEM;

        place = (Settings *) find(c, n.registry);
        if (!place) {
                if (c->n_registries >= REGISTRIES_MAX)
                        return -E2BIG;
                place = &c->registries[c->n_registries++];
        }
        settings_done(place);
        *place = TAKE_GENERIC(n, (Settings){});
        return 0;
}

int pull_config_ca_files(const PullConfig *c, char ***ret) {
        _cleanup_strv_free_ char **l = NULL;
        int r;

        if (c->ca_file) {
                r = strv_extend(&l, c->ca_file);
                if (r < 0)
                        return r;
        }
        FOREACH_ARRAY(s, c->registries, c->n_registries) {
                if (!s->ca_file || strv_contains(l, s->ca_file))
                        continue;
                r = strv_extend(&l, s->ca_file);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

static int add_if(json_object *o, const char *key, const char *value) {
        return value ? json_add_string(o, key, value) : 0;
}

/* The password is in o from here on, and in nothing else. Returns 1 when it is the grid's. */
static int add_credentials(json_object *o, const PullConfig *c, const char *registry, const Settings *s,
                KError *reterr) {
        const char *user = s ? s->username : NULL, *secret = s ? s->password : NULL;
        _cleanup_erase_ char *password = NULL;
        _cleanup_free_ char *username = NULL;
        int r = 0, from_grid;

        if (c->credentials.open)
                r = c->credentials.open(registry_canonical(registry), &username, &password, reterr,
                                c->credentials.userdata);
        if (r < 0)
                return r;
        from_grid = r > 0;
        if (from_grid) {
                user = username;
                secret = password;
        }
        r = add_if(o, "username", user);
        if (r >= 0)
                r = add_if(o, "password", secret);
        return r < 0 ? r : from_grid;
}

static int add_endpoint(json_object *o, const PullConfig *c, const char *registry, KError *reterr) {
        const Settings *s = find(c, registry);
        const char *ca_file = s && s->ca_file ? s->ca_file : c->ca_file;
        bool insecure = s && s->insecure;
        int r;

        r = add_credentials(o, c, registry, s, reterr);
        if (r < 0)
                return r;
        /* That this machine does without TLS is its own decision, the password is the whole grid's. */
        if (r > 0)
                insecure = false;
        r = add_if(o, "ca_file", ca_file);
        return r < 0 ? r : json_add_bool(o, "insecure", insecure);
}

static int add_mirrors(json_object *o, const PullConfig *c, const Settings *s, KError *reterr) {
        json_object *mirrors;
        int r;

        mirrors = json_object_new_array();
        r = json_add(o, "mirrors", mirrors);
        if (r < 0)
                return r;
        STRV_FOREACH(m, s->mirrors) {
                json_object *one = json_object_new_object();

                r = json_append(mirrors, one);
                if (r >= 0)
                        r = json_add_string(one, "registry", *m);
                if (r >= 0)
                        r = add_endpoint(one, c, *m, reterr);
                if (r < 0)
                        return r;
        }

        return 0;
}

/* Not as variables of the unit: an address of a proxy may have a password in it, and units can be read by all. */
static int add_proxies(json_object *o) {
        static const struct {
                const char *key, *lower, *upper;
        } table[] = { { "http", "http_proxy", NULL }, { "https", "https_proxy", "HTTPS_PROXY" },
                { "no", "no_proxy", "NO_PROXY" } };
        json_object *proxy = NULL;
        int r;

        FOREACH_ARRAY(t, table, ELEMENTSOF(table)) {
                const char *value = getenv(t->lower) ?: t->upper ? getenv(t->upper) : NULL;

                if (isempty(value))
                        continue;
                if (!proxy) {
                        proxy = json_object_new_object();
                        r = json_add(o, "proxy", proxy);
                        if (r < 0)
                                return r;
                }
                r = json_add_string(proxy, t->key, value);
                if (r < 0)
                        return r;
        }

        return 0;
}

int pull_credentials_mark(const PullConfig *c, const char *normalized, char **ret) {
        _cleanup_image_reference_ ImageReference ref = {};
        int r;

        *ret = NULL;
        if (!c->credentials.mark)
                return 0;
        r = image_reference_parse(normalized, &ref, NULL);
        return r < 0 ? r : c->credentials.mark(ref.registry, ret, c->credentials.userdata);
}

/* Strings of json-c are not erased when they are freed. */
static void erase_passwords(json_object *o) {
        json_object *mirrors = NULL, *password = NULL;

        if (json_object_object_get_ex(o, "password", &password) &&
                        json_object_is_type(password, json_type_string))
                erase_memory((char *) json_object_get_string(password),
                                (size_t) json_object_get_string_len(password));
        if (json_object_object_get_ex(o, "mirrors", &mirrors))
                FOREACH_JSON_ARRAY(m, mirrors)
                        erase_passwords(m);
}

static int make_request(json_object *o, const PullConfig *c, const PullRequest *q, KError *reterr) {
        _cleanup_image_reference_ ImageReference ref = {};
        const Settings *s;
        int r;

        r = image_reference_parse(q->normalized, &ref, reterr);
        if (r < 0)
                return r;
        s = find(c, ref.registry);
        if ((r = json_add_string(o, "store", q->store)) < 0 ||
                        (r = json_add_string(o, "reference", q->normalized)) < 0 ||
                        (r = add_endpoint(o, c, ref.registry, reterr)) < 0 ||
                        (s && (r = add_mirrors(o, c, s, reterr)) < 0) || (r = add_proxies(o)) < 0)
                return r;

        if (q->resolve && ((r = json_add_bool(o, "resolve", true)) < 0 ||
                                          (r = json_add_u64(o, "attempts", RESOLVE_ATTEMPTS)) < 0 ||
                                          (r = json_add_u64(o, "stall_sec", RESOLVE_STALL_SEC)) < 0))
                return r;

        return 0;
}

int pull_request_text(const PullConfig *c, const PullRequest *q, char **ret, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;
        int r;

        if (!o)
                return -ENOMEM;
        r = make_request(o, c, q, reterr);
        if (r >= 0) {
                text = json_text(o);
                *ret = text ? strjoin(text, "\n") : NULL;
                r = *ret ? 0 : -ENOMEM;
                if (text)
                        erase_memory((char *) text, strlen(text));
        }
        erase_passwords(o);
        return r;
}
