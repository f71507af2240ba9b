/* running.h: running sums, products and maxima along an axis, and linear recurrences. Included by reduce.c, once for
 * each dtype.
 *
 * Each result waits for the one before it. So several rows are computed side by side, or, where the axis is not the
 * last, all elements with the same place along it.
 */
#define RUNNING(name, start, JOINED)                                                                                \
    INLINE void NAME(name##_rows)(const int rows, int64_t n, int64_t step, const REAL *x, REAL *y)                  \
    {                                                                                                               \
        REAL last[ABREAST] = {start, start, start, start};                                                    \
        for (int64_t i = 0; i < n; i++)                                                                             \
            UNROLL for (int r = 0; r < rows; r++)                                                                   \
                y[r * n + i * step] = last[r] = JOINED(last[r], x[r * n + i * step]);                               \
    }                                                                                                               \
    static void NAME(name)(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x_, void *y_)          \
    {                                                                                                               \
        const int64_t step = reverse ? -inner : inner;                                                              \
        const REAL *x = (const REAL *)x_ + (reverse ? (n - 1) * inner : 0);                                         \
        REAL *y = (REAL *)y_ + (reverse ? (n - 1) * inner : 0);                                                     \
        int64_t o = 0;                                                                                              \
        for (; inner == 1 && o + ABREAST <= outer; o += ABREAST)                                        \
            NAME(name##_rows)(ABREAST, n, step, x + o * n, y + o * n);                                        \
        for (; inner == 1 && o < outer; o++) NAME(name##_rows)(1, n, step, x + o * n, y + o * n);                   \
        for (; o < outer; o++) {                                                                                    \
            const REAL *from = x + o * n * inner;                                                                   \
            REAL *to = y + o * n * inner;                                                                           \
            memmove(to, from, (size_t)inner * sizeof *to);                                                          \
            for (int64_t i = 1; i < n; i++) {                                                                       \
                from += step;                                                                                       \
                to += step;                                                                                         \
                SIMD for (int64_t c = 0; c < inner; c++) to[c] = JOINED(to[c - step], from[c]);                     \
            }                                                                                                       \
        }                                                                                                           \
    }
#define ADDED(a, b) ((a) + (b))
#define MULTIPLIED(a, b) ((a) * (b))
#define LARGER(a, b) NAME(join)(MAX, a, b)
RUNNING(cumsum, -(REAL)0, ADDED)
RUNNING(cumprod, 1, MULTIPLIED)
RUNNING(cummax, -(REAL)INFINITY, LARGER)
#undef ADDED
#undef MULTIPLIED
#undef LARGER
#undef RUNNING

INLINE void NAME(recurrence_rows)(const int rows, int64_t n, int64_t step, const REAL *a, const REAL *b, REAL *y)
{
    REAL last[ABREAST];
    UNROLL for (int r = 0; r < rows; r++) y[r * n] = last[r] = b[r * n];
    for (int64_t i = 1; i < n; i++)
        UNROLL for (int r = 0; r < rows; r++)
            y[r * n + i * step] = last[r] = b[r * n + i * step] + a[r * n + i * step] * last[r];
}

static void NAME(recurrence)(int64_t outer, int64_t n, int64_t inner, int transposed, const void *a_, const void *b_,
                             void *y_)
{
    const int64_t step = transposed ? -inner : inner, first = transposed ? (n - 1) * inner : 0;
    const REAL *a = (const REAL *)a_ + (transposed ? n * inner : 0); /* transposed, y[i] reads a[i + 1] */
    const REAL *b = (const REAL *)b_ + first;
    REAL *y = (REAL *)y_ + first;
    int64_t o = 0;
    for (; inner == 1 && o + ABREAST <= outer; o += ABREAST)
        NAME(recurrence_rows)(ABREAST, n, step, a + o * n, b + o * n, y + o * n);
    for (; inner == 1 && o < outer; o++) NAME(recurrence_rows)(1, n, step, a + o * n, b + o * n, y + o * n);
    for (; o < outer; o++) {
        const REAL *coefficient = a + o * n * inner, *from = b + o * n * inner;
        REAL *to = y + o * n * inner;
        memmove(to, from, (size_t)inner * sizeof *to);
        for (int64_t i = 1; i < n; i++) {
            coefficient += step;
            from += step;
            to += step;
            SIMD for (int64_t c = 0; c < inner; c++) to[c] = from[c] + coefficient[c] * to[c - step];
        }
    }
}

/* Along the axis, a stretch of equal maxima begins with the element that is the first to be so large. Three passes: gx
 * gets the number of elements so far that tie for the maximum, then the sum of the shares from here to the end of the
 * stretch, then 0 where the element is none of those. */
static void NAME(cummax_vjp)(int64_t outer, int64_t n, int64_t inner, const void *x_, const void *y_, const void *g_,
                             void *gx_)
{
#define TIES(i) ((x[i] == y[i]) | (x[i] != x[i])) /* there is a nan only where the maximum is nan */
#define GOES_ON(i) ((y[i] == y[(i) - inner]) | ((y[i] != y[i]) & (y[(i) - inner] != y[(i) - inner])))
    const int64_t whole = n * inner;
    const REAL *x = x_, *y = y_, *g = g_;
    REAL *gx = gx_;
    for (int64_t o = 0; o < outer; o++, x += whole, y += whole, g += whole, gx += whole) {
        for (int64_t c = 0; c < inner; c++) gx[c] = 1;
        for (int64_t i = inner; i < whole; i += inner)
            SIMD for (int64_t c = i; c < i + inner; c++)
                gx[c] = (REAL)TIES(c) + (GOES_ON(c) ? gx[c - inner] : 0);
        for (int64_t c = whole - inner; c < whole; c++) gx[c] = g[c] / gx[c];
        for (int64_t i = whole - 2 * inner; i >= 0; i -= inner)
            SIMD for (int64_t c = i; c < i + inner; c++)
                gx[c] = g[c] / gx[c] + (GOES_ON(c + inner) ? gx[c + inner] : 0);
        SIMD for (int64_t c = 0; c < whole; c++) gx[c] = TIES(c) ? gx[c] : 0;
    }
#undef TIES
#undef GOES_ON
}
