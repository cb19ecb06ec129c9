/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "test.h"

#include <netdb.h>
#include <pthread.h>
#include <unistd.h>

#include "file-util.h"
#include "http-fetch.h"

/* A resolver that hangs, as one whose servers do not answer: libcurl calls this function instead of the C library's, in a thread of its
 * own. It answers when the test lets it. */
static struct {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned asked, answered;
        bool released;
} resolver = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

__attribute__((visibility("default"))) int getaddrinfo(
                const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **ret) {
        (void) pthread_mutex_lock(&resolver.lock);
        resolver.asked++;
        (void) pthread_cond_broadcast(&resolver.changed);
        while (!resolver.released)
                (void) pthread_cond_wait(&resolver.changed, &resolver.lock);
        resolver.answered++;
        (void) pthread_cond_broadcast(&resolver.changed);
        (void) pthread_mutex_unlock(&resolver.lock);
        return EAI_AGAIN;
}

static bool was_asked(unsigned times) {
        bool asked;

        (void) pthread_mutex_lock(&resolver.lock);
        asked = resolver.asked >= times;
        (void) pthread_mutex_unlock(&resolver.lock);
        return asked;
}

static void release(void) {
        (void) pthread_mutex_lock(&resolver.lock);
        resolver.released = true;
        (void) pthread_cond_broadcast(&resolver.changed);
        while (resolver.answered < resolver.asked)
                (void) pthread_cond_wait(&resolver.changed, &resolver.lock);
        (void) pthread_mutex_unlock(&resolver.lock);
}

static void on_done(const HttpAnswer *answer, const KError *error, void *userdata) {
        char **message = userdata;

        ASSERT_TRUE(!answer);
        *message = strdup(kerror_message(error));
}

/* Were the thread waited for anywhere, the test would hang here until alarm() ends it. */
static void test_a_hanging_resolver_does_not_hold_up_the_loop(void **state) {
        HttpQuery q = { .url = "http://provider.example/token", .timeout_usec = 100 * USEC_PER_MSEC };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_free_ char *message = NULL;
        HttpFetch *f = NULL;

        (void) alarm(60);
        ASSERT_OK(sd_event_new(&event));

        /* Given up while the name is looked for. */
        ASSERT_OK(http_fetch_new(event, &q, on_done, &message, &f, NULL));
        while (!was_asked(1))
                ASSERT_OK(sd_event_run(event, 10 * USEC_PER_MSEC));
        f = http_fetch_free(f);
        ASSERT_TRUE(!message);

        /* Its time is over. */
        ASSERT_OK(http_fetch_new(event, &q, on_done, &message, &f, NULL));
        while (!message)
                ASSERT_OK(sd_event_run(event, UINT64_MAX));
        ASSERT_TRUE(strstr(message, "timed out"));
        f = http_fetch_free(f);

        release();
        (void) alarm(0);
}

KONTENA_TESTS(cmocka_unit_test(test_a_hanging_resolver_does_not_hold_up_the_loop))
