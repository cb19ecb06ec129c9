/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "registry.h"

#include <curl/curl.h>
#include <strings.h>

#include "auth-challenge.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "log.h"
#include "parse-util.h"
#include "string-util.h"

#define CONNECT_TIMEOUT_MS  15000L
#define STALL_USEC          (30U * USEC_PER_SEC)
#define STALL_BYTES         64L /* a second */
#define FIRST_DELAY_USEC    (100U * USEC_PER_MSEC)
#define LAST_DELAY_USEC     (2U * USEC_PER_SEC)
#define RETRY_AFTER_MAX_SEC 30L
#define REFUSAL_SIZE_MAX    4096U /* what we read of an answer that is not what we want */
#define TOKEN_SIZE_MAX      (64U * 1024U)

struct Registry {
        char *host;
        char *username, *password;
        char *ca_file;
        bool insecure;
        bool plain;  /* an insecure one that has no TLS */
        bool no_tls; /* as far as the last attempt could see */
        uint64_t stall_usec;
        unsigned attempts;
        char *authorization; /* a whole header line */
        char *authorized_repository;
        CURL *curl;
        Report *report;
};

/* One request and its answer. */
typedef struct Transfer {
        Registry *g;
        const RegistrySink *sink;
        bool begun;
        bool password; /* it carries one, not a token */
        int sink_error;
        AuthChallenge challenge;
        RegistryAnswer answer;
        uint64_t range_start;
        char refusal[REFUSAL_SIZE_MAX + 1];
        size_t refusal_size;
        char message[CURL_ERROR_SIZE];
} Transfer;

static void transfer_done(Transfer *t) {
        auth_challenge_done(&t->challenge);
        registry_answer_done(&t->answer);
}

void registry_answer_done(RegistryAnswer *a) {
        free(a->content_type);
        free(a->digest);
        *a = (RegistryAnswer){};
}

static void curl_slist_freep(struct curl_slist **l) {
        curl_slist_free_all(*l);
}
static void curl_strp(char **s) {
        curl_free(*s);
}

Registry *registry_free(Registry *g) {
        if (!g)
                return NULL;

        if (g->curl)
                curl_easy_cleanup(g->curl);
        erase_and_freep(&g->password);
        erase_and_freep(&g->authorization);
        free(g->authorized_repository);
        free(g->host);
        free(g->username);
        free(g->ca_file);
        free(g);
        return NULL;
}

int registry_new(const RegistryOptions *o, Report *report, Registry **ret) {
        _cleanup_(registry_freep) Registry *g = NULL;

        g = new0(Registry, 1);
        if (!g)
                return -ENOMEM;

        g->report = report;
        g->insecure = o->insecure;
        g->stall_usec = o->stall_usec ?: STALL_USEC;
        g->attempts = o->attempts ?: PULL_ATTEMPTS_MAX;
        if (!(g->host = strdup(o->host)) || (o->username && !(g->username = strdup(o->username))) ||
                        (o->password && !(g->password = strdup(o->password))) ||
                        (o->ca_file && !(g->ca_file = strdup(o->ca_file))))
                return -ENOMEM;
        g->curl = curl_easy_init();
        if (!g->curl)
                return -ENOMEM;

        *ret = TAKE_PTR(g);
        return 0;
}

const char *registry_host(const Registry *g) {
        return g->host;
}

static int take_header(char **field, const char *value) {
        free(*field);
        *field = strdup(value);
        return *field ? 0 : -ENOMEM;
}

/* Runs for each line, also of the answers before the last: a new status line begins anew. */
static size_t on_header(char *buffer, size_t size, size_t n, void *userdata) {
        _cleanup_free_ char *line = NULL;
        Transfer *t = userdata;
        char *value;
        size_t length = size * n;
        int r = 0;

        line = strndup(buffer, length);
        if (!line)
                return 0;
        if (startswith(line, "HTTP/")) {
                auth_challenge_done(&t->challenge);
                registry_answer_done(&t->answer);
                t->range_start = UINT64_MAX;
                return length;
        }
        value = strchr(line, ':');
        if (!value)
                return length;
        *value++ = '\0';
        value += strspn(value, " \t");
        value[strcspn(value, "\r\n")] = '\0';

        if (strcasecmp(line, "WWW-Authenticate") == 0) {
                r = auth_challenge_parse(value, &t->challenge);
                if (r == -EINVAL)
                        r = 0; /* as good as none */
        } else if (strcasecmp(line, "Content-Type") == 0) {
                value[strcspn(value, "; ")] = '\0';
                r = take_header(&t->answer.content_type, value);
        } else if (strcasecmp(line, "Docker-Content-Digest") == 0)
                r = take_header(&t->answer.digest, value);
        else if (strcasecmp(line, "Content-Range") == 0 && strncasecmp(value, "bytes ", 6) == 0) {
                value[6 + strcspn(value + 6, "-")] = '\0';
                (void) safe_atou64(value + 6, &t->range_start);
        }

        return r < 0 ? 0 : length;
}

static size_t on_data(char *buffer, size_t size, size_t n, void *userdata) {
        Transfer *t = userdata;
        size_t length = size * n;
        long status = 0;

        (void) curl_easy_getinfo(t->g->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status != 200 && status != 206) {
                size_t room = MIN(length, REFUSAL_SIZE_MAX - t->refusal_size);

                memcpy(t->refusal + t->refusal_size, buffer, room);
                t->refusal_size += room;
                return length;
        }

        if (!t->begun) {
                t->sink_error = t->sink->begin(status == 206 ? t->range_start : 0, t->sink->userdata);
                t->begun = true;
        }
        if (t->sink_error >= 0)
                t->sink_error = t->sink->data(buffer, length, t->sink->userdata);

        return t->sink_error < 0 ? 0 : length;
}

static int on_progress(
                void *userdata, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal, curl_off_t ulnow) {
        Transfer *t = userdata;

        return report_progress(t->g->report) < 0;
}

#define SETOPT(curl, option, value) (curl_easy_setopt((curl), (option), (value)) == CURLE_OK)

static bool set_options(
                Registry *g, Transfer *t, const char *url, struct curl_slist *headers, uint64_t offset) {
        CURL *c = g->curl;
        char range[32];

        /* Not RESUME_FROM: that fails with a registry which sends everything from the start. */
        (void) snprintf(range, sizeof(range), "%llu-", (unsigned long long) offset);
        curl_easy_reset(c);
        return SETOPT(c, CURLOPT_URL, url) && SETOPT(c, CURLOPT_HTTPHEADER, headers) &&
               SETOPT(c, CURLOPT_NOSIGNAL, 1L) && SETOPT(c, CURLOPT_USERAGENT, "kontena/" KONTENA_VERSION) &&
               SETOPT(c, CURLOPT_ERRORBUFFER, t->message) && SETOPT(c, CURLOPT_HEADERFUNCTION, on_header) &&
               SETOPT(c, CURLOPT_HEADERDATA, t) && SETOPT(c, CURLOPT_WRITEFUNCTION, on_data) &&
               SETOPT(c, CURLOPT_WRITEDATA, t) && SETOPT(c, CURLOPT_XFERINFOFUNCTION, on_progress) &&
               SETOPT(c, CURLOPT_XFERINFODATA, t) && SETOPT(c, CURLOPT_NOPROGRESS, 0L) &&
               SETOPT(c, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS) &&
               SETOPT(c, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES) &&
               SETOPT(c, CURLOPT_LOW_SPEED_TIME, (long) MAX(g->stall_usec / USEC_PER_SEC, UINT64_C(1))) &&
               /* The Authorization header stays with host, port and scheme: libcurl drops it at a redirect that
                         * leads elsewhere, as long as UNRESTRICTED_AUTH is off. */
               SETOPT(c, CURLOPT_FOLLOWLOCATION, 1L) &&
               SETOPT(c, CURLOPT_MAXREDIRS, (long) REGISTRY_REDIRECTS_MAX) &&
               SETOPT(c, CURLOPT_UNRESTRICTED_AUTH, 0L) &&
               SETOPT(c, CURLOPT_PROTOCOLS_STR, g->insecure ? "https,http" : "https") &&
               SETOPT(c, CURLOPT_REDIR_PROTOCOLS_STR, g->insecure ? "https,http" : "https") &&
               SETOPT(c, CURLOPT_SSL_VERIFYPEER, g->insecure ? 0L : 1L) &&
               SETOPT(c, CURLOPT_SSL_VERIFYHOST, g->insecure ? 0L : 2L) &&
               SETOPT(c, CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2) &&
               (!g->ca_file || SETOPT(c, CURLOPT_CAINFO, g->ca_file)) &&
               (offset == 0 || SETOPT(c, CURLOPT_RANGE, range));
}

/* What the registry itself says, when it can be shown to people. */
static char *refusal_reason(Transfer *t) {
        _cleanup_json_ json_object *o = NULL;
        const char *message = NULL;
        json_object *errors = NULL;

        t->refusal[t->refusal_size] = '\0';
        if (json_parse(t->refusal, t->refusal_size, REFUSAL_SIZE_MAX, &o, NULL) < 0 ||
                        json_find_array(o, "errors", &errors, NULL) <= 0)
                return NULL;
        FOREACH_JSON_ARRAY(e, errors) {
                if (json_find_string(e, "message", &message, NULL) > 0 && string_is_printable(message) &&
                                strlen(message) <= 200)
                        return strdup(message);
                break;
        }

        return NULL;
}

static const char *connection_failure(CURLcode code) {
        switch (code) {
        case CURLE_COULDNT_RESOLVE_HOST:
                return "its name cannot be resolved";
        case CURLE_COULDNT_RESOLVE_PROXY:
                return "the name of the proxy cannot be resolved";
        case CURLE_COULDNT_CONNECT:
                return "cannot connect";
        case CURLE_PEER_FAILED_VERIFICATION:
                return "its certificate is not trusted";
        case CURLE_SSL_CACERT_BADFILE:
                return "the file of trusted certificates cannot be used";
        case CURLE_SSL_CONNECT_ERROR:
                return "no TLS connection";
        case CURLE_OPERATION_TIMEDOUT:
                return "it does not answer or has stalled";
        case CURLE_TOO_MANY_REDIRECTS:
                return "it redirects without end";
        case CURLE_UNSUPPORTED_PROTOCOL:
                return "it redirects to a place without TLS";
        case CURLE_PARTIAL_FILE:
        case CURLE_RECV_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
                return "the connection broke";
        default:
                return "the transfer failed";
        }
}

static bool curl_is_transient(CURLcode code) {
        switch (code) {
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_COULDNT_CONNECT:
        case CURLE_OPERATION_TIMEDOUT:
        case CURLE_PARTIAL_FILE:
        case CURLE_RECV_ERROR:
        case CURLE_SEND_ERROR:
        case CURLE_GOT_NOTHING:
        case CURLE_SSL_CONNECT_ERROR:
        case CURLE_HTTP2:
        case CURLE_HTTP2_STREAM:
        case CURLE_WEIRD_SERVER_REPLY:
                return true;
        default:
                return false;
        }
}

static int fail_connection(Registry *g, Transfer *t, CURLcode code, KError *reterr) {
        int r;

        r = kerror_set(reterr, K_IMAGE, "registry '%s': %s (%s)", g->host, connection_failure(code),
                        t->message[0] != '\0' && string_is_printable(t->message) ? t->message
                                                                                 : curl_easy_strerror(code));
        return curl_is_transient(code) ? -EAGAIN : r;
}

/* Which registry refused whom. */
static int set_refusal(Registry *g, const Transfer *t, long status, const char *colon, const char *said,
                KError *reterr) {
        if (!g->username)
                return kerror_set(reterr, K_IMAGE,
                                "registry '%s' refuses it without a user and password%s%s (%ld)", g->host,
                                colon, said, status);
        if (t->password && status == 401)
                return kerror_set(reterr, K_IMAGE,
                                "registry '%s' does not know user '%s' with this password%s%s (401)",
                                g->host, g->username, colon, said);
        return kerror_set(reterr, K_IMAGE, "registry '%s' refuses it to user '%s'%s%s (%ld)", g->host,
                        g->username, colon, said, status);
}

/* One exchange. 0: the sink has all of it. -EAGAIN: transient. -EACCES: see t->challenge. -ENOENT. */
static int transfer(Registry *g, Transfer *t, const char *url, struct curl_slist *headers, uint64_t offset,
                KError *reterr) {
        _cleanup_free_ char *reason = NULL;
        const char *colon, *said;
        long status = 0;
        CURLcode code;
        int r;

        if (!set_options(g, t, url, headers, offset))
                return -ENOMEM;
        t->range_start = UINT64_MAX;
        code = curl_easy_perform(g->curl);
        g->no_tls = code == CURLE_SSL_CONNECT_ERROR || code == CURLE_COULDNT_CONNECT;
        if (t->sink_error < 0)
                return t->sink_error;
        if (code == CURLE_ABORTED_BY_CALLBACK)
                return -ECANCELED;
        if (code != CURLE_OK)
                return fail_connection(g, t, code, reterr);

        (void) curl_easy_getinfo(g->curl, CURLINFO_RESPONSE_CODE, &status);
        if (status == 200 || status == 206) {
                if (!t->begun) /* nothing is also something */
                        return t->sink->begin(status == 206 ? t->range_start : 0, t->sink->userdata);
                return 0;
        }

        reason = refusal_reason(t);
        colon = reason ? ": " : "";
        said = strempty(reason);
        if (status == 401 || status == 403) {
                r = set_refusal(g, t, status, colon, said, reterr);
                return status == 401 ? -EACCES : r;
        }
        if (status == 404) {
                (void) kerror_set(reterr, K_IMAGE, "registry '%s' %s%s%s (404)", g->host,
                                strstr(url, "/blobs/") ? "does not have it" : "has no such image", colon,
                                said);
                return -ENOENT;
        }
        if (status == 429) {
                (void) kerror_set(reterr, K_IMAGE,
                                "registry '%s' has had too many requests from here%s%s (429)", g->host,
                                colon, said);
                return -EAGAIN;
        }
        r = kerror_set(reterr, K_IMAGE, "registry '%s' answers with status %ld%s%s", g->host, status, colon,
                        said);
        /* Our partial blob is longer than theirs; the next attempt begins at the start. */
        if (status == 416 && offset > 0)
                return t->sink->begin(0, t->sink->userdata) < 0 ? -EIO : -EAGAIN;
        return status >= 500 ? -EAGAIN : r;
}

typedef struct Text {
        char *data;
        size_t size, max;
} Text;

static void text_done(Text *t) {
        if (t->data)
                erase_memory(t->data, t->size);
        t->data = mfree(t->data);
        t->size = 0;
}

static int text_begin(uint64_t offset, void *userdata) {
        text_done(userdata);
        return offset == 0 ? 0 : -EPROTO;
}

static int text_data(const void *data, size_t n, void *userdata) {
        Text *t = userdata;
        char *larger;

        if (n > t->max - t->size)
                return -EFBIG;
        larger = realloc(t->data, t->size + n + 1);
        if (!larger)
                return -ENOMEM;
        t->data = larger;
        memcpy(t->data + t->size, data, n);
        t->size += n;
        t->data[t->size] = '\0';
        return 0;
}

/* "Authorization: Basic ...". */
static int basic_header(Registry *g, char **ret) {
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        _cleanup_erase_ char *plain = NULL, *coded = NULL;
        const uint8_t *p;
        size_t n, k = 0;

        plain = strjoin(g->username, ":", strempty(g->password));
        if (!plain)
                return -ENOMEM;
        n = strlen(plain);
        coded = malloc((n + 2) / 3 * 4 + 1);
        if (!coded)
                return -ENOMEM;
        p = (const uint8_t *) plain;
        for (size_t i = 0; i < n; i += 3) {
                uint32_t v = (uint32_t) p[i] << 16 | (i + 1 < n ? (uint32_t) p[i + 1] << 8 : 0) |
                             (i + 2 < n ? p[i + 2] : 0);

                coded[k++] = digits[v >> 18];
                coded[k++] = digits[v >> 12 & 63];
                coded[k++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
                coded[k++] = i + 2 < n ? digits[v & 63] : '=';
        }
        coded[k] = '\0';

        *ret = strjoin("Authorization: Basic ", coded);
        return *ret ? 0 : -ENOMEM;
}

static int token_url(
                Registry *g, const AuthChallenge *c, const char *repository, char **ret, KError *reterr) {
        _cleanup_(curl_strp) char *service = NULL, *scope = NULL;
        _cleanup_free_ char *wanted = NULL;

        if (!startswith(c->realm, "https://") && !(g->insecure && startswith(c->realm, "http://")))
                return kerror_set(reterr, K_IMAGE,
                                "registry '%s' wants the password to go to a place without TLS", g->host);

        wanted = strjoin("repository:", repository, ":pull");
        if (!wanted)
                return -ENOMEM;
        scope = curl_easy_escape(g->curl, c->scope ?: wanted, 0);
        service = curl_easy_escape(g->curl, strempty(c->service), 0);
        if (!scope || !service)
                return -ENOMEM;

        *ret = strjoin(c->realm, strchr(c->realm, '?') ? "&" : "?", "service=", service, "&scope=", scope);
        return *ret ? 0 : -ENOMEM;
}

static int fetch_token(Registry *g, const AuthChallenge *c, const char *repository, KError *reterr) {
        _cleanup_(curl_slist_freep) struct curl_slist *headers = NULL;
        _cleanup_(transfer_done) Transfer t = { .g = g };
        _cleanup_(text_done) Text text = { .max = TOKEN_SIZE_MAX };
        const RegistrySink sink = { .begin = text_begin, .data = text_data, .userdata = &text };
        _cleanup_erase_ char *basic = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *url = NULL;
        const char *token = NULL;
        int r;

        r = token_url(g, c, repository, &url, reterr);
        if (r < 0)
                return r;
        if (g->username) {
                r = basic_header(g, &basic);
                if (r < 0)
                        return r;
                headers = curl_slist_append(NULL, basic);
                if (!headers)
                        return -ENOMEM;
                t.password = true;
        }

        t.sink = &sink;
        r = transfer(g, &t, url, headers, 0, reterr);
        if (r < 0)
                return r;
        if (json_parse(strempty(text.data), text.size, TOKEN_SIZE_MAX, &o, NULL) < 0 ||
                        (json_find_string(o, "token", &token, NULL) <= 0 &&
                                        json_find_string(o, "access_token", &token, NULL) <= 0) ||
                        !string_is_printable(token))
                return kerror_set(reterr, K_IMAGE, "registry '%s' sends us to a place that gives no token",
                                g->host);

        erase_and_freep(&g->authorization);
        g->authorization = strjoin("Authorization: Bearer ", token);
        return g->authorization ? 0 : -ENOMEM;
}

static int authorize(Registry *g, const AuthChallenge *c, const char *repository, KError *reterr) {
        int r;

        if (c->scheme == AUTH_BEARER)
                r = fetch_token(g, c, repository, reterr);
        else if (c->scheme == AUTH_BASIC && g->username) {
                char *basic;

                r = basic_header(g, &basic);
                if (r >= 0) {
                        erase_and_freep(&g->authorization);
                        g->authorization = basic;
                }
        } else
                return -EACCES;
        if (r < 0)
                return r;

        r = free_and_strdup(&g->authorized_repository, repository);
        return MIN(r, 0);
}

/* One attempt, with at most one authorization in it. */
static int attempt(Registry *g, const char *repository, const char *path, const char *accept,
                const RegistrySink *sink, RegistryAnswer *ret, KError *reterr) {
        bool asked = false;
        int r;

        for (;;) {
                _cleanup_(curl_slist_freep) struct curl_slist *headers = NULL;
                _cleanup_(transfer_done) Transfer t = { .g = g, .sink = sink };
                _cleanup_kerror_ KError e = KERROR_NULL;
                _cleanup_free_ char *url = NULL, *accept_line = NULL;

                url = strjoin(g->plain ? "http://" : "https://", g->host, "/v2/", repository, "/", path);
                accept_line = strjoin("Accept: ", accept);
                if (!url || !accept_line)
                        return -ENOMEM;
                headers = curl_slist_append(NULL, accept_line);
                if (!headers)
                        return -ENOMEM;
                if (g->authorization && streq_ptr(g->authorized_repository, repository)) {
                        if (!curl_slist_append(headers, g->authorization))
                                return -ENOMEM;
                        t.password = startswith(g->authorization, "Authorization: Basic ");
                }

                r = transfer(g, &t, url, headers, sink->offset ? sink->offset(sink->userdata) : 0, &e);
                if (r >= 0) {
                        *ret = TAKE_GENERIC(t.answer, (RegistryAnswer){});
                        return 0;
                }
                if (r == -EACCES && !asked) {
                        asked = true;
                        r = authorize(g, &t.challenge, repository, reterr);
                        if (r >= 0)
                                continue;
                }
                kerror_move(kerror_is_set(reterr) ? NULL : reterr, &e);
                return r;
        }
}

/* A registry that may do without TLS is asked without it when it cannot do it. */
static bool try_plain(Registry *g) {
        if (!g->no_tls || !g->insecure || g->plain)
                return false;

        log_debug("Registry '%s' has no TLS, going on without.", g->host);
        g->plain = true;
        return true;
}

int registry_get(Registry *g, const char *repository, const char *path, const char *accept,
                const RegistrySink *sink, RegistryAnswer *ret, KError *reterr) {
        uint64_t delay = FIRST_DELAY_USEC;
        int r;

        for (unsigned n = 1;; n++) {
                _cleanup_kerror_ KError e = KERROR_NULL;
                curl_off_t after = 0;

                r = attempt(g, repository, path, accept, sink, ret, &e);
                if (r >= 0)
                        return 0;
                if (try_plain(g)) {
                        n--; /* does not count */
                        continue;
                }
                if (r != -EAGAIN || n >= g->attempts) {
                        kerror_move(kerror_is_set(reterr) ? NULL : reterr, &e);
                        return r == -EAGAIN ? -EHOSTUNREACH : r == -EACCES ? -EBADMSG : r;
                }

                log_debug("Attempt %u of %u: %s", n, g->attempts, kerror_message(&e));
                (void) curl_easy_getinfo(g->curl, CURLINFO_RETRY_AFTER, &after);
                r = report_sleep(g->report,
                                after > 0 ? (uint64_t) MIN(after, RETRY_AFTER_MAX_SEC) * USEC_PER_SEC
                                          : delay);
                if (r < 0)
                        return r;
                delay = MIN(delay * 2, (uint64_t) LAST_DELAY_USEC);
        }
}

int registry_get_text(Registry *g, const char *repository, const char *path, const char *accept, size_t max,
                char **ret, size_t *ret_size, RegistryAnswer *ret_answer, KError *reterr) {
        _cleanup_(text_done) Text text = { .max = max };
        const RegistrySink sink = { .begin = text_begin, .data = text_data, .userdata = &text };
        int r;

        r = registry_get(g, repository, path, accept, &sink, ret_answer, reterr);
        if (r == -EFBIG)
                return kerror_set(reterr, K_LIMIT_EXCEEDED, "registry '%s' answers with more than %zu bytes",
                                g->host, max);
        if (r < 0)
                return r;
        if (!text.data)
                return kerror_set(reterr, K_IMAGE, "registry '%s' answers with nothing", g->host);

        *ret_size = text.size;
        *ret = TAKE_PTR(text.data);
        return 0;
}
