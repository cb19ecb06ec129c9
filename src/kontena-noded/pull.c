/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "pull.h"

#include <linux/capability.h>
#include <sys/socket.h>
#include <uthash.h>
#include <utlist.h>

#include "file-util.h"
#include "image-reference.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "pull-answer.h"
#include "pull-request.h"
#include "string-util.h"
#include "worker.h"

#define WORKER_MEMORY_MAX   (512ULL * 1024ULL * 1024ULL)
#define WORKER_RUNTIME_USEC (6ULL * 3600ULL * USEC_PER_SEC)
/* A worker that dies without a word (killed, out of memory) gets a second chance. */
#define WORKER_STARTS_MAX   2U

typedef struct Job Job;

/* Somebody who waits. */
struct Pull {
        PullManager *manager;
        Job *job; /* NULL once done, or for what was fresh */
        char *revision;
        pull_progress_t progress;
        pull_done_t done;
        pull_resolved_t resolved; /* instead of done */
        void *userdata;
        Image *fresh; /* no need to ask: given by the next turn of the loop */
        sd_event_source *defer;
        bool cancelled; /* while progress is being told */
        Pull *prev, *next;
};

/* One fetch. */
struct Job {
        PullManager *manager;
        char *normalized;
        char *mark; /* of the credentials it was started with, or is to be */
        Pull *pulls;
        Worker *worker;
        int fd;
        sd_event_source *io;
        char *buffer;
        size_t n_buffer;
        unsigned n_starts;
        PullProgress progress;
        bool resolve;  /* what it means, no more */
        bool answered; /* by the registry, with a refusal */
        bool telling;
        bool finished; /* everybody has been told; the unit is ending */
        Job *prev, *next;
};

/* When an image was pulled for a deploy revision. */
typedef struct Fresh {
        char *key;
        uint64_t at;
        UT_hash_handle hh;
} Fresh;

struct PullManager {
        sd_event *event;
        sd_bus *bus;
        ImageStore *store;
        PullConfig config;
        sd_event_source *schedule;
        Job *jobs; /* in the order they came */
        size_t n_jobs;
        Pull *deferred;
        Fresh *fresh;
};

static Pull *pull_free(Pull *p) {
        if (!p)
                return NULL;

        if (p->job)
                DL_DELETE(p->job->pulls, p);
        else if (p->defer)
                DL_DELETE(p->manager->deferred, p);
        sd_event_source_disable_unref(p->defer);
        image_unref(p->fresh);
        free(p->revision);
        free(p);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Pull *, pull_free);

static void job_disconnect(Job *j) {
        j->io = sd_event_source_disable_unref(j->io);
        j->fd = safe_close(j->fd);
        j->n_buffer = 0;
}

static Job *job_free(Job *j) {
        Pull *p, *next;

        if (!j)
                return NULL;

        DL_FOREACH_SAFE(j->pulls, p, next)
                pull_free(p);
        job_disconnect(j);
        worker_free(j->worker);
        if (j->prev) {
                DL_DELETE(j->manager->jobs, j);
                j->manager->n_jobs--;
        }
        free(j->buffer);
        free(j->normalized);
        free(j->mark);
        free(j);
        return NULL;
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Job *, job_free);

static void fresh_remove(PullManager *m, Fresh *f) {
        HASH_DEL(m->fresh, f);
        free(f->key);
        free(f);
}

PullManager *pull_manager_free(PullManager *m) {
        Fresh *f, *next_fresh;
        Job *j, *next;
        Pull *p, *next_pull;

        if (!m)
                return NULL;

        DL_FOREACH_SAFE(m->jobs, j, next)
                job_free(j);
        DL_FOREACH_SAFE(m->deferred, p, next_pull)
                pull_free(p);
        HASH_ITER(hh, m->fresh, f, next_fresh)
                fresh_remove(m, f);
        pull_config_done(&m->config);
        sd_event_source_disable_unref(m->schedule);
        sd_bus_unref(m->bus);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}

static void schedule(PullManager *m) {
        int r;

        r = sd_event_source_set_enabled(m->schedule, SD_EVENT_ONESHOT);
        if (r < 0)
                (void) log_error_errno(r, "The queue of pulls cannot be woken: %m");
}

static char *fresh_key(const char *normalized, const char *revision) {
        return strjoin(normalized, " ", revision);
}

static bool is_fresh(PullManager *m, const char *normalized, const char *revision) {
        _cleanup_free_ char *key = NULL;
        Fresh *f;

        key = fresh_key(normalized, revision);
        if (!key)
                return false;
        HASH_FIND_STR(m->fresh, key, f);
        return f && now_monotonic() - f->at < PULL_FRESH_USEC;
}

/* A lost entry costs one question to the registry, so that lack of memory is no failure. */
static void remember_fresh(PullManager *m, const char *normalized, const char *revision) {
        uint64_t now = now_monotonic();
        _cleanup_free_ char *key = NULL;
        Fresh *f, *next;

        HASH_ITER(hh, m->fresh, f, next)
                if (now - f->at >= PULL_FRESH_USEC)
                        fresh_remove(m, f);
        if (!revision || HASH_COUNT(m->fresh) >= PULLS_WAITING_MAX)
                return;

        key = fresh_key(normalized, revision);
        if (!key)
                return;
        HASH_FIND_STR(m->fresh, key, f);
        if (!f) {
                f = new0(Fresh, 1);
                if (!f)
                        return;
                HASH_ADD_KEYPTR(hh, m->fresh, key, strlen(key), f);
                if (!f->hh.tbl) {
                        free(f);
                        return;
                }
                f->key = TAKE_PTR(key);
        }
        f->at = now;
}

/* Everybody is told; j may be gone when it returns unless finished was set before. */
static void job_tell_done(Job *j, int result, Image *image, const KError *error) {
        j->finished = true;
        while (j->pulls) {
                Pull *p = j->pulls;

                DL_DELETE(j->pulls, p);
                p->job = NULL;
                if (p->resolved) {
                        p->resolved(p, result, image ? pull_image_digest(image) : NULL, error, p->userdata);
                        pull_free(p);
                        continue;
                }
                if (result == 0)
                        remember_fresh(j->manager, j->normalized, p->revision);
                p->done(p, result, image, error, p->userdata);
                pull_free(p);
        }
}

static void job_tell_resolved(Job *j, const char *digest) {
        j->finished = true;
        while (j->pulls) {
                Pull *p = j->pulls;

                DL_DELETE(j->pulls, p);
                p->job = NULL;
                p->resolved(p, 0, digest, NULL, p->userdata);
                pull_free(p);
        }
}

const char *pull_image_digest(const Image *i) {
        return i->index_digest ?: i->digest;
}

static void job_fail(Job *j, const KError *error) {
        _cleanup_(image_unrefp) Image *image = NULL;
        int r = 0;

        if (!j->resolve || !j->answered)
                r = image_store_find(j->manager->store, j->normalized, &image);
        if (r > 0)
                log_info("%s The image of an earlier pull is used.", kerror_message(error));
        job_tell_done(j, r > 0 ? 1 : kerror_errno(error->code), r > 0 ? image : NULL, error);
}

static void job_succeed(Job *j, const char *digest) {
        _cleanup_(image_unrefp) Image *image = NULL;
        _cleanup_kerror_ KError e = KERROR_NULL;
        int r;

        if (j->resolve && digest_hex(digest)) {
                job_tell_resolved(j, digest);
                return;
        }

        r = digest_hex(digest) ? image_store_find(j->manager->store, digest, &image) : -EBADMSG;
        if (r > 0) {
                job_tell_done(j, 0, image, NULL);
                return;
        }

        (void) kerror_set(&e, K_INTERNAL, "Image '%s' was pulled, but is not in the image store%s%s.",
                        j->normalized, r < 0 ? ": " : "", r < 0 ? strerror(-r) : "");
        job_fail(j, &e);
}

static void job_tell_progress(Job *j) {
        Pull *p, *next;

        j->telling = true;
        DL_FOREACH(j->pulls, p)
                if (!p->cancelled && p->progress)
                        p->progress(p, &j->progress, p->userdata);
        j->telling = false;

        DL_FOREACH_SAFE(j->pulls, p, next)
                if (p->cancelled)
                        pull_free(p);
}

/* 1: the fetch came to its end. */
static int job_take_line(Job *j, const char *line, size_t n) {
        _cleanup_pull_answer_ PullAnswer a = {};
        int r;

        r = pull_answer_parse(line, n, &a);
        if (r < 0)
                return r;

        switch (a.kind) {
        case PULL_ANSWER_PROGRESS:
                j->progress = (PullProgress){
                        .bytes = a.bytes,
                        .total = a.total,
                        .waiting = a.waiting,
                        .unpacking = a.unpacking,
                };
                job_tell_progress(j);
                return 0;
        case PULL_ANSWER_RESULT:
                job_succeed(j, a.digest);
                return 1;
        default:
                j->answered = !a.unreachable;
                job_fail(j, &a.error);
                return 1;
        }
}

/* Reads all that is there. 0: nothing more now; 1: the fetch came to its end; -ENODATA: end of file. */
static int job_read(Job *j) {
        for (;;) {
                char *end;
                ssize_t n;
                int r;

                while ((end = memchr(j->buffer, '\n', j->n_buffer))) {
                        size_t length = (size_t) (end - j->buffer);

                        r = job_take_line(j, j->buffer, length);
                        if (r != 0)
                                return r;
                        j->n_buffer -= length + 1;
                        memmove(j->buffer, end + 1, j->n_buffer);
                }
                if (j->n_buffer == PULL_ANSWER_SIZE_MAX)
                        return -E2BIG;

                n = read(j->fd, j->buffer + j->n_buffer, PULL_ANSWER_SIZE_MAX - j->n_buffer);
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)
                        return -ENODATA;
                j->n_buffer += (size_t) MAX(n, (ssize_t) 0);
        }
}

/* Nobody waits any more and the unit has ended or is to end. */
static void job_drop(Job *j) {
        PullManager *m = j->manager;

        job_free(j);
        schedule(m);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Job *j = userdata;
        int r;

        r = job_read(j);
        if (r == 0 && j->pulls)
                return 0;
        if (r == 0) {
                job_drop(j); /* all were cancelled while progress was told */
                return 0;
        }

        job_disconnect(j);
        if (r == 1 || r == -ENODATA)
                return 0; /* the end of the unit says the rest */

        (void) kerror_set(&e, K_INTERNAL, "Image '%s' cannot be pulled: kontena-pull does not make sense.",
                        j->normalized);
        job_fail(j, &e);
        job_drop(j);
        return 0;
}

static void on_worker_exit(Worker *w, const KError *error, void *userdata) {
        _cleanup_kerror_ KError e = KERROR_NULL;
        Job *j = userdata;

        j->worker = worker_free(j->worker);
        if (!j->finished && j->fd >= 0)
                (void) job_read(j);
        job_disconnect(j);

        if (!j->finished && j->n_starts < WORKER_STARTS_MAX && j->pulls) {
                log_warning("Pulling '%s' once more: %s", j->normalized,
                                error ? kerror_message(error) : "kontena-pull ended without a word.");
                schedule(j->manager);
                return;
        }
        if (!j->finished) {
                (void) kerror_set(&e, K_IMAGE, "Image '%s' cannot be pulled: %s", j->normalized,
                                error ? kerror_message(error) : "kontena-pull ended without a word.");
                job_fail(j, &e);
        }
        job_drop(j);
}

static int job_send(Job *j, int fd, KError *reterr) {
        const PullRequest q = {
                .store = image_store_path(j->manager->store),
                .normalized = j->normalized,
                .resolve = j->resolve,
        };
        _cleanup_erase_ char *text = NULL;
        _cleanup_free_ char *mark = NULL;
        ssize_t n;
        int r;

        r = pull_credentials_mark(&j->manager->config, j->normalized, &mark);
        if (r >= 0)
                r = pull_request_text(&j->manager->config, &q, &text, reterr);
        if (r < 0)
                return r;
        free(j->mark);
        j->mark = TAKE_PTR(mark);
        /* It fits into an empty socket, or it is refused. */
        n = send(fd, text, strlen(text), MSG_NOSIGNAL);
        if (n < 0)
                return -errno;
        return (size_t) n == strlen(text) ? 0 : -EMSGSIZE;
}

static int job_start(Job *j, KError *reterr) {
        static const char *const system_calls[] = { "@chown", "seccomp", NULL };
        _cleanup_strv_free_ char **argv = NULL, **writable = NULL, **readable = NULL, **environment = NULL;
        PullManager *m = j->manager;
        _cleanup_close_ int fd = -EBADF;
        const char *level = getenv("KONTENA_LOG_LEVEL");
        WorkerOptions o = {
                .name = "kontena-pull",
                .description = "Kontena fetches an image",
                .user = "kontena-pull",
                .setuid_files = true,
                /* Files of any owner are made, with their mode and file capabilities; devices are not. */
                .capabilities = UINT64_C(1) << CAP_CHOWN | UINT64_C(1) << CAP_DAC_OVERRIDE |
                                UINT64_C(1) << CAP_FOWNER | UINT64_C(1) << CAP_FSETID |
                                UINT64_C(1) << CAP_SETFCAP,
                .network = true,
                .private_root = true,
                .system_calls = (char *const *) system_calls,
                .memory_max = WORKER_MEMORY_MAX,
                .runtime_max_usec = WORKER_RUNTIME_USEC,
        };
        int r;

        if ((r = strv_extend(&argv, m->config.program)) < 0 ||
                        (r = strv_extend(&writable, image_store_path(m->store))) < 0 ||
                        (r = pull_config_ca_files(&m->config, &readable)) < 0 ||
                        (r = strv_extend(&readable, m->config.program)) < 0 ||
                        (level && (r = strv_extendf(&environment, "KONTENA_LOG_LEVEL=%s", level)) < 0))
                return r;
        o.argv = argv;
        o.writable_paths = writable;
        o.readable_paths = readable;
        o.environment = environment;

        j->n_starts++;
        r = worker_start(m->bus, m->event, &o, on_worker_exit, j, &j->worker, &fd);
        if (r >= 0)
                r = job_send(j, fd, reterr);
        if (r >= 0)
                r = sd_event_add_io(m->event, &j->io, fd, EPOLLIN, on_io, j);
        if (r < 0) {
                j->worker = worker_free(j->worker);
                return r;
        }

        j->fd = TAKE_FD(fd);
        return 0;
}

static int on_schedule(sd_event_source *s, void *userdata) {
        PullManager *m = userdata;
        size_t n_running = 0;
        Job *j;

        DL_FOREACH(m->jobs, j)
                n_running += !!j->worker;

        while (n_running < PULLS_RUNNING_MAX) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                int r;

                DL_FOREACH(m->jobs, j)
                        if (!j->worker && !j->finished)
                                break;
                if (!j)
                        return 0;

                r = job_start(j, &e);
                if (r >= 0) {
                        n_running++;
                        continue;
                }
                if (kerror_is_set(&e))
                        kerror_prefix(&e, "Image '%s' cannot be pulled", j->normalized);
                else
                        (void) kerror_set_errno(&e, r,
                                        "Image '%s' cannot be pulled: its unit cannot be started: %m",
                                        j->normalized);
                job_fail(j, &e);
                job_free(j);
        }

        return 0;
}

int pull_manager_new(sd_event *event, sd_bus *bus, ImageStore *store, PullManager **ret) {
        _cleanup_(pull_manager_freep) PullManager *m = NULL;
        int r;

        assert(event && store && ret);

        m = new0(PullManager, 1);
        if (!m)
                return -ENOMEM;
        m->event = sd_event_ref(event);
        m->bus = sd_bus_ref(bus);
        m->store = store;
        r = pull_config_init(&m->config);
        if (r >= 0)
                r = sd_event_add_defer(event, &m->schedule, on_schedule, m);
        if (r >= 0)
                r = sd_event_source_set_enabled(m->schedule, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

int pull_manager_set_ca_file(PullManager *m, const char *path) {
        int r = free_and_strdup(&m->config.ca_file, path);

        return MIN(r, 0);
}

int pull_manager_set_program(PullManager *m, const char *path) {
        int r = free_and_strdup(&m->config.program, path);

        return MIN(r, 0);
}

int pull_manager_set_registry(PullManager *m, const RegistrySettings *s) {
        return pull_config_set_registry(&m->config, s);
}

bool pull_manager_is_busy(const PullManager *m) {
        Job *j;

        if (m->deferred)
                return true;
        DL_FOREACH(m->jobs, j)
                if (j->worker && !j->resolve && !j->finished)
                        return true;
        return false;
}

void pull_manager_set_credentials(PullManager *m, const RegistryCredentials *c) {
        m->config.credentials = *c;
}

void pull_manager_clear_registries(PullManager *m) {
        pull_config_clear_registries(&m->config);
}

static int on_deferred(sd_event_source *s, void *userdata) {
        Pull *p = userdata;

        DL_DELETE(p->manager->deferred, p);
        p->defer = sd_event_source_disable_unref(p->defer);
        p->done(p, 0, p->fresh, NULL, p->userdata);
        pull_free(p);
        return 0;
}

/* 1: given from the store by the next turn. */
static int pull_take_fresh(PullManager *m, Pull *p, const char *normalized) {
        int r;

        if (!p->revision || !is_fresh(m, normalized, p->revision))
                return 0;
        r = image_store_find(m->store, normalized, &p->fresh);
        if (r <= 0)
                return r;
        r = sd_event_add_defer(m->event, &p->defer, on_deferred, p);
        if (r < 0)
                return r;

        DL_APPEND(m->deferred, p);
        return 1;
}

static int job_for(PullManager *m, const char *normalized, bool resolve, Job **ret, KError *reterr) {
        _cleanup_(job_freep) Job *j = NULL;
        _cleanup_free_ char *mark = NULL;
        int r;

        r = pull_credentials_mark(&m->config, normalized, &mark);
        if (r < 0)
                return r;
        DL_FOREACH(m->jobs, j)
                if (!j->finished && !j->telling && j->resolve == resolve &&
                                streq(j->normalized, normalized) && streq_ptr(j->mark, mark)) {
                        *ret = TAKE_PTR(j);
                        return 0;
                }
        if (m->n_jobs >= PULLS_WAITING_MAX)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "More than %u images wait to be pulled.",
                                PULLS_WAITING_MAX);

        j = new0(Job, 1);
        if (!j)
                return -ENOMEM;
        j->manager = m;
        j->fd = -EBADF;
        j->resolve = resolve;
        j->progress.queued = true;
        j->mark = TAKE_PTR(mark);
        j->buffer = malloc(PULL_ANSWER_SIZE_MAX);
        j->normalized = strdup(normalized);
        if (!j->buffer || !j->normalized)
                return -ENOMEM;

        DL_APPEND(m->jobs, j);
        m->n_jobs++;
        schedule(m);
        *ret = TAKE_PTR(j);
        return 0;
}

static int pull_new(PullManager *m, const char *reference, const char *revision, const Pull *callbacks,
                Pull **ret, KError *reterr) {
        _cleanup_image_reference_ ImageReference ref = {};
        _cleanup_(pull_freep) Pull *p = NULL;
        _cleanup_free_ char *normalized = NULL;
        Job *j = NULL;
        int r;

        assert(m && reference && ret);

        r = image_reference_parse(reference, &ref, reterr);
        if (r < 0)
                return r;
        normalized = image_reference_normalized(&ref);
        p = new0(Pull, 1);
        if (!normalized || !p)
                return -ENOMEM;
        p->manager = m;
        p->progress = callbacks->progress;
        p->done = callbacks->done;
        p->resolved = callbacks->resolved;
        p->userdata = callbacks->userdata;
        if (revision && !(p->revision = strdup(revision)))
                return -ENOMEM;

        r = pull_take_fresh(m, p, normalized);
        if (r == 0) {
                r = job_for(m, normalized, !!p->resolved, &j, reterr);
                if (r >= 0) {
                        p->job = j;
                        DL_APPEND(j->pulls, p);
                }
        }
        if (r < 0)
                return r;

        *ret = TAKE_PTR(p);
        return 0;
}

int pull_image(PullManager *m, const char *reference, const char *revision, pull_progress_t progress,
                pull_done_t done, void *userdata, Pull **ret, KError *reterr) {
        const Pull callbacks = { .progress = progress, .done = done, .userdata = userdata };

        assert(done);

        return pull_new(m, reference, revision, &callbacks, ret, reterr);
}

int pull_resolve(PullManager *m, const char *reference, pull_resolved_t done, void *userdata, Pull **ret,
                KError *reterr) {
        const Pull callbacks = { .resolved = done, .userdata = userdata };

        assert(done);

        return pull_new(m, reference, NULL, &callbacks, ret, reterr);
}

Pull *pull_cancel(Pull *p) {
        Job *j;

        if (!p)
                return NULL;

        j = p->job;
        if (j && j->telling) {
                p->cancelled = true; /* the list is being walked */
                return NULL;
        }
        pull_free(p);
        if (j && !j->pulls && !j->finished)
                job_drop(j);

        return NULL;
}
