/* native.h: native programs: the contract between a program's replay and the C text that is written out for it.
 *
 * The text (fastgrad/_native/) is one function, fg_native_program, which does what the steps of a replay do, on the
 * same arena and the same inputs and outputs. A step that the text does not compute itself is run by the interpreter.
 */
#ifndef FG_NATIVE_H
#define FG_NATIVE_H

#include <stdint.h>

enum { FG_NATIVE_VERSION = 8 };     /* of what is in this file */

struct fg_program;
struct fg_replay;

/* A replay, or the replay of a loop's or branch's body, as native code sees it. */
typedef struct {
    const struct fg_program *program;
    struct fg_replay *replay;
    void **address;             /* of the inputs and then of the outputs */
    char *arena;
} fg_frame;

enum { FG_ROWS_sum, FG_ROWS_max, FG_ROWS_min, FG_ROWS_softmax, FG_ROWS_log_softmax, FG_ROWS_logsumexp, FG_N_ROWS };
typedef void fg_rows_function(int64_t rows, int64_t n, const void *x, void *y);

/* What native code calls. Functions return a status, 0 if all is well; another one ends the replay. */
typedef struct {
    /* Before the first run_step, and when addresses of inputs or outputs have changed: tells it these, but for those of
     * the inputs before input `from`. */
    void (*bind)(const fg_frame *, int from);
    int (*run_step)(const fg_frame *, int k);       /* step k, with its group */
    int (*in_step)(int status, int64_t step);       /* of a failure: tells the step of the loop, too; the status */
    void (*enter)(const fg_frame *, int k, int i, fg_frame *body);  /* of step k: the frame of its body i */
    int (*outside)(const char *name, int64_t index, int64_t at, int64_t length);    /* fg_index_outside */
    int (*bad_matrix)(const char *message);     /* of a matrix that is refused: the status */
    int (*pause)(void);         /* to be called by loops about every millisecond: signals, and other threads */
    const void *(*constant)(const fg_frame *, int v);       /* the elements of buffer v */
    /* Kernels of float32 and float64: y[rows], or of softmax and log_softmax y[rows][n], from x[rows][n]; y[cols] from
     * x[n][cols]; and of the softmax family gx from y (of logsumexp: x) and g. */
    fg_rows_function *rows[FG_N_ROWS][2];
    fg_rows_function *cols[FG_ROWS_min + 1][2];
    /* y[cols] joined with that of x[n][cols], or begun with it unless go_on, in the parts that kernels.def tells; rows
     * of x are ld elements apart */
    void (*part[FG_ROWS_min + 1][2])(int go_on, int64_t n, int64_t cols, int64_t ld, const void *x, void *y);
    void (*rows_adjoint[FG_N_ROWS][2])(int64_t rows, int64_t n, const void *y, const void *g, void *gx);
    void (*gemm[2])(int ta, int tb, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                    int64_t ldb, int beta, void *c, int64_t ldc);       /* as in kernels.def */
    void (*narrow[2])(int64_t n, int64_t k, const void *x, int64_t x_step, const void *b, int64_t ldb, int beta,
                      void *y, int64_t y_step);
    void (*extremum_adjoint[2])(int64_t rows, int64_t n, const void *x, const void *y, const void *g, void *gx);
} fg_services;

/* Returns a status (fg_status in fastgrad.h). */
typedef int fg_native_function(const fg_frame *, const fg_services *);

#endif
