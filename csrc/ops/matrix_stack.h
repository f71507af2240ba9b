/* matrix_stack.h: stacks of matrices in the last two axes of an array, and errors that name one of them. */
#ifndef FG_MATRIX_STACK_H
#define FG_MATRIX_STACK_H

#include "fastgrad.h"

#include <stdio.h>

/* The length of a row, which for square matrices is the number of rows. */
static inline int64_t rows_of(const fg_shape *s) { return s->dim[s->ndim - 1]; }
static inline int64_t count_of(const fg_shape *s)
{
    int64_t count = 1;
    for (int i = 0; i < s->ndim - 2; i++)
        count *= s->dim[i];
    return count;
}

/* A matrix or a stack of them, whose matrices are square if asked. */
static inline int check_matrix(const char *name, const fg_shape *s, int square)
{
    char text[FG_SHAPE_TEXT];
    if (s->ndim >= 2 && (!square || s->dim[s->ndim - 2] == s->dim[s->ndim - 1]))
        return FG_OK;
    return fg_fail(FG_BAD_MATRIX, "%s: expected a %smatrix or a stack of them, got shape %s", name,
                   square ? "square " : "", fg_shape_text(s, text));
}

static inline int check_square(const char *name, const fg_shape *s) { return check_matrix(name, s, 1); }

/* The function that errors name: that of attribute k, if there is one that is not 0, else the operation's own name. */
static inline const char *caller_of(const fg_call *c, int k, const char *own)
{
    return c->n_attr > k && c->attr[k] ? fg_caller_name(c->attr[k]) : own;
}

/* " (1, 2) of the batch": which matrix of a stack number m is; of a single one nothing. */
static inline const char *which(const fg_shape *s, int64_t m, char *text)
{
    int64_t index[FG_MAX_NDIM];
    int n = s->ndim - 2, at = 0;
    text[0] = 0;
    for (int i = n - 1; i >= 0; i--) {
        index[i] = m % s->dim[i];
        m /= s->dim[i];
    }
    for (int i = 0; i < n && at < FG_SHAPE_TEXT - 40; i++)
        at += snprintf(text + at, FG_SHAPE_TEXT - (size_t)at, i ? ", %lld" : " (%lld", (long long)index[i]);
    if (n)
        snprintf(text + at, FG_SHAPE_TEXT - (size_t)at, n == 1 ? ",) of the batch" : ") of the batch");
    return text;
}

#endif
