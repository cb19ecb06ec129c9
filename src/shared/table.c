/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "table.h"

#include <inttypes.h>
#include <time.h>

#include "file-util.h"
#include "json-util.h"
#include "string-util.h"

#define COLUMNS_MAX 24U

int json_value_to_text(json_object *value, char **ret) {
        const char *s = NULL;
        char *t;
        int r;

        assert(ret);

        switch (json_object_get_type(value)) {
        case json_type_null:
                *ret = NULL;
                return 0;

        case json_type_array: {
                _cleanup_strv_free_ char **l = NULL;

                FOREACH_JSON_ARRAY(e, value) {
                        _cleanup_free_ char *part = NULL;

                        r = json_value_to_text(e, &part);
                        if (r < 0)
                                return r;
                        r = strv_extend(&l, strempty(part));
                        if (r < 0)
                                return r;
                }
                if (strv_length(l) == 0) {
                        *ret = NULL;
                        return 0;
                }
                t = strv_join(l, ", ");
                break;
        }

        default:
                s = json_object_get_string(value);
                if (isempty(s)) {
                        *ret = NULL;
                        return 0;
                }
                t = strdup(s);
        }
        if (!t)
                return -ENOMEM;

        *ret = t;
        return 0;
}

const char *relative_time_to_text(uint64_t usec, uint64_t now, char buffer[static TIME_TEXT_MAX]) {
        static const struct {
                uint64_t sec;
                const char *one, *many;
        } units[] = {
                { 365 * 86400, "year", "years" },
                { 30 * 86400, "month", "months" },
                { 7 * 86400, "week", "weeks" },
                { 86400, "day", "days" },
                { 3600, "h", "h" },
                { 60, "min", "min" },
                { 1, "s", "s" },
        };
        uint64_t sec = (usec > now ? usec - now : now - usec) / USEC_PER_SEC;
        const char *tail = usec > now ? "left" : "ago";

        if (sec == 0) {
                (void) snprintf(buffer, TIME_TEXT_MAX, "now");
                return buffer;
        }

        FOREACH_ARRAY(u, units, ELEMENTSOF(units)) {
                uint64_t n = sec / u->sec;
                bool word = strlen(u->many) > 3;

                if (n == 0)
                        continue;
                (void) snprintf(buffer, TIME_TEXT_MAX, "%" PRIu64 "%s%s %s", n, word ? " " : "",
                                n == 1 ? u->one : u->many, tail);
                break;
        }

        return buffer;
}

const char *bytes_to_text(uint64_t bytes, char buffer[static TIME_TEXT_MAX]) {
        static const char suffixes[] = "BKMGTPE";
        double v = (double) bytes;
        size_t i = 0;
        int n;

        /* 1023.95K would print as 1024.0K. */
        while (v >= 1023.95 && i + 1 < strlen(suffixes)) {
                v /= 1024;
                i++;
        }

        n = snprintf(buffer, TIME_TEXT_MAX, i == 0 ? "%.0f%c" : "%.1f%c", v, suffixes[i]);
        /* "4G" rather than "4.0G" */
        if (n > 3 && strneq(buffer + n - 3, ".0", 2)) {
                buffer[n - 3] = suffixes[i];
                buffer[n - 2] = '\0';
        }

        return buffer;
}

static uint64_t value_usec(json_object *value) {
        int64_t t = value ? json_object_get_int64(value) : 0;

        return t > 0 ? (uint64_t) t : 0;
}

int format_relative_time(json_object *row, json_object *value, char **ret) {
        uint64_t t = value_usec(value);
        char buffer[TIME_TEXT_MAX];
        char *s;

        if (t == 0) {
                *ret = NULL;
                return 0;
        }

        s = strdup(relative_time_to_text(t, now_realtime(), buffer));
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

int format_absolute_time(json_object *row, json_object *value, char **ret) {
        uint64_t t = value_usec(value);
        char absolute[TIME_TEXT_MAX], buffer[TIME_TEXT_MAX];
        time_t sec = (time_t) (t / USEC_PER_SEC);
        struct tm tm;
        char *s;

        if (t == 0) {
                *ret = NULL;
                return 0;
        }
        if (!localtime_r(&sec, &tm) ||
                        strftime(absolute, sizeof(absolute), "%a %Y-%m-%d %H:%M:%S %Z", &tm) == 0)
                return -EOVERFLOW;

        s = strprintf("%s; %s", absolute, relative_time_to_text(t, now_realtime(), buffer));
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

int format_bytes(json_object *row, json_object *value, char **ret) {
        int64_t n = value ? json_object_get_int64(value) : 0;
        char buffer[TIME_TEXT_MAX];
        char *s;

        if (n <= 0) {
                *ret = NULL;
                return 0;
        }

        s = strdup(bytes_to_text((uint64_t) n, buffer));
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

int format_yes_no(json_object *row, json_object *value, char **ret) {
        char *s = strdup(json_object_get_boolean(value) ? "yes" : "no");

        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

/* Never NULL on success. */
static int cell_text(const TableColumn *c, json_object *row, bool keep_newlines, char **ret) {
        json_object *value = json_object_object_get(row, c->key);
        _cleanup_free_ char *raw = NULL;
        char *s;
        int r;

        r = c->format ? c->format(row, value, &raw) : json_value_to_text(value, &raw);
        if (r < 0)
                return r;

        s = text_escape(strempty(raw), keep_newlines);
        if (!s)
                return -ENOMEM;
        *ret = s;
        return 0;
}

/* Takes away from the widest of the columns that may shrink until the line fits or none is left. */
static void fit_widths(const TableColumn *const *columns, size_t *widths, size_t n, unsigned width) {
        for (;;) {
                size_t total = 0, victim = n;

                for (size_t i = 0; i < n; i++) {
                        total += widths[i] + (i > 0);
                        if (columns[i]->shrink > 0 && widths[i] > columns[i]->shrink &&
                                        (victim == n || widths[i] > widths[victim]))
                                victim = i;
                }
                if (total <= width || victim == n)
                        return;
                widths[victim] = MAX((size_t) columns[victim]->shrink, widths[victim] - 1);
        }
}

static int print_cell(
                FILE *f, const TableColumn *c, const char *text, size_t width, Color color, bool last) {
        _cleanup_free_ char *cut = NULL;
        size_t pad;

        cut = text_ellipsize(text, width);
        if (!cut)
                return -ENOMEM;

        pad = width - MIN(width, text_width(cut));
        if (c->right)
                fprintf(f, "%*s", (int) pad, "");
        fprintf(f, "%s%s%s", color_on(color), cut, color_off(color));
        if (!c->right && !last)
                fprintf(f, "%*s", (int) pad, "");
        fputc(last ? '\n' : ' ', f);
        return 0;
}

int table_print(FILE *f, const TableColumn *columns, json_object *rows, const TableStyle *style) {
        _cleanup_strv_free_ char **cells = NULL;
        const TableColumn *shown[COLUMNS_MAX];
        size_t widths[COLUMNS_MAX] = {}, n = 0, n_rows = json_object_array_length(rows), k = 0;
        int r;

        assert(f);
        assert(columns);
        assert(style);

        for (const TableColumn *c = columns; c->title && n < COLUMNS_MAX; c++) {
                if ((c->extra && !style->full) || (style->quiet && n > 0))
                        continue;
                shown[n++] = c;
        }
        assert(n > 0);

        cells = new0(char *, n_rows *n + 1);
        if (!cells)
                return -ENOMEM;

        for (size_t i = 0; i < n; i++)
                widths[i] = style->legend && !style->quiet ? text_width(shown[i]->title) : 0;
        for (size_t row = 0; row < n_rows; row++)
                for (size_t i = 0; i < n; i++) {
                        r = cell_text(shown[i], json_object_array_get_idx(rows, row),
                                        /* keep_newlines= */ false, &cells[k]);
                        if (r < 0)
                                return r;
                        /* An empty cell in the middle would hide which column the next one is. */
                        if (isempty(cells[k]) && !style->quiet) {
                                free(cells[k]);
                                cells[k] = strdup("-");
                                if (!cells[k])
                                        return -ENOMEM;
                        }
                        widths[i] = MAX(widths[i], text_width(cells[k]));
                        k++;
                }

        if (!style->full)
                fit_widths(shown, widths, n, style->width);

        if (style->legend && !style->quiet)
                for (size_t i = 0; i < n; i++) {
                        r = print_cell(f, shown[i], shown[i]->title, widths[i], COLOR_BOLD, i + 1 == n);
                        if (r < 0)
                                return r;
                }

        for (size_t row = 0; row < n_rows; row++)
                for (size_t i = 0; i < n; i++) {
                        json_object *o = json_object_array_get_idx(rows, row);
                        Color color = shown[i]->color ? shown[i]->color(o, json_object_object_get(
                                                                                           o, shown[i]->key))
                                                      : COLOR_NONE;

                        if (streq(cells[row * n + i], "-"))
                                color = COLOR_NONE;
                        r = print_cell(f, shown[i], cells[row * n + i], widths[i], color, i + 1 == n);
                        if (r < 0)
                                return r;
                }

        return 0;
}

int table_print_record(FILE *f, const TableColumn *columns, json_object *record) {
        size_t width = 0;
        int r;

        for (const TableColumn *c = columns; c->title; c++)
                width = MAX(width, text_width(c->title));

        for (const TableColumn *c = columns; c->title; c++) {
                json_object *value = json_object_object_get(record, c->key);
                Color color = c->color ? c->color(record, value) : COLOR_NONE;
                _cleanup_free_ char *text = NULL;

                r = cell_text(c, record, /* keep_newlines= */ false, &text);
                if (r < 0)
                        return r;
                if (isempty(text))
                        continue;
                fprintf(f, "%*s: %s%s%s\n", (int) width, c->title, color_on(color), text, color_off(color));
        }

        return 0;
}
