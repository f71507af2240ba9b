/* strided_copy.c: copies of elements between two strided memories, as slices, broadcasts and transposes make them.
 *
 * Where rows of one memory are columns of the other, lines of the cache would be read or written many times over. So a
 * plane is copied tile by tile, and a plane of 4- or 8-byte elements by small squares that are transposed in registers;
 * rows of few bytes, which are in one piece in both memories, without a call for each.
 */
#include "fastgrad.h"

#include <string.h>
#if defined __SSE2__
#include <emmintrin.h>
#endif

/* ---- planes whose rows are the columns of the other -------------------------------------------------- */
enum {
    SQUARE = 16,            /* bytes of a register, which is a row of a square */
    STRIP = 256,            /* bytes of a row of x within a tile */
    TILE_ROWS = 64,         /* rows of x within a tile, so that it stays in the first cache */
    NEAR = 1 << 17,         /* bytes that stay in the second cache */
    SHORT = 64,             /* bytes of a row that is copied without a call */
    FEW = 16,               /* columns of y so few that a row is written at once */
    LEAST = 8,              /* shorter columns, and rows of fewer than LEAST_ROW elements, are copied by copy_tiled */
    LEAST_ROW = 4,
};
static const int64_t STREAMED_FROM = 4 << 20; /* bytes: less than that may still be in a cache when it is read next */

#ifdef __clang__
#define SHUFFLE(lanes, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(lanes, a, b, ...) __builtin_shuffle(a, b, (lanes){__VA_ARGS__})
#endif
typedef uint32_t lanes32 __attribute__((vector_size(SQUARE), aligned(4), may_alias));
typedef uint64_t lanes64 __attribute__((vector_size(SQUARE), aligned(8), may_alias));

/* A square: y[i * yr + j] = x[j * xr + i]. */
static inline void square_uint32_t(uint32_t *y, int64_t yr, const uint32_t *x, int64_t xr)
{
    lanes32 a = *(const lanes32 *)x, b = *(const lanes32 *)(x + xr);
    lanes32 c = *(const lanes32 *)(x + 2 * xr), d = *(const lanes32 *)(x + 3 * xr);
    lanes32 ab = SHUFFLE(lanes32, a, b, 0, 4, 1, 5), cd = SHUFFLE(lanes32, c, d, 0, 4, 1, 5);
    *(lanes32 *)y = SHUFFLE(lanes32, ab, cd, 0, 1, 4, 5);
    *(lanes32 *)(y + yr) = SHUFFLE(lanes32, ab, cd, 2, 3, 6, 7);
    ab = SHUFFLE(lanes32, a, b, 2, 6, 3, 7);
    cd = SHUFFLE(lanes32, c, d, 2, 6, 3, 7);
    *(lanes32 *)(y + 2 * yr) = SHUFFLE(lanes32, ab, cd, 0, 1, 4, 5);
    *(lanes32 *)(y + 3 * yr) = SHUFFLE(lanes32, ab, cd, 2, 3, 6, 7);
}

static inline void square_uint64_t(uint64_t *y, int64_t yr, const uint64_t *x, int64_t xr)
{
    lanes64 a = *(const lanes64 *)x, b = *(const lanes64 *)(x + xr);
    *(lanes64 *)y = SHUFFLE(lanes64, a, b, 0, 2);
    *(lanes64 *)(y + yr) = SHUFFLE(lanes64, a, b, 1, 3);
}

/* Copies bytes; streamed: past the caches, to y at a multiple of 16. A line that is written as a whole is not read from
 * memory before, which saves a third of the traffic. */
static void put(char *y, const char *x, size_t bytes, int streamed)
{
    size_t done = 0;
#if defined __SSE2__
    for (; streamed && done + SQUARE <= bytes; done += SQUARE)
        _mm_stream_si128((__m128i *)(y + done), _mm_load_si128((const __m128i *)(x + done)));
#else
    (void)streamed;
#endif
    memcpy(y + done, x + done, bytes - done);
}

/* y[i * yr + j] = x[j * xr + i] for i < rows and j < cols. In a large plane, and in one whose rows of y are so far
 * apart that they displace each other from the cache, each tile is transposed into memory of its own, whose rows are
 * copied. */
#define TRANSPOSE(T)                                                                                                 \
    static void small_##T(int64_t rows, int64_t cols, T *y, int64_t yr, const T *x, int64_t xr)                      \
    {                                                                                                                \
        enum { LANES = SQUARE / sizeof(T) };                                                                         \
        int64_t whole = rows - rows % LANES, j = 0;                                                                  \
        for (; j + LANES <= cols; j += LANES) {                                                                      \
            for (int64_t i = 0; i < whole; i += LANES)                                                               \
                square_##T(y + i * yr + j, yr, x + j * xr + i, xr);                                                  \
            for (int64_t i = whole; i < rows; i++)                                                                   \
                for (int64_t k = j; k < j + LANES; k++)                                                              \
                    y[i * yr + k] = x[k * xr + i];                                                                   \
        }                                                                                                            \
        for (; j < cols; j++)                                                                                        \
            for (int64_t i = 0; i < rows; i++)                                                                       \
                y[i * yr + j] = x[j * xr + i];                                                                       \
    }                                                                                                                \
    /* The same for few columns: the rows of y in turn, so that each line of the cache is written once. */           \
    static void narrow_##T(int64_t rows, int64_t cols, T *y, int64_t yr, const T *x, int64_t xr)                     \
    {                                                                                                                \
        enum { LANES = SQUARE / sizeof(T) };                                                                         \
        int64_t i = 0, whole = cols - cols % LANES;                                                                  \
        for (; i + LANES <= rows; i += LANES) {                                                                      \
            for (int64_t j = 0; j < whole; j += LANES)                                                               \
                square_##T(y + i * yr + j, yr, x + j * xr + i, xr);                                                  \
            for (int64_t j = whole; j < cols; j++)                                                                   \
                for (int64_t k = i; k < i + LANES; k++)                                                              \
                    y[k * yr + j] = x[j * xr + k];                                                                   \
        }                                                                                                            \
        for (; i < rows; i++)                                                                                        \
            for (int64_t j = 0; j < cols; j++)                                                                       \
                y[i * yr + j] = x[j * xr + i];                                                                       \
    }                                                                                                                \
    static void transpose_##T(int64_t rows, int64_t cols, T *y, int64_t yr, const T *x, int64_t xr, int streamed)    \
    {                                                                                                                \
        enum { WIDTH = STRIP / sizeof(T) };                                                                          \
        _Alignas(64) T tile[WIDTH * TILE_ROWS];                                                                      \
        if (cols <= FEW && rows > TILE_ROWS) {                                                                       \
            narrow_##T(rows, cols, y, yr, x, xr);                                                                    \
            return;                                                                                                  \
        }                                                                                                            \
        if ((rows <= WIDTH && cols <= TILE_ROWS) ||                                                                  \
            (rows * cols * (int64_t)sizeof(T) <= NEAR && yr * (int64_t)sizeof(T) % STRIP)) {                         \
            small_##T(rows, cols, y, yr, x, xr);                                                                     \
            return;                                                                                                  \
        }                                                                                                            \
        for (int64_t i = 0; i < rows; i += WIDTH)                                                                    \
            for (int64_t j = 0; j < cols; j += TILE_ROWS) {                                                          \
                int64_t m = rows - i < WIDTH ? rows - i : WIDTH, n = cols - j < TILE_ROWS ? cols - j : TILE_ROWS;    \
                small_##T(m, n, tile, TILE_ROWS, x + j * xr + i, xr);                                                \
                for (int64_t k = 0; k < m; k++)                                                                      \
                    put((char *)(y + (i + k) * yr + j), (const char *)(tile + k * TILE_ROWS), (size_t)n * sizeof(T), \
                        streamed);                                                                                   \
            }                                                                                                        \
    }
TRANSPOSE(uint32_t)
TRANSPOSE(uint64_t)
#undef TRANSPOSE

/* ---- other planes ------------------------------------------------------------------------------------ */
#define COPY_ROWS(T)                           \
    for (int64_t i = 0; i < rows; i++) {       \
        T *to = (T *)y + i * yr;               \
        const T *from = (const T *)x + i * xr; \
        for (int64_t j = 0; j < cols; j++)     \
            to[j * yc] = from[j * xc];         \
    }

static void copy_plane(int64_t rows, int64_t cols, size_t itemsize, void *y, int64_t yr, int64_t yc, const void *x,
                       int64_t xr, int64_t xc)
{
    if (yc == 1 && xc == 1) {
        for (int64_t i = 0; i < rows; i++)
            memcpy((char *)y + i * yr * (int64_t)itemsize, (const char *)x + i * xr * (int64_t)itemsize,
                   (size_t)cols * itemsize);
        return;
    }
    switch (itemsize) {
    case 1:
        COPY_ROWS(uint8_t) break;
    case 2:
        COPY_ROWS(uint16_t) break;
    case 4:
        COPY_ROWS(uint32_t) break;
    default:
        COPY_ROWS(uint64_t) break;
    }
}

/* Copy rows of few bytes without a call for each: how many, the compiler knows. */
#define COPY_SHORT(BYTES)                                          \
    for (int64_t k = 0; k < planes; k++, y += y_step, x += x_step) \
        for (int64_t i = 0; i < rows; i++)                         \
            memcpy(y + i * y_row, x + i * x_row, BYTES);

static void copy_short(int64_t planes, int64_t y_step, int64_t x_step, int64_t rows, int64_t y_row, int64_t x_row,
                       int64_t bytes, char *y, const char *x)
{
    switch (bytes) {
    case 4:
        COPY_SHORT(4) break;
    case 8:
        COPY_SHORT(8) break;
    case 16:
        COPY_SHORT(16) break;
    case 24:
        COPY_SHORT(24) break;
    case 32:
        COPY_SHORT(32) break;
    case 40:
        COPY_SHORT(40) break;
    case 48:
        COPY_SHORT(48) break;
    case 64:
        COPY_SHORT(64) break;
    default:
        COPY_SHORT((size_t)bytes) break;
    }
}

/* Copy a plane tile by tile, so that both memories stay in cache where rows of one are columns of the other. */
static void copy_tiled(int64_t rows, int64_t cols, size_t itemsize, char *y, int64_t yr, int64_t yc, const char *x,
                       int64_t xr, int64_t xc)
{
    enum { TILE = 32 };
    int64_t bytes = (int64_t)itemsize;
    if (yc == 1 && xc == 1) {
        copy_plane(rows, cols, itemsize, y, yr, yc, x, xr, xc);
        return;
    }
    for (int64_t i = 0; i < rows; i += TILE)
        for (int64_t j = 0; j < cols; j += TILE)
            copy_plane(rows - i < TILE ? rows - i : TILE, cols - j < TILE ? cols - j : TILE, itemsize,
                       y + (i * yr + j * yc) * bytes, yr, yc, x + (i * xr + j * xc) * bytes, xr, xc);
}

/* Element k of x, moved to place r behind it. */
static void move_axis(int64_t *x, int k, int r)
{
    int64_t moved = x[k];
    for (; k < r; k++)
        x[k] = x[k + 1];
    x[r] = moved;
}

/* Is a transpose too large for the caches, and does each of its rows begin a line of the cache? */
static int is_streamed(int n, const int64_t *dim, size_t itemsize, const void *y, const int64_t *y_stride)
{
    int64_t bytes = (int64_t)itemsize;
    int aligned = (uintptr_t)y % 64 == 0;
    for (int i = 0; i < n; i++) {
        bytes *= dim[i];
        aligned &= i == n - 1 || y_stride[i] * (int64_t)itemsize % 64 == 0;
    }
    return aligned && bytes >= STREAMED_FROM;
}

/* What is copied: axes of length d, and their strides in both memories, in elements. */
typedef struct {
    int n;
    int64_t d[FG_MAX_NDIM + 2], ys[FG_MAX_NDIM + 2], xs[FG_MAX_NDIM + 2];
} axes;

/* Drop axes of length 1, and merge neighbouring axes that a single stride describes in both memories; at least a plane
 * is left. 0: there are no elements. */
static int merge_axes(axes *a, int ndim, const int64_t *dim, const int64_t *y_stride, const int64_t *x_stride)
{
    int n = 0;
    for (int i = 0; i < ndim; i++) {
        if (dim[i] == 0)
            return 0;
        if (dim[i] == 1)
            continue;
        if (n && a->ys[n - 1] == y_stride[i] * dim[i] && a->xs[n - 1] == x_stride[i] * dim[i])
            a->d[--n] *= dim[i];
        else
            a->d[n] = dim[i];
        a->ys[n] = y_stride[i];
        a->xs[n++] = x_stride[i];
    }
    while (n < 2) {                             /* put axes of length 1 before, up to a plane */
        for (int i = n; i > 0; i--) {
            a->d[i] = a->d[i - 1];
            a->ys[i] = a->ys[i - 1];
            a->xs[i] = a->xs[i - 1];
        }
        a->d[0] = 1;
        a->ys[0] = a->xs[0] = n ? 0 : 1;
        n++;
    }
    a->n = n;
    return 1;
}

/* Make the last two axes the plane of those that are consecutive in x and in y, if another axis than the last is so in
 * x. */
static int find_transposed_plane(axes *a)
{
    int r = a->n - 2, c = a->n - 1, k = r;
    if (a->ys[c] != 1 || a->xs[c] == 1 || a->d[c] < LEAST_ROW)
        return 0;
    while (k >= 0 && !(a->xs[k] == 1 && a->d[k] >= LEAST))
        k--;
    if (k < 0)
        return 0;
    move_axis(a->d, k, r);
    move_axis(a->ys, k, r);
    move_axis(a->xs, k, r);
    return 1;
}

void fg_copy_strided(int ndim, const int64_t *dim, size_t itemsize, void *y, const int64_t *y_stride, const void *x,
                     const int64_t *x_stride)
{
    axes a;
    if (!merge_axes(&a, ndim, dim, y_stride, x_stride))
        return;
    int64_t at[FG_MAX_NDIM + 2] = {0}, *d = a.d, *ys = a.ys, *xs = a.xs;
    int found = find_transposed_plane(&a), transposed = found && itemsize >= 4, r = a.n - 2, c = a.n - 1;
    int streamed = found && is_streamed(a.n, d, itemsize, y, ys);
    char *to = y;
    const char *from = x;
    int64_t bytes = (int64_t)itemsize;
    int is_short = ys[c] == 1 && xs[c] == 1 && d[c] * bytes <= SHORT, p = is_short && r ? r - 1 : r;
    for (;;) {                                  /* over the axes before p, which are copied one by one */
        if (is_short)
            copy_short(p < r ? d[p] : 1, ys[p] * bytes, xs[p] * bytes, d[r], ys[r] * bytes, xs[r] * bytes, d[c] * bytes,
                       to, from);
        else if (!transposed)
            copy_tiled(d[r], d[c], itemsize, to, ys[r], ys[c], from, xs[r], xs[c]);
        else if (itemsize == 4)
            transpose_uint32_t(d[r], d[c], (uint32_t *)to, ys[r], (const uint32_t *)from, xs[c], streamed);
        else
            transpose_uint64_t(d[r], d[c], (uint64_t *)to, ys[r], (const uint64_t *)from, xs[c], streamed);
        int i = p - 1;
        for (; i >= 0; i--) {
            to += ys[i] * (int64_t)itemsize;
            from += xs[i] * (int64_t)itemsize;
            if (++at[i] < d[i])
                break;
            to -= at[i] * ys[i] * (int64_t)itemsize;
            from -= at[i] * xs[i] * (int64_t)itemsize;
            at[i] = 0;
        }
        if (i < 0)
            break;
    }
#if defined __SSE2__
    if (streamed)
        _mm_sfence();                           /* other threads see what was streamed before what is stored next */
#endif
}
