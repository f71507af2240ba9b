/* fastgrad.h: the C core's contract with its one caller, fastgrad/_core.pyx.
 *
 * An fg_array is a reference-counted value: dtype, shape, contiguous row-major data. An fg_node is one operation on the
 * tape: which one, the nodes of its inputs, and the values that its derivative names. An fg_tensor is the pair of both,
 * passed by value; node is NULL for a constant. Arrays never point to nodes, so a graph has no cycles and plain
 * reference counts free it as soon as it is unreachable. To record means to put on the tape, for derivatives; to trace,
 * to append to a program (program.h).
 *
 * Everything here runs under the caller's lock (the GIL); nothing is thread-safe by itself except the
 * switches that are thread-local, and replays of programs (program.h). Functions return FG_OK or a status with the
 * reason in fg_message(). An `out` argument receives a new reference; inputs are borrowed.
 *
 * The wings of csrc, each of which includes and calls only those before it: core, kernels, record, program, ops,
 * autodiff, and op_table.c. The sections below are in this order. Mutable globals, beside those declared here: the pool
 * (memory.c), the threads that share work (threads.c), the BLAS (gemm_dispatch.c), LAPACK (lapack_dispatch.c) and the
 * name of the chosen kernels (isa_dispatch.c), the numbers of the last node (tape.c), trace (trace.c) and backward pass
 * (backward.c), and each thread's last error (context.c) and list of nodes about to be freed (tape.c).
 *
 * The core needs neither Python nor NumPy. A graph, its value and its gradient in C, step by step, with the checks of
 * every status: examples/core_alone.c. In short, without them:
 *
 *     fg_kernels_select(NULL), fg_init();                             once
 *     fg_tensor x = {array, fg_leaf(array)}, y, sum;                  a leaf: its gradient is accumulated
 *     fg_unary(FG_OP_tanh, x, &y);                                    computes, and records on the tape
 *     fg_apply(FG_OP_sum, 1, &y, 2, (int64_t[]){1, 0}, &sum);         over axis 0, which is dropped
 *     fg_backward(sum, (fg_tensor){fg_array_scalar(FG_FLOAT64, 1), NULL}, 0, 0);
 *     fg_leaf_grad(x.node).array->data;                               borrowed, as long as x is there
 *     fg_tensor_unref(sum), fg_tensor_unref(y), fg_tensor_unref(x);   each reference is given back once
 */
#ifndef FASTGRAD_H
#define FASTGRAD_H

#include <stdint.h>
#include "kernels.h"

#define FG_MAX_NDIM 32

/* clang-format off */
typedef enum {
    FG_RAISED = -1,         /* by one of the caller's functions, fg_on_*, which knows the reason */
    FG_OK, FG_NO_MEMORY, FG_BAD_VALUE, FG_BAD_TYPE, FG_BAD_INDEX, FG_BAD_TAPE, FG_NOT_IMPLEMENTED,
    FG_BAD_MATRIX,              /* not square, singular, not positive definite, or its decomposition failed */
    FG_SIDE_EFFECT              /* the function being traced would change something outside, now and in no replay */
} fg_status;

/* The floats come first: only they are differentiable, and their numbers index the kernel tables. */
typedef enum {
    FG_FLOAT32, FG_FLOAT64, FG_BOOL, FG_INT8, FG_INT16, FG_INT32, FG_INT64,
    FG_UINT8, FG_UINT16, FG_UINT32, FG_UINT64, FG_N_DTYPES
} fg_dtype;
/* clang-format on */
#define FG_IS_FLOAT(dtype) ((dtype) <= FG_FLOAT64)

/* ---- op numbers: the rows of ops.def, then those of structural.def ------------------------------------ */
enum {
#define UNARY(name, ...) FG_OP_##name,
#define UNARY_FN UNARY
#define BINARY UNARY
#define BINARY_FN UNARY
#define STRUCTURAL UNARY
#define KERNEL UNARY
#include "ops.def"
#include "structural.def"
#undef UNARY
#undef UNARY_FN
#undef BINARY
#undef BINARY_FN
#undef STRUCTURAL
#undef KERNEL
    FG_OP_leaf,             /* not operations: the node of a tensor made with requires_grad ... */
    FG_OP_custom,           /* ... and one whose derivative the caller knows (custom.c) */
    FG_N_OPS
};
#define FG_N_ELEMENTWISE (FG_N_UNARY + FG_N_BINARY)
/* ORDER: a comparison's kernel is chosen by its number, so that structural.def and kernels.h have one order. */
_Static_assert(FG_OP_less_equal - FG_OP_less == FG_LESS_EQUAL && FG_OP_greater - FG_OP_less == FG_GREATER &&
               FG_OP_greater_equal - FG_OP_less == FG_GREATER_EQUAL && FG_OP_equal - FG_OP_less == FG_EQUAL &&
               FG_OP_not_equal - FG_OP_less == FG_NOT_EQUAL && FG_LESS == 0, "two orders of the comparisons");
/* The flags of a row of structural.def. */
enum {
    FG_NO_FLAGS = 0,
    FG_IS_VIEW = 1,             /* the result shares the memory of the one input, so that there is nothing to run */
    FG_IS_DISTINCT = 2,         /* common subexpression elimination must not merge it with an equal one */
    FG_RULE_IN_PYTHON = 4,      /* a pass that is recorded takes the rule of fastgrad/_rules; the vjp in C is a kernel,
                                 * or calls that rule, too */
    FG_ALLOCATES = 8,           /* run takes memory from the pool, so that it needs the caller's lock ... */
    FG_ALLOCATES_BY_AXES = 16,  /* ... or does so where the axes, attr[0] as bits, are not neighbours */
    FG_DRAWS = 32,              /* each run gives other numbers, and advances the state that is its input */
    FG_BY_HOST = FG_ALLOCATES | 64,     /* run calls back the caller, which does the work */
    FG_IS_CUBIC = 128,          /* takes time in proportion to its elements times the length of a row */
    FG_BODIES_SHIFT = 8         /* the bits from here on: how many of the first attributes are programs, the bodies */
};
#define FG_BODIES(n) ((n) << FG_BODIES_SHIFT)
/* The number of the operation g * d op / d input i, for an elementwise op. Its inputs are x, y, g or a, b, y, g; those
 * that the derivative does not name may be missing (array NULL). */
#define FG_VJP(op, i) (FG_N_OPS + 2 * (op) + (i))

/* ---- values ------------------------------------------------------------------------------------------- */
typedef struct {
    int32_t refs, ndim;
    int64_t size;
    int64_t dim[];
} fg_shape;

/* An abstract array has a dtype and a shape but no elements: it stands for the values that an input of a trace, or what
 * is computed from it, will have at each replay (record/trace.c). Its data is NULL, and no kernel reads it. */
typedef enum { FG_OWNED, FG_VIEW, FG_FOREIGN, FG_ABSTRACT } fg_storage;

typedef struct fg_array {
    int32_t refs;
    uint8_t dtype, storage;
    uint8_t readonly;       /* its memory must not be written by us */
    uint8_t externally_mutable;     /* others may write its memory: the tape saves a copy of it */
    uint8_t is_rng_state;   /* a generator's state: draws advance it, so a program keeps the array, not its elements */
    uint8_t frozen;         /* foreign memory that nobody writes: programs share it */
    uint8_t live;           /* foreign memory that is an input of a program being traced: each replay reads it anew */
    uint8_t weak;           /* stands for a Python number, in a trace or as a loop's counter: takes on others' dtype */
    uint32_t version;       /* counts in-place changes; kept by the array that is not a view */
    uint32_t tape_refs;     /* how many of refs are held by nodes that saved this array ... */
    uint32_t exports;       /* ... and how many by the caller's views of it, such as ndarrays */
    int32_t trace;          /* the number of its value in a trace (trace.c), negative for a constant; 0: none ... */
#define FG_TRACE_ENDED INT32_MAX    /* ... or this: it was an input, or depended on one, of a trace that has ended */
    uint32_t traced_in;     /* the number of the trace during which it was made, or 0 */
    fg_shape *shape;
    void *data;
    void *owner;            /* FG_VIEW: the fg_array whose memory it has; FG_FOREIGN: a handle for fg_on_release */
} fg_array;

typedef struct fg_node fg_node;
typedef struct { fg_array *array; fg_node *node; } fg_tensor;

typedef struct {
    fg_node *parent;        /* NULL: a constant */
    fg_array *saved;        /* the input's value, if the derivative names it */
    uint32_t version;
} fg_edge;

struct fg_node {
    int32_t refs;
    uint16_t op;
    uint8_t dtype;          /* of the result */
    uint8_t spent : 1;      /* consumed by an earlier backward pass; of a leaf: no tensor is left to read its .grad */
    uint8_t fixed : 1;      /* the argument of a transform, which no in-place change may replace */
    uint8_t end : 1;        /* the running backward pass ends here */
    uint16_t pass;          /* number of the backward pass that visits this node, or 0 */
    int32_t n_in, n_attr;
    uint32_t version;       /* of saved */
    uint64_t number;        /* in order of creation: a node's inputs have smaller ones */
    uint64_t oldest_ancestor;   /* number of the oldest node it was computed from, which tells whether it depends on
                                   anything older than a given node */
    fg_shape *shape;        /* of the result */
    fg_array *saved;        /* the result, if the derivative names it; of a leaf: its .grad (fg_leaf_grad) */
    fg_tensor grad;         /* the cotangent accumulated so far by a running backward pass */
    fg_node *next;          /* in a list of nodes about to be freed */
    int64_t *attr;          /* after the edges in the same block */
    fg_edge in[];
};

/* What an operation is called with, as its shape rule and its kernel see it. */
typedef struct {
    int op, n_in, n_attr;
    const fg_tensor *in;
    const int64_t *attr;
    struct fg_replay **replay;  /* of a loop or branch in a program: the replays of its bodies; else NULL */
} fg_call;

typedef struct {
    const char *name;
    int n_in;                                                    /* -1: any number */
    int (*shape)(const fg_call *, fg_shape **, int *dtype);
    int (*run)(const fg_call *, fg_array *y);                    /* fills y; a view has its elements already */
    int (*vjp)(fg_node *, fg_tensor g, fg_tensor *gin);          /* fills gin[i] where in[i].parent is set */
    uint8_t needs[3];       /* what the vjp of input i reads: bits FG_IN(k) and FG_OUT; [2] serves i >= 2 */
    int (*recorded_vjp)(fg_node *, fg_tensor g, fg_tensor *gin); /* vjp made of differentiable operations */
    uint16_t flags;         /* of its row of structural.def: FG_IS_VIEW ...; of an elementwise operation 0 */
    int8_t unit[2];         /* of an elementwise one: 1 or -1 where the derivative by input i is that number; else 0 */
    int (*run_vjp)(const fg_call *, fg_array *gx);               /* of an elementwise one: the run of FG_VJP(op, i) */
} fg_op_info;
/* A shape rule that operations share: the result is like the first input. FG_SHAPE_RULE makes such a rule that of an
 * operation. */
int fg_same_shape(const fg_call *, fg_shape **, int *dtype);
#define FG_SHAPE_RULE(name, rule)                                                                             \
    int fg_##name##_shape(const fg_call *c, fg_shape **shape, int *dtype) { return rule(c, shape, dtype); }
/* The vjp by the rule in Python, for each input: the rule returns the shape that the operands broadcast to. */
int fg_vjp_by_rule(fg_node *, fg_tensor g, fg_tensor *gin);
/* The run of an operation with FG_IS_VIEW. */
#define FG_NOTHING_TO_RUN(name)                                                                               \
    int fg_##name##_run(const fg_call *c, fg_array *y) { return (void)c, (void)y, FG_OK; }
#define FG_SAVED_INPUTS 4       /* as many first inputs can be saved */
#define FG_IN(k) (1 << (k))
#define FG_OUT FG_IN(FG_SAVED_INPUTS)

typedef struct {
    const char *name, *definition, *derivative[2], *doc;
    int arity;
    double lo[2], hi[2];
} fg_op_text;               /* a row of ops.def as text */

extern fg_op_info fg_ops[FG_N_OPS];
static inline unsigned fg_flags(int op) { return op < FG_N_OPS ? fg_ops[op].flags : 0; }   /* op may be an FG_VJP */
extern const fg_op_text fg_texts[FG_N_ELEMENTWISE];

/* The run of any operation or FG_VJP: fills y, which has the shape and dtype of the result, from call->in. */
static inline int (*fg_run_of(int op))(const fg_call *, fg_array *y)
{
    return op < FG_N_OPS ? fg_ops[op].run : fg_ops[(op - FG_N_OPS) / 2].run_vjp;
}

/* ---- core/context.c: the state of each thread, callbacks, the last error -------------------------------- */
/* In one block, because finding a thread's state costs as much as the work of a scalar. */
typedef struct {
    int grad_enabled;           /* operations are recorded on the tape; in a backward pass: so is the pass */
    int64_t transform;          /* the number of the innermost transform under way, such as grad; or 0 */
    struct fg_program *trace;   /* the innermost trace of this thread, or NULL */
    uint32_t trace_number;      /* its number, or 0 */
    int in_pass;                /* a pass over the tape is under way, or an evaluation of instructions: then operations
                                   on live memory alone are traced, too */
} fg_thread_state;
extern _Thread_local fg_thread_state fg_thread;
#define fg_grad_enabled fg_thread.grad_enabled
#define fg_transform fg_thread.transform
#define fg_in_pass fg_thread.in_pass
/* How many traces are under way in all threads, plus how many abstract arrays there are. Mostly 0, so that eager
 * operations need to look at nothing else. */
extern int fg_tracing;

int fg_fail(fg_status status, const char *format, ...)      /* returns status */
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;
/* Fails with FG_BAD_INDEX. name: of the operation, as the user knows it; at: the position of the index in its array, or
 * -1 to leave it out of the message. */
int fg_index_outside(const char *name, int64_t index, int64_t at, int64_t length);
const char *fg_message(void);
int fg_failed(void);            /* the status of this thread's last failure: what a NULL result means */

/* The callbacks, which the caller sets. */
/* The last array on foreign memory, or the node of a custom rule, is freed: the caller drops its reference. */
extern void (*fg_on_release)(void *owner);
/* Called by loops about every millisecond, if it is set: the caller handles signals and lets other threads run, also
 * where it holds its lock. FG_OK, or FG_RAISED to end the loop. */
extern int (*fg_on_pause)(void);
/* Called, if it is set, where an operation casts an operand to the float64 of the other. FG_OK or FG_RAISED. */
extern int (*fg_on_promotion)(const fg_array *narrow, const fg_array *wide);
/* The vjp composed of operations, for a recorded pass, or where no kernel computes it: gx = g times the derivative of
 * the node by its input i. FG_OK or FG_RAISED. */
extern int (*fg_on_rule)(fg_node *, int i, fg_tensor g, fg_tensor *gx);
/* The vjp by the rule of a custom function, recorded or not: fills gin, as fg_op_info.vjp. FG_OK or FG_RAISED. */
extern int (*fg_on_custom)(void *rule, fg_node *, fg_tensor g, fg_tensor *gin);
/* The run of the operations `numpy` and `host_elementwise`, by the caller under its lock, and the name of the function
 * that it calls. */
extern int (*fg_on_numpy)(const fg_call *, fg_array *y);
extern const char *(*fg_on_numpy_name)(int64_t which);
/* Called where an integer kernel refuses an element, or a float fits no integer: the caller computes all of y by NumPy,
 * which warns or raises, under its lock, which it takes if it does not hold it. FG_OK or FG_RAISED. */
extern int (*fg_on_refused)(const fg_call *, fg_array *y);

/* ---- core/memory.c: a pool of size classes -------------------------------------------------------------- */
void *fg_alloc(size_t bytes);
void fg_free(void *block, size_t bytes);
void *fg_alloc_lasting(size_t bytes);           /* from the system, not the pool: for memory that is kept for long */
void fg_free_lasting(void *block, size_t bytes);
void fg_pool_empty(void);       /* give the pool's free blocks back to the system */
void fg_memory_trim(void);      /* the same, and what the C library keeps of freed memory; takes milliseconds */
int64_t fg_pool_limit(void);    /* how many bytes of free blocks it keeps at most */
void fg_pool_set_limit(int64_t bytes);
typedef struct { int64_t arrays, nodes, bytes, cached_bytes; } fg_counts;   /* alive now */
extern fg_counts fg_live;

/* ---- core/threads.c: a pool of threads (docs/threads.md) ------------------------------------------------- */
enum { FG_MAX_THREADS = 256 };
int fg_threads_limit(void);     /* how many threads long work may have, the caller's included; 1 at first */
void fg_threads_set_limit(int n);
/* Runs work(context, 0) here, and work(context, i), i from 1 on and less than n, on those of n - 1 other threads that
 * are free; returns when all have returned: how many there were. Each takes one part of the work after another, until
 * none is left. */
typedef void fg_work(void *context, int i);
int fg_threads_run(int n, fg_work *, void *context);
typedef struct { _Atomic int64_t next; } fg_parts;      /* the number of the part that nobody has taken yet */
int64_t fg_claim(fg_parts *);   /* takes one: its number, which may be beyond the last */
/* work(context, from, to) for all of 0..n, in stretches of `part` elements, on as many threads as there may be. */
typedef void fg_range_work(void *context, int64_t from, int64_t to);
void fg_threads_range(int64_t n, int64_t part, fg_range_work *, void *context);
/* An operation on so many elements or more is shared, and a thread takes at least FG_SHARED_PART at a time: waking the
 * threads takes some microseconds. */
enum { FG_SHARED_FROM = 1 << 18, FG_SHARED_PART = 1 << 15 };
/* While a thread is in a library that has threads of its own, such as a BLAS, work stays on the thread that has it. */
void fg_threads_enter_library(void);
void fg_threads_leave_library(void);

/* ---- core/array.c --------------------------------------------------------------------------------------- */
size_t fg_itemsize(int dtype);
uint64_t fg_hash(size_t n, const void *bytes);              /* of n bytes, a multiple of 32 */
const char *fg_dtype_name(int dtype);
fg_shape *fg_shape_new(int ndim, const int64_t *dim);       /* NULL: no memory, or too large (fg_message) */
int fg_shape_made(fg_shape *, fg_shape **out);              /* sets *out; FG_OK, or for NULL why it failed */
fg_shape *fg_shape_ref(fg_shape *);
void fg_shape_unref(fg_shape *);
int fg_shape_equal(const fg_shape *, const fg_shape *);
const char *fg_shape_text(const fg_shape *, char *buffer);  /* "(2, 3)"; buffer of FG_SHAPE_TEXT chars */
#define FG_SHAPE_TEXT 128
fg_array *fg_array_new(fg_shape *, int dtype);              /* data not initialised */
fg_array *fg_array_scalar(int dtype, double value);         /* float dtypes */
fg_array *fg_array_integer(int64_t value);      /* an int64 */
fg_array *fg_array_foreign(fg_shape *, int dtype, void *data, void *owner, int readonly, int externally_mutable);
fg_array *fg_array_abstract(fg_shape *, int dtype);
fg_array *fg_array_view(fg_array *, fg_shape *);            /* the same elements in another shape */
fg_array *fg_array_copy(const fg_array *);
fg_array *fg_array_ref(fg_array *);
void fg_array_unref(fg_array *);                            /* NULL is allowed, as in all unref functions */
int fg_array_is_private(const fg_array *);  /* writable, no view, and held by one tensor, the tape and exports only */
int fg_array_is_sole(const fg_array *);     /* private, or the only view of an array that nobody else holds */
fg_array *fg_array_root(const fg_array *);  /* the array whose memory it has: itself unless it is a view */
uint32_t fg_array_version(const fg_array *);
void fg_array_changed(fg_array *);

/* ---- core/strided_copy.c --------------------------------------------------------------------------------- */
/* Copy a block of dim elements between two strided memories; strides in elements. */
void fg_copy_strided(int ndim, const int64_t *dim, size_t itemsize, void *y, const int64_t *y_stride,
                     const void *x, const int64_t *x_stride);

/* ---- kernels/integers.c ---------------------------------------------------------------------------------- */
/* The kernel of an operation on integers or booleans of a dtype; NULL: there is none. */
const fg_integer_kernel *fg_integer_kernel_of(int op, int dtype);
/* The kernel for one element of each operand, of an operation of integers.def, a comparison of floats or `where`; dtype
 * is that of the last operand; NULL: there is none. */
fg_loop *fg_single_kernel_of(int op, int dtype);
fg_where_kernel *fg_where_kernel_of(int dtype);             /* any dtype */
const fg_order_kernels *fg_order_kernels_of(int dtype);     /* any dtype */
/* Integers are added and multiplied in 64 bits, as NumPy does: others are cast before. */
static inline int fg_is_summed(int dtype) { return FG_IS_FLOAT(dtype) || dtype == FG_INT64 || dtype == FG_UINT64; }
/* As the members of fg_reduce_kernels, of int64 or uint64. */
fg_loop fg_integer_sum;
void fg_integer_sum_rows(int64_t rows, int64_t n, const void *x, void *y);
void fg_integer_sum_cols(int64_t n, int64_t cols, const void *x, void *y);
void fg_integer_cumsum(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x, void *y);
void fg_integer_cumprod(int64_t outer, int64_t n, int64_t inner, int reverse, const void *x, void *y);

/* ---- kernels/isa_dispatch.c, gemm_dispatch.c, lapack_dispatch.c ----------------------------------------- */
extern fg_kernel_set fg_kernels[2];         /* of float32 and float64 */
int fg_kernels_select(const char *isa);     /* NULL: the best this machine has */
const char *fg_isa(void);
const char *fg_isa_available(int i);        /* i-th usable set, best last; NULL after the last */
/* cblas_sgemm and cblas_dgemm as found in some BLAS; ilp64: whether its integers have 64 bits. */
void fg_set_blas(void *sgemm, void *dgemm, int ilp64);
/* The functions of lapack.def, by number and dtype, in Fortran's calling convention: as found in some library, or NULL.
 * Our kernels do the work of those that are missing. ilp64: whether their integers have 64 bits. */
enum {
#define LAPACK(name) FG_LAPACK_##name,
#include "lapack.def"
#undef LAPACK
    FG_N_LAPACK
};
void fg_set_lapack(int function, void *of_float32, void *of_float64, int ilp64);

/* ---- record/tape.c -------------------------------------------------------------------------------------- */
uint64_t fg_last_node_id(void);             /* number of the node made last */
fg_node *fg_leaf(fg_array *);
fg_node *fg_node_ref(fg_node *);
void fg_node_unref(fg_node *);
fg_tensor fg_tensor_ref(fg_tensor);
void fg_tensor_unref(fg_tensor);
/* The .grad of a leaf, borrowed. It may be recorded itself and so refer to the leaf: fg_leaf_abandon, to be called
 * when the leaf's one tensor is freed, undoes that cycle and prevents later passes from making another. */
fg_tensor fg_leaf_grad(const fg_node *leaf);
void fg_leaf_set_grad(fg_node *leaf, fg_tensor grad);       /* takes over the reference */
void fg_leaf_abandon(fg_node *leaf);
/* Record y = op(in...): fills y->node, or leaves it NULL when nothing needs a gradient. */
int fg_tape_record(const fg_call *, fg_tensor *y);
/* The saved value of input i, or of the result, borrowed; FG_BAD_TAPE if it has been changed in place since. */
int fg_saved(const fg_node *, int i, fg_tensor *x);
int fg_saved_out(fg_node *, fg_tensor *y);
void fg_node_spend(fg_node *);              /* release what the derivative needs: a pass has used it */

/* ---- ops: apply.c, inplace.c, elementwise_vjp.c, broadcast.c, reductions.c, matmul.c -------------------- */
int fg_apply(int op, int n_in, const fg_tensor *in, int n_attr, const int64_t *attr, fg_tensor *out);
int fg_unary(int op, fg_tensor x, fg_tensor *out);
int fg_binary(int op, fg_tensor a, fg_tensor b, fg_tensor *out);
int fg_binary_inplace(int op, fg_tensor *a, fg_tensor b);   /* a op= b; a's references are replaced */
int fg_changes_in_place(const fg_array *);  /* whether a change is made in its memory; else by a new array */
/* FG_BAD_TAPE where a change of `a` in place is refused; `instead` is code that does without one. */
int fg_may_change(const char *name, const char *instead, const fg_tensor *a);
/* The name that errors of linear algebra give to caller i, a number from 1 on that is the last attribute of operations
 * that several functions are made of; NULL beyond the last. */
const char *fg_caller_name(int64_t i);
int fg_derivative(int op, int i, fg_array *a, fg_array *b, fg_array **out);     /* d op / d input i */
fg_shape *fg_broadcast_shapes(const char *name, const fg_shape *, const fg_shape *);
int fg_sum_to(fg_tensor x, fg_shape *, fg_tensor *out);     /* the adjoint of broadcasting: sum over broadcast axes */
/* NumPy's matmul of two arrays of one float dtype, vectors and stacks of matrices among them, by the operation of that
 * name; and whether two shapes align for it: FG_OK, or an error that names the axes. */
int fg_matmul(fg_tensor a, fg_tensor b, fg_tensor *out);
int fg_matmul_check(const fg_shape *a, const fg_shape *b);
int fg_integer_run(const fg_call *, fg_array *y);            /* the run of any row of integers.def */
int fg_not_float(const char *name, const fg_array *);       /* fails: an operation is given that dtype */

/* ---- autodiff/backward.c -------------------------------------------------------------------------------- */
/* Run the backward pass from y, and add the cotangents of its leaves to their .grad. With create_graph the pass is
 * recorded, and retains the graph. */
int fg_backward(fg_tensor y, fg_tensor cotangent, int retain_graph, int create_graph);
/* The cotangents of the nodes wrt, where the pass ends, from those of all y; array NULL where none arrived. Cotangents
 * of other leaves, and of nodes older than all wrt, are discarded: outer transforms get them through the recorded
 * gradient. The graph is used up unless retain_graph or create_graph is set. */
int fg_gradients(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int create_graph, int n,
                 fg_node *const *wrt, fg_tensor *out);
/* What is left of a gradient that arises from gathers of rows alone: zeros to which `values` are to be added, at the
 * rows that `index` names, term by term. */
enum { FG_MAX_ROW_TERMS = 16 };
typedef struct { fg_array *values, *index; } fg_row_term;
typedef struct {
    int n;
    fg_row_term term[FG_MAX_ROW_TERMS];         /* references */
} fg_row_terms;
/* fg_gradients of a pass that is not recorded, which leaves gradients of few rows as their terms: where rows[i].n is
 * not 0, out[i] is NULL. The n rows begin empty. */
int fg_gradients_by_rows(int n_y, const fg_tensor *y, const fg_tensor *cotangent, int retain_graph, int n,
                         fg_node *const *wrt, fg_tensor *out, fg_row_terms *rows);
void fg_row_terms_drop(fg_row_terms *);         /* drops the references; empty from then on */
/* The nodes on paths from the nodes wrt to any y, oldest first; borrowed, in memory that the caller frees, also on
 * failure. */
int fg_tape_between(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, int64_t *count, fg_node ***out);
/* In the same way, the nodes older than all wrt on which some y depends other than through wrt; a node may occur
 * several times. */
int fg_tape_closed_over(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, int64_t *count, fg_node ***out);

/* ---- autodiff/custom.c ---------------------------------------------------------------------------------- */
/* Record the n_out float results y, however they were computed, as depending on the inputs by the caller's rule alone.
 * Several results are parts of one vector, of float64 if their dtypes differ, and the rule is one of that vector. The
 * rule is a handle that the node takes over, also if this fails: it is passed to fg_on_release when the node is freed
 * or a backward pass has used it. Fills y[i].node where an input has a node and operations are recorded. */
int fg_custom(int n_in, const fg_tensor *in, void *rule, int n_out, fg_tensor *y);
int fg_custom_vjp(fg_node *, fg_tensor g, fg_tensor *gin);

/* ---- op_table.c ------------------------------------------------------------------------------------------ */
void fg_init(void);                         /* fills fg_ops, once */

#endif
