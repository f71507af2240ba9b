/* gemm.c: the matrix product for small and medium sizes, where a BLAS spends its time on preparations.
 *
 * C is computed in tiles of R rows by V vectors that stay in registers over a block of k: a row of op(B) is
 * read as vectors, an element of op(A) is broadcast. So A may have any strides, and only B must be contiguous
 * along its rows: where it is not (tb), or where a row ends inside a vector and there are no masked loads, a
 * panel of it is copied to the stack. The transpose of C is computed instead where that is less work. One or two wide
 * rows of C take no tiles, but the same sums (`wide`).
 *
 * Every C element is the sum over k in ascending order within blocks, and of the blocks in ascending order.
 * The blocks depend on k alone, so that the bits do not depend on tiles, edges or transposition. The exceptions are the
 * kernels for a matrix and a vector: `rows` and `dots`, which sum along k in the lanes of vectors, and `narrow`, of
 * which each element is eight sums.
 */
#ifndef REAL

#include "kernels.h"
#if defined __AVX__
#include <immintrin.h>
#endif

#include "kernels/tile.h"

enum { K_BLOCK = 192 };         /* a sum of more terms is one of sums of at most so many */
/* Of a C of more than LARGE elements, TALL rows are computed at a time: the pages to which panels write in turn are not
 * too many for the processor to find. */
enum { LARGE = 1 << 17, TALL = 48 };
/* Of a matrix times a vector: terms of a row up to which `few` computes it, and `short_rows`; the sums of `narrow`. */
enum { FEW_TERMS = 8, SHORT_ROW = 64, EIGHT = 8 };
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
/* Where masked access costs no more than whole access, tiles end anywhere without a copy of B or of the tile. */
#ifdef __AVX512F__
enum { MASKED = 1 };
#else
enum { MASKED = 0 };
#endif
#define LESSER(a, b) ((a) < (b) ? (a) : (b))
#define QUOTIENT_UP(a, b) (((a) + (b) - 1) / (b))
#define EVEN_SHARE(a, most) ((a) <= (most) ? (a) : QUOTIENT_UP(a, QUOTIENT_UP(a, most)))

/* INTERLEAVE(a, b, half): the elements of the lower (0) or upper (1) half of a and b in turn. */
#define PAIRS_1(i, n) (i), (i) + (n)
#define PAIRS_2(i, n) PAIRS_1(i, n), PAIRS_1((i) + 1, n)
#define PAIRS_4(i, n) PAIRS_2(i, n), PAIRS_2((i) + 2, n)
#define PAIRS_8(i, n) PAIRS_4(i, n), PAIRS_4((i) + 4, n)
/* One step of a transposition, of rows a and b that are s apart: LOW and HIGH are the lanes of a (below W) and of b
 * (from W on) that lane i of the first and of the second result comes from. Where i has the bit s, the first takes lane
 * i - s of b; where it has not, the second takes lane i + s of a; all others stay where they are. */
#define LOW(i, s) (((i) & (s) ? (i) - (s) + W : (i)) & (2 * W - 1))
#define HIGH(i, s) (((i) & (s) ? (i) + W : (i) + (s)) & (2 * W - 1))
#define LANES_2(of, i, s) of(i, s), of((i) + 1, s)
#define LANES_4(of, i, s) LANES_2(of, i, s), LANES_2(of, (i) + 2, s)
#define LANES_8(of, i, s) LANES_4(of, i, s), LANES_4(of, (i) + 4, s)
#define LANES_16(of, i, s) LANES_8(of, i, s), LANES_8(of, (i) + 8, s)
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (NAME(lanes)){__VA_ARGS__})
#endif

#define REAL float
#define INTEGER int32_t
#define NAME(x) x##_f32
#if defined __AVX512F__
#define W 16
#define PAIRS PAIRS_8
#define LANES LANES_16
#define LOAD_FIRST(x, count) _mm512_maskz_loadu_ps((__mmask16)((1u << (count)) - 1), x)
#define STORE_FIRST(y, count, v) _mm512_mask_storeu_ps(y, (__mmask16)((1u << (count)) - 1), v)
#elif defined __AVX__
#define W 8
#define PAIRS PAIRS_4
#define LANES LANES_8
#define FIRST(count) ((__m256i)((lanes_f32){0, 1, 2, 3, 4, 5, 6, 7} < (int32_t)(count)))
#define LOAD_FIRST(x, count) _mm256_maskload_ps(x, FIRST(count))
#define STORE_FIRST(y, count, v) _mm256_maskstore_ps(y, FIRST(count), v)
#else
#define W 4
#define PAIRS PAIRS_2
#define LANES LANES_4
#endif
#include "gemm.c"
#undef REAL
#undef INTEGER
#undef NAME
#undef W
#undef PAIRS
#undef LANES
#undef FIRST
#undef LOAD_FIRST
#undef STORE_FIRST

#define REAL double
#define INTEGER int64_t
#define NAME(x) x##_f64
#if defined __AVX512F__
#define W 8
#define PAIRS PAIRS_4
#define LANES LANES_8
#define LOAD_FIRST(x, count) _mm512_maskz_loadu_pd((__mmask8)((1u << (count)) - 1), x)
#define STORE_FIRST(y, count, v) _mm512_mask_storeu_pd(y, (__mmask8)((1u << (count)) - 1), v)
#elif defined __AVX__
#define W 4
#define PAIRS PAIRS_2
#define LANES LANES_4
#define FIRST(count) ((__m256i)((lanes_f64){0, 1, 2, 3} < (int64_t)(count)))
#define LOAD_FIRST(x, count) _mm256_maskload_pd(x, FIRST(count))
#define STORE_FIRST(y, count, v) _mm256_maskstore_pd(y, FIRST(count), v)
#else
#define W 2
#define PAIRS PAIRS_1
#define LANES LANES_2
#endif
#include "gemm.c"

const fg_gemm_kernels FG_TABLE(fg_gemm)[2] = {
    {
#define GEMM(result, name, operands) .name = name##_f32,
#include "kernels.def"
    },
    {
#define GEMM(result, name, operands) .name = name##_f64,
#include "kernels.def"
    },
};

#else /* ---- once per dtype ---- */

#include "kernels/tile.h"

#define TILE(R, V)                                                                                            \
    static void NAME(tile_##R##x##V)(int last, int64_t k, const REAL *a, int64_t a_row, int64_t a_col,        \
                                     const REAL *b, int64_t ldb, int add, REAL *c, int64_t ldc)               \
    {                                                                                                         \
        NAME(tile)(R, V, last, k, a, a_row, a_col, b, ldb, add, c, ldc);                                      \
    }
#define TILES(V) TILE(1, V) TILE(2, V) TILE(3, V) TILE(4, V) TILE(5, V) TILE(6, V)
#define TILE_NAMES(V) {NAME(tile_1x##V), NAME(tile_2x##V), NAME(tile_3x##V), \
                       NAME(tile_4x##V), NAME(tile_5x##V), NAME(tile_6x##V)}
typedef void NAME(tile_function)(int, int64_t, const REAL *, int64_t, int64_t, const REAL *, int64_t, int,
                                 REAL *, int64_t);
TILES(1)
TILES(2)
#if defined __AVX512F__ || defined __aarch64__
TILES(3)
TILES(4)
static NAME(tile_function) *const NAME(tiles)[V_MAX][R_MAX] = {TILE_NAMES(1), TILE_NAMES(2), TILE_NAMES(3),
                                                               TILE_NAMES(4)};
#else
static NAME(tile_function) *const NAME(tiles)[V_MAX][R_MAX] = {TILE_NAMES(1), TILE_NAMES(2)};
#endif
#undef TILE
#undef TILES
#undef TILE_NAMES

/* y[p][0..columns) = row p of B, rounded up to whole vectors with lanes nobody reads. */
static void NAME(copy_panel)(int64_t k, int64_t columns, const REAL *b, int64_t ldb, REAL *y, int64_t ldy)
{
    for (int64_t p = 0; p < k; p++, b += ldb, y += ldy) {
        int64_t j = 0;
        for (; j + W <= columns; j += W) STORE(y + j, LOAD(b + j));
        if (j < columns) STORE(y + j, NAME(load_first)(b + j, (int)(columns - j)));
    }
}

/* Transpose W vectors in registers: in steps, each of which exchanges one bit of the row's number with that of the
 * lane's and takes a single instruction for most pairs. */
INLINE void NAME(transpose)(VECTOR *r)
{
#define STEP(s)                                                                                                     \
    UNROLL for (int i = 0; (s) < W && i < W; i++)                                                                   \
        if (!(i & (s))) {                                                                                           \
            const VECTOR a = r[i], b = r[i + (s)];                                                                  \
            r[i] = SHUFFLE(a, b, LANES(LOW, 0, s));                                                                 \
            r[i + (s)] = SHUFFLE(a, b, LANES(HIGH, 0, s));                                                          \
        }
    STEP(1)
    STEP(2)
    STEP(4)
    STEP(8)
#undef STEP
}

/* The same for a transposed B, element (p, j) at b[j * ldb + p]: W by W blocks are transposed in registers. */
static void NAME(transpose_panel)(int64_t k, int64_t columns, const REAL *b, int64_t ldb, REAL *y, int64_t ldy)
{
    for (int64_t j = 0; j < columns; j += W)
        for (int64_t p = 0; p < k; p += W) {
            const REAL *corner = b + j * ldb + p;
            const int64_t last = LESSER(W, columns - j) - 1;
            const int depth = (int)LESSER(W, k - p);
            VECTOR r[W];
            if (depth == W) {
                UNROLL for (int i = 0; i < W; i++) r[i] = LOAD(corner + LESSER(i, last) * ldb);
            } else {
                UNROLL for (int i = 0; i < W; i++) r[i] = NAME(load_first)(corner + LESSER(i, last) * ldb, depth);
            }
            NAME(transpose)(r);
            UNROLL for (int i = 0; i < W; i++)
                if (i < depth) STORE(y + (p + i) * ldy + j, r[i]);
        }
}

/* C = tile (+ C) where C ends inside a vector or is computed transposed. */
static void NAME(finish)(int64_t rows, int64_t columns, const REAL *tile, int64_t ldt, int add, REAL *c,
                         int64_t c_row, int64_t c_col)
{
    for (int64_t i = 0; i < rows; i++, tile += ldt, c += c_row) {
        if (c_col != 1) {
            for (int64_t j = 0; j < columns; j++) c[j * c_col] = add ? tile[j] + c[j * c_col] : tile[j];
            continue;
        }
        int64_t j = 0;
        for (; j + W <= columns; j += W) {
            VECTOR v = LOAD(tile + j);
            if (add) v += LOAD(c + j);
            STORE(c + j, v);
        }
        if (j < columns) {
            const int rest = (int)(columns - j);
            VECTOR v = LOAD(tile + j);
            if (add) v += NAME(load_first)(c + j, rest);
            NAME(store_first)(c + j, rest, v);
        }
    }
}

/* Fold 2 n vectors to n: of each pair the two halves are added, and the results interleaved. */
INLINE void NAME(fold)(VECTOR *r, const int n)
{
    if (2 * n <= W)
        UNROLL for (int j = 0; j < n; j++)
            r[j] = SHUFFLE(r[j], r[j + n], PAIRS(0, W)) + SHUFFLE(r[j], r[j + n], PAIRS(W / 2, W));
}

/* The products of W rows with x. Each is summed in the lanes of an accumulator of its own; the lanes are added at the
 * end. */
INLINE VECTOR NAME(row_products)(int64_t k, const REAL *a, const REAL *x)
{
    enum { GROUP = LESSER(W, 8) };              /* rows at a time: their addresses stay in registers, too */
    VECTOR r[W] = {{0}};
    UNROLL for (int g = 0; g < W; g += GROUP) {
        int64_t p = 0;
        for (; p + W <= k; p += W) {
            const VECTOR v = LOAD(x + p);
            UNROLL for (int j = g; j < g + GROUP; j++) r[j] += LOAD(a + j * k + p) * v;
        }
        if (p < k) {
            const int rest = (int)(k - p);
            const VECTOR v = NAME(load_first)(x + p, rest);
            UNROLL for (int j = g; j < g + GROUP; j++) r[j] += NAME(load_first)(a + j * k + p, rest) * v;
        }
    }
    NAME(fold)(r, 8);
    NAME(fold)(r, 4);
    NAME(fold)(r, 2);
    NAME(fold)(r, 1);
    return r[0];
}

static void NAME(rows)(int64_t m, int64_t k, const void *a_, const void *x, int beta, void *y_)
{
    const REAL *a = a_;
    REAL *y = y_, last[W];
    int64_t i = 0;
    for (; i + W <= m; i += W) {
        VECTOR v = NAME(row_products)(k, a + i * k, x);
        STORE(y + i, beta ? v + LOAD(y + i) : v);
    }
    if (i < m)                                  /* the last W rows, some of which are computed already */
        STORE(last, NAME(row_products)(k, a + (m - W) * k, x));
    for (; i < m; i++) y[i] = last[i - (m - W)] + (beta ? y[i] : 0);
}

/* One dot product, in the lanes of four accumulators, whose additions do not wait for each other. */
INLINE REAL NAME(dot)(int64_t k, const REAL *a, const REAL *b)
{
    VECTOR r[4] = {{0}};
    REAL lane[W];
    int64_t p = 0;
    for (; p + 4 * W <= k; p += 4 * W)
        UNROLL for (int j = 0; j < 4; j++) r[j] += LOAD(a + p + j * W) * LOAD(b + p + j * W);
    for (; p + W <= k; p += W) r[0] += LOAD(a + p) * LOAD(b + p);
    if (p < k) r[1] += NAME(load_first)(a + p, (int)(k - p)) * NAME(load_first)(b + p, (int)(k - p));
    STORE(lane, (r[0] + r[1]) + (r[2] + r[3]));
    UNROLL for (int half = W / 2; half > 0; half /= 2)
        UNROLL for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static void NAME(dots)(int64_t m, int64_t k, const void *a_, int64_t a_step, const void *b_, int64_t b_step, int beta,
                       void *y_)
{
    const REAL *a = a_, *b = b_;
    REAL *y = y_;
    for (int64_t i = 0; i < m; i++, a += a_step, b += b_step) {
        REAL sum = 0;
        if (fg_is_few(1, 1, k))
            for (int64_t p = 0; p < k; p++) {
                __asm__ volatile("");           /* no vectors, which round each product, as in few_of */
                sum += a[p] * b[p];
            }
        else
            sum = NAME(dot)(k, a, b);
        y[i] = beta ? sum + y[i] : sum;
    }
}

/* Element by element, with a constant k up to 8. */
INLINE void NAME(few_of)(const int64_t k, const fg_product *s, const REAL *a, const REAL *b, REAL *c)
{
    const int64_t a_row = s->a_row, a_col = s->a_col, b_row = s->b_row, ldc = s->ldc;
    const int beta = s->beta;
    REAL x[32];
    for (int64_t j = s->n; j > 0; j--, b += s->b_col, c++) {
        UNROLL for (int64_t p = 0; p < k; p++) x[p] = b[p * b_row];
        const REAL *row = a;
        REAL *y = c;
        for (int64_t i = s->m; i > 0; i--, row += a_row, y += ldc) {
            REAL sum = 0;
            UNROLL for (int64_t p = 0; p < k; p++) {
                __asm__ volatile("");           /* no vectors: they take longer to prepare, and round each product */
                sum += row[p * a_col] * x[p];
            }
            *y = beta ? sum + *y : sum;
        }
    }
}

/* The sum of vectors of `count` elements, each times a number. */
INLINE void NAME(few_vectors)(const fg_product *s, int count, const REAL *v, int64_t v_step, const REAL *x,
                              int64_t x_step, REAL *c)
{
    VECTOR sum = {0};
    for (int64_t p = 0; p < s->k; p++) sum += NAME(load_first)(v + p * v_step, count) * x[p * x_step];
    if (s->beta) sum += NAME(load_first)(c, count);
    if (s->roomy) STORE(c, sum);
    else NAME(store_first)(c, count, sum);
}

static void NAME(few_stack)(const fg_product *s, int64_t count, const void *a_, int64_t a_step, const void *b_,
                            int64_t b_step, void *c_, int64_t c_step)
{
    const REAL *a = a_, *b = b_;
    REAL *c = c_;
#define EACH(call) do for (; count > 0; count--, a += a_step, b += b_step, c += c_step) call; while (0)
    if (s->n == 1 && s->a_row == 1 && s->ldc == 1 && s->m <= W) {
        EACH(NAME(few_vectors)(s, (int)s->m, a, s->a_col, b, s->b_row, c));
        return;
    }
    if (s->m == 1 && s->b_col == 1 && s->n <= W) {
        EACH(NAME(few_vectors)(s, (int)s->n, b, s->b_row, a, s->a_col, c));
        return;
    }
    switch (s->k) {
#define CASE(K) case K: EACH(NAME(few_of)(K, s, a, b, c)); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8)
#undef CASE
    default: EACH(NAME(few_of)(s->k, s, a, b, c));
    }
#undef EACH
}

static void NAME(few)(int64_t n, const void *a, const void *b, const void *product, const void *g, void *c)
{
    (void)n, (void)g;
    NAME(few_stack)(product, 1, a, 0, b, 0, c, 0);
}

/* y = A x, plus y if add, for G W short rows of A, lda elements apart, with the sums of tiles: squares of A are
 * transposed in registers, so that each row is summed in a lane of its own. */
INLINE void NAME(add_short_rows)(const int G, int64_t k, const REAL *a, int64_t lda, const REAL *x, int add, REAL *y)
{
    VECTOR sum[2] = {{0}}, r[W];
    int64_t p = 0;
    for (; p + W <= k; p += W)
        UNROLL for (int g = 0; g < G; g++) {
            const REAL *corner = a + g * W * lda + p;
            UNROLL for (int j = 0; j < W; j++, corner += lda) r[j] = LOAD(corner);
            NAME(transpose)(r);
            UNROLL for (int j = 0; j < W; j++) sum[g] += x[p + j] * r[j];
        }
    if (p < k)
        UNROLL for (int g = 0; g < G; g++) {
            const REAL *corner = a + g * W * lda + p;
            const int rest = (int)(k - p);
            UNROLL for (int j = 0; j < W; j++, corner += lda) r[j] = NAME(load_first)(corner, rest);
            NAME(transpose)(r);
            for (int j = 0; j < rest; j++) sum[g] += x[p + j] * r[j];
        }
    UNROLL for (int g = 0; g < G; g++) STORE(y + g * W, add ? sum[g] + LOAD(y + g * W) : sum[g]);
}

static void NAME(short_rows)(int64_t m, int64_t k, const REAL *a, int64_t lda, const REAL *x, int64_t x_step, int add,
                             REAL *y)
{
    REAL factor[SHORT_ROW];
    for (int64_t p = 0; p < k; p++) factor[p] = x[p * x_step];
    for (; m >= 2 * W; m -= 2 * W, a += 2 * W * lda, y += 2 * W)
        NAME(add_short_rows)(2, k, a, lda, factor, add, y);
    if (m >= W) {
        NAME(add_short_rows)(1, k, a, lda, factor, add, y);
        m -= W, a += W * lda, y += W;
    }
    for (; m > 0; m--, a += lda, y++) {
        REAL sum = 0;
        for (int64_t p = 0; p < k; p++) {
            __asm__ volatile("");               /* no vectors, which round each product */
            sum += a[p] * factor[p];
        }
        *y = add ? sum + *y : sum;
    }
}

/* y = the sum of R rows of n elements, each times an element of x, after y if add. y has whole vectors. */
INLINE void NAME(add_rows)(const int R, int64_t n, const REAL *x, int64_t x_step, const REAL *b, int64_t ldb, int add,
                           REAL *y)
{
#define ADD_ROWS(load)                                                                                               \
    do {                                                                                                             \
        VECTOR sum = {0};                                                                                            \
        if (add) sum = LOAD(y + j);                                                                                  \
        UNROLL for (int i = 0; i < R; i++) sum += x[i * x_step] * (VECTOR)load;                                      \
        STORE(y + j, sum);                                                                                           \
    } while (0)
    int64_t j = 0;
    for (; j + W <= n; j += W) ADD_ROWS(LOAD(b + i * ldb + j));
    if (j < n) ADD_ROWS(NAME(load_first)(b + i * ldb + j, (int)(n - j)));
#undef ADD_ROWS
}

/* y = x B, plus y if add, for a row x of k elements, with the sums of tiles. A wide B is read in rows from end to end,
 * eight at a time, as far as their sum stays in the cache; tiles would read a few vectors of each row. */
enum { NAME(WIDE) = 8192 / sizeof(REAL) };
static void NAME(wide)(int64_t n, int64_t k, int64_t depth, const REAL *x, int64_t x_step, const REAL *b, int64_t ldb,
                       int add, REAL *y)
{
    REAL part[NAME(WIDE)];
    for (int64_t j = 0; j < n; j += NAME(WIDE))
        for (int64_t p = 0; p < k; p += depth) {
            const int64_t kp = LESSER(depth, k - p), columns = LESSER(NAME(WIDE), n - j);
            const REAL *rows_x = x + p * x_step, *rows_b = b + p * ldb + j;
            const int add_part = add || p > 0;
            REAL *sum = add_part || columns % W != 0 ? part : y + j;
            int64_t i = 0;
            for (; i + 8 <= kp; i += 8)
                NAME(add_rows)(8, columns, rows_x + i * x_step, x_step, rows_b + i * ldb, ldb, i > 0, sum);
            for (; i < kp; i++)
                NAME(add_rows)(1, columns, rows_x + i * x_step, x_step, rows_b + i * ldb, ldb, i > 0, sum);
            if (sum == part) NAME(finish)(1, columns, part, columns, add_part, y + j, columns, 1);
        }
}

/* The sums of k rows of V vectors, each row times a number, the last vector of `last` elements: row p goes to the sum
 * p % EIGHT, so that additions to one do not wait for those to another. In the end the upper half of the sums is added
 * to the lower one, until there is one. */
INLINE void NAME(eight_sums)(const int V, const int last, int64_t k, const REAL *x, int64_t x_step, const REAL *b,
                             int64_t ldb, VECTOR *total)
{
#define LAST(memory) (last == W ? (VECTOR)LOAD(memory) : NAME(load_first)(memory, last))
#define ADD_ROW(i)                                                                                                  \
    do {                                                                                                            \
        const REAL *row = b + (i) * ldb, factor = x[(i) * x_step];                                                  \
        if (V == 2) sum[i][0] += factor * LOAD(row);                                                                \
        sum[i][V - 1] += factor * LAST(row + (V - 1) * W);                                                          \
    } while (0)
    VECTOR sum[EIGHT][2] = {{{0}}};
    for (; k >= EIGHT; k -= EIGHT, x += EIGHT * x_step, b += EIGHT * ldb)
        UNROLL for (int i = 0; i < EIGHT; i++) ADD_ROW(i);
    UNROLL for (int i = 0; i < EIGHT - 1; i++)
        if (i < k) ADD_ROW(i);
    UNROLL for (int v = 0; v < V; v++)
        total[v] = ((sum[0][v] + sum[4][v]) + (sum[2][v] + sum[6][v]))
                   + ((sum[1][v] + sum[5][v]) + (sum[3][v] + sum[7][v]));
#undef ADD_ROW
#undef LAST
}

INLINE void NAME(narrow_of)(const int V, const int last, int64_t k, const REAL *x, int64_t x_step, const REAL *b,
                            int64_t ldb, int beta, REAL *y, int64_t y_step)
{
    const int64_t depth = EVEN_SHARE(k, EIGHT * K_BLOCK);
    const int count = (V - 1) * W + last;
    REAL part[2 * W];
    if (beta)
        for (int i = 0; i < count; i++) part[i] = y[i * y_step];
    for (int64_t p = 0; p < k; p += depth) {
        VECTOR total[2];
        NAME(eight_sums)(V, last, LESSER(depth, k - p), x + p * x_step, x_step, b + p * ldb, ldb, total);
        UNROLL for (int v = 0; v < V; v++)
            STORE(part + v * W, beta || p ? total[v] + LOAD(part + v * W) : total[v]);
    }
    for (int i = 0; i < count; i++) y[i * y_step] = part[i];
}

static void NAME(narrow)(int64_t n, int64_t k, const void *x_, int64_t x_step, const void *b_, int64_t ldb, int beta,
                         void *y_, int64_t y_step)
{
    enum { PAIR = V_MAX >= 4 ? 2 : 1 }; /* vectors whose sums fit the register file */
    const REAL *x = x_, *b = b_;
    REAL *y = y_;
    for (; n >= PAIR * W; n -= PAIR * W, b += PAIR * W, y += PAIR * W * y_step)
        NAME(narrow_of)(PAIR, W, k, x, x_step, b, ldb, beta, y, y_step);
    if (n > W) NAME(narrow_of)(PAIR, (int)n - W, k, x, x_step, b, ldb, beta, y, y_step);
    else if (n == W) NAME(narrow_of)(1, W, k, x, x_step, b, ldb, beta, y, y_step);
    else if (n) NAME(narrow_of)(1, (int)n, k, x, x_step, b, ldb, beta, y, y_step);
}

static void NAME(gemm)(int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a_, int64_t lda,
                       const void *b_, int64_t ldb, int beta, void *c_, int64_t ldc)
{
    const REAL *a = a_, *b = b_;
    REAL *c = c_;
    int64_t a_row = ta ? 1 : lda, a_col = ta ? lda : 1, b_row = tb ? 1 : ldb, b_col = tb ? ldb : 1;
    int64_t c_row = ldc, c_col = 1;
    if (k == 0 && !beta)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) c[i * ldc + j] = 0;
    if (m == 0 || n == 0 || k == 0) return;
    /* A matrix of contiguous rows times a vector: tiles would read columns of it. */
    const int by_rows = n == 1 && ldc == 1 && a_row != 1 && a_col == 1, by_columns = m == 1 && b_col != 1 && b_row == 1;
    if (fg_is_few(m, n, k) || ((by_rows || by_columns) && k <= FEW_TERMS)) {
        const fg_product few = {m, n, k, a_row, a_col, b_row, b_col, ldc, beta, 0};
        NAME(few)(0, a, b, &few, NULL, c);
        return;
    }
    if ((by_rows || by_columns) && k <= SHORT_ROW) {
        if (by_rows) NAME(short_rows)(m, k, a, a_row, b, b_row, beta, c);
        else NAME(short_rows)(n, k, b, b_col, a, a_col, beta, c);
        return;
    }

#define SWAP(type, x, y) do { type swap_ = x; x = y; y = swap_; } while (0)
    /* Costs in vector operations: the tiles, transposing an operand (2 elements each), scattering a transposed C. */
    const int64_t as_is = k * (m * QUOTIENT_UP(n, W) + (b_col == 1 ? 0 : n / 2));
    const int64_t transposed = k * (n * QUOTIENT_UP(m, W) + (a_row == 1 ? 0 : m / 2)) + (ldc == 1 ? 0 : m * n);
    if (transposed < as_is) { /* C^T = B^T A^T */
        SWAP(int64_t, m, n);
        SWAP(const REAL *, a, b);
        SWAP(int64_t, a_row, b_col);
        SWAP(int64_t, a_col, b_row);
        SWAP(int64_t, c_row, c_col);
    }
#undef SWAP

    _Alignas(64) REAL panel[K_BLOCK * V_MAX * W], edge[R_MAX * V_MAX * W];
    /* Blocks, panels and tiles have nearly equal sizes, because a thin rest would be slow for its size. */
    const int64_t depth = EVEN_SHARE(k, K_BLOCK);
    const int64_t width = W * EVEN_SHARE(QUOTIENT_UP(n, W), V_MAX);
    if (n > (m == 1 ? V_MAX * W : NAME(WIDE)) && m <= 2 && k >= 8 && b_col == 1 && c_col == 1) {
        for (int64_t i = 0; i < m; i++)
            NAME(wide)(n, k, depth, a + i * a_row, a_col, b, b_row, beta, c + i * c_row);
        return;
    }
    const int64_t tall = m > TALL && m > LARGE / n ? TALL : m, height = EVEN_SHARE(tall, R_MAX);
    for (int64_t p = 0; p < k; p += depth)
        for (int64_t top = 0; top < m; top += tall)
            for (int64_t from = 0; from < n; from += width) {
                const int64_t kp = LESSER(depth, k - p), vectors = QUOTIENT_UP(LESSER(width, n - from), W);
                const int add = beta || p > 0;
                /* Where rows end within a vector, the last vectors may begin earlier, and write some elements again. */
                const int again = !MASKED && !add && c_col == 1 && n >= vectors * W && n - from < vectors * W;
                const int64_t j = again ? n - vectors * W : from, columns = LESSER(width, n - j);
                const int last = (int)(columns - (vectors - 1) * W), ragged = last < W && !MASKED;
                const REAL *rows_b = b + p * b_row + j * b_col;
                int64_t ld = b_row;
                if (b_col != 1 || ragged) {
                    ld = vectors * W;
                    if (b_col == 1) NAME(copy_panel)(kp, columns, rows_b, b_row, panel, ld);
                    else NAME(transpose_panel)(kp, columns, rows_b, b_col, panel, ld);
                    rows_b = panel;
                }
                for (int64_t i = top, end = LESSER(m, top + tall); i < end; i += height) {
                    const int64_t rows = LESSER(height, end - i);
                    const REAL *rows_a = a + i * a_row + p * a_col;
                    REAL *corner = c + i * c_row + j * c_col;
                    NAME(tile_function) *const tile = NAME(tiles)[vectors - 1][rows - 1];
                    if (c_col == 1 && !ragged) {
                        tile(last, kp, rows_a, a_row, a_col, rows_b, ld, add, corner, c_row);
                    } else {
                        tile(last, kp, rows_a, a_row, a_col, rows_b, ld, 0, edge, vectors * W);
                        NAME(finish)(rows, columns, edge, vectors * W, add, corner, c_row, c_col);
                    }
                }
            }
}

#undef VECTOR
#undef LOAD
#undef STORE
#endif
