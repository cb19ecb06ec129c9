/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <stdio.h>

#include "kerror.h"
#include "macro.h"

/* Commands and options are tables: the parser, --help, the completions and the test that compares them with the manual all read
 * these. */

typedef struct Ctl Ctl;

/* What stands in a place on the command line, for completion. */
typedef enum Completion {
        COMPLETE_NONE,
        COMPLETE_GRID,
        COMPLETE_NODE,
        COMPLETE_SERVICE,
        COMPLETE_DEPLOY,
        COMPLETE_JOB,
        COMPLETE_VOLUME,
        COMPLETE_SECRET,
        COMPLETE_REGISTRY,
        COMPLETE_CONTEXT,
        COMPLETE_FILE,
        COMPLETE_HOST,
        COMPLETE_WORDS, /* those of OptionDef.words */
} Completion;

typedef struct OptionDef {
        const char *name;     /* long; NULL ends a table */
        const char *argument; /* its name; NULL: a flag */
        const char *help;
        char letter; /* 0: none */
        bool repeat; /* each one counts; otherwise the last does */
        Completion complete;
        const char *words; /* "ha|daemon|random" */
        const char *alias; /* another long name for it */
} OptionDef;

typedef struct Arguments Arguments;

#define OPTION_TABLES_MAX 4

typedef struct CommandDef {
        const char *group; /* "grid"; NULL: a command of one word */
        const char *name, *alias;
        const char *synopsis; /* the arguments, "SERVICE COUNT": names for messages come from here */
        const char *help;
        unsigned args_min, args_max;
        Completion complete[3]; /* of the arguments; the last one of them repeats */
        bool standard;          /* what its group means by itself: "audit" is "audit list" */
        bool rest;              /* takes "-- WORD..." */
        unsigned rest_from;     /* behind so many arguments all is rest, options too, with or without "--" */
        const OptionDef *options
                        [OPTION_TABLES_MAX]; /* beside the common ones; these win where a letter is in both */
        /* Negative: failed, reterr says why. Positive: the exit status. */
        int (*run)(Ctl *ctl, const Arguments *a, KError *reterr);
} CommandDef;

/* Each family ended by a NULL name, the list by NULL. */
extern const CommandDef *const command_families[];
/* c, or where c ends its family the first of a later one; NULL behind the last. */
const CommandDef *command_skip(const CommandDef *const **family, const CommandDef *c);
#define FOREACH_COMMAND(c)                                                                                  \
        for (const CommandDef *const *_family_##c = command_families, *c = *_family_##c;                    \
                        (c = command_skip(&_family_##c, c)); c++)

extern const OptionDef common_options[];

typedef struct GivenOption {
        const OptionDef *def;
        const char *value; /* of a flag: NULL */
} GivenOption;

struct Arguments {
        const CommandDef *command; /* NULL: none was given */
        const char *group;         /* with command NULL: "grid --help" */
        bool help, version;
        GivenOption *given;
        size_t n_given;
        const char **args; /* borrowed from argv, as all strings here */
        size_t n_args;
        char **rest; /* behind "--"; NULL: there was none */
};

void arguments_done(Arguments *a);
#define _cleanup_arguments_ _cleanup_(arguments_done)

/* Fails with K_INVALID_ARGUMENT and one sentence. */
int arguments_parse(int argc, char **argv, Arguments *ret, KError *reterr);

bool arguments_has(const Arguments *a, const char *option);
const char *arguments_get(const Arguments *a, const char *option); /* the last one's value, NULL */
int arguments_get_all(const Arguments *a, const char *option, char ***ret, KError *reterr); /* copies */
int arguments_get_unsigned(const Arguments *a, const char *option, unsigned *ret,
                KError *reterr); /* 1 if given, 0 if not */
static inline const char *arguments_arg(const Arguments *a, size_t i) {
        return i < a->n_args ? a->args[i] : NULL;
}

/* The command or option that is meant by a word with few wrong letters; NULL. */
const char *nearest_word(const char *word, const char *const *words, size_t n);

void help_print(FILE *f, const Arguments *a);
