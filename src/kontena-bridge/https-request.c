/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "https-request.h"

#include <curl/curl.h>

#include "json-util.h"
#include "string-util.h"

#define ANSWER_SIZE_MAX (1024U * 1024U)
#define CONNECT_SEC     20L
#define WHOLE_SEC       60L

typedef struct Answer {
        char *data;
        size_t size;
} Answer;

DEFINE_TRIVIAL_CLEANUP_FUNC(CURL *, curl_easy_cleanup);
DEFINE_TRIVIAL_CLEANUP_FUNC(struct curl_slist *, curl_slist_free_all);

static void answer_done(Answer *a) {
        if (a->data)
                erase_memory(a->data, a->size);
        free(a->data);
}

/* Not realloc(): there may be a token in it. */
static size_t on_data(char *data, size_t size, size_t n, void *userdata) {
        Answer *a = userdata;
        char *p;

        if (n > ANSWER_SIZE_MAX - a->size)
                return 0; /* ends it */
        p = malloc(a->size + n + 1);
        if (!p)
                return 0;
        if (a->size > 0)
                memcpy(p, a->data, a->size);
        memcpy(p + a->size, data, n);
        p[a->size + n] = '\0';
        answer_done(a);
        a->data = p;
        a->size += n;
        return n;
}

static int add_header(struct curl_slist **l, const char *name, const char *value) {
        _cleanup_erase_ char *text = strjoin(name, value);
        struct curl_slist *p = text ? curl_slist_append(*l, text) : NULL;

        if (!p)
                return -ENOMEM;
        *l = p;
        return 0;
}

static void erase_headers(struct curl_slist *l) {
        for (; l; l = l->next)
                erase_memory(l->data, strlen(l->data));
}

#define SET(option, value)                                                                                  \
        do {                                                                                                \
                if (code == CURLE_OK)                                                                       \
                        code = curl_easy_setopt(c, (option), (value));                                      \
        } while (false)

static CURLcode perform(CURL *c, const HttpsRequest *q, struct curl_slist *headers, Answer *a, char *error,
                long *ret_status) {
        CURLcode code = CURLE_OK;

        SET(CURLOPT_URL, q->url);
        SET(CURLOPT_PROTOCOLS_STR, "https");
        SET(CURLOPT_CUSTOMREQUEST, q->method);
        SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_FOLLOWLOCATION, 0L);
        SET(CURLOPT_CONNECTTIMEOUT, CONNECT_SEC);
        SET(CURLOPT_TIMEOUT, WHOLE_SEC);
        SET(CURLOPT_ERRORBUFFER, error);
        SET(CURLOPT_CAPATH, (char *) NULL); /* not the system's */
        SET(CURLOPT_CAINFO, q->ca_file);
        SET(CURLOPT_SSL_VERIFYPEER, 1L);
        SET(CURLOPT_SSL_VERIFYHOST, 2L);
        SET(CURLOPT_CERTINFO, 1L);
        SET(CURLOPT_HTTPHEADER, headers);
        SET(CURLOPT_WRITEFUNCTION, on_data);
        SET(CURLOPT_WRITEDATA, a);
        if (q->body) {
                SET(CURLOPT_POSTFIELDSIZE, (long) strlen(q->body));
                SET(CURLOPT_POSTFIELDS, q->body);
        }
        if (code == CURLE_OK)
                code = curl_easy_perform(c);
        if (code == CURLE_OK)
                code = curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, ret_status);
        return code;
}

int https_request(const HttpsRequest *q, json_object **ret, KError *reterr) {
        _cleanup_(curl_slist_free_allp) struct curl_slist *headers = NULL;
        _cleanup_(curl_easy_cleanupp) CURL *c = NULL;
        _cleanup_(answer_done) Answer a = {};
        _cleanup_json_ json_object *o = json_object_new_object(), *body = NULL;
        char error[CURL_ERROR_SIZE] = "";
        long status = 0;
        CURLcode code;
        int r;

        assert(q->url);
        assert(q->ca_file);

        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        c = curl_easy_init();
        if (!c || !o)
                return -ENOMEM;
        r = add_header(&headers, "Accept: ", "application/json");
        if (r >= 0)
                r = add_header(&headers, "User-Agent: ", q->user_agent);
        if (r >= 0 && q->body)
                r = add_header(&headers, "Content-Type: ", "application/json");
        if (r >= 0 && q->token)
                r = add_header(&headers, "Authorization: Bearer ", q->token);
        if (r < 0)
                return r;

        code = perform(c, q, headers, &a, error, &status);
        erase_headers(headers);
        if (code != CURLE_OK)
                return kerror_set(reterr,
                                code == CURLE_PEER_FAILED_VERIFICATION ? K_NOT_AUTHENTICATED : K_NETWORK,
                                "No answer from %s: %s", q->url,
                                error[0] ? error : curl_easy_strerror(code));

        /* Errors are not always JSON; then the status says all there is. */
        if (a.size > 0)
                (void) json_parse(a.data, a.size, ANSWER_SIZE_MAX, &body, NULL);
        r = json_add_i64(o, "status", status);
        if (r >= 0 && body)
                r = json_add(o, "body", TAKE_PTR(body));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}
