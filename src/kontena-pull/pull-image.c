/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pull-image.h"

#include "blob.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "record.h"
#include "registry.h"
#include "store.h"
#include "string-util.h"

#define INDEX_DEPTH_MAX 3U

typedef struct Context {
        const Request *request;
        Report *report;
        Registry *registries[REGISTRIES_MAX + 1];
        Source source;
        Store store;
        char *digest, *index_digest;
        Manifest manifest;
        ImageConfig config;
        char **layers; /* lowest first, each once */
} Context;

static void context_done(Context *c) {
        FOREACH_ARRAY(g, c->registries, ELEMENTSOF(c->registries))
                registry_free(*g);
        store_done(&c->store);
        free(c->digest);
        free(c->index_digest);
        manifest_done(&c->manifest);
        image_config_done(&c->config);
        strv_free(c->layers);
}

static int open_registries(Context *c) {
        const Request *q = c->request;
        int r;

        assert(q->n_endpoints <= ELEMENTSOF(c->registries));

        c->source = (Source){
                .registries = c->registries, .repository = q->reference.repository, .report = c->report
        };
        FOREACH_ARRAY(e, q->endpoints, q->n_endpoints) {
                RegistryOptions o = {
                        .host = e->host,
                        .username = e->username,
                        .password = e->password,
                        .ca_file = e->ca_file,
                        .insecure = e->insecure,
                        .stall_usec = q->stall_usec,
                        .attempts = q->attempts,
                };

                r = registry_new(&o, c->report, &c->registries[c->source.n_registries]);
                if (r < 0)
                        return r;
                c->source.n_registries++;
        }

        return 0;
}

/* Asks one registry. wanted: NULL for a tag. */
static int fetch_manifest(Context *c, Registry *g, const char *what, const char *wanted, char **ret,
                size_t *ret_size, char **ret_content_type, char **ret_digest, KError *reterr) {
        _cleanup_registry_answer_ RegistryAnswer answer = {};
        _cleanup_free_ char *path = NULL, *text = NULL;
        char found[DIGEST_STRING_SIZE];
        size_t size;
        int r;

        path = strjoin("manifests/", what);
        if (!path)
                return -ENOMEM;
        r = registry_get_text(g, c->request->reference.repository, path, MANIFEST_ACCEPT, MANIFEST_SIZE_MAX,
                        &text, &size, &answer, reterr);
        if (r < 0)
                return r;
        r = digest_of(text, size, found);
        if (r < 0)
                return r;
        if (wanted ? !streq(wanted, found)
                   : answer.digest && digest_hex(answer.digest) && !streq(answer.digest, found))
                return kerror_set(reterr, K_IMAGE,
                                "its manifest is corrupt: registry '%s' calls it %s, and its content has "
                                "the digest %s",
                                registry_host(g), wanted ?: answer.digest, found);

        *ret_digest = strdup(found);
        if (!*ret_digest)
                return -ENOMEM;
        *ret = TAKE_PTR(text);
        *ret_size = size;
        *ret_content_type = TAKE_PTR(answer.content_type);
        return 0;
}

/* The mirrors in their order, then the registry itself; whoever has it is asked for the blobs first. */
static int find_manifest(Context *c, const char *what, const char *wanted, char **ret, size_t *ret_size,
                char **ret_content_type, char **ret_digest, KError *reterr) {
        Source *s = &c->source;
        int r = -ENOENT;

        for (size_t i = s->first; i < s->n_registries; i++) {
                _cleanup_kerror_ KError e = KERROR_NULL;

                r = fetch_manifest(c, s->registries[i], what, wanted, ret, ret_size, ret_content_type,
                                ret_digest, &e);
                if (r >= 0) {
                        s->first = i;
                        return 0;
                }
                if (r == -ECANCELED || i + 1 == s->n_registries)
                        kerror_move(reterr, &e);
                else
                        log_info("Mirror '%s' does not have '%s': %s", registry_host(s->registries[i]),
                                        c->request->normalized, kerror_message(&e));
                if (r == -ECANCELED)
                        return r;
        }

        return r;
}

static int resolve(Context *c, KError *reterr) {
        const Request *q = c->request;
        const Platform platform = { q->architecture, q->variant };
        _cleanup_descriptor_ Descriptor chosen = {};
        int r;

        for (unsigned depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
                _cleanup_free_ char *text = NULL, *content_type = NULL, *digest = NULL;
                const char *wanted = chosen.digest ?: q->reference.digest;
                Descriptor next = {};
                size_t size = 0;

                r = find_manifest(c, wanted ?: q->reference.tag, wanted, &text, &size, &content_type,
                                &digest, reterr);
                if (r < 0)
                        return r;
                r = manifest_parse(text, size, content_type, &platform, &c->manifest, &next, reterr);
                if (r < 0)
                        return r;
                if (r == 0) {
                        c->digest = TAKE_PTR(digest);
                        return 0;
                }
                if (!c->index_digest)
                        c->index_digest = TAKE_PTR(digest);
                descriptor_done(&chosen);
                chosen = next;
        }

        return kerror_set(reterr, K_IMAGE, "its index leads to an index and so on");
}

static int read_config(Context *c, KError *reterr) {
        const Platform platform = { c->request->architecture, c->request->variant };
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = blob_fetch_text(&c->source, &c->manifest.config, MANIFEST_SIZE_MAX, &text, &size, reterr);
        if (r < 0)
                return r;

        return image_config_parse(text, size, c->manifest.n_layers, &platform, &c->config, reterr);
}

/* The chain id of a layer is made of that of the one below and its own diff id. */
static int chain_id(const char *below, const char *diff_id, char ret[static DIGEST_STRING_SIZE]) {
        _cleanup_free_ char *both = NULL;

        both = below ? strjoin(below, " ", diff_id) : NULL;
        if (!below) {
                memcpy(ret, diff_id, DIGEST_STRING_SIZE);
                return 0;
        }

        return both ? digest_of(both, strlen(both), ret) : -ENOMEM;
}

/* overlayfs refuses to have one directory twice. The upper of two same layers hides all that the lower one gives. */
static int take_layer(char ***layers, char *name) {
        char **l = *layers;

        for (size_t i = 0; l && l[i]; i++)
                if (streq(l[i], name)) {
                        free(l[i]);
                        for (; l[i]; i++)
                                l[i] = l[i + 1];
                        break;
                }

        return strv_consume(layers, name);
}

static int fetch_layers(Context *c, KError *reterr) {
        char chain[DIGEST_STRING_SIZE];
        int r;

        c->report->total = c->manifest.size;
        c->store.size_left = c->request->size_max;
        c->store.entries_left = c->request->entries_max;
        if (c->manifest.size > c->request->size_max)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "its layers have %llu bytes, more than %llu",
                                (unsigned long long) c->manifest.size,
                                (unsigned long long) c->request->size_max);

        for (size_t i = 0; i < c->manifest.n_layers; i++) {
                const char *diff_id = c->config.diff_ids[i];
                char *name;

                r = chain_id(i > 0 ? chain : NULL, diff_id, chain);
                if (r >= 0)
                        r = store_layer(&c->store, &c->source, &c->manifest.layers[i], diff_id, chain,
                                        c->layers, &name, reterr);
                if (r >= 0)
                        r = take_layer(&c->layers, name);
                if (r < 0)
                        return r;
        }

        return 0;
}

static int pull(Context *c, json_object **ret, KError *reterr) {
        Record record;
        int r;

        if ((r = store_open(c->request->store, &c->store, reterr)) < 0 || (r = open_registries(c)) < 0 ||
                        (r = report_progress(c->report)) < 0 || (r = resolve(c, reterr)) < 0 ||
                        (r = read_config(c, reterr)) < 0 || (r = fetch_layers(c, reterr)) < 0)
                return r;

        record = (Record){
                .request = c->request,
                .digest = c->digest,
                .index_digest = c->index_digest,
                .manifest = &c->manifest,
                .config = &c->config,
                .layers = c->layers,
        };
        r = record_write(&record);
        if (r < 0)
                return kerror_set_errno(reterr, r, "its record cannot be written: %m");
        if (c->store.n_devices > 0 || c->store.n_xattrs > 0)
                log_info("Of image '%s' %llu devices and sockets and %llu attributes were left out.",
                                c->request->written, (unsigned long long) c->store.n_devices,
                                (unsigned long long) c->store.n_xattrs);

        return record_result(&record, ret);
}

/* The first manifest's digest is that of the reference: all that comes after is a choice of this machine's. */
static int ask(Context *c, json_object **ret, KError *reterr) {
        _cleanup_free_ char *text = NULL, *content_type = NULL, *digest = NULL;
        const ImageReference *ref = &c->request->reference;
        _cleanup_json_ json_object *o = NULL;
        size_t size;
        int r;

        r = open_registries(c);
        if (r >= 0)
                r = find_manifest(c, ref->digest ?: ref->tag, ref->digest, &text, &size, &content_type,
                                &digest, reterr);
        if (r < 0)
                return r;

        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        r = json_add_string(o, "digest", digest);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

int pull_image(const Request *q, Report *report, json_object **ret_result, KError *reterr) {
        _cleanup_(context_done) Context c = { .request = q,
                .report = report,
                .store = { .fd = -EBADF, .layers_fd = -EBADF, .staging_fd = -EBADF, .lock_fd = -EBADF } };
        int r;

        r = q->resolve ? ask(&c, ret_result, reterr) : pull(&c, ret_result, reterr);
        if (r >= 0)
                return 0;

        if (r == -ECANCELED)
                (void) kerror_set(reterr, K_IMAGE, "nobody waits for it any more");
        else
                (void) kerror_set_errno(reterr, r, "%m");
        kerror_prefix(reterr, q->resolve ? "Image '%s' cannot be found" : "Image '%s' cannot be pulled",
                        q->written);
        return r;
}

static int set_proxies(const Request *q) {
        const struct {
                const char *name, *value;
        } table[] = { { "http_proxy", q->http_proxy }, { "https_proxy", q->https_proxy },
                { "no_proxy", q->no_proxy } };

        FOREACH_ARRAY(t, table, ELEMENTSOF(table))
                if (t->value && setenv(t->name, t->value, /* overwrite= */ true) < 0)
                        return -errno;

        return 0;
}

static int serve(Report *report, int (*enter_sandbox)(void), json_object **ret_result, KError *reterr) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_request_ Request q = {};
        int r;

        r = report_read_request(report, &o, reterr);
        if (r >= 0)
                r = request_parse(o, &q, reterr);
        if (r >= 0)
                r = set_proxies(&q);
        if (r < 0)
                return r;
        r = enter_sandbox();
        if (r < 0)
                return kerror_set_errno(reterr, r, "The system call filter cannot be installed: %m");

        return pull_image(&q, report, ret_result, reterr);
}

int pull_serve(int input_fd, int output_fd, int (*enter_sandbox)(void)) {
        Report report = { .input_fd = input_fd, .output_fd = output_fd };
        _cleanup_json_ json_object *result = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        int r;

        r = serve(&report, enter_sandbox, &result, &e);
        if (r >= 0) {
                r = report_result(&report, result);
                if (r < 0)
                        (void) log_error_errno(r, "The image is there, but nobody can be told: %m");
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        }

        (void) kerror_set_errno(&e, r, "The image cannot be pulled: %m");
        log_error("%s", kerror_message(&e));
        (void) report_error(&report, &e, r == -EHOSTUNREACH);
        return EXIT_FAILURE;
}
