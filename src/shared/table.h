/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include <json-c/json.h>
#include <stdio.h>

#include "macro.h"
#include "terminal.h"

/* Rows are JSON objects, so that a table for people and JSON for programs come from one record. */

/* The text of a cell: a fresh string, NULL for an empty cell. value is row[key], NULL when missing. */
typedef int (*table_format_t)(json_object *row, json_object *value, char **ret);
typedef Color (*table_color_t)(json_object *row, json_object *value);

typedef struct TableColumn {
        const char *title, *key; /* a NULL title ends an array of columns */
        table_format_t format;   /* NULL: the value as text, lists joined by commas */
        table_color_t color;
        bool right;
        unsigned shrink; /* columns it keeps when the line is too long; 0: never cut */
        bool extra;      /* only shown with .full */
} TableColumn;

typedef struct TableStyle {
        bool legend;
        bool full;      /* no cutting */
        bool quiet;     /* the first column alone, no legend */
        unsigned width; /* of a line */
} TableStyle;

int table_print(FILE *f, const TableColumn *columns, json_object *rows, const TableStyle *style);

/* "Key: value" lines of one record, keys to the right as systemctl status has them. */
int table_print_record(FILE *f, const TableColumn *columns, json_object *record);

/* The plain text of any JSON value: lists joined by ", ", objects as JSON, null and missing as NULL. */
int json_value_to_text(json_object *value, char **ret);

/* Formats for columns. */
int format_relative_time(json_object *row, json_object *value,
                char **ret); /* "2min ago", of microseconds since 1970 */
int format_absolute_time(json_object *row, json_object *value,
                char **ret); /* "Wed 2026-11-25 08:00:00 UTC; 2min ago" */
int format_bytes(json_object *row, json_object *value, char **ret); /* "1.5G"; 0 is empty */
int format_yes_no(json_object *row, json_object *value, char **ret);

#define TIME_TEXT_MAX 64U
const char *relative_time_to_text(uint64_t usec, uint64_t now, char buffer[static TIME_TEXT_MAX]);
const char *bytes_to_text(uint64_t bytes, char buffer[static TIME_TEXT_MAX]);
