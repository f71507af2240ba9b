/* plain.h: what an exported program may call: the functions of linalg.c and rows.h, and loops for the operations that
 * have kernels of their own elsewhere. Standard C, without vectors, memory or system calls. No build includes this
 * file: fastgrad/_native/plain.py expands its macros and copies the functions that a program needs into its text.
 *
 * The file includes itself once per dtype.
 */
#ifndef T
#include "linalg.c"
#include "rows.h"

/* ---- integers.def as functions: add_int64(a, b), and of booleans add_bool(a, b) --------------------------------- */
#undef NAME
#define BITS ((int)(8 * sizeof(T)))
#define LEAST ((T)((W)1 << (BITS - 1)))
#define NO_QUOTIENT(a, b) ((b) == 0 || (IS_NEGATIVE(b) && (b) == (T)-1 && (a) == LEAST))
#define HAS_FRACTION(a, b) ((a) % (b) != 0 && IS_NEGATIVE(a) != IS_NEGATIVE(b))
#define POWER(a, b) NAME(raised)(a, b)
/* The values where NumPy warns or raises an error. */
#define REFUSED_floor_divide ((b) == 0 ? 0 : (a))
#define REFUSED_remainder 0
#define REFUSED_fmod 0
#define REFUSED_power 0

#define INTEGER_UNARY(...) OF_INTEGERS(UNARY_OF(__VA_ARGS__))
#define INTEGER_BINARY(...) OF_INTEGERS(BINARY_OF(__VA_ARGS__))
#define INTEGER_CHECKED(...) OF_INTEGERS(CHECKED_OF(__VA_ARGS__))
#define BOOLEAN_UNARY(...) OF_BOOLEANS(UNARY_OF(__VA_ARGS__))
#define BOOLEAN_BINARY(...) OF_BOOLEANS(BINARY_OF(__VA_ARGS__))
#define COMPARISON(...)
#define UNARY_OF(name, value) static inline T NAME(name)(T x) { return (T)(value); }
#define BINARY_OF(name, value) static inline T NAME(name)(T a, T b) { return (T)(value); }
#define CHECKED_OF(name, is_refused, value) \
    static inline T NAME(name)(T a, T b) { return (T)(is_refused ? REFUSED_##name : (value)); }
#define RAISED                                           \
    static inline T NAME(raised)(T a, T b)               \
    {                                                    \
        W base = (W)a, power = 1;                        \
        for (W left = (W)b; left; left = (W)(left >> 1)) { \
            if (left & 1) power *= base;                 \
            base *= base;                                \
        }                                                \
        return (T)power;                                 \
    }

#define OF_INTEGERS(...) __VA_ARGS__
#define OF_BOOLEANS(...)
#define IS_NEGATIVE(x) ((x) < 0)
#define T int8_t
#define W uint32_t
#define NAME(name) name##_int8
RAISED
#include "integers.def"
#undef T
#undef NAME
#define T int16_t
#define NAME(name) name##_int16
RAISED
#include "integers.def"
#undef T
#undef NAME
#define T int32_t
#define NAME(name) name##_int32
RAISED
#include "integers.def"
#undef T
#undef W
#undef NAME
#define T int64_t
#define W uint64_t
#define NAME(name) name##_int64
RAISED
#include "integers.def"
#undef IS_NEGATIVE
#define IS_NEGATIVE(x) 0
#undef T
#undef NAME
#define T uint64_t
#define NAME(name) name##_uint64
RAISED
#include "integers.def"
#undef T
#undef W
#undef NAME
#define T uint32_t
#define W uint32_t
#define NAME(name) name##_uint32
RAISED
#include "integers.def"
#undef T
#undef NAME
#define T uint16_t
#define NAME(name) name##_uint16
RAISED
#include "integers.def"
#undef T
#undef NAME
#define T uint8_t
#define NAME(name) name##_uint8
RAISED
#include "integers.def"
#undef T
#undef NAME
#undef OF_INTEGERS
#undef OF_BOOLEANS
#define OF_INTEGERS(...)
#define OF_BOOLEANS(...) __VA_ARGS__
#define T uint8_t
#define NAME(name) name##_bool
#include "integers.def"
#undef T
#undef NAME
#undef W

/* An integer from a float: rounded toward zero, and the least int64 where it does not fit. */
static inline int64_t integer_of(double x)
{
    return x >= -0x1p63 && x < 0x1p63 ? (int64_t)x : INT64_MIN;
}
static inline uint64_t unsigned_of(double x)
{
    return x >= 0x1p63 && x < 0x1p64 ? (uint64_t)x : (uint64_t)integer_of(x);
}

/* A position counted from the first element, or -1 where the index is outside of the axis. */
static inline int64_t position_in(int64_t length, int64_t i)
{
    const int64_t at = i < 0 ? i + length : i;
    return at < 0 || at >= length ? -1 : at;
}

/* ---- random numbers: those of kernels/philox.c, which says where they come from --------------------------------- */
/* The four words of a block. */
static void philox_block(uint64_t key, uint64_t stream, uint64_t counter, uint32_t word[4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream;
    uint32_t c3 = (uint32_t)(stream >> 32), k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p = c0 * UINT64_C(0xD2511F53), q = c2 * UINT64_C(0xCD9E8D57);
        c0 = (uint32_t)(q >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)q;
        c3 = (uint32_t)p;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

/* Word i of the stream of n words from a position on, in which a chunk of 16 blocks has first the first two words of
 * each, then the last two. */
static uint32_t philox_word(const uint64_t *state, uint64_t position, int64_t i)
{
    uint32_t word[4];
    const uint64_t chunk = (uint64_t)i / 64, half = (uint64_t)i % 64 / 32, lane = (uint64_t)i % 32 / 2;
    philox_block(state[0], state[1], position + chunk * 16 + lane, word);
    return word[2 * half + (uint64_t)i % 2];
}

/* The position before a draw of so many bytes, which advances it by whole chunks. */
static uint64_t draw_position(uint64_t *state, int64_t bytes)
{
    const uint64_t position = state[2];
    state[2] += (uint64_t)((bytes + 255) / 256) * 16;
    return position;
}

static void uniform_f32(int64_t n, uint64_t *state, float *y)
{
    const uint64_t position = draw_position(state, n * 4);
    for (int64_t i = 0; i < n; i++) y[i] = (float)(philox_word(state, position, i) >> 8) * 0x1p-24f;
}

static void uniform_f64(int64_t n, uint64_t *state, double *y)
{
    const uint64_t position = draw_position(state, n * 8);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t first = philox_word(state, position, 2 * i), second = philox_word(state, position, 2 * i + 1);
        y[i] = (double)(first >> 5) * 0x1p-27 + (double)(second >> 6) * 0x1p-53;
    }
}

static void uniform_integers(int64_t n, int64_t low, int64_t count, uint64_t *state, int64_t *y)
{
    const uint64_t position = draw_position(state, n * 8);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t first = philox_word(state, position, 2 * i), second = philox_word(state, position, 2 * i + 1);
        const double u = (double)(first >> 5) * 0x1p-27 + (double)(second >> 6) * 0x1p-53;
        y[i] = low + (int64_t)(u * (double)count);
    }
}

/* For running.h: how many rows are computed side by side, and the only way in which elements are joined. */
#define ABREAST 4
#define MAX 0
#define UNROLL

#define T double
#define FN(name) name##_f64
#define VM(name) vm_##name##_f64
#include "plain.h"
#undef T
#undef FN
#undef VM
#define T float
#define FN(name) name##_f32
#define VM(name) vm_##name##_f32
#include "plain.h"

#else /* ---- once per dtype ---- */

/* ---- sums and extremes of n elements, `step` apart -------------------------------------------------------------- */
static T FN(sum_of)(int64_t n, int64_t step, const T *x)
{
    T total = 0;
    for (int64_t from = 0; from < n; from += 64) { /* in blocks, so that rounding errors stay small */
        const int64_t end = n - from < 64 ? n : from + 64;
        T part = 0;
        for (int64_t i = from; i < end; i++) part += x[i * step];
        total += part;
    }
    return total;
}

static T FN(max_of)(int64_t n, int64_t step, const T *x)
{
    T best = x[0];
    for (int64_t i = 1; i < n; i++) best = x[i * step] > best || x[i * step] != x[i * step] ? x[i * step] : best;
    return best;
}

static T FN(min_of)(int64_t n, int64_t step, const T *x)
{
    T best = x[0];
    for (int64_t i = 1; i < n; i++) best = x[i * step] < best || x[i * step] != x[i * step] ? x[i * step] : best;
    return best;
}

/* The place of the first extreme, or of the first nan. */
static int64_t FN(argmax_of)(int64_t n, int64_t step, const T *x)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n && x[best * step] == x[best * step]; i++)
        if (!(x[i * step] <= x[best * step])) best = i;
    return best;
}

static int64_t FN(argmin_of)(int64_t n, int64_t step, const T *x)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n && x[best * step] == x[best * step]; i++)
        if (!(x[i * step] >= x[best * step])) best = i;
    return best;
}

/* The elements that are equal to the extreme y share its cotangent g. */
static void FN(extremum_adjoint_of)(int64_t n, const T *x, T y, T g, T *gx)
{
    int64_t ties = 0;
    for (int64_t i = 0; i < n; i++) ties += x[i] == y || x[i] != x[i];
    for (int64_t i = 0; i < n; i++) gx[i] = x[i] == y || x[i] != x[i] ? g / (T)ties : 0;
}

/* ---- the softmax family of a row -------------------------------------------------------------------------------- */
static T FN(exp_sum)(int64_t n, const T *x, T top)
{
    T total = 0;
    for (int64_t i = 0; i < n; i++) total += VM(exp)(x[i] - top);
    return total;
}

static void FN(softmax_of)(int64_t n, const T *x, T *y)
{
    const T top = FN(max_of)(n, 1, x), total = FN(exp_sum)(n, x, top);
    for (int64_t i = 0; i < n; i++) y[i] = VM(exp)(x[i] - top) / total;
}

static void FN(log_softmax_of)(int64_t n, const T *x, T *y)
{
    const T top = FN(max_of)(n, 1, x), log_total = VM(log)(FN(exp_sum)(n, x, top));
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - top) - log_total;
}

static T FN(logsumexp_of)(int64_t n, const T *x)
{
    const T top = FN(max_of)(n, 1, x);
    return top - top == 0 ? top + VM(log)(FN(exp_sum)(n, x, top)) : top;
}

/* g times the gradient of logsumexp: elements of +inf share g, and where all are -inf the gradient is 0. */
static void FN(logsumexp_adjoint_of)(int64_t n, const T *x, T g, T *gx)
{
    const T top = FN(max_of)(n, 1, x);
    if (top - top == 0) {
        const T scale = g / FN(exp_sum)(n, x, top);
        for (int64_t i = 0; i < n; i++) gx[i] = VM(exp)(x[i] - top) * scale;
        return;
    }
    int64_t high = 0;
    for (int64_t i = 0; i < n; i++) high += x[i] == top;
    for (int64_t i = 0; i < n; i++) gx[i] = top != top ? top : x[i] == top && top > 0 ? g / (T)high : 0;
}

static void FN(softmax_adjoint_of)(int64_t n, const T *y, const T *g, T *gx)
{
    T mean = 0;
    for (int64_t i = 0; i < n; i++) mean += y[i] * g[i];
    for (int64_t i = 0; i < n; i++) gx[i] = y[i] * (g[i] - mean);
}

static void FN(log_softmax_adjoint_of)(int64_t n, const T *y, const T *g, T *gx)
{
    const T total = FN(sum_of)(n, 1, g);
    for (int64_t i = 0; i < n; i++) gx[i] = g[i] - VM(exp)(y[i]) * total;
}

static T FN(cross_entropy_of)(int64_t n, const T *x, int64_t label)
{
    const T top = FN(max_of)(n, 1, x), total = FN(exp_sum)(n, x, top), rest = top - x[label];
    return rest - rest == 0 ? rest + VM(log)(total) : rest;
}

static void FN(cross_entropy_adjoint_of)(int64_t n, const T *x, int64_t label, T g, T *gx)
{
    const T top = FN(max_of)(n, 1, x), scale = g / FN(exp_sum)(n, x, top);
    for (int64_t i = 0; i < n; i++) gx[i] = VM(exp)(x[i] - top) * scale;
    gx[label] -= g;
}

/* ---- running along an axis -------------------------------------------------------------------------------------- */
static inline T FN(join)(int how, T a, T b) { return (void)how, b > a || b != b ? b : a; }
#define REAL T
#undef NAME
#define NAME(name) FN(name)
#include "running.h"
#undef REAL

/* ---- order ------------------------------------------------------------------------------------------------------ */
/* Whether a comes before b: nan is last, and of a descending order first. */
static inline int FN(is_before)(int descending, T a, T b)
{
    const T low = descending ? b : a, high = descending ? a : b;
    return low < high || (low == low && high != high);
}

/* The positions of a row in order, by merging runs of twice the length at a time; scratch: n positions. */
static void FN(argsort_of)(int64_t n, int descending, const T *x, int64_t *y, int64_t *scratch)
{
    for (int64_t i = 0; i < n; i++) y[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t from = 0; from < n; from += 2 * width) {
            const int64_t middle = n - from < width ? n : from + width;
            const int64_t end = n - from < 2 * width ? n : from + 2 * width;
            int64_t left = from, right = middle;
            for (int64_t k = from; k < end; k++) {
                const int takes_right =
                    left == middle || (right < end && FN(is_before)(descending, x[y[right]], x[y[left]]));
                scratch[k] = y[takes_right ? right++ : left++];
            }
        }
        for (int64_t i = 0; i < n; i++) y[i] = scratch[i];
    }
}

#include "matrices.h"

#endif
