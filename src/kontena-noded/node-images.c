/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <utlist.h>

#include "credentials.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "noded-internal.h"
#include "service-spec.h"

/* Credentials for registries, as the master wants them now. */
static json_object *wanted_registries(Manager *m) {
        json_object *node = desired_section(m->desired, "node"), *registries = NULL;

        (void) json_find_array(node, "registries", &registries, NULL);
        return registries;
}

static int open_credentials(const char *registry, char **ret_username, char **ret_password, KError *reterr,
                void *userdata) {
        Manager *m = userdata;

        return credentials_open(
                        wanted_registries(m), m->secrets, registry, ret_username, ret_password, reterr);
}

static int mark_credentials(const char *registry, char **ret, void *userdata) {
        return credentials_mark(wanted_registries(userdata), registry, ret);
}

void manager_give_credentials(Manager *m) {
        pull_manager_set_credentials(m->pulls,
                        &(RegistryCredentials){
                                        .open = open_credentials, .mark = mark_credentials, .userdata = m });
}

/* What the master asks about images. */
struct ImageQuestion {
        Manager *manager;
        uint64_t request;
        Pull *pull;
        ImageQuestion *prev, *next;
};

static void question_free(ImageQuestion *q) {
        DL_DELETE(q->manager->image_questions, q);
        free(q);
}

void manager_forget_image_questions(Manager *m) {
        ImageQuestion *q, *next;

        DL_FOREACH_SAFE(m->image_questions, q, next) {
                q->pull = pull_cancel(q->pull);
                question_free(q);
        }
}

static void answer(Manager *m, uint64_t request, const char *digest, bool stale, const KError *error) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        if (!digest) {
                r = channel_reply_error(m->channel, request, error);
                if (r < 0)
                        log_warning_errno(r, "Cannot answer the master: %m");
                return;
        }

        o = json_object_new_object();
        r = o ? json_add_string(o, "digest", digest) : -ENOMEM;
        if (r >= 0)
                r = json_add_bool(o, "stale", stale);
        if (r >= 0)
                r = json_add_string(o, "note", stale && error ? kerror_message(error) : "");
        if (r >= 0)
                r = channel_reply(m->channel, request, TAKE_PTR(o));
        if (r < 0)
                log_warning_errno(r, "Cannot answer the master: %m");
}

static void on_resolved(Pull *p, int result, const char *digest, const KError *error, void *userdata) {
        ImageQuestion *q = userdata;

        answer(q->manager, q->request, result >= 0 ? digest : NULL, result > 0, error);
        question_free(q);
}

/* 1: the store knows, and nobody else is to be asked. */
static int find_here(Manager *m, const char *image, PullPolicy policy, Image **ret, KError *reterr) {
        int r;

        if (policy == PULL_ALWAYS)
                return 0;
        r = image_store_find(m->images, image, ret);
        if (r == -EINVAL)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "The image's name is not valid.");
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot look for the image: %m");
        if (r == 0 && policy == PULL_NEVER)
                return kerror_set(reterr, K_IMAGE,
                                "Image '%.256s' is not on node '%s', and is never to be pulled.", image,
                                m->host.node_name);
        return r;
}

static int resolve(Manager *m, uint64_t request, json_object *params, KError *reterr) {
        _cleanup_(image_unrefp) Image *image = NULL;
        const char *name, *pull = "always";
        ImageQuestion *q;
        PullPolicy policy;
        int r;

        r = json_get_string(params, "image", &name, reterr);
        if (r >= 0)
                r = json_find_string(params, "pull", &pull, reterr);
        if (r < 0)
                return r;
        policy = pull_policy_from_string(pull);
        if ((int) policy < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "'pull' is neither always nor missing nor never.");
        r = find_here(m, name, policy, &image, reterr);
        if (r < 0)
                return r;
        if (r > 0) {
                answer(m, request, pull_image_digest(image), false, NULL);
                return 0;
        }

        q = new0(ImageQuestion, 1);
        if (!q)
                return -ENOMEM;
        q->manager = m;
        q->request = request;
        DL_APPEND(m->image_questions, q);
        r = pull_resolve(m->pulls, name, on_resolved, q, &q->pull, reterr);
        if (r < 0)
                question_free(q);
        return r;
}

void manager_image_resolve(Manager *m, uint64_t id, json_object *params) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        if (id == 0)
                return;
        r = resolve(m, id, params, &error);
        if (r >= 0)
                return;
        (void) kerror_set_errno(&error, r, "Cannot ask for the image: %m");
        answer(m, id, NULL, false, &error);
}
