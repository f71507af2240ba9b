/* reduce.c: sums, extrema and the softmax family; running sums, products and maxima are in running.h.
 *
 * A reduction keeps a fixed number of partial results, the lanes, and combines whole sets of lanes, which vectorises
 * without reassociating. A row is folded as a matrix LANES wide (NARROW, if it is shorter); a matrix of few columns as
 * one with several rows side by side; rows too short even for NARROW are transposed, so that neighbouring lanes hold
 * neighbouring rows. A lane adds few elements in turn; lanes, and halves of a long row, are added pairwise, as a tree.
 * All of this depends on the shape alone, so that sums have the same bits with every instruction set. Halving a long
 * row is a recursion, no deeper than the logarithm of its length.
 *
 * Loops carry `omp simd` where an output may be the very memory of an input: each element is read before it
 * is written, and without the promise the compiler would take its scalar path then.
 */
#ifndef REAL

#include "kernels.h"
#include "vecmath.h"
#include <math.h>
#include <string.h>

enum {
    LANES = FG_SUM_LANES, /* width of a folded row of at least so many elements */
    NARROW = 16,  /* width of a folded shorter row; rows shorter than this are transposed */
    GROUP = 64,   /* short rows handled together */
    CHUNK = 1024, /* elements of such a group, or of a part of a long row, to stay in the first-level cache */
    LEAF = FG_SUM_LEAF / LANES, /* additions to a set of lanes in turn; longer rows are halved */
    STRIP = 128,  /* columns of a wide matrix folded at once */
    ABREAST = 4,  /* rows of running sums computed side by side */
};
enum { SUM, DOT, MAX, MIN, TOP }; /* TOP is a faster MAX that may ignore a nan */

#define INLINE static inline __attribute__((always_inline))
#ifdef __clang__
#define ONCE static __attribute__((noinline))
#else
#define ONCE static __attribute__((noinline, noclone)) /* a copy per constant argument would double the object */
#endif
#define SIMD _Pragma("omp simd")
#define UNROLL _Pragma("GCC unroll 8")
#define LESSER(a, b) ((a) < (b) ? (a) : (b))

#define REAL float
#define INTEGER int32_t
#define NAME(x) x##_f32
#define ROUND VM_ROUND_F32
#define LN2_HI VM_LN2_HI_F32
#define LN2_LO VM_LN2_LO_F32
#define DECAYED -87.0f
#include "reduce.c"
#undef REAL
#undef INTEGER
#undef NAME
#undef ROUND
#undef LN2_HI
#undef LN2_LO
#undef DECAYED

#define REAL double
#define INTEGER int64_t
#define NAME(x) x##_f64
#define ROUND VM_ROUND_F64
#define LN2_HI VM_LN2_HI
#define LN2_LO VM_LN2_LO
#define DECAYED -708.0
#include "reduce.c"

const fg_reduce_kernels FG_TABLE(fg_reduce)[2] = {
    {
#define REDUCE(result, name, operands) .name = name##_f32,
#include "kernels.def"
    },
    {
#define REDUCE(result, name, operands) .name = name##_f64,
#include "kernels.def"
    },
};

#else /* ---- once per dtype ---- */

/* ---- folds ------------------------------------------------------------------------------------------- */

INLINE REAL NAME(join)(const int kind, REAL a, REAL b)
{
    if (kind == SUM || kind == DOT) return a + b;
    const REAL extremum = kind == MIN ? (a < b ? a : b) : (a > b ? a : b); /* b where b is nan */
    return kind != TOP && a != a ? a : extremum;
}
#define JOIN(a, b) NAME(join)(kind, a, b)

/* Fold one row of n >= width elements, for DOT of their products with z. The rest that does not fill a set of lanes is
 * read with the last `width` elements of the row; those that are summed already count as -0. */
INLINE REAL NAME(fold_lanes)(const int kind, const int width, int64_t n, const REAL *x, const REAL *z)
{
#define ITEM(i) (kind == DOT ? x[i] * z[i] : x[i])
    REAL lane[LANES];
    const int rest = (int)(n % width), done = kind == SUM || kind == DOT ? width - rest : 0;
    const int64_t whole = n - rest, last = n - width;
    for (int c = 0; c < width; c++) lane[c] = ITEM(c);
    for (int64_t i = width; i < whole; i += width)
        SIMD for (int c = 0; c < width; c++) lane[c] = JOIN(lane[c], ITEM(i + c));
    if (rest)
        SIMD for (int c = 0; c < width; c++) lane[c] = JOIN(lane[c], c < done ? -(REAL)0 : ITEM(last + c));
    UNROLL for (int half = width / 2; half > 0; half /= 2)
        SIMD for (int c = 0; c < half; c++) lane[c] = JOIN(lane[c], lane[c + half]);
    return lane[0];
#undef ITEM
}

/* Functions of their own, because inside the recursion below the compiler would keep the lanes in memory. */
#define FOLD_ROW(kind)                                                                                     \
    ONCE REAL NAME(fold_row_##kind)(int64_t n, const REAL *x, const REAL *z)                               \
    {                                                                                                      \
        if (n < LANES) return NAME(fold_lanes)(kind, NARROW, n, x, z);                                     \
        return NAME(fold_lanes)(kind, LANES, n, x, z);                                                     \
    }
FOLD_ROW(SUM)
FOLD_ROW(DOT)
FOLD_ROW(MAX)
FOLD_ROW(MIN)
FOLD_ROW(TOP)
#undef FOLD_ROW

/* Fold one row of n >= NARROW elements; sums of long rows by halves. */
ONCE REAL NAME(fold_row)(int kind, int64_t n, const REAL *x, const REAL *z)
{
    if (kind == MAX) return NAME(fold_row_MAX)(n, x, z);
    if (kind == MIN) return NAME(fold_row_MIN)(n, x, z);
    if (kind == TOP) return NAME(fold_row_TOP)(n, x, z);
    if (n <= LEAF * LANES) return kind == SUM ? NAME(fold_row_SUM)(n, x, z) : NAME(fold_row_DOT)(n, x, z);
    const int64_t half = FG_SUM_HALF(n);
    const REAL lower = NAME(fold_row)(kind, half, x, z);
    return lower + NAME(fold_row)(kind, n - half, x + half, z + half);
}

/* y[c] = x[0][c] joined with x[1][c] and so on, after the present y[c] if `go_on`; rows >= 1, ld elements apart. */
INLINE void NAME(fold_down)(const int kind, int go_on, int64_t rows, int64_t width, int64_t ld, const REAL *x, REAL *y)
{
#define PAIR(i) JOIN(x[(i) * ld + c], x[(i + 1) * ld + c])
#define EIGHT JOIN(JOIN(PAIR(0), PAIR(2)), JOIN(PAIR(4), PAIR(6)))
    const REAL *const end = x + rows * ld;
    if (!go_on && rows >= 8) {
        SIMD for (int64_t c = 0; c < width; c++) y[c] = EIGHT;
        x += 8 * ld;
    } else if (!go_on) {
        for (int64_t c = 0; c < width; c++) y[c] = x[c];
        x += ld;
    }
    for (; end - x >= 8 * ld; x += 8 * ld)
        SIMD for (int64_t c = 0; c < width; c++) y[c] = JOIN(y[c], EIGHT);
    for (; x < end; x += ld)
        SIMD for (int64_t c = 0; c < width; c++) y[c] = JOIN(y[c], x[c]);
#undef PAIR
#undef EIGHT
}

/* The same, with sums of many rows by halves; width <= STRIP. */
ONCE void NAME(fold_strip)(int kind, int64_t rows, int64_t width, int64_t ld, const REAL *x, REAL *y)
{
    if (kind == MAX || kind == TOP) {
        NAME(fold_down)(MAX, 0, rows, width, ld, x, y);
    } else if (kind == MIN) {
        NAME(fold_down)(MIN, 0, rows, width, ld, x, y);
    } else if (rows <= FG_SUM_ROWS) {
        NAME(fold_down)(SUM, 0, rows, width, ld, x, y);
    } else {
        REAL upper[STRIP];
        const int64_t half = FG_SUM_HALF_ROWS(rows);
        NAME(fold_strip)(SUM, half, width, ld, x, y);
        NAME(fold_strip)(SUM, rows - half, width, ld, x + half * ld, upper);
        SIMD for (int64_t c = 0; c < width; c++) y[c] += upper[c];
    }
}
#undef JOIN

/* Fold x[n][cols] along its rows. A matrix of few columns is folded as one with `abreast` rows side by side, then these
 * are folded. */
ONCE void NAME(fold_cols)(int kind, int64_t n, int64_t cols, const REAL *x, REAL *y)
{
    const int64_t abreast = cols > 0 ? LESSER(LANES / cols, n) : 0, rows = abreast ? n / abreast : 0;
    if (cols == 1 && n >= NARROW) {
        *y = NAME(fold_row)(kind, n, x, x);
    } else if (abreast > 1) {
        REAL lane[2 * LANES]; /* the lanes, followed by the rows that do not fill a set of them */
        int64_t wide = abreast * cols, rest = (n - rows * abreast) * cols;
        NAME(fold_strip)(kind, rows, wide, wide, x, lane);
        memcpy(lane + wide, x + rows * wide, (size_t)rest * sizeof(REAL));
        NAME(fold_strip)(kind, (wide + rest) / cols, cols, cols, lane, y);
    } else {
        for (int64_t c = 0; c < cols; c += STRIP)
            NAME(fold_strip)(kind, n, LESSER(STRIP, cols - c), cols, x + c, y + c);
    }
}

/* For each group of rows [i, i + group) that fits the first-level cache; a row longer than CHUNK is a group of its
 * own. */
#define FOR_GROUPS(i, group, rows, n)              \
    for (int64_t i = 0, most_ = LESSER(GROUP, CHUNK / (n) + (CHUNK < (n))), group; \
         group = LESSER(most_, (rows) - i), i < (rows); i += group)

/* t[j][r] = x[r][j]. Loops over few columns whose number the compiler knows become vectors. */
ONCE void NAME(transpose)(int64_t rows, int64_t n, const REAL *restrict x, REAL *restrict t)
{
#define COLUMNS(N)                                                                  \
    if (n == N) {                                                                   \
        SIMD for (int64_t r = 0; r < rows; r++)                                     \
            UNROLL for (int64_t j = 0; j < N; j++) t[j * rows + r] = x[r * N + j];  \
        return;                                                                     \
    }
    COLUMNS(2)
    COLUMNS(3)
    COLUMNS(4)
#undef COLUMNS
    for (int64_t r = 0; r < rows; r++)
        UNROLL for (int64_t j = 0; j < n; j++) t[j * rows + r] = x[r * n + j];
}

ONCE void NAME(fold_group)(int kind, int64_t group, int64_t n, const REAL *x, REAL *y)
{
    if (n < NARROW) {
        REAL t[GROUP * NARROW];
        NAME(transpose)(group, n, x, t);
        NAME(fold_strip)(kind, n, group, group, t, y);
    } else {
        for (int64_t r = 0; r < group; r++) y[r] = NAME(fold_row)(kind, n, x + r * n, x);
    }
}

static void NAME(fill)(int64_t n, double value, void *y_)
{
    REAL *y = y_;
    for (int64_t i = 0; i < n; i++) y[i] = (REAL)value;
}

static void NAME(sum_rows)(int64_t rows, int64_t n, const void *x_, void *y_)
{
    const REAL *x = x_;
    REAL *y = y_;
    if (n == 0) NAME(fill)(rows, 0, y);
    else if (rows == 1 && n < NARROW) {         /* a shortcut: fold_group does the same */
        REAL sum;
        NAME(fold_down)(SUM, 0, n, 1, 1, x, &sum);
        *y = sum;
    } else FOR_GROUPS(i, group, rows, n) NAME(fold_group)(SUM, group, n, x + i * n, y + i);
}

static void NAME(sum)(int64_t n, const void *x, const void *b, const void *y, const void *g, void *out)
{
    (void)b, (void)y, (void)g;
    NAME(sum_rows)(1, n, x, out);
}

static void NAME(sum_cols)(int64_t n, int64_t cols, const void *x, void *y)
{
    if (n == 0) NAME(fill)(cols, 0, y);
    else NAME(fold_cols)(SUM, n, cols, x, y);
}

#define PART(kind, name)                                                                                  \
    static void NAME(name)(int go_on, int64_t n, int64_t cols, int64_t ld, const void *x_, void *y_)      \
    {                                                                                                     \
        const REAL *x = x_;                                                                               \
        REAL *y = y_;                                                                                     \
        for (int64_t c = 0; c < cols; c += STRIP)                                                         \
            NAME(fold_down)(kind, go_on, n, LESSER(STRIP, cols - c), ld, x + c, y + c);                   \
    }
PART(SUM, sum_part)
PART(MAX, max_part)
PART(MIN, min_part)
#undef PART

#define EXTREMUM(kind, rows_name, cols_name)                                                              \
    static void NAME(rows_name)(int64_t rows, int64_t n, const void *x_, void *y_)                        \
    {                                                                                                     \
        const REAL *x = x_;                                                                               \
        REAL *y = y_;                                                                                     \
        FOR_GROUPS(i, group, rows, n) NAME(fold_group)(kind, group, n, x + i * n, y + i);                 \
    }                                                                                                     \
    static void NAME(cols_name)(int64_t n, int64_t cols, const void *x, void *y)                          \
    {                                                                                                     \
        NAME(fold_cols)(kind, n, cols, x, y);                                                             \
    }
EXTREMUM(MAX, max_rows, max_cols)
EXTREMUM(MIN, min_rows, min_cols)
#undef EXTREMUM

#include "kernels/running.h"

static void NAME(extremum_vjp_rows)(int64_t rows, int64_t n, const void *x_, const void *y_, const void *g_,
                                    void *gx_)
{
    const REAL *x = x_, *y = y_, *g = g_;
    REAL *gx = gx_;
    for (int64_t i = 0; i < rows; i++, x += n, gx += n) {
        const REAL top = y[i];
        int64_t ties = 0;
#define IS_TOP(x) (((x) == top) | ((x) != (x))) /* there is a nan only where the extremum is nan */
        for (int64_t start = 0; start < n; start += CHUNK) {
            const int64_t end = LESSER(n, start + CHUNK);
            INTEGER found = 0;
            for (int64_t j = start; j < end; j++) found += IS_TOP(x[j]);
            ties += found;
        }
        const REAL share = g[i] / (REAL)ties;
        SIMD for (int64_t j = 0; j < n; j++) gx[j] = IS_TOP(x[j]) ? share : 0;
#undef IS_TOP
    }
}

/* ---- softmax family ---------------------------------------------------------------------------------- */

/* exp(x) for x <= 0 or nan; a result near or below the smallest normal number is 0. Half the work of vm_exp. */
INLINE REAL NAME(decay)(REAL x)
{
    const REAL t = x * (REAL)VM_LOG2E + ROUND, n = t - ROUND;
    const REAL r = (x - n * LN2_HI) - n * LN2_LO;
    const REAL y = (1 + (r + r * r * NAME(vm_exp_tail)(r))) * NAME(vm_power2)(t);
    return x < DECAYED ? 0 : y;
}

/* The sum of exp(x - shift) over a row of n >= NARROW elements; the exponentials are stored in e unless that is
 * NULL. */
static REAL NAME(exp_sum)(int64_t n, const REAL *x, REAL shift, REAL *e)
{
    if (n > CHUNK) {
        const int64_t half = FG_SUM_HALF(n);
        const REAL lower = NAME(exp_sum)(half, x, shift, e);
        return lower + NAME(exp_sum)(n - half, x + half, shift, e ? e + half : e);
    }
    enum { WIDTH = CHUNK / LEAF };
    REAL buffer[CHUNK], lane[WIDTH] = {0};
    if (!e) e = buffer;
    int64_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        SIMD for (int c = 0; c < WIDTH; c++) {
            const REAL y = NAME(decay)(x[i + c] - shift);
            e[i + c] = y;
            lane[c] += y;
        }
    SIMD for (int64_t j = i; j < n; j++) {
        const REAL y = NAME(decay)(x[j] - shift);
        e[j] = y;
        lane[j - i] += y;
    }
    UNROLL for (int half = WIDTH / 2; half > 0; half /= 2)
        SIMD for (int c = 0; c < half; c++) lane[c] += lane[c + half];
    return lane[0];
}

/* shift[r], the maximum of row r, and total[r], the sum of exp(x - shift) over it. With g, also
 * y[r] = g[r] * softmax(x[r]); g_step is 1, or 0 where one element of g serves all rows. */
ONCE void NAME(softmax_group)(int64_t group, int64_t n, const REAL *x, REAL *shift, REAL *total, const REAL *g,
                              int g_step, REAL *y)
{
    REAL buffer[CHUNK], *e = buffer;
    if (2 * n > CHUNK) { /* one row */
        *shift = NAME(fold_row)(TOP, n, x, x);
        *total = NAME(exp_sum)(n, x, *shift, g ? y : NULL);
    } else if (n >= NARROW) {
        NAME(fold_group)(TOP, group, n, x, shift);
        if (g) e = y;
        for (int64_t r = 0; r < group; r++)
            SIMD for (int64_t j = r * n; j < (r + 1) * n; j++) e[j] = x[j] - shift[r];
        SIMD for (int64_t j = 0; j < group * n; j++) e[j] = NAME(decay)(e[j]);
        NAME(fold_group)(SUM, group, n, e, total);
    } else {
        NAME(transpose)(group, n, x, e);
        NAME(fold_strip)(TOP, n, group, group, e, shift);
        for (int64_t j = 0; j < n; j++)
            SIMD for (int64_t r = 0; r < group; r++) e[j * group + r] -= shift[r];
        SIMD for (int64_t j = 0; j < group * n; j++) e[j] = NAME(decay)(e[j]);
        NAME(fold_strip)(SUM, n, group, group, e, total);
        for (int64_t r = 0; r < group && g; r++)
            for (int64_t j = 0; j < n; j++) y[r * n + j] = e[j * group + r];
    }
    for (int64_t r = 0; r < group && !g; r++) /* a shift that is not finite: TOP may have ignored a nan, MAX does not */
        if (shift[r] - shift[r] != 0 && n >= NARROW) shift[r] = NAME(fold_row)(MAX, n, x + r * n, x);
    for (int64_t r = 0; r < group && g; r++) {
        /* In a gradient, finite elements beside +inf have the weight 0 by any scale; g / total would be nan. */
        const REAL scale = g_step && shift[r] == INFINITY ? 0 : g[r * g_step] / total[r];
        SIMD for (int64_t j = r * n; j < (r + 1) * n; j++) y[j] *= scale;
    }
}

static void NAME(softmax_rows)(int64_t rows, int64_t n, const void *x_, void *y_)
{
    const REAL *x = x_, one = 1;
    REAL *y = y_, shift[GROUP], total[GROUP];
    FOR_GROUPS(i, group, rows, n) NAME(softmax_group)(group, n, x + i * n, shift, total, &one, 0, y + i * n);
}

/* The same for a row whose maximum is not finite. Where all elements are -inf, the gradient is 0; elements of +inf
 * share g equally. Any other such row holds a nan and is left as it is. */
static void NAME(weights_at_infinity)(int64_t n, const REAL *x, REAL g, REAL *y)
{
    const REAL infinity = (REAL)INFINITY;
    int64_t low = 0, high = 0, known = 0;
    for (int64_t j = 0; j < n; j++) {
        low += x[j] == -infinity;
        high += x[j] == infinity;
        known += x[j] == x[j];
    }
    if (known < n || !(high || low == n)) return;
    const REAL share = high ? g / (REAL)high : 0;
    for (int64_t j = 0; j < n; j++) y[j] = x[j] == infinity ? share : 0;
}

/* gx[i] = g[i] * the gradient of logsumexp(x[i]). To compute the softmax again from x is as fast as exp(x - y),
 * and exact where y is large. */
INLINE void NAME(weights)(int64_t rows, int64_t n, const REAL *x, const REAL *g, const int g_step, REAL *gx)
{
    REAL shift[GROUP], total[GROUP];
    FOR_GROUPS(i, group, rows, n) {
        NAME(softmax_group)(group, n, x + i * n, shift, total, g + i * g_step, g_step, gx + i * n);
        for (int64_t r = 0; r < group; r++)
            if (shift[r] - shift[r] != 0)
                NAME(weights_at_infinity)(n, x + (i + r) * n, g[(i + r) * g_step], gx + (i + r) * n);
    }
}

static void NAME(logsumexp_vjp_rows)(int64_t rows, int64_t n, const void *x, const void *g, void *gx)
{
    NAME(weights)(rows, n, x, g, 1, gx);
}

static void NAME(weight_rows)(int64_t rows, int64_t n, const void *x, void *y)
{
    const REAL one = 1;
    NAME(weights)(rows, n, x, &one, 0, y);
}

static void NAME(cross_entropy_vjp_rows)(int64_t rows, int64_t n, const void *x_, const int64_t *label,
                                         const void *g_, void *gx_)
{
    const REAL *x = x_, *g = g_;
    REAL *gx = gx_, shift[GROUP], total[GROUP];
    FOR_GROUPS(i, group, rows, n) {
        NAME(softmax_group)(group, n, x + i * n, shift, total, g + i, 1, gx + i * n);
        for (int64_t r = i; r < i + group; r++) gx[r * n + label[r]] -= g[r];
    }
}

static void NAME(log_softmax_rows)(int64_t rows, int64_t n, const void *x_, void *y_)
{
    const REAL *x = x_;
    REAL *y = y_, shift[GROUP], total[GROUP];
    FOR_GROUPS(i, group, rows, n) {
        NAME(softmax_group)(group, n, x + i * n, shift, total, NULL, 0, NULL);
        SIMD for (int64_t r = 0; r < group; r++) total[r] = NAME(vm_log)(total[r]);
        for (int64_t r = 0; r < group; r++) {
            const REAL *row = x + (i + r) * n, top = shift[r], log_total = total[r];
            REAL *row_y = y + (i + r) * n;
            SIMD for (int64_t j = 0; j < n; j++) row_y[j] = (row[j] - top) - log_total;
        }
    }
}

/* A maximum that is not finite is the result itself: inf, -inf or nan. */
INLINE REAL NAME(plus_log)(REAL top, REAL total)
{
    const REAL log_total = NAME(vm_log)(total);
    return top - top == 0 ? top + log_total : top;
}

static void NAME(logsumexp_rows)(int64_t rows, int64_t n, const void *x_, void *y_)
{
    const REAL *x = x_;
    REAL *y = y_, shift[GROUP], total[GROUP];
    FOR_GROUPS(i, group, rows, n) {
        NAME(softmax_group)(group, n, x + i * n, shift, total, NULL, 0, NULL);
        SIMD for (int64_t r = 0; r < group; r++) y[i + r] = NAME(plus_log)(shift[r], total[r]);
    }
}

static void NAME(cross_entropy_rows)(int64_t rows, int64_t n, const void *x_, const int64_t *label, void *y_)
{
    const REAL *x = x_;
    REAL *y = y_, shift[GROUP], total[GROUP];
    FOR_GROUPS(i, group, rows, n) {
        NAME(softmax_group)(group, n, x + i * n, shift, total, NULL, 0, NULL);
        /* The difference is taken before the logarithm is added: the loss of a confident, correct prediction is near 0,
         * where a sum with the shift would lose its digits. */
        for (int64_t r = 0; r < group; r++) shift[r] -= x[(i + r) * n + label[i + r]];
        SIMD for (int64_t r = 0; r < group; r++) y[i + r] = NAME(plus_log)(shift[r], total[r]);
    }
}

static void NAME(softmax_vjp_rows)(int64_t rows, int64_t n, const void *y_, const void *g_, void *gx_)
{
    const REAL *y = y_, *g = g_;
    REAL *gx = gx_, mean[GROUP], product[GROUP * NARROW];
    FOR_GROUPS(i, group, rows, n) {
        const REAL *const y0 = y + i * n, *const g0 = g + i * n;
        if (n < NARROW) {
            for (int64_t j = 0; j < group * n; j++) product[j] = y0[j] * g0[j];
            NAME(fold_group)(SUM, group, n, product, mean);
        } else {
            for (int64_t r = 0; r < group; r++) mean[r] = NAME(fold_row)(DOT, n, y0 + r * n, g0 + r * n);
        }
        for (int64_t r = 0; r < group; r++)
            SIMD for (int64_t j = r * n; j < (r + 1) * n; j++) gx[i * n + j] = y0[j] * (g0[j] - mean[r]);
    }
}

static void NAME(log_softmax_vjp_rows)(int64_t rows, int64_t n, const void *y_, const void *g_, void *gx_)
{
    const REAL *y = y_, *g = g_;
    REAL *gx = gx_, total[GROUP];
    FOR_GROUPS(i, group, rows, n) {
        NAME(fold_group)(SUM, group, n, g + i * n, total);
        for (int64_t r = 0; r < group; r++)
            SIMD for (int64_t j = (i + r) * n; j < (i + r + 1) * n; j++)
                gx[j] = g[j] - NAME(decay)(y[j]) * total[r];
    }
}

#undef FOR_GROUPS
#endif
