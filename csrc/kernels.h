/* kernels.h: the contract between the inner loops and everything above them.
 *
 * A kernel works on plain contiguous memory of one dtype and knows nothing of shapes, tapes or allocation: no kernel
 * allocates, fails or calls back, and lengths are not negative. The six families below each have one text
 * (elementwise.c, reduce.c, gemm.c, linalg.c, philox.c, optim.c), which includes itself once per dtype and is compiled
 * once per instruction set (setup.py passes -DFG_ISA=baseline|avx2|avx512|neon). fg_kernels_select (isa_dispatch.c)
 * picks the set once.
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
typedef void fg_loop(int64_t n, const void *a, const void *b, const void *y, const void *g, void *out);

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

/* ---- reduce.c -----------------------------------------------------------------------------------------
 * Row kernels reduce x[rows][n] along n; column kernels reduce x[n][cols] along the first axis. n is
 * at least 1 but where said. The order of additions is a fixed tree of blocks (pairwise), so that the error grows as
 * log n and the bits of a sum are the same with every instruction set. */
/* A row longer than FG_SUM_LEAF is summed as the sum of its first FG_SUM_HALF(n) elements plus the sum of the rest, and
 * so on. */
enum { FG_SUM_LANES = 64, FG_SUM_LEAF = 32 * FG_SUM_LANES };
#define FG_SUM_HALF(n) ((n) / 2 / FG_SUM_LANES * FG_SUM_LANES)
/* Columns of more than FG_SUM_ROWS rows likewise, if there are FG_SUM_COLS columns or more. Of fewer rows, a caller may
 * sum parts of a multiple of FG_SUM_PART rows, the first by sum_cols and the others by add_cols. */
enum { FG_SUM_COLS = FG_SUM_LANES / 2 + 1, FG_SUM_PART = 8, FG_SUM_ROWS = 32 * FG_SUM_PART };
#define FG_SUM_HALF_ROWS(n) ((n) / 2 / FG_SUM_PART * FG_SUM_PART)
typedef struct {
    void (*sum_rows)(int64_t rows, int64_t n, const void *x, void *y);      /* y[rows]; n may be 0 */
    void (*sum_cols)(int64_t n, int64_t cols, const void *x, void *y);      /* y[cols]; n may be 0 */
    void (*add_cols)(int64_t n, int64_t cols, const void *x, void *y);      /* y[cols] += */
    fg_loop *sum;                                                           /* of the one row a */
    /* Running sums, products and maxima along the middle axis of x[outer][n][inner], from its end if reverse, joined in
     * turn. y may be x. */
    void (*cumsum)(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x, void *y);
    void (*cumprod)(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x, void *y);
    void (*cummax)(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x, void *y); /* nan after a nan */
    /* gx of y = cummax(x), not reversed: g[i] shared equally among the elements up to i that are equal to y[i] (or nan
     * where y[i] is nan). gx is none of the inputs. */
    void (*cummax_vjp)(int64_t outer, int64_t n, int64_t inner, const void *x, const void *y, const void *g, void *gx);
    /* Along the middle axis, y[i] = b[i] + a[i] * y[i - 1] with y[0] = b[0]; or, of the transposed linear map of b,
     * y[i] = b[i] + a[i + 1] * y[i + 1] with y[n - 1] = b[n - 1]. a[0] is not read. y may be b, but not a. */
    void (*recurrence)(int64_t outer, int64_t n, int64_t inner, int transposed, const void *a, const void *b, void *y);
    void (*max_rows)(int64_t rows, int64_t n, const void *x, void *y);      /* nan if any is nan */
    void (*max_cols)(int64_t n, int64_t cols, const void *x, void *y);
    void (*min_rows)(int64_t rows, int64_t n, const void *x, void *y);
    void (*min_cols)(int64_t n, int64_t cols, const void *x, void *y);
    /* Row i of gx = g[i] shared equally among the elements of x[i] equal to y[i] (or nan where y is nan). */
    void (*extremum_vjp_rows)(int64_t rows, int64_t n, const void *x, const void *y, const void *g, void *gx);

    /* Stable for every finite input and for rows with -inf; a row of only -inf gives nan (softmax,
     * log_softmax) or -inf (logsumexp), a row with +inf as NumPy's formula with the maximum subtracted
     * in the limit: logsumexp is +inf, softmax and log_softmax nan. nan anywhere in a row gives nan. A probability
     * below about exp(-87) (float32) or exp(-708) (float64) of the row's largest is 0. n >= 1. */
    void (*softmax_rows)(int64_t rows, int64_t n, const void *x, void *y);
    /* The gradient of logsumexp: the softmax, but 0 in a row of only -inf, and where some are +inf those have equal
     * shares. */
    void (*weight_rows)(int64_t rows, int64_t n, const void *x, void *y);
    void (*log_softmax_rows)(int64_t rows, int64_t n, const void *x, void *y);
    void (*logsumexp_rows)(int64_t rows, int64_t n, const void *x, void *y); /* y[rows] */
    void (*softmax_vjp_rows)(int64_t rows, int64_t n, const void *y, const void *g, void *gx);
    void (*log_softmax_vjp_rows)(int64_t rows, int64_t n, const void *y, const void *g, void *gx);
    void (*logsumexp_vjp_rows)(int64_t rows, int64_t n, const void *x, const void *g, void *gx);
    /* Cross-entropy of softmax(x[i]) with the class label[i] in 0..n-1: y[i] = logsumexp(x[i]) - x[i][label[i]].
     * The caller has checked the labels. vjp: gx[i] = g[i] * (softmax(x[i]) - onehot(label[i])). */
    void (*cross_entropy_rows)(int64_t rows, int64_t n, const void *x, const int64_t *label, void *y);
    void (*cross_entropy_vjp_rows)(int64_t rows, int64_t n, const void *x, const int64_t *label, const void *g,
                                   void *gx);
    void (*fill)(int64_t n, double value, void *y);
} fg_reduce_kernels;

/* ---- optim.c ------------------------------------------------------------------------------------------ */
typedef struct {
    fg_update_kernel *update[FG_N_ELEMENTWISE_OPTIMIZERS];                   /* by the formulas of optim.def */
    int (*all_finite)(int64_t n, const void *x);                             /* 1 if no inf and no nan */
    double (*sum_squares)(int64_t n, double scale, const void *x);           /* of scale x[i] */
    /* y[i] = scale x[i], brought into [-limit, limit] */
    void (*clip)(int64_t n, double scale, double limit, const void *x, void *y);
} fg_optim_kernels;

/* ---- whole_updates.c ---------------------------------------------------------------------------------- */
typedef struct {
    int optimizer;              /* FG_OPTIMIZER_<name>, or FG_FROZEN */
    double number[FG_MAX_NUMBERS];      /* at one step: an fg_<name>_numbers */
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
    return m * n * k <= (k <= 8 && m * n <= 64 ? 216 : 32);
}
typedef struct {
    int64_t m, n, k;
    int64_t a_row, a_col, b_row, b_col, ldc;    /* element (i, p) of A is a[i * a_row + p * a_col]; likewise B */
    int beta;
    int roomy;                  /* memory after c may be written, up to the end of a vector of 64 bytes */
} fg_product;

/* ---- gemm.c -------------------------------------------------------------------------------------------
 * Row-major C[m][n] = op(A) op(B) + beta C with beta 0 or 1 (with 0, C is not read). op(A) is A[m][k] with
 * leading dimension lda, or, if ta, the transpose of A[k][m]; likewise B. C overlaps neither. Any of m, n, k
 * may be 0 (k = 0 with beta 0 writes zeros). The result of a C element does not depend on m or n.
 * Memory between rows is neither read nor written. */
typedef struct {
    void (*gemm)(int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                 int64_t ldb, int beta, void *c, int64_t ldc);
    /* The same, out = a b, for products that fg_is_few: y points to an fg_product, n and g are not used. */
    fg_loop *few;
    /* y = A x, or A x + y if beta: m >= 16 contiguous rows of k elements, which are summed in lanes of vectors. */
    void (*rows)(int64_t m, int64_t k, const void *a, const void *x, int beta, void *y);
    /* y[i], or y[i] +=, the sum of a[i * a_step + p] * b[i * b_step + p] over p < k, for i < m: in ascending order
     * where one such product is few, else in lanes of vectors. */
    void (*dots)(int64_t m, int64_t k, const void *a, int64_t a_step, const void *b, int64_t b_step, int beta, void *y);
} fg_gemm_kernels;

/* ---- linalg.c -----------------------------------------------------------------------------------------
 * Factorizations and solutions for `count` matrices of any size n, row-major, one after the other. Small ones are
 * computed side by side in the lanes of vectors. For a large matrix LAPACK is faster (lapack_dispatch.c). nan is no
 * failure: it goes on to the result. */
/* How equations op(A) Y = B are solved: the flags of a triangular A, or by a factor of A in its place. */
enum {
    FG_LOWER = 1,               /* A is lower triangular, else upper: the other triangle is not read */
    FG_TRANSPOSED = 2,          /* op(A) is the transpose of A */
    FG_UNIT = 4,                /* the diagonal counts as ones and is not read */
    FG_BY_CHOLESKY = 8,         /* by the factor L of A = L L^T */
    FG_BY_LU = 16               /* by the factors P A = L U as `lu` leaves them; may be with FG_TRANSPOSED */
};
typedef struct {
    /* The lower triangle L with A = L L^T, and zeros above it; of A only the lower triangle is read. Returns the number
     * of the first matrix that is not positive definite, whose result is unspecified, or count. */
    int64_t (*cholesky)(int64_t count, int64_t n, const void *a, void *y);
    /* gx, symmetric, is the cotangent of A for a cotangent g of y = cholesky(A). gx may be g, but not y. */
    void (*cholesky_vjp)(int64_t count, int64_t n, const void *y, const void *g, void *gx);
    /* Of each matrix n + 1 rows of n numbers: the transpose of the triangles L, whose diagonal of ones is left out, and
     * U; then for each row of A the number of the row with which it was exchanged. Zeros on U's diagonal remain. */
    void (*lu)(int64_t count, int64_t n, const void *a, void *f);
    /* y[n][k] for b[n][k]. y may be b, but not a. a_step, b_step: elements from one A or b to the next; 0 if all share
     * one. */
    void (*solve)(int64_t count, int64_t n, int64_t k, int how, const void *a, int64_t a_step, const void *b,
                  int64_t b_step, void *y);
    /* Of each matrix: sign and logarithm of the absolute value of its determinant, from what `lu` leaves. */
    void (*slogdet)(int64_t count, int64_t n, const void *f, void *y);
} fg_linalg_kernels;

/* ---- philox.c ------------------------------------------------------------------------------------------
 * A generator is three words: a key, a stream, and the position in it, in blocks of 128 bits. y = numbers uniform in
 * [0, 1) with 24 (float) or 53 bits (double), made from FG_RANDOM_CHUNK blocks at a time from `position` on. An
 * element depends on key, stream, position and its index alone; the bits are the same with every instruction set. */
enum { FG_RANDOM_KEY, FG_RANDOM_STREAM, FG_RANDOM_POSITION, FG_RANDOM_WORDS };
enum { FG_RANDOM_CHUNK = 16, FG_RANDOM_CHUNK_BYTES = 16 * FG_RANDOM_CHUNK };
typedef struct {
    void (*uniform)(int64_t n, const uint64_t *state, uint64_t position, void *y);
} fg_random_kernels;

typedef struct {
    const fg_elementwise_kernels *elementwise;
    const fg_reduce_kernels *reduce;
    const fg_gemm_kernels *gemm;
    const fg_linalg_kernels *linalg;
    const fg_random_kernels *random;
    const fg_optim_kernels *optim;
} fg_kernel_set;

/* Each compiled instruction set exports fg_elementwise_<isa>[2], fg_reduce_<isa>[2], fg_gemm_<isa>[2],
 * fg_linalg_<isa>[2], fg_random_<isa>[2], fg_optim_<isa>[2]; index 0 is float32, 1 is float64. */
#define FG_PASTE2(a, b) a##_##b
#define FG_PASTE(a, b) FG_PASTE2(a, b)
#define FG_TABLE(family) FG_PASTE(family, FG_ISA)

#endif
