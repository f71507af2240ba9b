/* products.h: tiles of matrix products for native programs, whose text says which ones make up a product.
 *
 * tile_f64(R, V, 0, k, a, a_row, a_col, b, ldb, add, c, ldc): R rows by V whole vectors of C, of constant sizes; the
 * sums over k are those of gemm.c.
 */
#ifndef FG_KERNELS_PRODUCTS_H
#define FG_KERNELS_PRODUCTS_H

#include <stdint.h>

#define TILE_ROWS 12
#include "kernels/tile.h"

enum { MASKED = 0 };
#define TILES_ALONE
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#define REAL float
#define INTEGER int32_t
#define NAME(x) x##_f32
#define W (VECTOR_BYTES / (int)sizeof(REAL))
#include "kernels/tile.h"

#define REAL double
#define INTEGER int64_t
#define NAME(x) x##_f64
#define W (VECTOR_BYTES / (int)sizeof(REAL))
#include "kernels/tile.h"

#undef TILES_ALONE
#undef INLINE
#undef UNROLL

#endif
