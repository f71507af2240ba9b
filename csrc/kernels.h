/* kernels.h: the contract between the inner loops and everything above them.
 *
 * A kernel works on plain contiguous memory of one dtype and knows nothing of shapes, tapes or allocation: no kernel
 * allocates, fails or calls back, and lengths are not negative. The six families below each have one text
 * (elementwise.c, reduce.c, gemm.c, linalg.c, philox.c, optim.c), which includes itself once per dtype and is compiled
 * once per instruction set (setup.py passes -DFG_ISA=baseline|avx2|avx512|neon). The kernels of a family are rows of
 * kernels.def, with their contracts; those of elementwise.c are made from ops.def, the updates of optimizers from
 * optim.def. fg_kernels_select (isa_dispatch.c) picks the set once.
 *
 * Letters: x a b inputs, y result, g cotangent of y, gx cotangent of x, n length. `void *` stands for
 * float* or double*, according to the table the pointer was taken from. Unless said otherwise, y (or gx)
 * may be the very same memory as any input of the same length, but may not overlap it partly.
 */
#ifndef FG_KERNELS_H
#define FG_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Indices of the tables below: the rows of ops.def in their order, first those of one argument, then those of two. */
enum {
#define UNARY(name, def, dx, lo, hi, doc) FG_UNARY_##name,
#define UNARY_FN UNARY
#define BINARY(...)
#define BINARY_FN(...)
#include "ops.def"
#undef UNARY
#undef BINARY
#undef BINARY_FN
    FG_N_UNARY
};
enum {
#define UNARY(...)
#define BINARY(name, def, da, db, alo, ahi, blo, bhi, doc) FG_BINARY_##name,
#undef UNARY_FN
#define UNARY_FN(...)
#define BINARY_FN BINARY
#include "ops.def"
#undef UNARY
#undef UNARY_FN
#undef BINARY
#undef BINARY_FN
    FG_N_BINARY
};
/* The rows of optim.def, first those of updates element by element, and the numbers of each at one step. */
enum {
#define OPTIMIZER(name, ...) FG_OPTIMIZER_##name,
#define WHOLE_OPTIMIZER(...)
#include "optim.def"
#undef OPTIMIZER
    FG_N_ELEMENTWISE_OPTIMIZERS,
    FG_BEFORE_WHOLE_OPTIMIZERS = FG_N_ELEMENTWISE_OPTIMIZERS - 1,
#define OPTIMIZER(...)
#define WHOLE_OPTIMIZER(name, ...) FG_OPTIMIZER_##name,
#include "optim.def"
#undef OPTIMIZER
    FG_N_OPTIMIZERS,
    FG_FROZEN = -1              /* in the place of a row: the parameter is not updated */
};
#define OPTIMIZER(name, least, most, ...) typedef struct { double __VA_ARGS__; } fg_##name##_numbers;
#include "optim.def"
#undef OPTIMIZER
enum { FG_MAX_STATES = 4, FG_MAX_NUMBERS = 16 };
#define OPTIMIZER(name, least, most, ...)                                                                     \
    _Static_assert(most <= FG_MAX_STATES && sizeof(fg_##name##_numbers) <= FG_MAX_NUMBERS * sizeof(double),   \
                   #name ": raise FG_MAX_STATES or FG_MAX_NUMBERS");
#include "optim.def"
#undef OPTIMIZER

enum { FG_LESS, FG_LESS_EQUAL, FG_GREATER, FG_GREATER_EQUAL, FG_EQUAL, FG_NOT_EQUAL, FG_N_COMPARE };

/* What most steps of a program call: a kernel below in its simplest form. a is x where there is only one. */
#define FG_LOOP_OPERANDS (int64_t n, const void *a, const void *b, const void *y, const void *g, void *out)
typedef void fg_loop FG_LOOP_OPERANDS;

/* An optimizer's update, in place on p and on its state arrays (NULL: there is none); g is only read. `numbers` is the
 * fg_<name>_numbers of its row. It checks nothing: where only finite gradients may pass, the caller asks all_finite
 * first. */
typedef void fg_update_kernel(int64_t n, void *p, const void *g, void *const *state, const void *numbers);

/* ---- elementwise.c ------------------------------------------------------------------------------------
 * sa and sb are 1 or 0: an operand with stride 0 is one element used for all n.
 * The result of an element depends on its operands alone: not on n, on its index, or on the strides. */
typedef struct {
    void (*unary[FG_N_UNARY])(int64_t n, const void *x, void *y);
    /* gx = g * derivative(x, y). x or y may be NULL where the derivative does not name it. */
    void (*unary_vjp[FG_N_UNARY])(int64_t n, const void *x, const void *y, const void *g, void *gx);
    void (*binary[FG_N_BINARY])(int64_t n, const void *a, int sa, const void *b, int sb, void *y);
    /* ga = g * d/da at [0], g * d/db at [1]; operands that the derivative does not name may be NULL.
     * ga is full length (the caller sums it where an operand was broadcast). */
    void (*binary_vjp[FG_N_BINARY][2])(int64_t n, const void *a, int sa, const void *b, int sb, const void *y,
                                       const void *g, void *ga);
    /* y is uint8_t, 0 or 1 */
    void (*compare[FG_N_COMPARE])(int64_t n, const void *a, int sa, const void *b, int sb, uint8_t *y);
    /* y = c ? a : b */
    void (*where)(int64_t n, const uint8_t *c, int sc, const void *a, int sa, const void *b, int sb, void *y);
    /* y = x in the other float dtype */
    void (*cast)(int64_t n, const void *x, void *y);
    /* y = the derivative of digamma of this order, which is at least 1 */
    void (*polygamma)(int64_t n, int64_t order, const void *x, void *y);
    /* y = x[0] */
    void (*stretch)(int64_t n, const void *x, void *y);
    /* The same for a single element, or for whole vectors of 64 bytes; a missing operand is any address with as much
     * memory. Of the three binary loops the first has strides 1, the second reads a single element of a, the third a
     * single element of b, for whole vectors. 0: there is none. */
    fg_loop *unary_loop[FG_N_UNARY], *unary_vjp_loop[FG_N_UNARY], *stretch_loop;
    fg_loop *binary_loop[FG_N_BINARY][3], *binary_vjp_loop[FG_N_BINARY][2][3];
    /* y, a vector of 64 bytes, = the first n elements of x, and zeros; and back: the first n elements of a vector */
    void (*widen)(int64_t n, const void *x, void *y);
    void (*narrow)(int64_t n, const void *x, void *y);
    /* Of unary and binary rows: 1 where the kernel calls the C library for each element, so that a program must not let
     * it compute whole vectors. */
    uint8_t by_element[FG_N_UNARY + FG_N_BINARY];
} fg_elementwise_kernels;

/* ---- reduce.c -------------------------------------------------------------------------------------------- */
/* A row longer than FG_SUM_LEAF is summed as the sum of its first FG_SUM_HALF(n) elements plus the sum of the rest, and
 * so on. */
enum { FG_SUM_LANES = 64, FG_SUM_LEAF = 32 * FG_SUM_LANES };
#define FG_SUM_HALF(n) ((n) / 2 / FG_SUM_LANES * FG_SUM_LANES)
/* Columns of more than FG_SUM_ROWS rows likewise, if there are FG_SUM_COLS columns or more. Of fewer rows, a caller may
 * sum parts of a multiple of FG_SUM_PART rows by sum_part. */
enum { FG_SUM_COLS = FG_SUM_LANES / 2 + 1, FG_SUM_PART = 8, FG_SUM_ROWS = 32 * FG_SUM_PART };
#define FG_SUM_HALF_ROWS(n) ((n) / 2 / FG_SUM_PART * FG_SUM_PART)
typedef struct {
#define REDUCE(result, name, operands) result(*name) operands;
#include "kernels.def"
} fg_reduce_kernels;

/* ---- optim.c ------------------------------------------------------------------------------------------ */
typedef struct {
    fg_update_kernel *update[FG_N_ELEMENTWISE_OPTIMIZERS];                   /* by the formulas of optim.def */
#define OPTIM(result, name, operands) result(*name) operands;
#include "kernels.def"
} fg_optim_kernels;

/* ---- whole_updates.c ---------------------------------------------------------------------------------- */
typedef struct {
    int optimizer;              /* FG_OPTIMIZER_<name>, or FG_FROZEN */
    double number[FG_MAX_NUMBERS];      /* at one step: an fg_<name>_numbers */
    int lazy_rows;      /* a row whose gradient is 0 stays as it is, and so does its state; of no WHOLE_OPTIMIZER */
} fg_update_rule;
/* How many elements state array k of a parameter of this shape has. */
int64_t fg_state_size(int optimizer, int k, int ndim, const int64_t *dim);
/* The update of a whole parameter of this shape, for a row that is a WHOLE_OPTIMIZER. `work` is memory for
 * fg_update_work elements; it is 0 for rows that need none. */
int64_t fg_update_work(int optimizer, int ndim, const int64_t *dim);
void fg_update_whole(const fg_update_rule *, int dtype, int ndim, const int64_t *dim, void *p, const void *g,
                     void *const *state, void *work);

/* Is a matrix product so small that it takes less time element by element than to prepare tiles? */
static inline int fg_is_few(int64_t m, int64_t n, int64_t k)
{
    return m * n * k <= (k <= 8 && m * n <= 64 ? 200 : 32);
}
typedef struct {
    int64_t m, n, k;
    int64_t a_row, a_col, b_row, b_col, ldc;    /* element (i, p) of A is a[i * a_row + p * a_col]; likewise B */
    int beta;
    int roomy;                  /* memory after c may be written, up to the end of a vector of 64 bytes */
} fg_product;

/* ---- gemm.c ---------------------------------------------------------------------------------------------- */
typedef struct {
#define GEMM(result, name, operands) result(*name) operands;
#include "kernels.def"
} fg_gemm_kernels;

/* ---- linalg.c -------------------------------------------------------------------------------------------- */
/* How equations op(A) Y = B are solved: the flags of a triangular A, or by a factor of A in its place. */
enum {
    FG_LOWER = 1,               /* A is lower triangular, else upper: the other triangle is not read */
    FG_TRANSPOSED = 2,          /* op(A) is the transpose of A */
    FG_UNIT = 4,                /* the diagonal counts as ones and is not read */
    FG_BY_CHOLESKY = 8,         /* by the factor L of A = L L^T */
    FG_BY_LU = 16               /* by the factors P A = L U as `lu` leaves them; may be with FG_TRANSPOSED */
};
typedef struct {
#define LINALG(result, name, operands) result(*name) operands;
#include "kernels.def"
} fg_linalg_kernels;

/* ---- philox.c ------------------------------------------------------------------------------------------
 * A generator is three words: a key, a stream, and the position in it, in blocks of 128 bits. y = numbers uniform in
 * [0, 1) with 24 (float) or 53 bits (double), made from FG_RANDOM_CHUNK blocks at a time from `position` on. An
 * element depends on key, stream, position and its index alone; the bits are the same with every instruction set. */
enum { FG_RANDOM_KEY, FG_RANDOM_STREAM, FG_RANDOM_POSITION, FG_RANDOM_WORDS };
enum { FG_RANDOM_CHUNK = 16, FG_RANDOM_CHUNK_BYTES = 16 * FG_RANDOM_CHUNK };
typedef struct {
#define RANDOM(result, name, operands) result(*name) operands;
#include "kernels.def"
} fg_random_kernels;

typedef struct {
    const fg_elementwise_kernels *elementwise;
    const fg_reduce_kernels *reduce;
    const fg_gemm_kernels *gemm;
    const fg_linalg_kernels *linalg;
    const fg_random_kernels *random;
    const fg_optim_kernels *optim;
} fg_kernel_set;

/* ---- strided.c -----------------------------------------------------------------------------------------
 * Compiled once. An array that is read with strides: element i of its axes, the last axis first, is that many elements
 * from the start of memory. */
enum { FG_STRIDED_NDIM = 6 };
typedef struct {
    int ndim;
    int64_t dim[FG_STRIDED_NDIM], stride[FG_STRIDED_NDIM];
    int64_t shift;          /* where its first element is */
} fg_strided;
/* Add the next outer axis, or join it to the last one if a single stride describes both; 0: there is no room. */
int fg_strided_add(fg_strided *, int64_t length, int64_t stride);
/* y = n elements from number `from` on, in row-major order; there are as many. x and y do not overlap. */
void fg_strided_read(const fg_strided *, size_t itemsize, int64_t from, int64_t n, const void *x, void *y);
/* y = the rows of x, of so many bytes, that n indices name; x has `length` rows. Returns the place in the index of one
 * that is out of range, up to which y is written; n: there is none. */
int64_t fg_take_rows(size_t bytes, int64_t length, const int64_t *index, int64_t n, const void *x, void *y);
/* The same for each of a stack of x, one after the other, by an index that is in range and has no negative numbers. */
void fg_take_stack(size_t bytes, int64_t stack, int64_t length, const int64_t *index, int64_t n, const void *x,
                   void *y);
/* y = n elements, from number `from` on, of the rows of `inner` elements that the index names, which are in range. */
void fg_take_read(size_t itemsize, int64_t inner, int64_t length, const int64_t *index, int64_t from, int64_t n,
                  const void *x, void *y);

/* ---- pieces.c ------------------------------------------------------------------------------------------
 * Compiled once. An array y that is put together from others, its pieces: a concatenation, or a sum of slices that are
 * padded with zeros. */
enum { FG_MAX_PIECES = 16 };
typedef struct {            /* where a piece is: axes from the last one on */
    int ndim;
    int64_t dim[FG_STRIDED_NDIM];   /* of y */
    /* The piece has `count` elements along an axis, at y's elements start, start + step, ... */
    int64_t start[FG_STRIDED_NDIM], step[FG_STRIDED_NDIM], count[FG_STRIDED_NDIM];
    int64_t stride[FG_STRIDED_NDIM], shift;     /* of these elements in the piece's memory */
    int64_t size;           /* of the piece */
} fg_piece;
typedef struct {
    int n, is_sum;
    fg_piece common;        /* of a sum of several pieces: the elements that all of them have */
    fg_piece piece[FG_MAX_PIECES];
} fg_joined;
/* Of a sum of padded slices, or a concatenation, of n pieces; attr: that of unslice for each piece, or of concatenate;
 * part, whole: lengths along ndim axes. 0: there are too many pieces or axes, or the elements that all have are no
 * slice. */
int fg_joined_find(fg_joined *, int is_sum, int n, const int64_t *const *part, const int64_t *attr, int ndim,
                   const int64_t *whole);
/* y = n elements from number `from` on, in row-major order; x: the pieces. A sum of several is of floats. */
void fg_joined_read(const fg_joined *, int dtype, int64_t from, int64_t n, const void *const *x, void *y);

/* ---- integers.c ---------------------------------------------------------------------------------------
 * Compiled once, not for each instruction set. Kernels by operation and dtype: fastgrad.h. */
typedef struct {            /* of a row of integers.def and a dtype; those that it does not have are NULL */
    void (*unary)(int64_t n, const void *x, void *y);
    void (*binary)(int64_t n, const void *a, int sa, const void *b, int sb, void *y);   /* y may be of booleans */
    /* The same, but it returns 1 at the first element that it refuses, one of which NumPy warns or for which it raises:
     * then y is unspecified. Else 0. y is neither a nor b. */
    int (*checked)(int64_t n, const void *a, int sa, const void *b, int sb, void *y);
    fg_loop *one;           /* of one element */
} fg_integer_kernel;
typedef struct {            /* as in fg_reduce_kernels; floats have those, and NULL here but for argmax and argmin */
    void (*max_rows)(int64_t rows, int64_t n, const void *x, void *y);
    void (*max_cols)(int64_t n, int64_t cols, const void *x, void *y);
    void (*min_rows)(int64_t rows, int64_t n, const void *x, void *y);
    void (*min_cols)(int64_t n, int64_t cols, const void *x, void *y);
    void (*cummax)(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x, void *y);
    /* Where the first extreme, or the first nan, is along the middle axis of x[outer][n][inner]; n is at least 1. */
    void (*argmax)(int64_t outer, int64_t n, int64_t inner, const void *x, int64_t *y);
    void (*argmin)(int64_t outer, int64_t n, int64_t inner, const void *x, int64_t *y);
} fg_order_kernels;
typedef void fg_where_kernel(int64_t n, const uint8_t *c, int sc, const void *a, int sa, const void *b, int sb,
                             void *y);

/* Each compiled instruction set exports fg_elementwise_<isa>[2], fg_reduce_<isa>[2], fg_gemm_<isa>[2],
 * fg_linalg_<isa>[2], fg_random_<isa>[2], fg_optim_<isa>[2]; index 0 is float32, 1 is float64. */
#define FG_PASTE2(a, b) a##_##b
#define FG_PASTE(a, b) FG_PASTE2(a, b)
#define FG_TABLE(family) FG_PASTE(family, FG_ISA)

#endif
