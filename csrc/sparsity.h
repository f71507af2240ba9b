/* sparsity.h: what sparse Jacobians need besides passes: their patterns as numbered sets, and colours of their rows.
 *
 * Matrices are in CSR form: the columns of row i are columns[start[i]] to columns[start[i + 1] - 1]. Like all else in
 * fastgrad.h this runs under the caller's lock, and returns a status.
 */
#ifndef FASTGRAD_SPARSITY_H
#define FASTGRAD_SPARSITY_H

#include <stdint.h>

/* ---- autodiff/numbered_sets.c --------------------------------------------------------------------------- */
/* Sets of the numbers below n. Set 0 is empty, set k + 1 is {k}; equal sets have one number. */
typedef struct fg_sets fg_sets;
fg_sets *fg_sets_new(int32_t n);                /* NULL: no memory (fg_message) */
void fg_sets_free(fg_sets *);
/* y[i] = the union of the sets a[i] and b[i]. */
int fg_sets_union(fg_sets *, int64_t n, const int32_t *a, const int32_t *b, int32_t *y);
/* y[j] = the union of all sets x[k] with to[k] == j, for j below n_y; of rows of `inner` sets, column by column. */
int fg_sets_gather(fg_sets *, int64_t n, int64_t inner, const int32_t *x, const int64_t *to, int64_t n_y, int32_t *y);
/* The matrix with a row for each set of x: `start`, which has n + 1 places, and then the columns. */
void fg_sets_starts(const fg_sets *, int64_t n, const int32_t *x, int64_t *start);
void fg_sets_columns(const fg_sets *, int64_t n, const int32_t *x, int32_t *columns);

/* ---- autodiff/coloring.c -------------------------------------------------------------------------------- */
/* A colour for each of the n rows such that no two of one colour share a column: in the order of the rows, the first
 * that is free; -1 for empty rows. `count` is how many there are. Once more than `most` are needed it is most + 1, and
 * the colours are of no use. */
int fg_color_rows(int64_t n, int64_t n_columns, const int64_t *start, const int32_t *columns, int32_t most,
                  int32_t *colors, int32_t *count);
/* The entries of a matrix of n rows, in which columns ascend, from sums of rows of one colour, or of columns: an entry
 * in row i and column j is number j of the pass of the colour of i, or number i of that of j. A pass has n_parts arrays
 * (NULL: of zeros), number k of which has the numbers from end[k] to end[k + 1]; those of colour c begin at
 * parts[c * n_parts]. */
void fg_entries_of_passes(int64_t n, const int64_t *start, const int32_t *columns, const int32_t *colors,
                          int of_columns, int n_parts, const int64_t *end, const double *const *parts, double *entries);

#endif
