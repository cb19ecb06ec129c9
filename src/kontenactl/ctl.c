/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "ctl.h"

#include <locale.h>
#include <unistd.h>

#include "json-util.h"
#include "names.h"
#include "string-util.h"

static const char *const json_mode_table[_JSON_MODE_MAX] = {
        [JSON_OFF] = "off",
        [JSON_SHORT] = "short",
        [JSON_PRETTY] = "pretty",
};
DECLARE_STRING_TABLE_LOOKUP(json_mode, JsonMode);
DEFINE_STRING_TABLE_LOOKUP(json_mode, JsonMode);

int ctl_setup(Ctl *c, const Arguments *a, KError *reterr) {
        const char *v;

        *c = (Ctl){
                .host = arguments_get(a, "host"),
                .machine = arguments_get(a, "machine"),
                .context_option = arguments_get(a, "context"),
                .bridge_out = -EBADF,
                .grid = empty_to_null(arguments_get(a, "grid") ?: getenv("KONTENA_GRID")),
                .legend = !arguments_has(a, "no-legend"),
                .pager = !arguments_has(a, "no-pager"),
                .full = arguments_has(a, "full"),
                .quiet = arguments_has(a, "quiet"),
                .ask_password = !arguments_has(a, "no-ask-password"),
        };

        if (c->host && c->machine)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "--host and --machine exclude each other.");
        if (c->context_option && (c->host || c->machine))
                return kerror_set(reterr, K_INVALID_ARGUMENT, "--context and --%s exclude each other.",
                                c->host ? "host" : "machine");
        if (arguments_has(a, "j"))
                c->json = terminal_on(stdout) ? JSON_PRETTY : JSON_SHORT;
        v = arguments_get(a, "json");
        if (v) {
                c->json = json_mode_from_string(v);
                if (c->json < 0)
                        return kerror_set(reterr, K_INVALID_ARGUMENT,
                                        "--json=%s is none of: pretty, short, off.", v);
        }

        return 0;
}

void ctl_say(const Ctl *c, const char *format, ...) {
        _cleanup_free_ char *s = NULL, *t = NULL;
        va_list ap;

        if (c->quiet || c->json != JSON_OFF)
                return;

        va_start(ap, format);
        s = strvprintf(format, ap);
        va_end(ap);
        t = s ? text_escape(s, true) : NULL;
        if (t)
                puts(t);
        (void) fflush(stdout);
}

void ctl_warn(const char *format, ...) {
        _cleanup_free_ char *s = NULL, *t = NULL;
        va_list ap;

        va_start(ap, format);
        s = strvprintf(format, ap);
        va_end(ap);
        t = s ? text_escape(s, true) : NULL;
        (void) fflush(stdout);
        fprintf(stderr, "%s\n", strna(t));
}

void ctl_open_pager(Ctl *c) {
        if (c->pager)
                (void) pager_open();
}

int ctl_print_json(Ctl *c, json_object *o) {
        const char *s;

        s = json_object_to_json_string_ext(
                        o, c->json == JSON_PRETTY ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                                    JSON_C_TO_STRING_NOSLASHESCAPE
                                                  : JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        if (!s)
                return -ENOMEM;
        puts(s);
        return 0;
}

int ctl_print_rows(
                Ctl *c, const TableColumn *columns, json_object *rows, const char *nothing, KError *reterr) {
        int r;

        if (c->json != JSON_OFF) {
                ctl_open_pager(c);
                r = ctl_print_json(c, rows);
        } else if (json_object_array_length(rows) == 0) {
                if (c->legend && !c->quiet)
                        fprintf(stderr, "%s\n", nothing);
                return 0;
        } else {
                TableStyle style = {
                        .legend = c->legend,
                        .full = c->full,
                        .quiet = c->quiet,
                        .width = terminal_on(stdout) || getenv("COLUMNS") ? terminal_columns() : 65536,
                };

                ctl_open_pager(c);
                r = table_print(stdout, columns, rows, &style);
        }
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot print: %m");
        return 0;
}

int ctl_print_record(Ctl *c, const TableColumn *fields, json_object *record, KError *reterr) {
        int r;

        ctl_open_pager(c);
        r = c->json != JSON_OFF ? ctl_print_json(c, record) : table_print_record(stdout, fields, record);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Cannot print: %m");
        return 0;
}

int ctl_print_text(Ctl *c, const char *key, const char *text, KError *reterr) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (c->json == JSON_OFF) {
                puts(text);
                return 0;
        }
        if (!o || json_add_string(o, key, text) < 0 || ctl_print_json(c, o) < 0)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
        return 0;
}

const char *row_string(json_object *row, const char *key) {
        return json_string_or(row, key, "");
}

int64_t row_int(json_object *row, const char *key) {
        json_object *v = json_object_object_get(row, key);

        return json_object_is_type(v, json_type_int) ? json_object_get_int64(v) : 0;
}

bool row_bool(json_object *row, const char *key) {
        return json_object_get_boolean(json_object_object_get(row, key));
}

Color state_color(json_object *row, json_object *value) {
        const char *s = json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";

        if (STR_IN_SET(s, "online", "running", "success", "healthy", "ready", "connected"))
                return COLOR_GREEN;
        if (STR_IN_SET(s, "offline", "failed", "error", "unhealthy", "refused"))
                return COLOR_RED;
        if (STR_IN_SET(s, "connecting", "drain", "pulling", "creating", "starting", "restarting", "stopping",
                            "ongoing", "waiting", "pending"))
                return COLOR_YELLOW;
        return COLOR_NONE;
}

char *service_display_name(const char *stack, const char *service) {
        return isempty(stack) || streq(stack, STACK_NULL) ? strdup(service) : strjoin(stack, "/", service);
}

int format_service_name(json_object *row, json_object *value, char **ret) {
        const char *name = row_string(row, "name");
        char *s;

        s = service_display_name(
                        row_string(row, "stack"), isempty(name) ? row_string(row, "service") : name);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

int ctl_grid(Ctl *c, const char **ret, KError *reterr) {
        _cleanup_json_ json_object *grids = NULL;
        _cleanup_strv_free_ char **names = NULL;
        _cleanup_free_ char *joined = NULL;
        int r;

        if (c->grid) {
                *ret = c->grid;
                return 0;
        }
        if (c->default_grid) {
                *ret = c->default_grid;
                return 0;
        }

        r = ctl_call_json(c, "ListGrids", &grids, reterr, NULL);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(g, grids) {
                r = strv_extend(&names, row_string(g, "name"));
                if (r < 0)
                        return kerror_set_errno(reterr, r, "Out of memory.");
        }

        if (strv_length(names) == 0)
                return kerror_set(reterr, K_NO_SUCH_GRID,
                                "There is no grid yet; make one with: kontenactl grid create NAME");
        if (strv_length(names) > 1) {
                joined = strv_join(names, ", ");
                return kerror_set(reterr, K_INVALID_ARGUMENT,
                                "There are several grids (%s): say which with --grid or $KONTENA_GRID.",
                                strna(joined));
        }

        assert(names);
        r = free_and_strdup(&c->default_grid, names[0]);
        if (r < 0)
                return kerror_set_errno(reterr, r, "Out of memory.");
        *ret = c->default_grid;
        return 0;
}

void service_name_done(ServiceName *n) {
        free(n->grid);
        free(n->stack);
        free(n->service);
        *n = (ServiceName){};
}

int ctl_service_name(Ctl *c, const char *text, ServiceName *ret, KError *reterr) {
        _cleanup_service_name_ ServiceName n = {};
        const char *grid;
        int r;

        r = service_reference_parse(text, &n.grid, &n.stack, &n.service, reterr);
        if (r < 0)
                return r;

        if (!n.grid) {
                r = ctl_grid(c, &grid, reterr);
                if (r < 0)
                        return r;
                n.grid = strdup(grid);
        }
        if (!n.stack)
                n.stack = strdup(empty_to_null(getenv("KONTENA_STACK")) ?: STACK_NULL);
        if (!n.grid || !n.stack)
                return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        *ret = TAKE_GENERIC(n, (ServiceName){});
        return 0;
}

static void print_error(const KError *error) {
        _cleanup_free_ char *t = text_escape(kerror_message(error), true);
        bool color = terminal_colors() && isatty(STDERR_FILENO) > 0;

        (void) fflush(stdout);
        fprintf(stderr, "%s%s%s\n", color ? color_on(COLOR_RED) : "", strna(t),
                        color ? color_off(COLOR_RED) : "");
}

int kontenactl_main(int argc, char **argv) {
        _cleanup_ctl_ Ctl c = {};
        _cleanup_arguments_ Arguments a = {};
        _cleanup_kerror_ KError error = KERROR_NULL;
        int r;

        (void) setlocale(LC_ALL, "");

        r = arguments_parse(argc, argv, &a, &error);
        if (r < 0)
                goto fail;
        if (a.version) {
                puts("kontena " KONTENA_VERSION);
                return EXIT_SUCCESS;
        }
        if (a.help) {
                if (!arguments_has(&a, "no-pager"))
                        (void) pager_open();
                help_print(stdout, &a);
                return EXIT_SUCCESS;
        }

        r = ctl_setup(&c, &a, &error);
        if (r < 0)
                goto fail;

        r = a.command ? a.command->run(&c, &a, &error) : command_status(&c, &a, &error);
        if (r >= 0) {
                if (fflush(stdout) < 0 || ferror(stdout))
                        return EXIT_FAILURE;
                return r;
        }

fail:
        pager_close();
        if (!kerror_is_set(&error))
                (void) kerror_set_errno(&error, r, "%m");
        /* Completion asks quietly. */
        if (!(a.command && a.command->name[0] == '_'))
                print_error(&error);
        return kerror_exit_status(error.code);
}
