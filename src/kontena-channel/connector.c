/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "connector.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "file-util.h"
#include "log.h"
#include "peer-check.h"
#include "string-util.h"

#define SOCKETS_MAX       8U /* two address families, the resolver, the proxy */
#define CA_SIZE_MAX       (1024U * 1024U)
#define USER_TIMEOUT_MSEC 30000 /* nothing acknowledged, probes neither */

typedef struct Watch {
        Connector *connector;
        curl_socket_t fd;
        sd_event_source *io;
} Watch;

struct Connector {
        sd_event *event;
        sd_event_source *timer;
        CURLM *multi;
        CURL *easy;
        Watch watches[SOCKETS_MAX];
        curl_socket_t fd;

        char *host, *authority, *path, *ca_file, *proxy;
        uint64_t timeout;
        const char *phase;
        char error[CURL_ERROR_SIZE];

        connector_phase_t on_phase;
        connector_done_t done;
        void *userdata;
        bool finished;
};

static void set_phase(Connector *c, const char *phase) {
        if (streq(c->phase, phase))
                return;

        c->phase = phase;
        if (c->on_phase)
                c->on_phase(c, phase, c->userdata);
}

static int load_ca(const char *path, X509Chain *ret) {
        _cleanup_free_ char *pem = NULL;
        size_t size;
        int r;

        r = read_file(path, CA_SIZE_MAX, &pem, &size);
        if (r < 0)
                return r;
        return x509_chain_import(ret, pem, size);
}

int connector_peer_chain(Connector *c, X509Chain *ret) {
        _cleanup_free_ char *pem = strjoin("", "");
        struct curl_certinfo *info = NULL;

        if (!pem)
                return -ENOMEM;
        if (curl_easy_getinfo(c->easy, CURLINFO_CERTINFO, &info) != CURLE_OK || !info ||
                        info->num_of_certs <= 0)
                return -ENODATA;
        for (int i = 0; i < info->num_of_certs; i++)
                for (struct curl_slist *s = info->certinfo[i]; s; s = s->next) {
                        const char *v = startswith(s->data, "Cert:");
                        char *joined;

                        if (!v)
                                continue;
                        joined = strjoin(pem, v, "\n");
                        if (!joined)
                                return -ENOMEM;
                        free(pem);
                        pem = joined;
                }

        return x509_chain_import(ret, pem, strlen(pem));
}

/* libcurl's own words do not tell these apart. */
static void explain_certificate(Connector *c, KError *ret) {
        _cleanup_(x509_chain_done) X509Chain chain = {}, ca = {};

        if (c->ca_file && load_ca(c->ca_file, &ca) >= 0 && connector_peer_chain(c, &chain) >= 0 &&
                        peer_check(&chain, &ca, c->host, time(NULL), c->authority, ret) < 0 &&
                        kerror_is_set(ret))
                return;

        (void) kerror_set(ret, K_NOT_AUTHENTICATED,
                        "The certificate of the master at %s is not accepted: %s.", c->authority, c->error);
}

static void explain(Connector *c, CURLcode code, KError *ret) {
        const char *detail = c->error[0] ? c->error : curl_easy_strerror(code);
        long error = 0;

        (void) curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &error);
        switch (code) {
        case CURLE_COULDNT_RESOLVE_HOST:
                (void) kerror_set(ret, K_NETWORK, "The master's name '%s' cannot be resolved.", c->host);
                return;
        case CURLE_COULDNT_RESOLVE_PROXY:
                (void) kerror_set(
                                ret, K_NETWORK, "The name of the proxy '%s' cannot be resolved.", c->proxy);
                return;
        case CURLE_COULDNT_CONNECT:
                if (error == ECONNREFUSED)
                        (void) kerror_set(ret, K_NETWORK, "%s at %s refuses the connection%s.",
                                        c->proxy ? "The proxy" : "The master", c->proxy ?: c->authority,
                                        c->proxy ? "" : ": kontenad may not run there");
                else if (error != 0)
                        (void) kerror_set_errno(ret, (int) -error, "%s at %s cannot be reached: %m.",
                                        c->proxy ? "The proxy" : "The master", c->proxy ?: c->authority);
                else
                        (void) kerror_set(ret, K_NETWORK, "The master at %s cannot be reached: %s.",
                                        c->authority, detail);
                return;
        case CURLE_OPERATION_TIMEDOUT:
                (void) kerror_set(ret, K_TIMEOUT, "No success within %llu s %s.",
                                (unsigned long long) (c->timeout / USEC_PER_SEC),
                                streq(c->phase, "resolving")    ? "in resolving the master's name"
                                : streq(c->phase, "connecting") ? "in connecting to the master: is its port "
                                                                  "open in the firewalls between?"
                                                                : "in the TLS handshake: the master, or "
                                                                  "what listens there, does not answer");
                return;
        case CURLE_PEER_FAILED_VERIFICATION:
                explain_certificate(c, ret);
                return;
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CERTPROBLEM:
                (void) kerror_set(ret, K_NOT_AUTHENTICATED,
                                "This node's key or the master's CA certificate cannot be used (%s); join "
                                "again.",
                                detail);
                return;
        case CURLE_SSL_CONNECT_ERROR:
                (void) kerror_set(ret, K_NETWORK, "The TLS handshake with the master at %s failed: %s.",
                                c->authority, detail);
                return;
        default:
                (void) kerror_set(ret, K_NETWORK, "%s%s: %s.",
                                c->proxy ? "Through the proxy no connection comes to the master at "
                                         : "No connection to the master at ",
                                c->authority, detail);
        }
}

static void finish(Connector *c, CURLcode code) {
        _cleanup_kerror_ KError error = KERROR_NULL;

        c->finished = true;
        c->timer = sd_event_source_disable_unref(c->timer);
        FOREACH_ARRAY(w, c->watches, SOCKETS_MAX)
                w->io = sd_event_source_disable_unref(w->io);

        if (code == CURLE_OK &&
                        (curl_easy_getinfo(c->easy, CURLINFO_ACTIVESOCKET, &c->fd) != CURLE_OK || c->fd < 0))
                code = CURLE_RECV_ERROR;
        if (code != CURLE_OK)
                explain(c, code, &error);
        c->done(c, code == CURLE_OK ? NULL : &error, c->userdata);
}

/* libcurl tells only of TCP and TLS together. */
static bool is_connected(Connector *c) {
        FOREACH_ARRAY(w, c->watches, SOCKETS_MAX) {
                struct sockaddr_storage a;
                socklen_t size = sizeof(a);

                if (w->io && getpeername(w->fd, (struct sockaddr *) &a, &size) >= 0 &&
                                a.ss_family != AF_UNIX)
                        return true;
        }
        return false;
}

static void act(Connector *c, curl_socket_t fd, int mask) {
        curl_off_t resolved = 0;
        int running, left;
        CURLMsg *m;

        (void) curl_multi_socket_action(c->multi, fd, mask, &running);

        (void) curl_easy_getinfo(c->easy, CURLINFO_NAMELOOKUP_TIME_T, &resolved);
        set_phase(c, streq(c->phase, "tls") || is_connected(c) ? "tls"
                        : resolved > 0                         ? "connecting"
                                                               : "resolving");

        while ((m = curl_multi_info_read(c->multi, &left)))
                if (m->msg == CURLMSG_DONE) {
                        finish(c, m->data.result);
                        return; /* the owner may have freed us */
                }
}

static int on_watch(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Watch *w = userdata;
        int mask = 0;

        if (revents & (EPOLLIN | EPOLLHUP))
                mask |= CURL_CSELECT_IN;
        if (revents & EPOLLOUT)
                mask |= CURL_CSELECT_OUT;
        if (revents & EPOLLERR)
                mask |= CURL_CSELECT_ERR;
        act(w->connector, fd, mask);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        act(userdata, CURL_SOCKET_TIMEOUT, 0);
        return 0;
}

static int socket_function(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data) {
        Connector *c = userdata;
        Watch *w = NULL;
        uint32_t events;

        FOREACH_ARRAY(i, c->watches, SOCKETS_MAX)
                if (i->io && i->fd == fd) {
                        w = i;
                        break;
                }

        /* Curl says remove before it closes. The number may come again with another socket. */
        if (what == CURL_POLL_REMOVE) {
                if (w)
                        w->io = sd_event_source_disable_unref(w->io);
                return 0;
        }
        if (c->finished)
                return 0;

        events = (what & CURL_POLL_IN ? (uint32_t) EPOLLIN : 0) |
                 (what & CURL_POLL_OUT ? (uint32_t) EPOLLOUT : 0);
        if (w)
                return sd_event_source_set_io_events(w->io, events) < 0 ? -1 : 0;

        FOREACH_ARRAY(i, c->watches, SOCKETS_MAX)
                if (!i->io) {
                        i->connector = c;
                        i->fd = fd;
                        return sd_event_add_io(c->event, &i->io, fd, events, on_watch, i) < 0 ? -1 : 0;
                }
        return -1;
}

static int timer_function(CURLM *multi, long msec, void *userdata) {
        Connector *c = userdata;

        if (!c->timer)
                return 0;
        if (msec < 0)
                return sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        if (sd_event_source_set_time_relative(c->timer, (uint64_t) msec * USEC_PER_MSEC) < 0 ||
                        sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT) < 0)
                return -1;
        return 0;
}

static int parse_url(Connector *c, const char *url, char **ret_https, KError *reterr) {
        const char *p = startswith(url, "wss://") ?: startswith(url, "https://");
        size_t n;

        if (!p || !string_is_printable(url))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not the URL of a master.", url);
        n = strcspn(p, "/");
        c->authority = strndup(p, n);
        c->path = strdup(p[n] ? p + n : "/");
        c->host = p[0] == '[' ? strndup(p + 1, strcspn(p + 1, "]")) : strndup(p, strcspn(p, ":/"));
        *ret_https = strjoin("https://", p);
        if (!c->authority || !c->path || !c->host || !*ret_https)
                return -ENOMEM;
        if (c->host[0] == '\0')
                return kerror_set(reterr, K_INVALID_ARGUMENT, "'%s' is not the URL of a master.", url);
        return 0;
}

static int on_socket(void *userdata, curl_socket_t fd, curlsocktype purpose) {
        int timeout = USER_TIMEOUT_MSEC;

        (void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
        return CURL_SOCKOPT_OK;
}

#define SET(option, value)                                                                                  \
        do {                                                                                                \
                if (code == CURLE_OK)                                                                       \
                        code = curl_easy_setopt(c->easy, (option), (value));                                \
        } while (false)

static int configure(Connector *c, const char *https, const ConnectorOptions *o) {
        CURLcode code = CURLE_OK;

        SET(CURLOPT_URL, https);
        SET(CURLOPT_CONNECT_ONLY, 1L);
        SET(CURLOPT_PROTOCOLS_STR, "https");
        SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
        SET(CURLOPT_SSL_ENABLE_ALPN, 0L);
        SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_3);
        SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);
        SET(CURLOPT_CERTINFO, 1L);
        SET(CURLOPT_NOSIGNAL, 1L);
        SET(CURLOPT_QUICK_EXIT, 1L); /* else the end waits for a thread that looks for a name */
        SET(CURLOPT_TCP_NODELAY, 1L);
        /* A master that was cut off and forgot us is found out when the cable is back, not at the end of the silence. */
        SET(CURLOPT_TCP_KEEPALIVE, 1L);
        SET(CURLOPT_TCP_KEEPIDLE, 15L);
        SET(CURLOPT_TCP_KEEPINTVL, 5L);
        SET(CURLOPT_SOCKOPTFUNCTION, on_socket);
        SET(CURLOPT_CONNECTTIMEOUT_MS, (long) (o->timeout_usec / USEC_PER_MSEC));
        SET(CURLOPT_ERRORBUFFER, c->error);
        SET(CURLOPT_PROXY, strempty(o->proxy)); /* an empty one keeps it from the environment */
        if (o->no_proxy)
                SET(CURLOPT_NOPROXY, o->no_proxy);
        SET(CURLOPT_CAPATH, (char *) NULL); /* not the system's */
        if (o->ca_file)
                SET(CURLOPT_CAINFO, o->ca_file);
        SET(CURLOPT_SSL_VERIFYPEER, o->ca_file ? 1L : 0L);
        SET(CURLOPT_SSL_VERIFYHOST, o->ca_file ? 2L : 0L);
        if (o->certificate_file) {
                SET(CURLOPT_SSLCERT, o->certificate_file);
                SET(CURLOPT_SSLKEY, o->key_file);
        }
        return code == CURLE_OK ? 0 : code == CURLE_OUT_OF_MEMORY ? -ENOMEM : -EOPNOTSUPP;
}

int connector_new(sd_event *event, const ConnectorOptions *options, connector_phase_t on_phase,
                connector_done_t done, void *userdata, Connector **ret, KError *reterr) {
        _cleanup_(connector_freep) Connector *c = NULL;
        _cleanup_free_ char *https = NULL;
        int r;

        assert(event);
        assert(options);
        assert(done);
        assert(ret);

        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        c = new0(Connector, 1);
        if (!c)
                return -ENOMEM;
        c->event = sd_event_ref(event);
        c->fd = -EBADF;
        c->phase = "";
        c->on_phase = on_phase;
        c->done = done;
        c->userdata = userdata;
        c->timeout = options->timeout_usec;
        r = parse_url(c, options->url, &https, reterr);
        if (r < 0)
                return r;
        if (free_and_strdup(&c->ca_file, options->ca_file) < 0 ||
                        free_and_strdup(&c->proxy, empty_to_null(options->proxy)) < 0)
                return -ENOMEM;

        c->easy = curl_easy_init();
        c->multi = curl_multi_init();
        if (!c->easy || !c->multi)
                return -ENOMEM;
        r = configure(c, https, options);
        if (r < 0)
                return kerror_set_errno(reterr, r, "libcurl cannot be set up: %m.");
        r = sd_event_add_time(event, &c->timer, CLOCK_MONOTONIC, 0, USEC_PER_MSEC, on_timer, c);
        if (r < 0)
                return r;
        (void) curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, socket_function);
        (void) curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
        (void) curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, timer_function);
        (void) curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
        if (curl_multi_add_handle(c->multi, c->easy) != CURLM_OK)
                return -ENOMEM;
        c->phase = "resolving";

        *ret = TAKE_PTR(c);
        return 0;
}

Connector *connector_free(Connector *c) {
        if (!c)
                return NULL;

        c->finished = true;
        c->timer = sd_event_source_disable_unref(c->timer);
        FOREACH_ARRAY(w, c->watches, SOCKETS_MAX)
                w->io = sd_event_source_disable_unref(w->io);
        if (c->multi && c->easy)
                (void) curl_multi_remove_handle(c->multi, c->easy);
        curl_easy_cleanup(c->easy);
        (void) curl_multi_cleanup(c->multi);
        sd_event_unref(c->event);
        free(c->host);
        free(c->authority);
        free(c->path);
        free(c->ca_file);
        free(c->proxy);
        free(c);
        return NULL;
}

int connector_fd(Connector *c) {
        return c->fd;
}

const char *connector_host(const Connector *c) {
        return c->host;
}

const char *connector_authority(const Connector *c) {
        return c->authority;
}

const char *connector_path(const Connector *c) {
        return c->path;
}

const char *connector_phase(const Connector *c) {
        return c->phase;
}

ssize_t connector_send(Connector *c, const void *data, size_t size) {
        size_t n = 0;

        switch (curl_easy_send(c->easy, data, size, &n)) {
        case CURLE_OK:
                return (ssize_t) n;
        case CURLE_AGAIN:
                return -EAGAIN;
        default:
                return -ECONNRESET;
        }
}

ssize_t connector_recv(Connector *c, void *data, size_t size) {
        size_t n = 0;

        switch (curl_easy_recv(c->easy, data, size, &n)) {
        case CURLE_OK:
                return (ssize_t) n;
        case CURLE_AGAIN:
                return -EAGAIN;
        default:
                return -ECONNRESET;
        }
}
