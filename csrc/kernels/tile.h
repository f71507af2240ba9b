/* tile.h: a tile of a matrix product, in registers: for the kernels in gemm.c, and for native programs (products.h).
 *
 * It is included once for what does not depend on the dtype, and then once per dtype: with REAL, INTEGER (of the same
 * size), NAME, and W, the elements of a vector. The includer says whether tiles may end anywhere (MASKED), and may
 * define masked access (LOAD_FIRST, STORE_FIRST), and TILE_ROWS, of a tile at most.
 *
 * VECTOR, LOAD and STORE are left to an includer that goes on in the same dtype, and undefines them. Where tiles are
 * all that it wants, it defines TILES_ALONE: then they and the macros of the dtype end with this text.
 */
#ifndef REAL
#ifndef FG_KERNELS_TILE_H
#define FG_KERNELS_TILE_H

/* R_MAX * V_MAX accumulators, V_MAX vectors of B and one of A fit the register file. */
enum { R_MAX = 6 };
#if defined __AVX512F__
enum { VECTOR_BYTES = 64, V_MAX = 4 };
#elif defined __AVX__
enum { VECTOR_BYTES = 32, V_MAX = 2 };
#elif defined __aarch64__
enum { VECTOR_BYTES = 16, V_MAX = 4 };
#else
enum { VECTOR_BYTES = 16, V_MAX = 2 };
#endif

#ifdef TILE_ROWS
enum { ROWS_MAX = TILE_ROWS };
#undef TILE_ROWS
#else
enum { ROWS_MAX = R_MAX };
#endif
#endif

#else /* ---- once per dtype ---- */

typedef REAL NAME(vector) __attribute__((vector_size(VECTOR_BYTES)));
typedef REAL NAME(unaligned) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef INTEGER NAME(lanes) __attribute__((vector_size(VECTOR_BYTES)));
#define VECTOR NAME(vector)
#define LOAD(x) (*(const NAME(unaligned) *)(x))
#define STORE(y, v) (*(NAME(unaligned) *)(y) = (v))

/* The first `count` elements of a vector, 0 <= count <= W, touching no memory beyond them. */
INLINE VECTOR NAME(load_first)(const REAL *x, int count)
{
#ifdef LOAD_FIRST
    return (VECTOR)LOAD_FIRST(x, count);
#else
    VECTOR v = {0};
    for (int i = 0; i < count; i++) v[i] = x[i];
    return v;
#endif
}

INLINE void NAME(store_first)(REAL *y, int count, VECTOR v)
{
#ifdef STORE_FIRST
    STORE_FIRST(y, count, v);
#else
    for (int i = 0; i < count; i++) y[i] = v[i];
#endif
}

/* R rows by V vectors of C, of the last vector only the first `last` lanes if masks are at hand.
 * Element (i, p) of A is a[i * a_row + p * a_col]. */
INLINE void NAME(tile)(const int R, const int V, int last, int64_t k, const REAL *a, int64_t a_row,
                       int64_t a_col, const REAL *b, int64_t ldb, int add, REAL *c, int64_t ldc)
{
#define EDGE(v) (MASKED && (v) == V - 1)
    VECTOR sum[ROWS_MAX][V_MAX] = {{{0}}};
    for (int64_t p = 0; p < k; p++, a += a_col, b += ldb) {
        VECTOR row[V_MAX];
        UNROLL for (int v = 0; v < V; v++)
            row[v] = EDGE(v) ? NAME(load_first)(b + v * W, last) : (VECTOR)LOAD(b + v * W);
        UNROLL for (int i = 0; i < R; i++)
            UNROLL for (int v = 0; v < V; v++) sum[i][v] += a[i * a_row] * row[v];
    }
    UNROLL for (int i = 0; i < R; i++)
        UNROLL for (int v = 0; v < V; v++) {
            REAL *y = c + i * ldc + v * W;
            if (add) sum[i][v] += EDGE(v) ? NAME(load_first)(y, last) : (VECTOR)LOAD(y);
            if (EDGE(v)) NAME(store_first)(y, last, sum[i][v]);
            else STORE(y, sum[i][v]);
        }
#undef EDGE
}

#ifdef TILES_ALONE
#undef VECTOR
#undef LOAD
#undef STORE
#undef REAL
#undef INTEGER
#undef NAME
#undef W
#endif
#endif
