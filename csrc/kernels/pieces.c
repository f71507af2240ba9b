/* pieces.c: arrays that are put together from others, their pieces: a concatenation, or a slice padded with zeros, or a
 * sum of such, as the gradient of several slices of one array is. Some consecutive elements are made at a time, so
 * that the whole need never be in memory. Compiled once, as it moves elements and adds few.
 */
#include "fastgrad.h"

#include <string.h>

enum { SHORT = 16 }; /* a shorter run of elements is moved by a loop */

/* ---- where a piece is -------------------------------------------------------------------------------------------- */
/* Add the next outer axis, or join it to the last one if that is whole and a single stride describes both in x, too. */
static int add_axis(fg_piece *s, int64_t dim, int64_t start, int64_t step, int64_t count, int64_t stride)
{
    int last = s->ndim - 1;
    if (dim == 1 && s->ndim)
        return 1;
    if (last >= 0 && s->start[last] == 0 && s->count[last] == s->dim[last] &&
        (count == 1 || (step == 1 && stride == s->stride[last] * s->count[last]))) {
        s->start[last] = start * s->dim[last];
        s->count[last] *= count;
        s->dim[last] *= dim;
        return 1;
    }
    if (s->ndim == FG_STRIDED_NDIM)
        return 0;
    s->dim[s->ndim] = dim;
    s->start[s->ndim] = start;
    s->step[s->ndim] = count == 1 ? 1 : step;
    s->count[s->ndim] = count;
    s->stride[s->ndim++] = stride;
    return 1;
}

/* Along axis i a piece has part[i] elements, at attr[3 * i] and every attr[3 * i + 1]-th after it. */
static int find_piece(fg_piece *s, int ndim, const int64_t *whole, const int64_t *part, const int64_t *attr)
{
    int64_t own = 1;
    *s = (fg_piece){.size = 1};
    for (int i = 0; i < ndim; i++)
        s->size *= part[i];
    for (int i = ndim - 1; i >= 0 && s->size; own *= part[i--]) {
        int64_t start = attr[3 * i], step = attr[3 * i + 1], count = part[i], stride = own;
        if (step < 0 && count > 1) { /* the same in the other direction */
            start += step * (count - 1);
            s->shift += own * (count - 1);
            step = -step;
            stride = -own;
        }
        if (!add_axis(s, whole[i], start, step, count, stride))
            return 0;
    }
    while (s->ndim < 2) {
        s->dim[s->ndim] = s->step[s->ndim] = s->count[s->ndim] = 1;
        s->ndim++;
    }
    return 1;
}

/* The elements of an axis that several slices have in common: from low to high, every step-th; none if low > high. */
typedef struct { int64_t low, high, step; } range;

/* Keep those that the next slice has, too: `count` from `first` on, at every own-th; 0: what is left is no range. */
static int meet(range *r, int64_t first, int64_t own, int64_t count)
{
    int64_t last = first + own * (count - 1);
    if (own < 0) {
        int64_t swap = first;
        first = last;
        last = swap;
        own = -own;
    }
    if (count <= 1)
        own = 1;
    if (own > 1 && r->step > 1 && own != r->step)
        return 0;
    if (r->step == 1) /* go to the next element that is in both */
        r->low += (own + (first - r->low) % own) % own;
    else if (own == 1)
        first += (r->step + (r->low - first) % r->step) % r->step;
    r->step = own > 1 ? own : r->step;
    r->high = last < r->high && count ? last : r->high;
    if (!count || (first - r->low) % r->step)
        r->high = -1;
    r->low = first > r->low ? first : r->low;
    return 1;
}

/* Find the elements that are in all slices; 0: they are no slice. */
static int find_common(fg_joined *s, int ndim, const int64_t *const *part, const int64_t *attr, const int64_t *whole)
{
    int64_t at[3 * FG_MAX_NDIM], dim[FG_MAX_NDIM];
    for (int i = 0; i < ndim; i++) {
        range r = {0, whole[i] - 1, 1};
        for (int k = 0; k < s->n; k++) {
            const int64_t *a = attr + (int64_t)3 * (k * ndim + i);
            if (!meet(&r, a[0], a[1], part[k][i]))
                return 0;
        }
        dim[i] = r.high < r.low ? 0 : (r.high - r.low) / r.step + 1;
        at[3 * i] = r.low;
        at[3 * i + 1] = r.step;
    }
    int found = find_piece(&s->common, ndim, whole, dim, at);
    memset(s->common.stride, 0, sizeof s->common.stride); /* one element, -0, is put at all of them */
    return found;
}

int fg_joined_find(fg_joined *s, int is_sum, int n, const int64_t *const *part, const int64_t *attr, int ndim,
                   const int64_t *whole)
{
    int64_t own[3 * FG_MAX_NDIM], at = 0;
    int found = n <= FG_MAX_PIECES;
    s->n = n;
    s->is_sum = is_sum;
    for (int k = 0; found && k < n; k++) {
        for (int i = 0; !is_sum && i < ndim; i++) {
            own[3 * i] = i == attr[0] ? at : 0;
            own[3 * i + 1] = 1;
        }
        at += is_sum ? 0 : part[k][attr[0]];
        found = find_piece(&s->piece[k], ndim, whole, part[k], is_sum ? attr + (int64_t)3 * ndim * k : own);
    }
    return found && (!is_sum || n == 1 || find_common(s, ndim, part, attr, whole));
}

/* ---- putting pieces there ---------------------------------------------------------------------------------------- */
/* y[i * yr + j * yc] = or += x[i * xr + j * xc] */
#define PUT(T, OP)                                                                                                    \
    static void put_##T(int64_t rows, int64_t cols, const T *x, int64_t xr, int64_t xc, T *y, int64_t yr, int64_t yc) \
    {                                                                                                                 \
        if (xc == 1 && yc == 1)                                                                                       \
            for (int64_t i = 0; i < rows; i++)                                                                        \
                for (int64_t j = 0; j < cols; j++)                                                                    \
                    y[i * yr + j] OP x[i * xr + j];                                                                   \
        else                                                                                                          \
            for (int64_t i = 0; i < rows; i++)                                                                        \
                for (int64_t j = 0; j < cols; j++)                                                                    \
                    y[i * yr + j * yc] OP x[i * xr + j * xc];                                                         \
    }
PUT(uint8_t, =)
PUT(uint16_t, =)
PUT(uint32_t, =)
PUT(uint64_t, =)
PUT(float, +=)
PUT(double, +=)
#undef PUT

static void put(int dtype, int adds, int64_t rows, int64_t cols, const char *x, int64_t xr, int64_t xc, char *y,
                int64_t yr, int64_t yc)
{
    int64_t itemsize = (int64_t)fg_itemsize(dtype);
    if (cols < rows && cols < SHORT) { /* the longer loop inside */
        int64_t n = rows, r = xr, s = yr;
        rows = cols, xr = xc, yr = yc;
        cols = n, xc = r, yc = s;
    }
    if (cols >= SHORT && xc == 1 && yc == 1) {
        for (int64_t i = 0; i < rows; i++, x += xr * itemsize, y += yr * itemsize)
            if (adds)
                fg_kernels[dtype].elementwise->binary[FG_BINARY_add](cols, y, 1, x, 1, y);
            else
                memcpy(y, x, (size_t)(cols * itemsize));
    } else if (!adds && cols >= SHORT && xc == 0 && yc == 1 && FG_IS_FLOAT(dtype)) {
        for (int64_t i = 0; i < rows; i++)
            fg_kernels[dtype].elementwise->stretch(cols, x + i * xr * itemsize, y + i * yr * itemsize);
    } else if (adds && dtype == FG_FLOAT32) {
        put_float(rows, cols, (const float *)x, xr, xc, (float *)y, yr, yc);
    } else if (adds) {
        put_double(rows, cols, (const double *)x, xr, xc, (double *)y, yr, yc);
    } else {
        switch (itemsize) {
        case 1:
            put_uint8_t(rows, cols, (const uint8_t *)x, xr, xc, (uint8_t *)y, yr, yc);
            break;
        case 2:
            put_uint16_t(rows, cols, (const uint16_t *)x, xr, xc, (uint16_t *)y, yr, yc);
            break;
        case 4:
            put_uint32_t(rows, cols, (const uint32_t *)x, xr, xc, (uint32_t *)y, yr, yc);
            break;
        default:
            put_uint64_t(rows, cols, (const uint64_t *)x, xr, xc, (uint64_t *)y, yr, yc);
        }
    }
}

/* Of the elements of a piece along an axis, those within n places from `from` on: *first to *end. */
static int clip(const fg_piece *s, int axis, int64_t from, int64_t n, int64_t *first, int64_t *end)
{
    int64_t low = from - s->start[axis], high = low + n, step = s->step[axis];
    if (step > 1) {
        low = low > 0 ? (low + step - 1) / step : low;
        high = high > 0 ? (high + step - 1) / step : high;
    }
    *first = low > 0 ? low : 0;
    *end = high < s->count[axis] ? high : s->count[axis];
    return *first < *end;
}

/* Put, or add, what of piece x is among the n elements of y from number `from` on, which is at y. */
static void put_piece(const fg_piece *s, int dtype, int adds, int64_t from, int64_t n, const char *x, char *y)
{
    int64_t index[FG_STRIDED_NDIM + 1] = {0}, itemsize = (int64_t)fg_itemsize(dtype);
    if (!s->size)
        return;
    for (int i = 0; i < s->ndim; i++) {
        index[i] = from % s->dim[i];
        from /= s->dim[i];
    }
    while (n) {
        int64_t width = s->dim[0], rows = 1, cols = width - index[0] < n ? width - index[0] : n;
        if (index[0] == 0 && n >= 2 * width) {
            rows = s->dim[1] - index[1];
            rows = rows < n / width ? rows : n / width;
        }
        int64_t i0, i1, j0, j1, at = s->shift;
        int inside = clip(s, 1, index[1], rows, &i0, &i1) && clip(s, 0, index[0], cols, &j0, &j1);
        for (int i = 2; inside && i < s->ndim; i++) {
            int64_t first, end;
            inside = clip(s, i, index[i], 1, &first, &end);
            at += first * s->stride[i];
        }
        if (inside) {
            at += i0 * s->stride[1] + j0 * s->stride[0];
            int64_t to = (s->start[1] + i0 * s->step[1] - index[1]) * width + s->start[0] + j0 * s->step[0] - index[0];
            put(dtype, adds, i1 - i0, j1 - j0, x + at * itemsize, s->stride[1], s->stride[0], y + to * itemsize,
                s->step[1] * width, s->step[0]);
        }
        y += rows * cols * itemsize;
        n -= rows * cols;
        index[0] = 0; /* the last row has come to its end, or n is 0 */
        index[1] += rows;
        for (int i = 1; i < s->ndim && index[i] == s->dim[i]; i++) {
            index[i] = 0;
            index[i + 1]++;
        }
    }
}

/* Where the n elements from number `from` on are, one after the other, in piece x; NULL: it has not all of them so. */
static const char *run_within(const fg_piece *s, size_t itemsize, int64_t from, int64_t n, const char *x)
{
    int64_t first = from - s->start[0];
    if (s->dim[1] > 1 || s->step[0] > 1 || s->stride[0] != 1 || first < 0 || first + n > s->count[0])
        return NULL;
    return x + (s->shift + first) * (int64_t)itemsize;
}

/* The sum of the pieces where each has all elements, one after the other; 0: they have not. */
static int add_runs(const fg_joined *s, int dtype, int64_t from, int64_t n, const void *const *x, void *y)
{
    const char *run[FG_MAX_PIECES];
    for (int k = 0; k < s->n; k++)
        if (!(run[k] = run_within(&s->piece[k], fg_itemsize(dtype), from, n, x[k])))
            return 0;
    for (int k = 1; k < s->n; k++)
        fg_kernels[dtype].elementwise->binary[FG_BINARY_add](n, k == 1 ? run[0] : y, 1, run[k], 1, y);
    return 1;
}

/* A sum of padded pieces is 0 where there is no piece. Adding 0 makes 0 of -0, which remains only where every piece
 * has it: -0 plus x is x for any x. */
void fg_joined_read(const fg_joined *s, int dtype, int64_t from, int64_t n, const void *const *x, void *y)
{
    static const float minus_0f = -0.0f;
    static const double minus_0 = -0.0;
    const void *minus = dtype == FG_FLOAT32 ? (const void *)&minus_0f : &minus_0;
    int adds = s->is_sum && s->n > 1;
    if (adds && add_runs(s, dtype, from, n, x, y))
        return;
    if (s->is_sum)
        memset(y, 0, (size_t)n * fg_itemsize(dtype));
    if (adds)
        put_piece(&s->common, dtype, 0, from, n, minus, y);
    for (int k = 0; k < s->n; k++)
        put_piece(&s->piece[k], dtype, adds, from, n, x[k], y);
}
