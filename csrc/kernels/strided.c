/* strided.c: arrays that are read with strides, such as one that is broadcast, a slice, or one with its axes moved, and
 * rows that an index names: some consecutive elements at a time, into contiguous memory. Compiled once, as it moves
 * elements without computing.
 */
#include "fastgrad.h"

#include <string.h>

#define SIMD _Pragma("omp simd")

enum { SHORT = 16 }; /* a shorter run of elements is moved by a loop */

/* y[i * n + j] = x[i * row + j * col]: n elements along axis 0 for each of the rows, which are along axis 1. Loops over
 * a length that the compiler knows become straight code. */
#define MOVE(T)                                                                                       \
    static void move_##T(int64_t rows, int64_t n, int64_t row, int64_t col, const void *x_, void *y_) \
    {                                                                                                 \
        const T *restrict x = x_;                                                                     \
        T *restrict y = y_;                                                                           \
        if (n == 1)                                                                                   \
            SIMD for (int64_t i = 0; i < rows; i++) y[i] = x[i * row];                                \
        else if (n == 2)                                                                              \
            for (int64_t i = 0; i < rows; i++)                                                        \
                for (int64_t j = 0; j < 2; j++)                                                       \
                    y[i * 2 + j] = x[i * row + j * col];                                              \
        else if (n == 3)                                                                              \
            for (int64_t i = 0; i < rows; i++)                                                        \
                for (int64_t j = 0; j < 3; j++)                                                       \
                    y[i * 3 + j] = x[i * row + j * col];                                              \
        else if (n == 4)                                                                              \
            for (int64_t i = 0; i < rows; i++)                                                        \
                for (int64_t j = 0; j < 4; j++)                                                       \
                    y[i * 4 + j] = x[i * row + j * col];                                              \
        else if (col == 0)                                                                            \
            for (int64_t i = 0; i < rows; i++) {                                                      \
                const T value = x[i * row];                                                           \
                for (int64_t j = 0; j < n; j++)                                                       \
                    y[i * n + j] = value;                                                             \
            }                                                                                         \
        else if (col == 1)                                                                            \
            for (int64_t i = 0; i < rows; i++)                                                        \
                for (int64_t j = 0; j < n; j++)                                                       \
                    y[i * n + j] = x[i * row + j];                                                    \
        else                                                                                          \
            for (int64_t i = 0; i < rows; i++)                                                        \
                SIMD for (int64_t j = 0; j < n; j++) y[i * n + j] = x[i * row + j * col];             \
    }
MOVE(uint8_t)
MOVE(uint16_t)
MOVE(uint32_t)
MOVE(uint64_t)
#undef MOVE

/* The same for elements of any size. A single long run is repeated by the widest vectors that there are, or copied; one
 * row that is repeated is copied from what is written already. */
static void move(size_t itemsize, int64_t rows, int64_t n, int64_t row, int64_t col, const char *x, char *y)
{
    if (rows > 1 && row == 0 && n * rows >= SHORT) {
        size_t whole = (size_t)(rows * n) * itemsize, done = (size_t)n * itemsize;
        move(itemsize, 1, n, 0, col, x, y);
        for (; done < whole; done *= 2)
            memcpy(y + done, y, done < whole - done ? done : whole - done);
    } else if (n >= SHORT && col == 0 && itemsize >= sizeof(float)) {
        int dtype = itemsize == sizeof(double);
        for (int64_t i = 0; i < rows; i++)
            fg_kernels[dtype].elementwise->stretch(n, x + i * row * (int64_t)itemsize, y + i * n * (int64_t)itemsize);
    } else if (n >= SHORT && col == 1) {
        for (int64_t i = 0; i < rows; i++)
            memcpy(y + i * n * (int64_t)itemsize, x + i * row * (int64_t)itemsize, (size_t)n * itemsize);
    } else {
        (itemsize == 8   ? move_uint64_t
         : itemsize == 4 ? move_uint32_t
         : itemsize == 2 ? move_uint16_t
                         : move_uint8_t)(rows, n, row, col, x, y);
    }
}

int fg_strided_add(fg_strided *s, int64_t length, int64_t stride)
{
    if (length == 1)
        return 1;
    int last = s->ndim - 1;
    if (last >= 0 && stride == s->stride[last] * s->dim[last]) {
        s->dim[last] *= length;
        return 1;
    }
    if (s->ndim == FG_STRIDED_NDIM)
        return 0;
    s->dim[s->ndim] = length;
    s->stride[s->ndim++] = stride;
    return 1;
}

void fg_strided_read(const fg_strided *s, size_t itemsize, int64_t from, int64_t n, const void *x_, void *y_)
{
    int64_t index[FG_STRIDED_NDIM] = {0}, at = s->shift;
    for (int i = 0; i < s->ndim; i++) {
        index[i] = from % s->dim[i];
        from /= s->dim[i];
        at += index[i] * s->stride[i];
    }
    const char *x = x_;
    char *y = y_;
    while (n) {
        int64_t length = s->ndim ? s->dim[0] : n, rows = 1, run = length - index[0];
        run = run < n ? run : n;
        if (index[0] == 0 && s->ndim > 1 && n >= 2 * length) {
            rows = s->dim[1] - index[1];
            rows = rows < n / length ? rows : n / length;
        }
        move(itemsize, rows, run, s->ndim > 1 ? s->stride[1] : 0, s->ndim ? s->stride[0] : 0,
             x + at * (int64_t)itemsize, y);
        y += rows * run * (int64_t)itemsize;
        n -= rows * run;
        if (!n)
            return;
        /* Carry into the next axes. Here the last row has come to its end, or rows is 1 and so has the run. */
        at -= index[0] * s->stride[0];
        index[0] = 0;
        index[1] += rows;
        at += rows * s->stride[1];
        for (int i = 1; index[i] == s->dim[i]; i++) {
            index[i] = 0;
            at += s->stride[i + 1] - s->dim[i] * s->stride[i];
            index[i + 1]++;
        }
    }
}

/* ---- gathers ----------------------------------------------------------------------------------------------------- */
/* Rows of few bytes are copied without a call, as the compiler knows how many. */
#define TAKE(BYTES)                                              \
    for (int64_t k = 0; k < n; k++, to += (BYTES)) {             \
        int64_t i = index[k] < 0 ? index[k] + length : index[k]; \
        if (i < 0 || i >= length)                                \
            return k;                                            \
        memcpy(to, from + (size_t)i * (BYTES), BYTES);           \
    }                                                            \
    return n;

int64_t fg_take_rows(size_t bytes, int64_t length, const int64_t *index, int64_t n, const void *x, void *y)
{
    const char *from = x;
    char *to = y;
    switch (bytes) {
    case 4:
        TAKE(4)
    case 8:
        TAKE(8)
    case 12:
        TAKE(12)
    case 16:
        TAKE(16)
    case 24:
        TAKE(24)
    case 32:
        TAKE(32)
    default:
        TAKE(bytes)
    }
}
#undef TAKE

#define TAKE_STACK(BYTES)                                         \
    for (; stack; stack--, from += (size_t)length * (BYTES))      \
        for (int64_t k = 0; k < n; k++, to += (BYTES))            \
            memcpy(to, from + (size_t)index[k] * (BYTES), BYTES); \
    return;

void fg_take_stack(size_t bytes, int64_t stack, int64_t length, const int64_t *index, int64_t n, const void *x, void *y)
{
    const char *from = x;
    char *to = y;
    switch (bytes) {
    case 4:
        TAKE_STACK(4)
    case 8:
        TAKE_STACK(8)
    case 16:
        TAKE_STACK(16)
    case 24:
        TAKE_STACK(24)
    default:
        TAKE_STACK(bytes)
    }
}
#undef TAKE_STACK

/* Elements first to end of row i, counted from the end if it is negative. */
static char *take_part(size_t itemsize, int64_t inner, int64_t length, int64_t i, int64_t first, int64_t end,
                       const char *x, char *y)
{
    size_t bytes = (size_t)(end - first) * itemsize;
    memcpy(y, x + (size_t)((i < 0 ? i + length : i) * inner + first) * itemsize, bytes);
    return y + bytes;
}

void fg_take_read(size_t itemsize, int64_t inner, int64_t length, const int64_t *index, int64_t from, int64_t n,
                  const void *x, void *y)
{
    int64_t first = from % inner;
    char *to = y;
    index += from / inner;
    if (first) {
        int64_t end = first + n < inner ? first + n : inner;
        to = take_part(itemsize, inner, length, *index++, first, end, x, to);
        n -= end - first;
    }
    fg_take_rows((size_t)inner * itemsize, length, index, n / inner, x, to);
    if (n % inner)
        take_part(itemsize, inner, length, index[n / inner], 0, n % inner, x, to + (size_t)(n - n % inner) * itemsize);
}
