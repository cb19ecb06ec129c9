/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-image.h"

#include <utlist.h>

#include "deployer.h"
#include "events.h"
#include "file-util.h"
#include "job-runner.h"
#include "json-util.h"
#include "log.h"
#include "node-session.h"
#include "node-tracker.h"
#include "string-util.h"

#define NODES_ASKED_MAX 3U
/* A node itself gives up sooner. */
#define ANSWER_USEC     (60 * USEC_PER_SEC)

typedef enum QuestionState {
        QUESTION_OPEN,     /* to be asked */
        QUESTION_ASKED,    /* a node was */
        QUESTION_REFUSED,  /* there is no such image */
        QUESTION_ANSWERED, /* of a run: the digest waits to be taken */
} QuestionState;

typedef struct Question Question;
struct Question {
        DeployImages *owner;                    /* NULL: nobody waits for the answer any more */
        char *deploy_id, *service_id, *grid_id; /* or the id of a run */
        bool is_run;
        char *digest;
        QuestionState state;
        KError error;
        unsigned asked;
        Question *prev, *next;
};

struct DeployImages {
        Master *master;
        Question *questions;
};

static Question *question_free(Question *q) {
        if (!q)
                return NULL;

        if (q->owner)
                DL_DELETE(q->owner->questions, q);
        free(q->deploy_id);
        free(q->service_id);
        free(q->grid_id);
        free(q->digest);
        kerror_done(&q->error);
        return mfree(q);
}

int deploy_images_new(Master *m, DeployImages **ret) {
        DeployImages *l;

        l = new0(DeployImages, 1);
        if (!l)
                return -ENOMEM;
        l->master = m;
        *ret = l;
        return 0;
}

DeployImages *deploy_images_free(DeployImages *l) {
        Question *q, *next;

        if (!l)
                return NULL;

        DL_FOREACH_SAFE(l->questions, q, next) {
                if (q->state != QUESTION_ASKED) {
                        question_free(q);
                        continue;
                }
                DL_DELETE(l->questions, q); /* its answer frees it */
                q->owner = NULL;
        }
        return mfree(l);
}

static Question *find(DeployImages *l, const char *deploy_id) {
        Question *q;

        DL_FOREACH(l->questions, q)
                if (streq(q->deploy_id, deploy_id))
                        return q;
        return NULL;
}

static int question_new(DeployImages *l, const char *id, const char *service_id, const char *grid_id,
                bool is_run, Question **ret) {
        Question *q;

        q = new0(Question, 1);
        if (!q)
                return -ENOMEM;
        q->deploy_id = strdup(id);
        q->service_id = strdup(service_id);
        q->grid_id = strdup(grid_id);
        q->is_run = is_run;
        if (!q->deploy_id || !q->service_id || !q->grid_id) {
                question_free(q);
                return -ENOMEM;
        }
        q->owner = l;
        DL_APPEND(l->questions, q);

        *ret = q;
        return 0;
}

static int write_digest(Question *q, const char *digest) {
        _cleanup_(store_rollbackp) Store *t = NULL;
        _cleanup_(deploy_row_freep) DeployRow *row = NULL;
        Store *s = q->owner->master->store;
        int r;

        if (q->is_run) {
                q->state = QUESTION_ANSWERED;
                return free_and_strdup(&q->digest, digest);
        }
        r = store_begin(s, NULL);
        if (r < 0)
                return r;
        t = s;
        r = store_get_deploy(s, q->deploy_id, &row);
        if (r < 0)
                return r;
        if (DEPLOY_STATE_IS_FINAL(row->state))
                return 0;
        r = free_and_strdup(&row->image_digest, digest);
        if (r >= 0)
                r = store_put_deploy(s, row);
        if (r >= 0)
                r = store_commit(s, NULL);
        if (r < 0)
                return r;

        t = NULL;
        return 0;
}

/* Returns 1 when the row has it. */
static int take_answer(Question *q, json_object *result) {
        const char *digest = NULL, *note = NULL;
        bool stale = false;
        int r;

        if (json_find_string(result, "digest", &digest, NULL) <= 0 || !startswith(digest, "sha256:"))
                return 0; /* the next one is asked */
        (void) json_find_bool(result, "stale", &stale, NULL);
        (void) json_find_string(result, "note", &note, NULL);

        r = write_digest(q, digest);
        if (r < 0) {
                log_warning_errno(r, "The digest of a deploy's image cannot be stored, asking again: %m");
                return 0;
        }
        if (stale)
                (void) events_add(q->owner->master,
                                &(EventInfo){ .severity = "warning",
                                                .type = q->is_run ? "service:job" : "service:deploy",
                                                .grid_id = q->grid_id,
                                                .service_id = q->service_id },
                                "The image of an earlier pull is %s: %s", q->is_run ? "run" : "deployed",
                                strempty(note));
        return 1;
}

static void on_answer(NodeSession *s, json_object *result, const KError *error, void *userdata) {
        Question *q = userdata;
        bool answered = false;
        DeployImages *l = q->owner;

        q->state = QUESTION_OPEN;
        if (!l) {
                question_free(q);
                return;
        }
        if (result)
                answered = take_answer(q, result) > 0;
        else if (error && error->code == K_IMAGE) {
                q->state = QUESTION_REFUSED;
                (void) kerror_set(&q->error, K_IMAGE, "%s", kerror_message(error));
        }
        if (l->master->deployer && !q->is_run)
                deployer_wake(l->master->deployer, q->service_id);
        if (l->master->job_runner && q->is_run)
                job_runner_wake(l->master->job_runner, q->service_id);
        if (answered && !q->is_run)
                question_free(q);
}

static int ask(Question *q, NodeSession *session, const ServiceSpec *spec) {
        _cleanup_json_ json_object *params = json_object_new_object();
        int r;

        if (!params)
                return -ENOMEM;
        r = json_add_string(params, "image", spec->image);
        if (r >= 0)
                r = json_add_string(params, "pull", pull_policy_to_string(spec->pull));
        if (r < 0)
                return r;

        /* With the credentials that somebody has just written. */
        node_tracker_tell(q->owner->master->tracker, session_node_id(session));
        q->asked++;
        q->state = QUESTION_ASKED;
        r = session_call(session, "image.resolve", TAKE_PTR(params), ANSWER_USEC, on_answer, q);
        if (r < 0)
                q->state = QUESTION_OPEN;
        return r;
}

/* A newer deploy of the same service is what counts. */
static void forget_older(DeployImages *l, const char *service_id, const char *id) {
        Question *q, *next;

        DL_FOREACH_SAFE(l->questions, q, next)
                if (q->state != QUESTION_ASKED && streq(q->service_id, service_id) &&
                                !streq(q->deploy_id, id))
                        question_free(q);
}

static NodeSession *find_session(DeployImages *l, const SchedulerNode *node) {
        return node->connected && l->master->sessions ? node_sessions_find(l->master->sessions, node->id)
                                                      : NULL;
}

/* Where the first instance is to run its registries are known, and a refusal is the last word; then the others in turn. */
static NodeSession *choose_session(DeployImages *l, const Question *q, const SchedulerSnapshot *snapshot,
                const SchedulerRequest *request) {
        NodeSession *session;
        unsigned n = 0;
        size_t first;

        if (q->asked == 0 && scheduler_place(snapshot, request, &first, NULL) >= 0) {
                session = find_session(l, &snapshot->nodes[first]);
                if (session)
                        return session;
        }
        if (q->asked >= NODES_ASKED_MAX)
                return NULL;

        FOREACH_ARRAY(node, snapshot->nodes, snapshot->n_nodes) {
                session = find_session(l, node);
                if (session && ++n >= q->asked)
                        return session;
        }
        return NULL;
}

static int resolve(DeployImages *l, Question *q, const SchedulerSnapshot *snapshot,
                const SchedulerRequest *request, KError *reterr) {
        NodeSession *session;
        int r;

        if (q->state == QUESTION_ASKED)
                return 0;
        if (q->state == QUESTION_REFUSED) {
                r = kerror_set(reterr, q->error.code, "%s", kerror_message(&q->error));
                question_free(q);
                return r;
        }

        session = choose_session(l, q, snapshot, request);
        if (!session) {
                question_free(q);
                return 1;
        }
        r = ask(q, session, request->spec);
        return r < 0 ? r : 0;
}

int deploy_image_resolve(DeployImages *l, const DeployRow *deploy, const SchedulerSnapshot *snapshot,
                const SchedulerRequest *request, KError *reterr) {
        Question *q;
        int r;

        assert(l);
        assert(deploy);

        forget_older(l, deploy->service_id, deploy->id);
        q = find(l, deploy->id);
        if (!q) {
                r = question_new(l, deploy->id, deploy->service_id, deploy->grid_id, false, &q);
                if (r < 0)
                        return r;
        }
        return resolve(l, q, snapshot, request, reterr);
}

int deploy_image_resolve_run(DeployImages *l, const RunRow *run, const SchedulerSnapshot *snapshot,
                const SchedulerRequest *request, char **ret_digest, KError *reterr) {
        Question *q;
        int r;

        assert(l);
        assert(run);
        assert(ret_digest);

        forget_older(l, run->service_id, run->id);
        q = find(l, run->id);
        if (!q) {
                r = question_new(l, run->id, run->service_id, run->grid_id, true, &q);
                if (r < 0)
                        return r;
        }
        if (q->state == QUESTION_ANSWERED) {
                *ret_digest = TAKE_PTR(q->digest);
                question_free(q);
                return 1;
        }
        return resolve(l, q, snapshot, request, reterr);
}
