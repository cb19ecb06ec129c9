/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "context.h"
#include "ctl.h"
#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

/* Nobody waits longer for a tab. */
#define COMPLETE_TIMEOUT_USEC (2 * USEC_PER_SEC)

static const char *completion_to_string(const OptionDef *o) {
        switch (o->complete) {
        case COMPLETE_GRID:
                return "grid";
        case COMPLETE_NODE:
                return "node";
        case COMPLETE_SERVICE:
                return "service";
        case COMPLETE_DEPLOY:
                return "deploy";
        case COMPLETE_JOB:
                return "job";
        case COMPLETE_VOLUME:
                return "volume";
        case COMPLETE_SECRET:
                return "secret";
        case COMPLETE_REGISTRY:
                return "registry";
        case COMPLETE_CONTEXT:
                return "context";
        case COMPLETE_FILE:
                return "file";
        case COMPLETE_HOST:
                return "host";
        case COMPLETE_WORDS:
                return o->words;
        default:
                return "";
        }
}

/* One name a line; silent where there is nobody to ask. */
static int print_names(Ctl *c, const char *method, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, method, &rows, reterr, "s", grid);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(row, rows) {
                _cleanup_free_ char *s = service_display_name(
                                row_string(row, "stack"), row_string(row, "name"));

                if (s)
                        puts(s);
        }
        return 0;
}

static int print_grids(Ctl *c, KError *reterr) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        r = ctl_call_json(c, "ListGrids", &rows, reterr, NULL);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(row, rows)
                puts(row_string(row, "name"));
        return 0;
}

static int print_deploys(Ctl *c, KError *reterr) {
        _cleanup_json_ json_object *services = NULL;
        const char *grid;
        int r;

        r = ctl_grid(c, &grid, reterr);
        if (r < 0)
                return r;
        r = ctl_call_json(c, "ListServices", &services, reterr, "s", grid);
        if (r < 0)
                return r;
        FOREACH_JSON_ARRAY(s, services) {
                _cleanup_json_ json_object *deploys = NULL;

                r = ctl_call_json(c, "ListDeploys", &deploys, reterr, "sss", grid, row_string(s, "stack"),
                                row_string(s, "name"));
                if (r < 0)
                        return r;
                FOREACH_JSON_ARRAY(d, deploys)
                        puts(row_string(d, "id"));
        }
        return 0;
}

static int print_contexts(KError *reterr) {
        _cleanup_contexts_ Contexts l = {};
        int r;

        r = contexts_load(&l, reterr);
        if (r < 0)
                return r;
        FOREACH_ARRAY(c, l.list, l.n)
                puts(c->name);
        puts(CONTEXT_LOCAL);
        return 0;
}

int command_complete(Ctl *c, const Arguments *a, KError *reterr) {
        const char *what = arguments_arg(a, 0);

        c->ask_password = false;
        c->call_timeout_usec = COMPLETE_TIMEOUT_USEC;
        if (streq(what, "context"))
                return print_contexts(reterr);
        if (streq(what, "grid"))
                return print_grids(c, reterr);
        if (streq(what, "node"))
                return print_names(c, "ListNodes", reterr);
        if (streq(what, "service"))
                return print_names(c, "ListServices", reterr);
        if (streq(what, "job"))
                return print_names(c, "ListJobs", reterr);
        if (streq(what, "secret"))
                return print_names(c, "ListSecrets", reterr);
        if (streq(what, "registry"))
                return print_names(c, "ListRegistries", reterr);
        if (streq(what, "volume"))
                return print_names(c, "ListVolumes", reterr);
        if (streq(what, "deploy"))
                return print_deploys(c, reterr);
        return kerror_set(reterr, K_INVALID_ARGUMENT, "Nothing completes '%s'.", what);
}

static void dump_options(const char *command, const OptionDef *table) {
        for (const OptionDef *o = table; o && o->name; o++)
                printf("option\t%s\t%s\t%c\t%s\t%s\t%s\n", command, o->name, o->letter ?: '-',
                                strempty(o->argument), completion_to_string(o), strempty(o->alias));
}

/* What the tables say, for the test that compares them with the manual and the completions. */
int command_dump_tables(Ctl *c, const Arguments *a, KError *reterr) {
        dump_options("", common_options);
        FOREACH_COMMAND(d) {
                _cleanup_free_ char *path = NULL;

                if (d->name[0] == '_')
                        continue;
                path = strjoin(strempty(d->group), d->group ? " " : "", d->name);
                if (!path)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");
                printf("command\t%s\t%s\t%s\n", path, strempty(d->alias), strempty(d->synopsis));
                for (size_t i = 0; i < OPTION_TABLES_MAX; i++)
                        dump_options(path, d->options[i]);
        }
        return 0;
}
