/* integers.c: loops over integers and booleans, made from integers.def; and single elements of any dtype, compared and
 * chosen.
 *
 * This file is compiled once, for all instruction sets, and includes itself once per dtype. Of the dtypes that are
 * common, the loops are made for each kind of operands, so that the compiler can put elements side by side in vectors;
 * of the others there is one loop that reads its operands by strides.
 */
#ifndef T

#include "fastgrad.h"

#include <limits.h>
#include <string.h>

#define SIMD _Pragma("omp simd") /* nothing is carried from one element to the next; in place is allowed */
#ifdef __clang__ /* SIMD allows vectors and does not demand them: clang warns of each loop where it uses none */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

/* The rows of integers.def, and which of them is an operation's: 1 + the row; 0: none. */
#define INTEGER_UNARY(name, ...) ROW(name)
#define INTEGER_BINARY INTEGER_UNARY
#define INTEGER_CHECKED INTEGER_UNARY
#define COMPARISON INTEGER_UNARY
#define BOOLEAN_UNARY(...)
#define BOOLEAN_BINARY(...)
enum {
#define ROW(name) ROW_##name,
#include "integers.def"
#undef ROW
    N_ROWS
};
static const uint8_t row_of[FG_N_OPS] = {
#define ROW(name) [FG_OP_##name] = 1 + ROW_##name,
#include "integers.def"
#undef ROW
};
#undef INTEGER_UNARY
#undef INTEGER_BINARY
#undef INTEGER_CHECKED
#undef COMPARISON
#undef BOOLEAN_UNARY
#undef BOOLEAN_BINARY

/* From here on the rows that a dtype does not have are left out. */
#define INTEGER_UNARY(...) OF_INTEGERS(UNARY(__VA_ARGS__))
#define INTEGER_BINARY(...) OF_INTEGERS(BINARY(__VA_ARGS__))
#define INTEGER_CHECKED(...) OF_INTEGERS(CHECKED(__VA_ARGS__))
#define BOOLEAN_UNARY(...) OF_BOOLEANS(UNARY(__VA_ARGS__))
#define BOOLEAN_BINARY(...) OF_BOOLEANS(BINARY(__VA_ARGS__))

#define NAME(name) FG_PASTE(name, SUFFIX)
#define BITS ((int)(CHAR_BIT * sizeof(T)))
#define LEAST ((T)((W)1 << (BITS - 1)))
#define NO_QUOTIENT(a, b) ((b) == 0 || (IS_NEGATIVE(b) && (b) == (T)-1 && (a) == LEAST))
#define HAS_FRACTION(a, b) ((a) % (b) != 0 && IS_NEGATIVE(a) != IS_NEGATIVE(b))
#define POWER(a, b) NAME(raised)(a, b)

/* ---- loops, and one element each --------------------------------------------------------------------------------- */
/* Within a loop: the compiler is not to vectorize it, because that takes much more code. */
#ifdef __GNUC__
#define ELEMENT_BY_ELEMENT __asm__ volatile("")
#else
#define ELEMENT_BY_ELEMENT ((void)0)
#endif

#define ONE(name, ...)                                                                                           \
    static void NAME(name##_one)(int64_t n, const void *p, const void *q, const void *y, const void *g, void *r) \
    {                                                                                                            \
        (void)n, (void)q, (void)y, (void)g;                                                                      \
        __VA_ARGS__;                                                                                             \
    }

#define UNARY_LOOP(name, value)                                \
    static void NAME(name)(int64_t n, const void *p, void *r)  \
    {                                                          \
        const T *xs = p;                                       \
        T *out = r;                                            \
        if (IS_COMMON)                                         \
            SIMD LOOP(const T x = xs[i], value)                \
        else                                                   \
            LOOP(const T x = xs[i]; ELEMENT_BY_ELEMENT, value) \
    }                                                          \
    ONE(name, const T x = *(const T *)p; *(T *)r = value)
#define LOOP(operands, value)         \
    for (int64_t i = 0; i < n; i++) { \
        operands;                     \
        out[i] = (value);             \
    }

/* R is the result's type. */
#define BINARY_LOOPS(R, IN_VECTORS, name, value)                                             \
    static void NAME(name)(int64_t n, const void *p, int sa, const void *q, int sb, void *r) \
    {                                                                                        \
        const T *as = p, *bs = q, a0 = n ? *as : 0, b0 = n ? *bs : 0;                        \
        R *out = r;                                                                          \
        (void)a0, (void)b0;                                                                  \
        if (IN_VECTORS && sa && sb)                                                          \
            SIMD LOOP(const T a = as[i] AND b = bs[i], value)                                \
        else if (IN_VECTORS && sb)                                                           \
            SIMD LOOP(const T a = a0 AND b = bs[i], value)                                   \
        else if (IN_VECTORS && sa)                                                           \
            SIMD LOOP(const T a = as[i] AND b = b0, value)                                   \
        else                                                                                 \
            LOOP(const T a = as[i * sa] AND b = bs[i * sb]; ELEMENT_BY_ELEMENT, value)       \
    }                                                                                        \
    ONE(name, const T a = *(const T *)p, b = *(const T *)q; *(R *)r = (R)(value))
#define AND ,
#define BINARY_LOOP(name, value) BINARY_LOOPS(T, IS_COMMON, name, value)
/* The baseline set has no comparison of vectors of 64 bits. */
#define COMPARISON_LOOP(name, operator) BINARY_LOOPS(uint8_t, IS_COMMON && sizeof(T) < 8, name, a operator b)

#define CHECKED_LOOP(name, is_refused, value)                                               \
    static int NAME(name)(int64_t n, const void *p, int sa, const void *q, int sb, void *r) \
    {                                                                                       \
        const T *as = p, *bs = q;                                                           \
        T *out = r;                                                                         \
        for (int64_t i = 0; i < n; i++) {                                                   \
            const T a = as[i * sa], b = bs[i * sb];                                         \
            if (is_refused)                                                                 \
                return 1;                                                                   \
            out[i] = value;                                                                 \
        }                                                                                   \
        return 0;                                                                           \
    }

/* Results that are computed side by side, because each waits for the one before it. */
enum { LANES = 4 };

/* ---- extremes ---------------------------------------------------------------------------------------------------- */
#define EXTREME_ROWS(name, IS_BETTER)                                              \
    static void NAME(name##_rows)(int64_t rows, int64_t n, const void *p, void *r) \
    {                                                                              \
        const T *x = p;                                                            \
        for (int64_t k = 0; k < rows; k++, x += n) {                               \
            T best[LANES] = {*x, *x, *x, *x};                                      \
            int64_t i = 0;                                                         \
            for (; i + LANES <= n; i += LANES)                                     \
                for (int c = 0; c < LANES; c++)                                    \
                    best[c] = x[i + c] IS_BETTER best[c] ? x[i + c] : best[c];     \
            for (; i < n; i++)                                                     \
                best[0] = x[i] IS_BETTER best[0] ? x[i] : best[0];                 \
            for (int c = 1; c < LANES; c++)                                        \
                best[0] = best[c] IS_BETTER best[0] ? best[c] : best[0];           \
            ((T *)r)[k] = *best;                                                   \
        }                                                                          \
    }                                                                              \
    static void NAME(name##_cols)(int64_t n, int64_t cols, const void *p, void *r) \
    {                                                                              \
        const T *x = p;                                                            \
        T *best = r;                                                               \
        memcpy(best, x, (size_t)cols * sizeof *best);                              \
        for (int64_t i = 1; i < n; i++) {                                          \
            x += cols;                                                             \
            for (int64_t c = 0; c < cols; c++)                                     \
                best[c] = x[c] IS_BETTER best[c] ? x[c] : best[c];                 \
        }                                                                          \
    }

/* Running along the middle axis of x[outer][n][inner], from its end if reverse. y may be x. */
#define RUNNING(name, R, JOINED)                                                              \
    void name(int64_t outer, int64_t n, int64_t inner, int reverse, const void *p, void *r)   \
    {                                                                                         \
        const int64_t step = reverse ? -inner : inner, first = reverse ? (n - 1) * inner : 0; \
        for (int64_t o = 0; o < outer; o++) {                                                 \
            const R *x = (const R *)p + o * n * inner + first;                                \
            R *y = (R *)r + o * n * inner + first;                                            \
            memmove(y, x, (size_t)inner * sizeof *y);                                         \
            for (int64_t i = 1; i < n; i++) {                                                 \
                x += step;                                                                    \
                y += step;                                                                    \
                for (int64_t c = 0; c < inner; c++)                                           \
                    y[c] = JOINED(y[c - step], x[c]);                                         \
            }                                                                                 \
        }                                                                                     \
    }
#define ADDED(a, b) ((a) + (b))
#define MULTIPLIED(a, b) ((a) * (b))
#define LARGER(a, b) ((a) > (b) ? (a) : (b))

/* The first place of the extreme along the middle axis of x[outer][n][inner], or that of the first nan. Blocks in which
 * nothing is better are passed over as a whole. */
#define EXTREME_PLACE(name, IS_BETTER, IS_NO_BETTER)                                               \
    static void NAME(name)(int64_t outer, int64_t n, int64_t inner, const void *p, int64_t *place) \
    {                                                                                              \
        enum { PART = 64 };                                                                        \
        for (int64_t o = 0; o < outer; o++)                                                        \
            for (int64_t c = 0; c < inner; c++) {                                                  \
                const T *x = (const T *)p + o * n * inner + c;                                     \
                int64_t found = 0;                                                                 \
                for (int64_t from = 1; from < n && !IS_NAN(x[found * inner]); from += PART) {      \
                    const int64_t end = n - from < PART ? n : from + PART;                         \
                    const T best = x[found * inner];                                               \
                    int any = 0;                                                                   \
                    for (int64_t i = from; inner == 1 && i < end; i++)                             \
                        any |= !(x[i] IS_NO_BETTER best); /* or nan */                             \
                    for (int64_t i = from; (any || inner != 1) && i < end; i++)                    \
                        if (!IS_NAN(x[found * inner]) &&                                           \
                            (x[i * inner] IS_BETTER x[found * inner] || IS_NAN(x[i * inner])))     \
                            found = i;                                                             \
                }                                                                                  \
                *place++ = found;                                                                  \
            }                                                                                      \
    }

/* Of each dtype: its type, the unsigned type in which it is computed, its kind, and whether it is common. */
#define T int8_t
#define W uint32_t
#define SUFFIX int8
#define IS_SIGNED
#define IS_COMMON 0
#include "integers.c"
#define T int16_t
#define W uint32_t
#define SUFFIX int16
#define IS_SIGNED
#define IS_COMMON 0
#include "integers.c"
#define T int32_t
#define W uint32_t
#define SUFFIX int32
#define IS_SIGNED
#define IS_COMMON 1
#include "integers.c"
#define T int64_t
#define W uint64_t
#define SUFFIX int64
#define IS_SIGNED
#define IS_COMMON 1
#include "integers.c"
#define T uint8_t
#define W uint32_t
#define SUFFIX uint8
#define IS_UNSIGNED
#define IS_COMMON 0
#include "integers.c"
#define T uint16_t
#define W uint32_t
#define SUFFIX uint16
#define IS_UNSIGNED
#define IS_COMMON 0
#include "integers.c"
#define T uint32_t
#define W uint32_t
#define SUFFIX uint32
#define IS_UNSIGNED
#define IS_COMMON 0
#include "integers.c"
#define T uint64_t
#define W uint64_t
#define SUFFIX uint64
#define IS_UNSIGNED
#define IS_COMMON 0
#include "integers.c"
#define T uint8_t
#define W uint32_t
#define SUFFIX bool
#define IS_BOOLEAN
#define IS_COMMON 1
#include "integers.c"
#define T float
#define W uint32_t
#define SUFFIX float32
#define IS_FLOAT
#define IS_COMMON 1
#include "integers.c"
#define T double
#define W uint64_t
#define SUFFIX float64
#define IS_FLOAT
#define IS_COMMON 1
#include "integers.c"

#define EACH_DTYPE(ROW)                                                                           \
    ROW(FLOAT32, float32) ROW(FLOAT64, float64) ROW(BOOL, bool) ROW(INT8, int8) ROW(INT16, int16) \
    ROW(INT32, int32) ROW(INT64, int64) ROW(UINT8, uint8) ROW(UINT16, uint16) ROW(UINT32, uint32) \
    ROW(UINT64, uint64)

#define TABLE(number, name) [FG_##number] = rows_##name,
static const fg_integer_kernel *const tables[FG_N_DTYPES] = {EACH_DTYPE(TABLE)};
#undef TABLE

const fg_integer_kernel *fg_integer_kernel_of(int op, int dtype)
{
    const fg_integer_kernel *k = op < FG_N_OPS && row_of[op] ? &tables[dtype][row_of[op] - 1] : NULL;
    return k && (k->unary || k->binary || k->checked) ? k : NULL;
}

const fg_order_kernels *fg_order_kernels_of(int dtype)
{
#define TABLE(number, name) [FG_##number] = &order_##name,
    static const fg_order_kernels *const of_dtype[FG_N_DTYPES] = {EACH_DTYPE(TABLE)};
#undef TABLE
    return of_dtype[dtype];
}

/* ---- chosen by booleans: elements of a size, whatever they are --------------------------------------------------- */
#define WHERE(bits)                                                                                             \
    static void where_##bits(int64_t n, const uint8_t *c, int sc, const void *p, int sa, const void *q, int sb, \
                             void *r)                                                                           \
    {                                                                                                           \
        const uint##bits##_t *a = p, *b = q;                                                                    \
        uint##bits##_t *out = r;                                                                                \
        SIMD for (int64_t i = 0; i < n; i++) out[i] = c[i * sc] ? a[i * sa] : b[i * sb];                        \
    }
WHERE(8)
WHERE(16)
#define WHERE_ONE(bits)                                                                                            \
    static void where_one_##bits(int64_t n, const void *c, const void *a, const void *b, const void *g, void *out) \
    {                                                                                                              \
        (void)n, (void)g;                                                                                          \
        memcpy(out, *(const uint8_t *)c ? a : b, bits / 8);                                                        \
    }
WHERE_ONE(8)
WHERE_ONE(16)
WHERE_ONE(32)
WHERE_ONE(64)

fg_where_kernel *fg_where_kernel_of(int dtype)
{
    size_t itemsize = fg_itemsize(dtype);
    return itemsize == 1   ? where_8
           : itemsize == 2 ? where_16
                           : fg_kernels[itemsize == 4 ? FG_FLOAT32 : FG_FLOAT64].elementwise->where;
}

fg_loop *fg_single_kernel_of(int op, int dtype)
{
    size_t itemsize = fg_itemsize(dtype);
    if (op == FG_OP_where)
        return itemsize == 1 ? where_one_8 : itemsize == 2 ? where_one_16 : itemsize == 4 ? where_one_32 : where_one_64;
    return op < FG_N_OPS && row_of[op] ? tables[dtype][row_of[op] - 1].one : NULL;
}

/* ---- sums and products, of 64 bits ------------------------------------------------------------------------------- */
void fg_integer_sum_rows(int64_t rows, int64_t n, const void *px, void *py)
{
    const uint64_t *x = px;
    uint64_t *y = py;
    for (int64_t r = 0; r < rows; r++, x += n) {
        uint64_t sum[2 * LANES] = {0};
        int64_t i = 0;
        for (; i + 2 * LANES <= n; i += 2 * LANES)
            for (int c = 0; c < 2 * LANES; c++)
                sum[c] += x[i + c];
        for (; i < n; i++)
            sum[0] += x[i];
        y[r] = 0;
        for (int c = 0; c < 2 * LANES; c++)
            y[r] += sum[c];
    }
}

void fg_integer_sum(int64_t n, const void *x, const void *b, const void *y, const void *g, void *out)
{
    (void)b, (void)y, (void)g;
    fg_integer_sum_rows(1, n, x, out);
}

void fg_integer_sum_cols(int64_t n, int64_t cols, const void *px, void *py)
{
    const uint64_t *x = px;
    uint64_t *y = py;
    memset(y, 0, (size_t)cols * sizeof *y);
    for (int64_t i = 0; i < n; i++, x += cols)
        SIMD for (int64_t c = 0; c < cols; c++) y[c] += x[c];
}

RUNNING(fg_integer_cumsum, uint64_t, ADDED)
RUNNING(fg_integer_cumprod, uint64_t, MULTIPLIED)

#else /* of one dtype */

#if defined IS_SIGNED || defined IS_UNSIGNED
#define OF_INTEGERS(...) __VA_ARGS__
#define OF_BOOLEANS(...)
#elif defined IS_BOOLEAN
#define OF_INTEGERS(...)
#define OF_BOOLEANS(...) __VA_ARGS__
#else
#define OF_INTEGERS(...)
#define OF_BOOLEANS(...)
#endif
#ifdef IS_SIGNED
#define IS_NEGATIVE(x) ((x) < 0)
#else
#define IS_NEGATIVE(x) 0
#endif
#ifdef IS_FLOAT
#define IS_NAN(x) ((x) != (x))
#else
#define IS_NAN(x) 0
#endif

#if defined IS_SIGNED || defined IS_UNSIGNED
static T NAME(raised)(T a, T b)
{
    W base = (W)a, power = 1;
    for (W exponent = (W)b; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            power *= base;
    return (T)power;
}
#endif

#define UNARY UNARY_LOOP
#define BINARY BINARY_LOOP
#define CHECKED CHECKED_LOOP
#ifdef IS_FLOAT
#define COMPARISON(name, operator) ONE(name, *(uint8_t *)r = *(const T *)p operator *(const T *)q)
#else
#define COMPARISON COMPARISON_LOOP
EXTREME_ROWS(max, >)
EXTREME_ROWS(min, <)
static RUNNING(NAME(cummax), T, LARGER)
#endif
EXTREME_PLACE(argmax, >, <=)
EXTREME_PLACE(argmin, <, >=)
#include "integers.def"
#undef UNARY
#undef BINARY
#undef CHECKED
#undef COMPARISON

static const fg_integer_kernel NAME(rows)[N_ROWS] = {
#define UNARY(name, ...) [ROW_##name] = {.unary = NAME(name), .one = NAME(name##_one)},
#define BINARY(name, ...) [ROW_##name] = {.binary = NAME(name), .one = NAME(name##_one)},
#define CHECKED(name, ...) [ROW_##name] = {.checked = NAME(name)},
#ifdef IS_FLOAT
#define COMPARISON(name, ...) [ROW_##name] = {.one = NAME(name##_one)},
#else
#define COMPARISON BINARY
#endif
#include "integers.def"
#undef UNARY
#undef BINARY
#undef CHECKED
#undef COMPARISON
};

static const fg_order_kernels NAME(order) = {
#ifndef IS_FLOAT
    .max_rows = NAME(max_rows),
    .max_cols = NAME(max_cols),
    .min_rows = NAME(min_rows),
    .min_cols = NAME(min_cols),
    .cummax = NAME(cummax),
#endif
    .argmax = NAME(argmax),
    .argmin = NAME(argmin),
};

#undef OF_INTEGERS
#undef OF_BOOLEANS
#undef IS_NEGATIVE
#undef IS_NAN
#undef T
#undef W
#undef SUFFIX
#undef IS_SIGNED
#undef IS_UNSIGNED
#undef IS_BOOLEAN
#undef IS_FLOAT
#undef IS_COMMON

#endif
