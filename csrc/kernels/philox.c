/* philox.c: uniform random numbers as a function of a key and a counter, so that many are made at once.
 *
 * The generator is Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3"
 * (SC 2011): ten rounds mix the four words of a counter by two products of 32 bits. A vector holds one word of several
 * blocks in 64-bit lanes, whose upper halves are ignored, because that is where a product has its operands and leaves
 * its result. A chunk is the first two words of FG_RANDOM_CHUNK blocks, then their last two. All that follows is
 * exact: the numbers have the same bits with every instruction set.
 */
#ifndef REAL

#include "kernels.h"
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#if defined __AVX512F__
#include <immintrin.h>
enum { BYTES = 64 };
#define PRODUCT(a, b) (words)_mm512_mul_epu32((__m512i)(a), (__m512i)(b))
#elif defined __AVX2__
#include <immintrin.h>
enum { BYTES = 32 };
#define PRODUCT(a, b) (words)_mm256_mul_epu32((__m256i)(a), (__m256i)(b))
#elif defined __SSE2__
#include <emmintrin.h>
enum { BYTES = 16 };
#define PRODUCT(a, b) (words)_mm_mul_epu32((__m128i)(a), (__m128i)(b))
#else
enum { BYTES = 16 };
#define PRODUCT(a, b) ((a & 0xffffffff) * (b & 0xffffffff))
#endif
enum { LANES = BYTES / sizeof(uint64_t), VECTORS = FG_RANDOM_CHUNK / LANES };

typedef uint64_t words __attribute__((vector_size(BYTES)));
typedef double doubles __attribute__((vector_size(BYTES)));
typedef int32_t integers __attribute__((vector_size(BYTES)));
typedef float floats __attribute__((vector_size(BYTES)));

/* The blocks of a vector of counters in one stream: half[0] has words 0 and 1 of each, half[1] words 2 and 3. */
INLINE void blocks(const uint64_t *state, words counter, words half[2])
{
    const words zero = {0}, m0 = zero + 0xD2511F53, m1 = zero + 0xCD9E8D57;
    words c0 = counter, c1 = counter >> 32;
    words c2 = zero + state[FG_RANDOM_STREAM], c3 = zero + (state[FG_RANDOM_STREAM] >> 32);
    uint32_t k0 = (uint32_t)state[FG_RANDOM_KEY], k1 = (uint32_t)(state[FG_RANDOM_KEY] >> 32);
    _Pragma("GCC unroll 10") for (int round = 0; round < 10; round++) {
        const words p = PRODUCT(c0, m0), q = PRODUCT(c2, m1);
        c0 = (q >> 32) ^ c1 ^ (zero + k0);
        c2 = (p >> 32) ^ c3 ^ (zero + k1);
        c1 = q;
        c3 = p;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    half[0] = (c0 & 0xffffffff) | c1 << 32;
    half[1] = (c2 & 0xffffffff) | c3 << 32;
}

/* Two floats a lane, of the upper 24 bits of each word. */
INLINE floats numbers_f32(words x)
{
    return __builtin_convertvector((integers)(x >> 8 & UINT64_C(0x00ffffff00ffffff)), floats) * 0x1p-24f;
}

/* A double a lane, of the upper 27 bits of the first word and the upper 26 of the second. The bits of an integer below
 * 2^52, with those of 2^52 above them, are a double that is larger by that. */
INLINE doubles numbers_f64(words x)
{
    const words first = (x & 0xffffffff) >> 5, second = x >> 38;
    const doubles a = (doubles)(first | UINT64_C(0x4330000000000000)) - 0x1p52;
    const doubles b = (doubles)(second | UINT64_C(0x4330000000000000)) - 0x1p52;
    return a * 0x1p-27 + b * 0x1p-53;
}

#define REAL float
#define REALS floats
#define NAME(x) x##_f32
#include "philox.c"
#undef REAL
#undef REALS
#undef NAME

#define REAL double
#define REALS doubles
#define NAME(x) x##_f64
#include "philox.c"
#undef REAL
#undef REALS
#undef NAME

const fg_random_kernels FG_TABLE(fg_random)[2] = {
    {
#define RANDOM(result, name, operands) .name = name##_f32,
#include "kernels.def"
    },
    {
#define RANDOM(result, name, operands) .name = name##_f64,
#include "kernels.def"
    },
};

#else /* ---- once per dtype ---- */

INLINE void NAME(chunk)(const uint64_t *state, uint64_t position, REAL *y)
{
    for (int v = 0; v < VECTORS; v++) {
        words half[2], counter;
        for (int i = 0; i < LANES; i++)
            counter[i] = position + (uint64_t)(v * LANES + i);
        blocks(state, counter, half);
        for (int h = 0; h < 2; h++) {
            const REALS x = NAME(numbers)(half[h]);
            memcpy(y + (h * VECTORS + v) * (BYTES / (int)sizeof(REAL)), &x, BYTES);
        }
    }
}

static void NAME(uniform)(int64_t n, const uint64_t *state, uint64_t position, void *y_)
{
    enum { STEP = FG_RANDOM_CHUNK_BYTES / sizeof(REAL) };
    REAL *y = y_, rest[STEP];
    for (; n >= STEP; n -= STEP, y += STEP, position += FG_RANDOM_CHUNK)
        NAME(chunk)(state, position, y);
    if (n) {
        NAME(chunk)(state, position, rest);
        memcpy(y, rest, (size_t)n * sizeof *y);
    }
}

#endif
