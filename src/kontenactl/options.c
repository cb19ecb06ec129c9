/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"

#include "parse-util.h"
#include "string-util.h"
#include "terminal.h"

#define WORDS_MAX 128U

void arguments_done(Arguments *a) {
        free(a->given);
        free(a->args);
        *a = (Arguments){};
}

/* Levenshtein's distance, one row at a time; words are short. */
static size_t edit_distance(const char *a, const char *b) {
        size_t row[64], n = strlen(b);

        if (n >= ELEMENTSOF(row) || strlen(a) >= ELEMENTSOF(row))
                return SIZE_MAX;

        for (size_t j = 0; j <= n; j++)
                row[j] = j;
        for (size_t i = 1; a[i - 1]; i++) {
                size_t diagonal = row[0];

                row[0] = i;
                for (size_t j = 1; j <= n; j++) {
                        size_t above = row[j];

                        row[j] = MIN(row[j], row[j - 1]) + 1;
                        if (diagonal + (a[i - 1] != b[j - 1]) < row[j])
                                row[j] = diagonal + (a[i - 1] != b[j - 1]);
                        diagonal = above;
                }
        }

        return row[n];
}

const char *nearest_word(const char *word, const char *const *words, size_t n) {
        const char *best = NULL;
        size_t best_distance = strlen(word) / 3 + 2;

        FOREACH_ARRAY(w, words, n) {
                size_t d = startswith(*w, word) && strlen(word) >= 2 ? 1 : edit_distance(word, *w);

                if (d < best_distance) {
                        best = *w;
                        best_distance = d;
                }
        }

        return best;
}

/* "kontenactl service scale" for messages. */
static const char *command_path(const Arguments *a, char buffer[static 128]) {
        const char *group = a->command ? a->command->group : a->group;

        (void) snprintf(buffer, 128, "kontenactl%s%s%s%s", group ? " " : "", strempty(group),
                        a->command ? " " : "", a->command ? a->command->name : "");
        return buffer;
}
#define COMMAND_PATH(a) command_path((a), (char[128]){})

static const OptionDef *find_in_table(const OptionDef *table, const char *name, size_t n, char letter) {
        for (const OptionDef *o = table; o && o->name; o++) {
                /* "j" has a letter only. */
                if (letter == 0 && o->name[1] == '\0')
                        continue;
                if (letter != 0 ? o->letter == letter : (strneq(o->name, name, n) && o->name[n] == '\0'))
                        return o;
                if (letter == 0 && o->alias && strneq(o->alias, name, n) && o->alias[n] == '\0')
                        return o;
        }

        return NULL;
}

static const OptionDef *find_option(const CommandDef *c, const char *name, size_t n, char letter) {
        const OptionDef *o;

        for (size_t i = 0; c && i < OPTION_TABLES_MAX; i++) {
                o = find_in_table(c->options[i], name, n, letter);
                if (o)
                        return o;
        }

        return find_in_table(common_options, name, n, letter);
}

static const CommandDef *standard_command(const char *group) {
        FOREACH_COMMAND(c)
                if (group && c->standard && streq_ptr(c->group, group))
                        return c;
        return NULL;
}

/* An option that only the group's standard command has is the word for it. */
static const OptionDef *take_option(Arguments *a, const char *name, size_t n, char letter) {
        const OptionDef *o = find_option(a->command, name, n, letter);
        const CommandDef *standard;

        if (o || a->command)
                return o;
        standard = standard_command(a->group);
        o = standard ? find_option(standard, name, n, letter) : NULL;
        if (o)
                a->command = standard;
        return o;
}

static int unknown_option(const Arguments *a, const char *text, size_t n, KError *reterr) {
        _cleanup_free_ char *name = strndup(text, n);
        const char *words[WORDS_MAX] = {}, *near;
        size_t k = 0;

        if (!name)
                return -ENOMEM;

        for (size_t i = 0; a->command && i < OPTION_TABLES_MAX; i++)
                for (const OptionDef *o = a->command->options[i]; o && o->name && k < WORDS_MAX; o++)
                        words[k++] = o->name;
        for (const OptionDef *o = common_options; o->name && k < WORDS_MAX; o++)
                if (o->name[1] != '\0')
                        words[k++] = o->name;

        near = nearest_word(name, words, k);
        if (near)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s has no option --%s; did you mean --%s?",
                                COMMAND_PATH(a), name, near);
        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s has no option --%s; see %s --help.",
                        COMMAND_PATH(a), name, COMMAND_PATH(a));
}

static int add_given(Arguments *a, const OptionDef *def, const char *value) {
        GivenOption *l = reallocarray(a->given, a->n_given + 1, sizeof(GivenOption));

        if (!l)
                return -ENOMEM;

        a->given = l;
        a->given[a->n_given++] = (GivenOption){ def, value };
        if (def->letter == 'h' && streq(def->name, "help"))
                a->help = true;
        if (streq(def->name, "version"))
                a->version = true;
        return 0;
}

/* argv[i] begins with "--"; returns how many more words were taken. */
static int parse_long(int argc, char **argv, int i, Arguments *a, KError *reterr) {
        const char *text = argv[i] + 2, *equal = strchr(text, '=');
        size_t n = equal ? (size_t) (equal - text) : strlen(text);
        const OptionDef *o = take_option(a, text, n, 0);
        int r;

        if (!o)
                return unknown_option(a, text, n, reterr);
        if (!o->argument) {
                if (equal)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s: --%s takes no value.",
                                        COMMAND_PATH(a), o->name);
                return add_given(a, o, NULL);
        }
        if (equal)
                return add_given(a, o, equal + 1);
        if (i + 1 >= argc)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s: --%s needs a value: --%s=%s",
                                COMMAND_PATH(a), o->name, o->name, o->argument);

        r = add_given(a, o, argv[i + 1]);
        return r < 0 ? r : 1;
}

/* argv[i] is "-x", "-xy" or "-xVALUE". */
static int parse_short(int argc, char **argv, int i, Arguments *a, KError *reterr) {
        int r;

        for (const char *p = argv[i] + 1; *p; p++) {
                const OptionDef *o = take_option(a, NULL, 0, *p);

                if (!o)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s has no option -%c; see %s --help.",
                                        COMMAND_PATH(a), *p, COMMAND_PATH(a));
                if (!o->argument) {
                        r = add_given(a, o, NULL);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (p[1] != '\0')
                        return add_given(a, o, p[1] == '=' ? p + 2 : p + 1);
                if (i + 1 >= argc)
                        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s: -%c needs a value: -%c %s",
                                        COMMAND_PATH(a), *p, *p, o->argument);

                r = add_given(a, o, argv[i + 1]);
                return r < 0 ? r : 1;
        }

        return 0;
}

static bool group_exists(const char *word) {
        FOREACH_COMMAND(c)
                if (streq_ptr(c->group, word))
                        return true;
        return false;
}

static const CommandDef *find_command(const char *group, const char *word) {
        FOREACH_COMMAND(c)
                if (streq_ptr(c->group, group) && (streq(c->name, word) || streq_ptr(c->alias, word)))
                        return c;
        return NULL;
}

/* A word of the command itself, or an argument. */
static int parse_word(char *word, Arguments *a, KError *reterr) {
        const char *words[WORDS_MAX] = {}, *near;
        size_t k = 0;

        if (a->command) {
                a->args[a->n_args++] = word;
                return 0;
        }

        a->command = find_command(a->group, word);
        if (a->command)
                return 0;
        if (!a->group && group_exists(word)) {
                a->group = word;
                return 0;
        }

        FOREACH_COMMAND(c) {
                if (c->name[0] == '_' || k == WORDS_MAX)
                        continue;
                if (a->group ? streq_ptr(c->group, a->group) : !c->group)
                        words[k++] = c->name;
                else if (!a->group && (k == 0 || !streq(words[k - 1], c->group)))
                        words[k++] = c->group;
        }
        near = nearest_word(word, words, k);
        if (near)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s has no command '%s'; did you mean '%s'?",
                                COMMAND_PATH(a), word, near);
        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s has no command '%s'; see %s --help.",
                        COMMAND_PATH(a), word, COMMAND_PATH(a));
}

/* The n-th name in a synopsis, without brackets and dots. */
static char *argument_name(const char *synopsis, size_t n) {
        for (const char *p = strempty(synopsis); *p;) {
                size_t l = strcspn(p, " ");

                if (n-- == 0) {
                        while (l > 0 && strchr("[", *p)) {
                                p++;
                                l--;
                        }
                        return strndup(p, MIN(l, strcspn(p, ".] ")));
                }
                p += l + strspn(p + l, " ");
        }

        return strdup("an argument");
}

static int check_counts(const Arguments *a, KError *reterr) {
        const CommandDef *c = a->command;

        if (a->n_args < c->args_min) {
                _cleanup_free_ char *name = argument_name(c->synopsis, a->n_args);

                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s: %s is missing; usage: %s %s",
                                COMMAND_PATH(a), strna(name), COMMAND_PATH(a), strempty(c->synopsis));
        }
        if (a->n_args > c->args_max)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s: '%s' is too much; usage: %s%s%s",
                                COMMAND_PATH(a), a->args[c->args_max], COMMAND_PATH(a),
                                isempty(c->synopsis) ? "" : " ", strempty(c->synopsis));
        if (a->rest && !c->rest)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "%s takes nothing behind '--'.",
                                COMMAND_PATH(a));
        return 0;
}

static int missing_command(const Arguments *a, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;
        _cleanup_free_ char *joined = NULL;

        FOREACH_COMMAND(c)
                if (streq_ptr(c->group, a->group) && strv_extend(&l, c->name) < 0)
                        return -ENOMEM;
        joined = strv_join(l, ", ");
        return kerror_set(reterr, K_INVALID_ARGUMENT, "%s needs one of: %s", COMMAND_PATH(a), strna(joined));
}

int arguments_parse(int argc, char **argv, Arguments *ret, KError *reterr) {
        _cleanup_arguments_ Arguments a = {};
        int r;

        assert(argv);
        assert(ret);

        a.args = new0(const char *, (size_t) argc + 1);
        a.given = new0(GivenOption, 1);
        if (!a.args || !a.given)
                return -ENOMEM;

        for (int i = 1; i < argc; i++) {
                if (a.command && a.command->rest_from > 0 && a.n_args >= a.command->rest_from) {
                        a.rest = argv + i + streq(argv[i], "--");
                        break;
                }
                if (streq(argv[i], "--")) {
                        /* Of a command that has no rest, "--" only ends the options. */
                        if (a.command && a.command->rest) {
                                a.rest = argv + i + 1;
                                break;
                        }
                        while (++i < argc) {
                                r = parse_word(argv[i], &a, reterr);
                                if (r < 0)
                                        return r;
                        }
                        break;
                }

                if (argv[i][0] != '-' || argv[i][1] == '\0')
                        r = parse_word(argv[i], &a, reterr);
                else
                        r = (argv[i][1] == '-' ? parse_long : parse_short)(argc, argv, i, &a, reterr);
                if (r < 0)
                        return r;
                i += r;
        }

        if (!a.help && !a.version) {
                if (!a.command)
                        a.command = standard_command(a.group);
                if (!a.command && a.group)
                        return missing_command(&a, reterr);
                if (a.command) {
                        r = check_counts(&a, reterr);
                        if (r < 0)
                                return r;
                }
        }

        *ret = TAKE_GENERIC(a, (Arguments){});
        return 0;
}

bool arguments_has(const Arguments *a, const char *option) {
        FOREACH_ARRAY(g, a->given, a->n_given)
                if (streq(g->def->name, option))
                        return true;
        return false;
}

const char *arguments_get(const Arguments *a, const char *option) {
        const char *value = NULL;

        FOREACH_ARRAY(g, a->given, a->n_given)
                if (streq(g->def->name, option))
                        value = g->value;
        return value;
}

int arguments_get_all(const Arguments *a, const char *option, char ***ret, KError *reterr) {
        _cleanup_strv_free_ char **l = NULL;

        FOREACH_ARRAY(g, a->given, a->n_given)
                if (streq(g->def->name, option) && strv_extend(&l, g->value) < 0)
                        return kerror_set_errno(reterr, -ENOMEM, "Out of memory.");

        *ret = TAKE_PTR(l);
        return 0;
}

int arguments_get_unsigned(const Arguments *a, const char *option, unsigned *ret, KError *reterr) {
        const char *v = arguments_get(a, option);

        if (!v)
                return 0;
        if (safe_atou(v, ret) < 0)
                return kerror_set(reterr, K_INVALID_ARGUMENT, "--%s=%s is not a number.", option, v);
        return 1;
}

static void print_option(FILE *f, const OptionDef *o, bool with_letter) {
        char text[80], letter[3] = { '-', o->letter, '\0' };

        (void) snprintf(text, sizeof(text), "%s%s%s%s%s", o->letter && with_letter ? letter : "  ",
                        o->name[1] ? " --" : "", o->name[1] ? o->name : "", o->argument ? "=" : "",
                        strempty(o->argument));
        if (strlen(text) > 30)
                fprintf(f, "  %s\n  %-30s %s\n", text, "", o->help);
        else
                fprintf(f, "  %-30s %s\n", text, o->help);
}

static void print_command(FILE *f, const CommandDef *c) {
        char text[120];

        (void) snprintf(text, sizeof(text), "%s%s%s%s%s", strempty(c->group), c->group ? " " : "", c->name,
                        isempty(c->synopsis) ? "" : " ", strempty(c->synopsis));
        if (strlen(text) > 38)
                fprintf(f, "  %s\n  %-38s %s\n", text, "", c->help);
        else
                fprintf(f, "  %-38s %s\n", text, c->help);
}

static void print_heading(FILE *f, const char *text) {
        fprintf(f, "\n%s%s%s\n", color_on(COLOR_BOLD), text, color_off(COLOR_BOLD));
}

void help_print(FILE *f, const Arguments *a) {
        const CommandDef *c = a->command;

        if (c) {
                fprintf(f, "%s [OPTIONS...]%s%s\n\n%s\n", COMMAND_PATH(a), isempty(c->synopsis) ? "" : " ",
                                strempty(c->synopsis), c->help);
                if (c->options[0])
                        print_heading(f, "Options:");
                for (size_t i = 0; i < OPTION_TABLES_MAX; i++)
                        for (const OptionDef *o = c->options[i]; o && o->name; o++)
                                print_option(f, o, true);
        } else {
                fprintf(f,
                                "%s [OPTIONS...] COMMAND ...\n\nServices in containers on many machines, as "
                                "systemd units.\n",
                                COMMAND_PATH(a));
                print_heading(f, "Commands:");
                FOREACH_COMMAND(d)
                        if (d->name[0] != '_' && (!a->group || streq_ptr(d->group, a->group)))
                                print_command(f, d);
        }

        print_heading(f, "Common options:");
        for (const OptionDef *o = common_options; o->name; o++)
                print_option(f, o, o->letter == 0 || find_option(c, NULL, 0, o->letter) == o);
        fprintf(f, "\nSee kontenactl(1) for all of it.\n");
}
