/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "deploy-view.h"

#include <inttypes.h>

#include "json-util.h"
#include "string-util.h"
#include "terminal.h"

void deploy_view_done(DeployView *v) {
        v->said = strv_free(v->said);
        v->service = mfree(v->service);
        v->n_said = 0;
}

const char *deploy_field(json_object *instance, DeployField field) {
        json_object *o = json_object_array_get_idx(instance, field);

        return o ? strempty(json_object_get_string(o)) : "";
}

DeployCounts deploy_count(json_object *instances) {
        DeployCounts n = {};

        FOREACH_JSON_ARRAY(i, instances) {
                const char *state = deploy_field(i, DEPLOY_STATE);

                n.total++;
                n.running += streq(state, "running");
                n.failed += streq(state, "error");
        }

        return n;
}

char *deploy_view_line(const char *service, json_object *instance) {
        const char *node = deploy_field(instance, DEPLOY_NODE),
                   *state = deploy_field(instance, DEPLOY_STATE);
        const char *progress = deploy_field(instance, DEPLOY_PROGRESS),
                   *error = deploy_field(instance, DEPLOY_ERROR);
        const char *text;
        bool failed = streq(state, "error");

        if (failed)
                text = isempty(error) ? "no reason was given" : error;
        else if (streq(state, "running"))
                text = "running";
        else if (!isempty(progress))
                text = progress;
        else if (streq(state, "waiting"))
                text = "waiting for its turn";
        else
                text = isempty(state) ? "waiting for its turn" : state;

        return strprintf("%s-%s%s%s: %s%s", service, deploy_field(instance, DEPLOY_NUMBER),
                        isempty(node) ? "" : " on ", node, failed ? "failed: " : "", text);
}

static Color line_color(json_object *instance) {
        const char *state = deploy_field(instance, DEPLOY_STATE);

        return streq(state, "running") ? COLOR_GREEN : streq(state, "error") ? COLOR_RED : COLOR_NONE;
}

void deploy_view_erase(DeployView *v) {
        if (!v->redraw || v->drawn == 0)
                return;

        fprintf(v->out, "\r\033[%uA\033[J", v->drawn);
        v->drawn = 0;
        (void) fflush(v->out);
}

static int print_line(DeployView *v, const char *indent, const char *text, Color color) {
        _cleanup_free_ char *clean = text_escape(text, /* keep_newlines= */ false), *cut = NULL;

        if (!clean)
                return -ENOMEM;
        /* A line that wraps would be two, and the way back up wrong. */
        cut = text_ellipsize(clean, v->columns > strlen(indent) + 1 ? v->columns - strlen(indent) - 1 : 1);
        if (!cut)
                return -ENOMEM;

        fprintf(v->out, "%s%s%s%s\n", indent, color_on(color), cut, color_off(color));
        v->drawn++;
        return 0;
}

static int draw(DeployView *v, const char *title, json_object *instances, const char *note) {
        DeployCounts n = deploy_count(instances);
        size_t room = v->rows > 5 ? v->rows - 4 : 1, shown = 0, hidden = 0;
        bool all = n.total <= room;
        int r;

        deploy_view_erase(v);
        r = print_line(v, "", title, COLOR_BOLD);
        if (r < 0)
                return r;

        FOREACH_JSON_ARRAY(i, instances) {
                const char *state = deploy_field(i, DEPLOY_STATE);
                _cleanup_free_ char *line = NULL;

                /* With more than fit, those that are on their way or failed are what one wants to see. */
                if (!all && (STR_IN_SET(state, "running", "waiting") || shown >= room)) {
                        hidden++;
                        continue;
                }

                line = deploy_view_line(v->service, i);
                if (!line)
                        return -ENOMEM;
                r = print_line(v, "  ", line, line_color(i));
                if (r < 0)
                        return r;
                shown++;
        }

        if (hidden > 0) {
                _cleanup_free_ char *rest = strprintf(
                                "%zu of %zu running, %zu failed", n.running, n.total, n.failed);

                r = rest ? print_line(v, "  ", rest, COLOR_NONE) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        if (note) {
                r = print_line(v, "", note, COLOR_YELLOW);
                if (r < 0)
                        return r;
        }

        return fflush(v->out) == 0 ? 0 : -errno;
}

/* Whether two lines differ in more than their digits: a log has no use for each percent. */
static bool differ_but_digits(const char *a, const char *b) {
        static const char digits[] = "0123456789";

        for (;;) {
                size_t x = strspn(a, digits), y = strspn(b, digits);

                if ((x > 0) != (y > 0))
                        return true;
                a += x;
                b += y;
                if (*a != *b)
                        return true;
                if (*a == '\0')
                        return false;
                a++;
                b++;
        }
}

static int say_changes(DeployView *v, json_object *instances) {
        size_t k = 0;
        int r;

        FOREACH_JSON_ARRAY(i, instances) {
                _cleanup_free_ char *line = deploy_view_line(v->service, i), *clean = NULL;

                clean = line ? text_escape(line, /* keep_newlines= */ false) : NULL;
                if (!clean)
                        return -ENOMEM;
                if (k >= v->n_said) {
                        r = strv_extend(&v->said, "");
                        if (r < 0)
                                return r;
                        v->n_said++;
                }

                if (!streq(deploy_field(i, DEPLOY_STATE), "waiting") && differ_but_digits(v->said[k], clean))
                        fprintf(streq(deploy_field(i, DEPLOY_STATE), "error") ? v->err : v->out, "%s\n",
                                        clean);
                free(v->said[k]);
                v->said[k] = TAKE_PTR(clean);
                k++;
        }

        return fflush(v->out) == 0 ? 0 : -errno;
}

int deploy_view_update(DeployView *v, const char *title, json_object *instances, const char *note) {
        assert(v);

        if (v->quiet)
                return 0;
        return v->redraw ? draw(v, title, instances, note) : say_changes(v, instances);
}

void deploy_print_log_tail(FILE *f, const char *service, json_object *instance) {
        const char *text = json_object_get_string(json_object_object_get(instance, "log_tail"));

        if (isempty(text))
                return;
        fprintf(f, "%s-%" PRIi64 " wrote last:\n", service,
                        json_object_get_int64(json_object_object_get(instance, "number")));
        while (*text) {
                size_t n = strcspn(text, "\n");

                fprintf(f, "    %.*s\n", (int) n, text);
                text += n + (text[n] == '\n');
        }
}
