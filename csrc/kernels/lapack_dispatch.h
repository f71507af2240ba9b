/* lapack_dispatch.h: factorizations and solutions by whichever is fastest for their size: our kernels (kernels.h has
 * what each computes) or LAPACK. */
#ifndef FG_LAPACK_DISPATCH_H
#define FG_LAPACK_DISPATCH_H

#include "fastgrad.h"

/* A function of lapack.def, or NULL where there is none for matrices with an axis as long as `largest`; and whether its
 * integers have 64 bits. */
void *fg_lapack(int function, int dtype, int64_t largest);
int fg_lapack_ilp64(void);

/* A call in Fortran's convention: everything by address, and the lengths of strings after all other arguments.
 * type##_ARGUMENTS(integer, real) lists the types of the arguments. */
#define CALL_AS(type, function, integer, real, ...)                                 \
    (fg_threads_enter_library(),                                                    \
     ((void (*)(type##_ARGUMENTS(integer, real)))(function))(__VA_ARGS__), fg_threads_leave_library())

/* `body` with the integer type of the LAPACK that was found, and the real type of `dtype`. */
#define BY_TYPE(ilp64, dtype, body)             \
    do {                                        \
        if ((dtype) == FG_FLOAT32 && (ilp64))   \
            body(int64_t, float);               \
        else if (ilp64)                         \
            body(int64_t, double);              \
        else if ((dtype) == FG_FLOAT32)         \
            body(int32_t, float);               \
        else                                    \
            body(int32_t, double);              \
    } while (0)

int64_t fg_linalg_cholesky(int dtype, int64_t count, int64_t n, const void *a, void *y);
void fg_linalg_cholesky_vjp(int dtype, int64_t count, int64_t n, const void *y, const void *g, void *gx);
int fg_linalg_lu(int dtype, int64_t count, int64_t n, const void *a, void *f);      /* FG_OK or FG_NO_MEMORY */
void fg_linalg_solve(int dtype, int64_t count, int64_t n, int64_t k, int how, const void *a, int64_t a_step,
                     const void *b, int64_t b_step, void *y);

#endif
