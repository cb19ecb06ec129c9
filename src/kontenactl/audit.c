/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <inttypes.h>
#include <pwd.h>
#include <systemd/sd-journal.h>

#include "bus-json.h"
#include "file-util.h"
#include "json-util.h"
#include "kontena-limits.h"
#include "logs.h"
#include "parse-util.h"
#include "string-util.h"
#include "watch.h"
#include "when.h"

#define POLL_USEC (500U * USEC_PER_MSEC)

typedef struct AuditView {
        Ctl *c;
        json_object *filter;
        unsigned lines;
        uint64_t last;
        MasterWatch watch;
        sd_event_source *timer;
} AuditView;

static void audit_view_done(AuditView *v) {
        json_object_put(v->filter);
        master_watch_done(&v->watch);
        sd_event_source_disable_unref(v->timer);
}

/* Users of the master's machine are known by name only there. */
static char *user_name(const AuditView *v, json_object *row) {
        const struct passwd *p;
        json_object *uid = NULL;

        if (!json_object_object_get_ex(row, "uid", &uid))
                return strdup(row_string(row, "name"));
        p = ctl_is_remote(v->c) ? NULL : getpwuid((uid_t) json_object_get_int64(uid));
        return p ? strdup(p->pw_name) : strprintf("uid %" PRIi64, json_object_get_int64(uid));
}

/* A number, the name of a user of this machine where that is the master's, or whoever logs in with that e-mail address. */
static int user_option(Ctl *c, const char *user, json_object *filter) {
        const struct passwd *p;
        unsigned uid;

        if (safe_atou(user, &uid) >= 0)
                return json_add_u64(filter, "uid", uid);
        p = ctl_is_remote(c) ? NULL : getpwnam(user);
        return p ? json_add_u64(filter, "uid", p->pw_uid) : json_add_string(filter, "user", user);
}

/* What it was about: "web", "shop/web", the name of a node or a volume. */
static char *subject(json_object *row) {
        static const char *const keys[] = { "node", "volume", "name", "image", "deploy", NULL };
        json_object *p = json_object_object_get(row, "parameters");

        if (!isempty(row_string(p, "service")))
                return service_display_name(row_string(p, "stack"), row_string(p, "service"));
        for (const char *const *k = keys; *k; k++)
                if (!isempty(row_string(p, *k)))
                        return strdup(row_string(p, *k));
        return strdup("");
}

static int print_row(AuditView *v, json_object *row) {
        _cleanup_free_ char *user = user_name(v, row), *about = subject(row), *line = NULL, *clean = NULL,
                            *outcome = NULL;
        const char *grid = row_string(row, "grid"), *status = row_string(row, "status"),
                   *unit = row_string(row, "unit");
        Color color = streq(status, "denied")  ? COLOR_RED
                      : streq(status, "error") ? COLOR_YELLOW
                                               : COLOR_NONE;
        char buffer[32];

        v->last = MAX(v->last, (uint64_t) row_int(row, "id"));
        if (v->c->json != JSON_OFF)
                return ctl_print_json(v->c, row);
        if (!user || !about)
                return -ENOMEM;

        line = strprintf("%s%s%s %s%s%s%s%s", user, isempty(unit) ? "" : " in ", unit,
                        row_string(row, "operation"), isempty(grid) ? "" : " ", grid,
                        isempty(about) || streq(about, grid) ? "" : " ", streq(about, grid) ? "" : about);
        outcome = streq(status, "success")
                                  ? strprintf("done in %.1f ms", (double) row_int(row, "duration") / 1000.0)
                                  : strprintf("%s: %s", streq(status, "denied") ? "refused" : "failed",
                                                    row_string(row, "message"));
        if (!line || !outcome)
                return -ENOMEM;
        clean = text_escape(line, /* keep_newlines= */ false);
        line = mfree(line);
        line = text_escape(outcome, /* keep_newlines= */ false);
        if (!clean || !line)
                return -ENOMEM;

        printf("%s #%" PRIi64 " %s: %s%s%s\n", short_time((uint64_t) row_int(row, "time"), buffer),
                        row_int(row, "id"), clean, color_on(color), line, color_off(color));
        return 0;
}

static int get_rows(AuditView *v, json_object **ret, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = ctl_message(v->c, "ListAudit", &m, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "s", strempty(v->c->grid));
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        r = bus_json_append(m, "a{sv}", v->filter, reterr);
        if (r < 0)
                return r;
        r = ctl_send(v->c, m, &reply, reterr);
        if (r < 0)
                return r;
        return bus_json_read(reply, ret, reterr);
}

static int prepend(json_object **rows, json_object *older) {
        FOREACH_JSON_ARRAY(e, *rows) {
                int r = json_append(older, json_object_get(e));

                if (r < 0)
                        return r;
        }
        json_object_put(*rows);
        *rows = json_object_get(older);
        return 0;
}

/* The newest of them, in portions. */
static int get_newest(AuditView *v, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *rows = json_object_new_array();
        unsigned wanted = v->lines;
        int r = rows ? 0 : -ENOMEM;

        while (r >= 0 && wanted > 0) {
                _cleanup_json_ json_object *older = NULL;
                unsigned n = MIN(wanted, AUDIT_LIST_MAX);

                if (json_add_u64(v->filter, "limit", n) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                r = get_rows(v, &older, reterr);
                if (r < 0)
                        return r;
                wanted -= n;
                if (json_object_array_length(older) < n)
                        wanted = 0;
                else
                        r = json_add_u64(v->filter, "before",
                                        (uint64_t) row_int(json_object_array_get_idx(older, 0), "id"));
                if (r >= 0)
                        r = prepend(&rows, older);
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "Out of memory.");

        json_object_object_del(v->filter, "before");
        *ret = TAKE_PTR(rows);
        return 0;
}

static int show_new(AuditView *v, KError *reterr) {
        size_t n;

        do {
                _cleanup_json_ json_object *rows = NULL;
                int r;

                if (json_add_u64(v->filter, "after", v->last) < 0 ||
                                json_add_u64(v->filter, "limit", AUDIT_LIST_MAX) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                r = get_rows(v, &rows, reterr);
                if (r < 0)
                        return r;
                n = json_object_array_length(rows);
                FOREACH_JSON_ARRAY(e, rows) {
                        r = print_row(v, e);
                        if (r < 0)
                                return kerror_set_errno(reterr, r, "Cannot print: %m");
                }
        } while (n == AUDIT_LIST_MAX);

        return fflush(stdout) < 0 ? kerror_set_errno(reterr, -EIO, "Cannot print: %m") : 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_kerror_ KError error = KERROR_NULL;
        AuditView *v = userdata;
        int r = 0;

        if (!v->watch.gone)
                r = show_new(v, &error);
        if (r < 0 && error.code != K_UNAVAILABLE && !master_watch_mends(&v->watch)) {
                kerror_move(&v->watch.error, &error);
                return sd_event_exit(v->c->event, r);
        }
        r = sd_event_source_set_time_relative(v->timer, POLL_USEC);
        return r < 0 ? r : sd_event_source_set_enabled(v->timer, SD_EVENT_ONESHOT);
}

static int on_back(void *userdata, KError *reterr) {
        return show_new(userdata, reterr);
}

static int follow(AuditView *v, KError *reterr) {
        int r;

        v->watch = (MasterWatch){ .c = v->c, .patient = true, .back = on_back, .userdata = v };
        r = master_watch_start(&v->watch, reterr);
        if (r < 0)
                return r;
        r = sd_event_add_time_relative(v->c->event, &v->timer, CLOCK_MONOTONIC, POLL_USEC, 0, on_timer, v);
        if (r < 0)
                return kerror_set_errno(reterr, r, "The event loop failed: %m");
        return master_watch_run(&v->watch, reterr);
}

static int make_filter(AuditView *v, const Arguments *a, KError *reterr) {
        const char *until = arguments_get(a, "until"), *operation = arguments_get(a, "operation"),
                   *user = arguments_get(a, "user");
        uint64_t since = 0, t = 0;
        int r;

        v->filter = json_object_new_object();
        if (!v->filter)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = since_option(a, &since, reterr);
        if (r >= 0 && since > 0)
                r = json_add_u64(v->filter, "since", since);
        if (r >= 0 && until) {
                r = when_parse(until, now_realtime(), &t, reterr);
                if (r >= 0)
                        r = json_add_u64(v->filter, "until", t);
        }
        if (r >= 0 && operation)
                r = json_add_string(v->filter, "operation", operation);
        if (r >= 0 && user)
                r = user_option(v->c, user, v->filter);
        if (r >= 0 && arguments_has(a, "refused"))
                r = json_add_bool(v->filter, "refused", true);
        if (r >= 0)
                r = lines_option(a, since > 0 || until ? LOG_LINES_MAX : 100, &v->lines, reterr);
        if (r < 0 && !kerror_is_set(reterr))
                return kerror_set_errno(reterr, r, "Cannot make the call: %m");
        return r;
}

int command_audit_list(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(audit_view_done) AuditView v = { .c = c };
        _cleanup_json_ json_object *rows = NULL;
        bool following = arguments_has(a, "follow"), silent;
        int r;

        r = make_filter(&v, a, reterr);
        if (r < 0)
                return r;
        silent = v.lines == 0;
        v.lines = MAX(v.lines, 1U);
        r = get_newest(&v, &rows, reterr);
        if (r < 0)
                return r;

        if (!following) {
                ctl_open_pager(c);
                if (c->json != JSON_OFF)
                        return ctl_print_json(c, rows);
        }
        FOREACH_JSON_ARRAY(e, rows) {
                v.last = MAX(v.last, (uint64_t) row_int(e, "id"));
                r = silent ? 0 : print_row(&v, e);
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Cannot print: %m");
        }
        if (!following) {
                if (json_object_array_length(rows) == 0)
                        ctl_say(c, "There is nothing of that in the audit.");
                return 0;
        }

        (void) fflush(stdout);
        return follow(&v, reterr);
}

/* Every second one goes when there are too many: they are to be spread over all the time that the journal knows. */
static int thin_out(json_object **anchors) {
        _cleanup_json_ json_object *l = json_object_new_array();
        size_t n = json_object_array_length(*anchors);

        if (!l)
                return -ENOMEM;
        for (size_t i = 0; i < n; i += 2) {
                int r = json_append(l, json_object_get(json_object_array_get_idx(*anchors, i)));

                if (r < 0)
                        return r;
        }
        json_object_put(*anchors);
        *anchors = TAKE_PTR(l);
        return 0;
}

static int open_journal(sd_journal **ret) {
        _cleanup_(sd_journal_closep) sd_journal *j = NULL;
        int r;

        r = sd_journal_open(&j, SD_JOURNAL_LOCAL_ONLY | SD_JOURNAL_SYSTEM);
        if (r >= 0)
                r = sd_journal_add_match(j, "KONTENA_AUDIT=1", 0);
        if (r >= 0) /* a field that journald writes: nobody else can say it */
                r = sd_journal_add_match(j, "_SYSTEMD_UNIT=kontenad.service", 0);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(j);
        return 0;
}

/* room: how many may be added. */
static int read_journal(json_object **anchors, size_t room) {
        static const char field[] = "KONTENA_AUDIT_ANCHOR";
        _cleanup_(sd_journal_closep) sd_journal *j = NULL;
        _cleanup_json_ json_object *l = json_object_new_array();
        uint64_t stride = 1, i = 0;
        int r;

        if (!l)
                return -ENOMEM;
        r = open_journal(&j);
        if (r >= 0)
                r = sd_journal_seek_tail(j);
        /* From the newest on backwards: it is always among them. */
        while (r >= 0 && (r = sd_journal_previous(j)) > 0) {
                const void *data;
                size_t size;

                if (sd_journal_get_data(j, field, &data, &size) < 0 || i++ % stride != 0 ||
                                size <= sizeof(field) || size > 200)
                        continue;
                r = json_append(l, json_object_new_string_len((const char *) data + sizeof(field),
                                                   (int) (size - sizeof(field))));
                if (r >= 0 && json_object_array_length(l) >= room) {
                        r = thin_out(&l);
                        stride *= 2;
                }
        }
        FOREACH_JSON_ARRAY(e, l)
                if (r >= 0)
                        r = json_append(*anchors, json_object_get(e));
        return r;
}

static int collect_anchors(Ctl *c, const Arguments *a, json_object **ret, KError *reterr) {
        _cleanup_json_ json_object *l = json_object_new_array();
        _cleanup_strv_free_ char **given = NULL;
        int r;

        r = l ? arguments_get_all(a, "anchor", &given, reterr) : -ENOMEM;
        STRV_FOREACH(s, given)
                if (r >= 0)
                        r = json_append_string(l, *s);
        if (r < 0)
                return kerror_is_set(reterr) ? r : kerror_set_errno(reterr, r, "Out of memory.");

        if (!arguments_has(a, "no-journal") && !ctl_is_remote(c) &&
                        json_object_array_length(l) < AUDIT_ANCHORS_MAX / 2) {
                r = read_journal(&l, AUDIT_ANCHORS_MAX / 2);
                if (r < 0)
                        ctl_warn("The journal cannot be read, so what was cut off may not be seen: %s",
                                        strerror(-r));
        }
        *ret = TAKE_PTR(l);
        return 0;
}

static void print_result(Ctl *c, json_object *result) {
        json_object *breaks = json_object_object_get(result, "breaks");
        int64_t broken = row_int(result, "broken");

        FOREACH_JSON_ARRAY(e, breaks)
                printf("%s%s%s\n", color_on(COLOR_RED), row_string(e, "message"), color_off(COLOR_RED));
        if (broken > (int64_t) json_object_array_length(breaks))
                printf("And %" PRIi64 " more.\n", broken - (int64_t) json_object_array_length(breaks));
        if (row_int(result, "older") > 0)
                ctl_say(c,
                                "%" PRIi64
                                " rows of an earlier version are before the chain, and are not protected.",
                                row_int(result, "older"));
        if (row_int(result, "foreign") > 0)
                ctl_say(c,
                                "%" PRIi64 " anchors are of another master's key than this one's: an "
                                "earlier installation, "
                                "or somebody has exchanged the key.",
                                row_int(result, "foreign"));
        if (broken == 0)
                ctl_say(c,
                                "The audit is whole: rows %" PRIi64 " to %" PRIi64 ", compared with %" PRIi64
                                " anchors.",
                                row_int(result, "first"), row_int(result, "last"),
                                row_int(result, "anchors"));
        if (!c->quiet)
                printf("Anchor: %s\n", row_string(result, "head"));
}

int command_audit_verify(Ctl *c, const Arguments *a, KError *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_json_ json_object *options = json_object_new_object(), *anchors = NULL, *result = NULL;
        int r;

        r = collect_anchors(c, a, &anchors, reterr);
        if (r < 0)
                return r;
        if (!options || json_add(options, "anchors", TAKE_PTR(anchors)) < 0)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        r = ctl_message(c, "VerifyAudit", &m, reterr);
        if (r >= 0)
                r = bus_json_append(m, "a{sv}", options, reterr);
        if (r >= 0)
                r = ctl_send(c, m, &reply, reterr);
        if (r >= 0)
                r = bus_json_read(reply, &result, reterr);
        if (r < 0)
                return r;

        if (c->json != JSON_OFF) {
                r = ctl_print_json(c, result);
                if (r < 0)
                        return r;
        } else
                print_result(c, result);
        return row_bool(result, "ok") ? 0 : EXIT_FAILURE;
}
