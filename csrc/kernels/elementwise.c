/* elementwise.c: the loops over one element of each operand, forward and backward, built from ops.def.
 *
 * The file includes itself: once per dtype for the loops, and once more per dtype for the table.
 *
 * An element's result must not depend on its index, yet a compiler is free to contract a * b + c to one rounding in a
 * vector body and not in its scalar remainder, or not where a factor has been moved out of the loop. So the loops of
 * the _FN rows only ever get whole vectors (STEP elements) at stride 1: run() repeats a stride-0 operand into a block,
 * and pads the tail to a vector. A single element is a vector of its own, which stays in registers. The plain rows
 * contain no sum of inexact products, so they are ordinary loops, as are those of functions of the C library, which are
 * not vectorised.
 */
#if !defined T
#include "kernels.h"
#include "texts.h"
#include <string.h>

#define SIMD _Pragma("omp simd") /* nothing is carried from one element to the next; in place is allowed */
#ifdef __clang__ /* SIMD allows vectors and does not demand them: clang warns of each loop where it uses none */
#pragma clang diagnostic ignored "-Wpass-failed"
#endif
#ifdef __GNUC__
#define NOINLINE __attribute__((noinline))
#else
#define NOINLINE
#endif

enum { BLOCK = 512 };

/* The second part of a macro for some rows only (PICK in texts.h), and else `otherwise`. */
#define PICK_LOOP(macro, otherwise) PICK_THIRD(macro, ~, otherwise)

#define NO_LOOP ((fg_loop *)0)

/* float64 first: loops of float32 call its loops. */
#define T double
#define BITS uint64_t
#define OTHER float
#define FN(name) name##_f64
#define VM(name) vm_##name##_f64
#define IS_LIBM(name) PICK(VM_LIBM_f64_##name, 0)
#define SLOPE(name, text) PICK(VM_SLOPE_f64_##name, text)
#define LONG_LOOP LONG_LOOP_f64
#include "elementwise.c"
#define T float
#define BITS uint32_t
#define OTHER double
#define FN(name) name##_f32
#define VM(name) vm_##name##_f32
#define IS_LIBM(name) PICK(VM_LIBM_f32_##name, 0)
#define SLOPE(name, text) PICK(VM_SLOPE_f32_##name, text)
#define LONG_LOOP LONG_LOOP_f32
#define IN_F64
#include "elementwise.c"

extern const fg_elementwise_kernels FG_TABLE(fg_elementwise)[2];
const fg_elementwise_kernels FG_TABLE(fg_elementwise)[2] = {
#define TABLE
#define T float
#define FN(name) name##_f32
#define IS_LIBM(name) PICK(VM_LIBM_f32_##name, 0)
#include "elementwise.c"
    ,
#define T double
#define FN(name) name##_f64
#define IS_LIBM(name) PICK(VM_LIBM_f64_##name, 0)
#include "elementwise.c"
};

#elif !defined TABLE

HUGE_FUNCTIONS

#define STEP ((int64_t)(64 / sizeof(T)))
#define UNIT(name) (IS_LIBM(name) ? 1 : STEP)

/* A single element is the first of LANES lanes; the others are zeros. If all lanes were equal, or if they differed by a
 * condition on their index, the compiler would compute a scalar, whose rounding may differ. */
#define LANES (16 / sizeof(T))
static const BITS FN(first)[LANES] = {~(BITS)0};
#define ALONE(v) VM(float)(VM(bits)(v) & FN(first)[i])

/* padded = the first n elements of x, n <= STEP, and zeros; a missing operand is left out. The loop has a constant
 * count and a condition, so that it becomes one masked move: a vector load can read what that wrote without waiting. */
static inline void FN(pad)(int n, const T *x, T *padded) {
    if (!x) return;
    SIMD for (int j = 0; j < STEP; j++) padded[j] = j < n ? x[j] : 0;
}

/* x = the first n elements of padded. */
static inline void FN(cut)(int n, const T *padded, T *x) {
    SIMD for (int j = 0; j < STEP; j++)
        if (j < n) x[j] = padded[j];
}

/* Run a loop of the _FN rows with all strides 1. Any memory of its length stands in for a missing operand, whose
 * elements are not used. */
static NOINLINE void FN(run)(fg_loop *loop, int64_t n, const T *a, const T *b, const T *y, const T *g, T *out) {
    int64_t whole = n & -STEP;
    int rest = (int)(n - whole);
    if (whole) loop(whole, a ? a : out, b ? b : out, y ? y : out, g ? g : out, out);
    if (!rest) return;
    _Alignas(64) T padded[5][STEP];
    FN(pad)(rest, a ? a + whole : 0, padded[0]);
    FN(pad)(rest, b ? b + whole : 0, padded[1]);
    FN(pad)(rest, y ? y + whole : 0, padded[2]);
    FN(pad)(rest, g ? g + whole : 0, padded[3]);
    loop(STEP, padded[0], padded[1], padded[2], padded[3], padded[4]);
    FN(cut)(rest, padded[4], out + whole);
}

/* y = value, n times, rounded up to whole vectors */
static inline void FN(repeat)(int64_t n, T value, T *y) {
    for (int64_t i = 0; i < n; i += STEP)
        SIMD for (int j = 0; j < STEP; j++) y[i + j] = value;
}

/* The same with any strides. A loop of the C library takes any n. */
static NOINLINE void FN(run_strided)(fg_loop *loop, int is_libm, int64_t n, const T *a, int sa, const T *b, int sb,
                                     const T *y, const T *g, T *out) {
    _Alignas(64) T all_a[BLOCK], all_b[BLOCK];
    int64_t step = sa & sb ? n : BLOCK;
    FN(repeat)(sa ? 0 : n < BLOCK ? n : BLOCK, sa ? 0 : *a, all_a);
    FN(repeat)(sb ? 0 : n < BLOCK ? n : BLOCK, sb ? 0 : *b, all_b);
    for (int64_t i = 0; i < n; i += step) {
        int64_t m = n - i < step ? n - i : step;
        const T *ai = !sa ? all_a : a ? a + i : 0, *bi = !sb ? all_b : b ? b + i : 0;
        if (is_libm) loop(m, ai, bi, out, out, out + i);
        else FN(run)(loop, m, ai, bi, y ? y + i : 0, g ? g + i : 0, out + i);
    }
}

static inline int FN(is_huge)(const T *x) { return VM(absolute)(*x) > (T)VM_TRIG_LIMIT; }

/* Run a loop of one of the functions with HUGE_forward_. For huge arguments, `value` (the function or its derivative)
 * is called one by one. */
static void FN(run_huge)(fg_loop *loop, T (*value)(T), int64_t n, const T *x, const T *g, T *out) {
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        int any = 0;
        for (int64_t j = i; j < i + m; j++) any |= FN(is_huge)(x + j);
        T y[BLOCK];
        FN(run)(loop, m, x + i, 0, 0, g ? g + i : 0, any ? y : out + i);
        for (int64_t j = i; any && j < i + m; j++)
            out[j] = FN(is_huge)(x + j) ? value(x[j]) * (g ? g[j] : 1) : y[j - i];
    }
}

#ifdef IN_F64
/* Run a loop of float64, whose strides are all 1, on operands of float32; n is 1 or a multiple of the loop's unit. The
 * product with g, if there is one, is taken in float32, so that its bits are those of the slope times g. */
static NOINLINE void run_in_f64(fg_loop *loop, int64_t n, const float *a, const float *b, const float *y,
                                const float *g, float *out) {
    _Alignas(64) double wide[5][BLOCK];
    for (int64_t j = 0; j < BLOCK; j++) wide[3][j] = 1;
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        for (int64_t j = 0; j < m; j++) {
            wide[0][j] = a[i + j];
            wide[1][j] = b[i + j];
            wide[2][j] = y[i + j];
        }
        loop(m, wide[0], wide[1], wide[2], wide[3], wide[4]);
        for (int64_t j = 0; j < m; j++) out[i + j] = (g ? g[i + j] : 1) * (float)wide[4][j];
    }
}
#endif

#define SOME(p) ((p) ? (const T *)(p) : (const T *)some) /* any address stands in for a missing operand */

/* An fg_loop: n is 1, or a multiple of the unit. The letters of its text stand for an element of each operand. */
#define LOOP(name, unit, value)                                                                                \
    LOOP_OF(name##_many, unit, 1, 1, value)                                                                    \
    static void FN(name)(int64_t n, const void *va, const void *vb, const void *vy, const void *vg,            \
                         void *vout) {                                                                         \
        if ((unit) == 1 || n != 1) {                                                                           \
            FN(name##_many)(n, va, vb, vy, vg, vout);                                                          \
            return;                                                                                            \
        }                                                                                                      \
        const T a0 = *(const T *)va, b0 = *(const T *)vb, y0 = *(const T *)vy, g0 = *(const T *)vg;            \
        T lanes[LANES];                                                                                        \
        SIMD for (size_t i = 0; i < LANES; i++) {                                                              \
            const T x = ALONE(a0), a = x, b = ALONE(b0), y = ALONE(y0), g = ALONE(g0);                         \
            (void)a, (void)x, (void)b, (void)y, (void)g;                                                       \
            lanes[i] = value;                                                                                  \
        }                                                                                                      \
        *(T *)vout = lanes[0];                                                                                 \
    }
#define LOOP_OF(name, unit, SA, SB, value)                                                                     \
    static NOINLINE void FN(name)(int64_t n, const void *va, const void *vb, const void *vy, const void *vg,   \
                                  void *vout) {                                                                \
        const T *pa = va, *pb = vb, *py = vy, *pg = vg;                                                        \
        T *out = vout;                                                                                         \
        n &= -(int64_t)(unit); /* changes nothing, but lets the compiler leave out the remainder */            \
        SIMD for (int64_t i = 0; i < n; i++) {                                                                 \
            const T x = pa[SA ? i : 0], a = x, b = pb[SB ? i : 0], y = py[i], g = pg[i];                       \
            (void)a, (void)x, (void)b, (void)y, (void)g;                                                       \
            out[i] = value;                                                                                    \
        }                                                                                                      \
    }
/* The loop of a function; `scaled` is 1 if the value is g times a slope. The machine code of those marked VM_LONG is
 * kept small: a single element is computed as one of a vector of 64 bytes, and float32 by the loop of float64. */
#define OWN_LOOP(name, unit, scaled, value) LOOP(name, unit, value)
#define LONG_LOOP_f64(name, unit, scaled, value)                                                               \
    LONG_LOOP_OF(PICK(VM_USUAL_##name, ONE_LOOP), PICK_THIRD(VM_USUAL_##name, ~, 0), name, unit, value)        \
    static void FN(name)(int64_t n, const void *a, const void *b, const void *y, const void *g, void *out) {   \
        if (n == 1) FN(run)(FN(name##_many), 1, a, b, y, g, out);                                              \
        else FN(name##_many)(n, a, b, y, g, out);                                                              \
    }
#define LONG_LOOP_OF(FORM, usual, name, unit, value) FORM(name, usual, unit, value)
#define ONE_LOOP(name, usual, unit, value) LOOP_OF(name##_many, unit, 1, 1, value)
/* Blocks of which all arguments are usual are computed by the shorter loop. */
#define USUAL_LOOPS(name, usual, unit, value)                                                                  \
    LOOP_OF(name##_any, unit, 1, 1, value)                                                                     \
    LOOP_OF(name##_usual, unit, 1, 1, usual)                                                                   \
    static NOINLINE void FN(name##_many)(int64_t n, const void *va, const void *vb, const void *y,             \
                                         const void *g, void *vout) {                                          \
        const T *a = va, *b = vb;                                                                              \
        T *out = vout;                                                                                         \
        for (int64_t i = 0; i < n; i += BLOCK) {                                                               \
            int64_t m = n - i < BLOCK ? n - i : BLOCK;                                                         \
            int others = 0;                                                                                    \
            for (int64_t j = i; j < i + m; j++) others |= !VM_USUAL_TEST_##name(a[j], b[j]);                   \
            (others ? FN(name##_any) : FN(name##_usual))(m, a + i, b + i, y, g, out + i);                      \
        }                                                                                                      \
    }
#define LONG_LOOP_f32(name, unit, scaled, value)                                                               \
    static void FN(name)(int64_t n, const void *a, const void *b, const void *y, const void *g, void *out) {   \
        run_in_f64(name##_f64, n, a, b, y, (scaled) ? g : 0, out);                                             \
    }
/* The loops of a plain row, of which two read a single element of a or b for all n; these are not called with n = 1. */
#define LOOPS(name, value)                                                                                     \
    LOOP(name##_loop, STEP, value)                                                                             \
    LOOP_OF(name##_one_a, STEP, 0, 1, value)                                                                   \
    LOOP_OF(name##_one_b, STEP, 1, 0, value)

/* Unary rows: <name> is y = f(x), <name>_vjp is gx = g f'(x) */
#define UNARY(name, definition, derivative, lo, hi, doc)                                                       \
    static void FN(name)(int64_t n, const void *px, void *py) {                                                \
        const T *xs = px;                                                                                      \
        T *out = py;                                                                                           \
        SIMD for (int64_t i = 0; i < n; i++) {                                                                 \
            const T x = xs[i];                                                                                 \
            out[i] = definition;                                                                               \
        }                                                                                                      \
    }                                                                                                          \
    static void FN(name##_vjp)(int64_t n, const void *px, const void *qy, const void *some, void *pgx) {       \
        const T *pa = SOME(px), *py = SOME(qy), *pg = some;                                                    \
        T *out = pgx;                                                                                          \
        SIMD for (int64_t i = 0; i < n; i++) {                                                                 \
            const T x = pa[i], y = py[i];                                                                      \
            (void)x, (void)y;                                                                                  \
            out[i] = pg[i] * (T)(derivative);                                                                  \
        }                                                                                                      \
    }                                                                                                          \
    LOOP(name##_loop, STEP, definition)                                                                        \
    LOOP(name##_vjp_loop, STEP, g * (T)(derivative))

#define UNARY_FN(name, ...) UNARY_FN_OF(PICK(VM_LONG_##name, OWN_LOOP), name, __VA_ARGS__)
#define UNARY_FN_OF(FORM, name, definition, derivative, lo, hi, doc)                                           \
    FORM(name##_loop, UNIT(name), 0, VM(name)(x))                                                              \
    FORM(name##_vjp_loop, STEP, 1, g * (T)(SLOPE(name, derivative)))                                           \
    static void FN(name)(int64_t n, const void *x, void *y) {                                                  \
        T (*huge)(T) = PICK(HUGE_forward_##name, 0);                                                           \
        if (n == 1 && !IS_LIBM(name) && !(huge && FN(is_huge)(x))) FN(name##_loop)(1, x, x, x, x, y);          \
        else if (huge) FN(run_huge)(FN(name##_loop), huge, n, x, 0, y);                                        \
        else if (IS_LIBM(name)) FN(name##_loop)(n, x, x, x, x, y);                                             \
        else FN(run)(FN(name##_loop), n, x, 0, 0, 0, y);                                                       \
    }                                                                                                          \
    static void FN(name##_vjp)(int64_t n, const void *x, const void *y, const void *some, void *gx) {          \
        T (*huge)(T) = PICK(HUGE_backward_##name, 0);                                                          \
        const T *g = some;                                                                                     \
        if (n == 1 && !(huge && FN(is_huge)(x))) FN(name##_vjp_loop)(1, SOME(x), g, SOME(y), g, gx);           \
        else if (huge) FN(run_huge)(FN(name##_vjp_loop), huge, n, x, g, gx);                                   \
        else FN(run)(FN(name##_vjp_loop), n, x, 0, y, g, gx);                                                  \
    }

/* Binary rows: <name>, <name>_da, <name>_db. A stride-0 operand stays in a register. */
#define STRIDED(letters, value)                                                                                \
    do {                                                                                                       \
        if (sa && sb) STRIDED_LOOP(1, 1, letters, value)                                                       \
        else if (sa) STRIDED_LOOP(1, 0, letters, value)                                                        \
        else if (sb) STRIDED_LOOP(0, 1, letters, value)                                                        \
        else STRIDED_LOOP(0, 0, letters, value)                                                                \
    } while (0)
#define STRIDED_LOOP(SA, SB, letters, value)                                                                   \
    {                                                                                                          \
        const T a0 = *pa, b0 = *pb;                                                                            \
        SIMD for (int64_t i = 0; i < n; i++) {                                                                 \
            const T a = SA ? pa[i] : a0, b = SB ? pb[i] : b0;                                                  \
            (void)a, (void)b;                                                                                  \
            letters;                                                                                           \
            out[i] = value;                                                                                    \
        }                                                                                                      \
    }

#define BINARY(name, definition, da, db, alo, ahi, blo, bhi, doc)                                              \
    static void FN(name)(int64_t n, const void *va, int sa, const void *vb, int sb, void *vy) {                \
        const T *pa = va, *pb = vb;                                                                            \
        T *out = vy;                                                                                           \
        if (n) STRIDED((void)0, definition);                                                                   \
    }                                                                                                          \
    LOOPS(name, definition)                                                                                    \
    BINARY_VJP(name##_da, da)                                                                                  \
    BINARY_VJP(name##_db, db)
#define BINARY_VJP(name, derivative)                                                                           \
    static void FN(name)(int64_t n, const void *va, int sa, const void *vb, int sb, const void *vy,            \
                         const void *some, void *vga) {                                                        \
        const T *pa = SOME(va), *pb = SOME(vb), *py = SOME(vy), *pg = some;                                    \
        T *out = vga;                                                                                          \
        if (n) STRIDED(const T y = py[i]; (void)y, pg[i] * (T)(derivative));                                   \
    }                                                                                                          \
    LOOPS(name, g * (T)(derivative))
#define BINARY_FN(name, ...) BINARY_FN_OF(PICK(VM_LONG_##name, OWN_LOOP), name, __VA_ARGS__)
#define BINARY_FN_OF(FORM, name, definition, da, db, alo, ahi, blo, bhi, doc)                                  \
    FORM(name##_loop, UNIT(name), 0, VM(name)(a, b))                                                           \
    static void FN(name)(int64_t n, const void *a, int sa, const void *b, int sb, void *y) {                   \
        if (n == 1 && !IS_LIBM(name)) FN(name##_loop)(1, a, b, a, a, y);                                       \
        else if (sa & sb & !IS_LIBM(name)) FN(run)(FN(name##_loop), n, a, b, 0, 0, y);                         \
        else FN(run_strided)(FN(name##_loop), IS_LIBM(name), n, a, sa, b, sb, 0, 0, y);                        \
    }                                                                                                          \
    BINARY_FN_VJP(FORM, name##_da, SLOPE(name##_da, da))                                                       \
    BINARY_FN_VJP(FORM, name##_db, SLOPE(name##_db, db))
#define BINARY_FN_VJP(FORM, name, derivative)                                                                  \
    FORM(name##_loop, STEP, 1, g * (T)(derivative))                                                            \
    static void FN(name)(int64_t n, const void *a, int sa, const void *b, int sb, const void *y,               \
                         const void *some, void *ga) {                                                         \
        const T *g = some;                                                                                     \
        if (n == 1) FN(name##_loop)(1, SOME(a), SOME(b), SOME(y), g, ga);                                      \
        else if (sa & sb) FN(run)(FN(name##_loop), n, a, b, y, g, ga);                                         \
        else FN(run_strided)(FN(name##_loop), 0, n, a, sa, b, sb, y, g, ga);                                   \
    }

#include "ops.def"
#undef UNARY
#undef UNARY_FN
#undef BINARY
#undef BINARY_FN

#define COMPARE(name, operator)                                                                                \
    static void FN(name)(int64_t n, const void *va, int sa, const void *vb, int sb, uint8_t *out) {            \
        const T *pa = va, *pb = vb;                                                                            \
        if (n) STRIDED((void)0, a operator b);                                                                 \
    }
COMPARE(less, <)
COMPARE(less_equal, <=)
COMPARE(equal, ==)
COMPARE(not_equal, !=)
#undef COMPARE

/* a > b is b < a */
static void FN(greater)(int64_t n, const void *a, int sa, const void *b, int sb, uint8_t *out) {
    FN(less)(n, b, sb, a, sa, out);
}
static void FN(greater_equal)(int64_t n, const void *a, int sa, const void *b, int sb, uint8_t *out) {
    FN(less_equal)(n, b, sb, a, sa, out);
}

static void FN(choose)(int64_t n, const uint8_t *c, int sc, const void *va, int sa, const void *vb, int sb, void *y) {
    const T *pa = va, *pb = vb;
    T *out = y;
    if (!n) return;
    const uint8_t c0 = *c;
    if (sc) STRIDED((void)0, c[i] ? a : b);
    else STRIDED((void)0, c0 ? a : b);
}

static void FN(cast)(int64_t n, const void *x, void *y) {
    const T *in = x;
    OTHER *out = y;
    for (int64_t i = 0; i < n; i++) out[i] = (OTHER)in[i];
}

static void FN(polygamma)(int64_t n, int64_t order, const void *x, void *y) {
    const T *in = x;
    T *out = y;
    for (int64_t i = 0; i < n; i++) out[i] = (T)vm_polygamma(order, in[i]);
}

static void FN(stretch)(int64_t n, const void *x, void *y) {
    const T value = *(const T *)x;
    T *out = y;
    for (int64_t i = 0; i < n; i++) out[i] = value;
}
LOOP_OF(stretch_loop, 1, 0, 1, x)

static void FN(widen)(int64_t n, const void *x, void *y) { FN(pad)((int)n, x, y); }
static void FN(narrow)(int64_t n, const void *x, void *y) { FN(cut)((int)n, x, y); }

#undef STEP
#undef UNIT
#undef LANES
#undef ALONE
#undef LOOP
#undef OWN_LOOP
#undef LONG_LOOP_f32
#undef LONG_LOOP_f64
#undef LONG_LOOP_OF
#undef ONE_LOOP
#undef USUAL_LOOPS
#undef LOOP_OF
#undef LOOPS
#undef SOME
#undef STRIDED
#undef STRIDED_LOOP
#undef BINARY_VJP
#undef BINARY_FN_VJP
#undef UNARY_FN_OF
#undef BINARY_FN_OF
#undef T
#undef BITS
#undef OTHER
#undef FN
#undef VM
#undef IS_LIBM
#undef SLOPE
#undef LONG_LOOP

#else /* the table of one dtype */

{
    .unary = {
#define UNARY(name, ...) FN(name),
#define UNARY_FN UNARY
#define BINARY(...)
#define BINARY_FN(...)
#include "ops.def"
    },
#undef UNARY
#define UNARY(name, ...) FN(name##_vjp),
    .unary_vjp = {
#include "ops.def"
    },
#undef UNARY
#undef UNARY_FN
#define UNARY(name, ...) FN(name##_loop),
#define UNARY_FN(name, ...) IS_LIBM(name) ? NO_LOOP : PICK_LOOP(HUGE_forward_##name, FN(name##_loop)),
    .unary_loop = {
#include "ops.def"
    },
#undef UNARY
#undef UNARY_FN
#define UNARY(name, ...) FN(name##_vjp_loop),
#define UNARY_FN(name, ...) PICK_LOOP(HUGE_backward_##name, FN(name##_vjp_loop)),
    .unary_vjp_loop = {
#include "ops.def"
    },
#undef UNARY
#undef UNARY_FN
#undef BINARY
#undef BINARY_FN
#define UNARY(...)
#define UNARY_FN(...)
#define BINARY(name, ...) FN(name),
#define BINARY_FN BINARY
    .binary = {
#include "ops.def"
    },
#undef BINARY
#define BINARY(name, ...) {FN(name##_da), FN(name##_db)},
    .binary_vjp = {
#include "ops.def"
    },
#undef BINARY
#undef BINARY_FN
#define BINARY(name, ...) {FN(name##_loop), FN(name##_one_a), FN(name##_one_b)},
#define BINARY_FN(name, ...) {IS_LIBM(name) ? NO_LOOP : FN(name##_loop), NO_LOOP, NO_LOOP},
    .binary_loop = {
#include "ops.def"
    },
#undef BINARY
#undef BINARY_FN
#define BINARY(name, ...) {{FN(name##_da_loop), FN(name##_da_one_a), FN(name##_da_one_b)}, \
                           {FN(name##_db_loop), FN(name##_db_one_a), FN(name##_db_one_b)}},
#define BINARY_FN(name, ...) {{FN(name##_da_loop), NO_LOOP, NO_LOOP}, {FN(name##_db_loop), NO_LOOP, NO_LOOP}},
    .binary_vjp_loop = {
#include "ops.def"
    },
#undef UNARY
#undef UNARY_FN
#undef BINARY
#undef BINARY_FN
    .compare = {FN(less), FN(less_equal), FN(greater), FN(greater_equal), FN(equal), FN(not_equal)},
    .where = FN(choose),
    .cast = FN(cast),
    .polygamma = FN(polygamma),
    .stretch = FN(stretch),
    .stretch_loop = FN(stretch_loop),
    .widen = FN(widen),
    .narrow = FN(narrow),
    .by_element = {
#define UNARY(name, ...) IS_LIBM(name),
#define UNARY_FN UNARY
#define BINARY UNARY
#define BINARY_FN UNARY
#include "ops.def"
#undef UNARY
#undef UNARY_FN
#undef BINARY
#undef BINARY_FN
    },
}
#undef T
#undef FN
#undef IS_LIBM

#endif
