/* coloring.c: which rows of a sparse Jacobian one pass can make together, and its entries from such passes.
 *
 * Rows get colours in turn, the first that none of their columns has. The first 64 colours that a column has are the
 * bits of a word; mostly there are no others. Those are a list if the column has few entries, so that they take no more
 * memory than the entries, else the bits of a growing array, so that a row does not have to look at each.
 */
#include "fastgrad.h"
#include "sparsity.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 64 };              /* entries of a column whose later colours are a list */
#define PAUSE_AFTER (1 << 20)   /* entries looked at, about a millisecond */

/* The colours of a column from 64 on. */
typedef struct {
    int32_t *listed;    /* `count` colours; NULL: the column has many entries */
    uint64_t *bits;     /* of a column with many entries: `words` words, of which the first is not used; or NULL */
    int32_t count, words;
} column;

static int add_late_color(column *c, int32_t color)
{
    if (c->listed) {
        c->listed[c->count++] = color;
        return FG_OK;
    }
    int32_t word = color / 64;
    if (word >= c->words) {
        int32_t words = word < c->words * 2 ? c->words * 2 : word + 1;
        uint64_t *bits = realloc(c->bits, (size_t)words * sizeof *bits);
        if (!bits)
            return fg_fail(FG_NO_MEMORY, "no memory for the colours of a sparse Jacobian");
        memset(bits + c->words, 0, (size_t)(words - c->words) * sizeof *bits);
        c->bits = bits;
        c->words = words;
    }
    c->bits[word] |= (uint64_t)1 << color % 64;
    return FG_OK;
}

static int32_t first_zero(uint64_t bits)
{
    int32_t k = 0;
    while (bits >> k & 1)
        k++;
    return k;
}

/* The first colour from 64 on that no column of a row has. `taken` has a bit for each colour, all 0, and one more word.
 */
static int32_t late_color(const column *all, int64_t n, const int32_t *columns, uint64_t *taken)
{
    for (int64_t k = 0; k < n; k++) {
        const column *c = all + columns[k];
        for (int32_t i = 0; c->listed && i < c->count; i++)
            taken[c->listed[i] / 64] |= (uint64_t)1 << c->listed[i] % 64;
    }
    int32_t word = 1;
    uint64_t used;
    for (;; word++) {
        used = taken[word];
        for (int64_t k = 0; k < n && ~used; k++) {
            const column *c = all + columns[k];
            if (word < c->words)
                used |= c->bits[word];
        }
        if (~used)
            break;
    }
    for (int64_t k = 0; k < n; k++) {
        const column *c = all + columns[k];
        for (int32_t i = 0; c->listed && i < c->count; i++)
            taken[c->listed[i] / 64] = 0;
    }
    return word * 64 + first_zero(used);
}

static int color_all(int64_t n, const int64_t *start, const int32_t *columns, int32_t most, uint64_t *early,
                     column *all, uint64_t *taken, int32_t *colors, int32_t *count)
{
    int64_t work = 0;
    *count = 0;
    for (int64_t row = 0; row < n; row++) {
        int64_t length = start[row + 1] - start[row];
        const int32_t *mine = columns + start[row];
        colors[row] = -1;
        if (!length)
            continue;
        uint64_t used = 0;
        for (int64_t k = 0; k < length; k++)
            used |= early[mine[k]];
        int32_t color = ~used ? first_zero(used) : late_color(all, length, mine, taken);
        if (color >= *count)
            *count = color + 1;
        if (*count > most)
            return FG_OK;
        colors[row] = color;
        for (int64_t k = 0; k < length; k++) {
            if (color < 64) {
                early[mine[k]] |= (uint64_t)1 << color;
                continue;
            }
            int status = add_late_color(all + mine[k], color);
            if (status)
                return status;
        }
        work += length * (8 + *count / 64);
        if (work >= PAUSE_AFTER && fg_on_pause) {
            int status = fg_on_pause();
            if (status)
                return status;
            work = 0;
        }
    }
    return FG_OK;
}

int fg_color_rows(int64_t n, int64_t n_columns, const int64_t *start, const int32_t *columns, int32_t most,
                  int32_t *colors, int32_t *count)
{
    int64_t n_entries = start[n], n_listed = 0;
    column *all = calloc((size_t)n_columns + 1, sizeof *all);
    uint64_t *early = calloc((size_t)n_columns + 1, sizeof *early);
    for (int64_t k = 0; all && k < n_entries; k++)
        if (all[columns[k]].count < INT32_MAX)
            all[columns[k]].count++;
    for (int64_t j = 0; all && j < n_columns; j++)
        n_listed += all[j].count <= FEW ? all[j].count : 0;
    int32_t *listed = malloc(((size_t)n_listed + 1) * sizeof *listed);
    /* At most `most` colours are looked for, and at most n are needed. */
    uint64_t *taken = calloc((size_t)((most < n ? most : n) / 64) + 2, sizeof *taken);
    int status = FG_NO_MEMORY;
    if (all && early && listed && taken) {
        int32_t *next = listed;
        for (int64_t j = 0; j < n_columns; j++) {
            if (all[j].count <= FEW) {
                all[j].listed = next;
                next += all[j].count;
            }
            all[j].count = 0;
        }
        status = color_all(n, start, columns, most, early, all, taken, colors, count);
    } else {
        fg_fail(FG_NO_MEMORY, "no memory for the colours of a sparse Jacobian");
    }
    for (int64_t j = 0; all && j < n_columns; j++)
        free(all[j].bits);
    free(all);
    free(early);
    free(listed);
    free(taken);
    return status;
}

/* ---- entries ----------------------------------------------------------------------------------------------------- */
typedef struct {
    const int64_t *start, *end;
    const int32_t *columns, *colors;
    int of_columns, n_parts;
    const double *const *parts;
    double *entries;
} entries;

static void entries_of_rows(void *context, int64_t from, int64_t to)
{
    const entries *e = context;
    for (int64_t i = from; i < to; i++) {
        int part = 0;
        for (int64_t k = e->start[i]; k < e->start[i + 1]; k++) {
            int64_t at = e->of_columns ? i : e->columns[k];
            while (at >= e->end[part + 1])
                part++;
            int64_t color = e->colors[e->of_columns ? e->columns[k] : i];
            const double *x = e->parts[color * e->n_parts + part];
            e->entries[k] = x ? x[at - e->end[part]] : 0;
        }
    }
}

void fg_entries_of_passes(int64_t n, const int64_t *start, const int32_t *columns, const int32_t *colors,
                          int of_columns, int n_parts, const int64_t *end, const double *const *parts, double *to)
{
    enum { LEAST = 1 << 12 }; /* rows that one thread has at a time, at least */
    entries e = {start, end, columns, colors, of_columns, n_parts, parts, to};
    fg_threads_range(n, n / 64 > LEAST ? n / 64 : LEAST, entries_of_rows, &e);
}
