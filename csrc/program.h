/* program.h: tracing a function, compiling the trace to a program, replaying the program.
 *
 * Between fg_trace_begin and fg_trace_end every operation that depends on a declared input appends an instruction to
 * the trace, in execution order. It does not run: its result is abstract (fg_storage), so that tracing needs no memory
 * for intermediates, and no value decides what is in the trace. Operations on constants alone simply run. The backward
 * pass is made of the same operations, so a traced gradient is an ordinary program. Traces nest: an operation belongs
 * to the innermost trace on whose inputs it depends, and values of the outer ones are constants there.
 * fg_program_compile removes what no output needs, merges what is computed twice, fuses elementwise operations, and
 * plans one arena for all intermediates. fg_replay_run runs the result.
 */
#ifndef FG_PROGRAM_H
#define FG_PROGRAM_H

#include "fastgrad.h"
#include "native.h"

typedef struct fg_program fg_program;

/* ---- record/trace.c ------------------------------------------------------------------------------------- */
/* What is traced: a program; or bare instructions, which the caller evaluates in another way: of a function that is
 * mapped over a batch, or of the body of a loop or branch. Then fg_trace_end_instructions ends the trace. */
typedef enum { FG_NOTHING, FG_PROGRAM, FG_MAPPED, FG_BODY } fg_trace_kind;
/* Begins a trace in this thread. Once it has ended, operations refuse values that depend on its inputs. */
int fg_trace_begin(fg_trace_kind);
int fg_trace_input(fg_array *);                 /* a new abstract array as the next input of the program */
/* The same of an array on foreign memory, which the program does not copy: each replay is given that memory. The
 * function's own operations on it alone run while tracing, on the elements that it has then. After fg_trace_end the
 * caller clears `live`, and sets `externally_mutable` if others may write to it. */
int fg_trace_live_input(fg_array *);
int fg_program_reads(const fg_program *, int v);        /* before it is compiled: does anything read input v? */
/* Ends the trace, also when it fails. The last n_gradients outputs are gradients by as many first inputs, the
 * parameters of a training step. They and all outputs without axes are kept: they stay in the replay's arena, and its
 * address array says where. The program must be compiled before anything else is done with it. */
int fg_trace_end(int n_out, fg_array *const *out, int n_gradients, fg_program **);
int fg_trace_end_instructions(fg_program **);   /* ends the trace, also when it fails; nothing is compiled */
void fg_trace_abort(void);
/* Mark this trace as the body of a loop: input first + k is carried by output k, for k < n, and may share its memory,
 * where fg_program_in_place says so, unless stack_carry: then the loop stacks the carried values of all its
 * iterations. */
int fg_trace_body(int first, int n, int stack_carry);
/* From now on the innermost trace of this thread also takes operations that put few constant elements among many zeros
 * (untake, unslice), so that the program does not hold the zeros; or not, if not on. Returns what held before. */
int fg_trace_defer_zeros(int on);

fg_trace_kind fg_trace_here(void);              /* the kind of this thread's innermost trace */
int fg_transforming(void);                      /* whether this thread is inside of a transform or traces a function */
uint32_t fg_trace_number(void);                 /* its number, 0 if there is none */
int fg_trace_count(int op);                     /* how many instructions of all of this thread's traces are that one */
int fg_trace_is_program(void);                  /* is any trace of this thread of kind FG_PROGRAM or FG_BODY? */
int fg_trace_compiles(void);                    /* is any of kind FG_PROGRAM? */
int fg_trace_outside(const fg_array *);         /* does this thread trace, and was the array made before that? */
int fg_trace_outside_node(const fg_node *);     /* the same of a node */
/* Does it depend on an input of a trace, in whatever thread, under way or ended? */
static inline int fg_traced(const fg_array *x) { return x->storage == FG_ABSTRACT; }
int fg_trace_is_abstract(const fg_call *);      /* is the result of this call abstract? asked while fg_tracing */
int fg_trace_check_leaked(const fg_array *);    /* FG_OK, unless it depended on an input of a trace that has ended */
int fg_trace_append(const fg_call *, fg_array *y);      /* called by every operation while fg_tracing */

/* Bare instructions. `tracked` says of each operand whether a transform from outside the trace tracks it: whether it
 * had a node that leads to one from before the trace. Constants of the trace keep such nodes. */
typedef struct {
    int op, y, n_in, n_attr;
    const int *in;              /* values; -1: a missing operand */
    const char *tracked;
    const int64_t *attr;
} fg_instruction;
typedef struct { int n_values, n_instructions; } fg_instructions_size;
int fg_trace_value(const fg_array *);   /* its number, if it depends on an input of the innermost trace; else -1 */
/* The value of x in the innermost trace on whose inputs it depends, and that trace, borrowed; NULL and -1 if this
 * thread has none. */
int fg_trace_find(const fg_array *x, fg_program **);
uint32_t fg_trace_number_of(const fg_program *);        /* what fg_trace_number is while it is the innermost */
/* Does the innermost trace on whose inputs any of these depends keep bare instructions? */
int fg_trace_keeps_instructions(int n_in, const fg_tensor *in);
int fg_trace_tracked(fg_tensor);                /* do transforms from outside the innermost trace track it? */
fg_instructions_size fg_instructions_count(const fg_program *);
fg_instruction fg_instructions_get(const fg_program *, int i);
fg_tensor fg_instructions_constant(const fg_program *, int v);     /* borrowed; array NULL: depends on an input */

/* ---- record/ir.c ---------------------------------------------------------------------------------------- */
fg_program *fg_program_ref(fg_program *);
void fg_program_free(fg_program *);             /* drops a reference; at the last one, no replay of it may be taken */
/* Do both compute the same from the same constants? */
int fg_program_equal(const fg_program *, const fg_program *);

/* ---- program/compile.c ---------------------------------------------------------------------------------- */
int fg_program_compile(fg_program *);           /* if this fails, the program can only be freed */

/* ---- program/bind.c, replay.c and native_services.c: to run a program, take a replay, fill in the addresses, run it,
 * read the kept outputs, and give it back ----------------------------------------------------------------------- */
typedef struct fg_replay fg_replay;
fg_replay *fg_replay_take(fg_program *);        /* one that nobody else has; NULL: no memory */
void fg_replay_give(fg_program *, fg_replay *);
/* Free the memory of the replays that nobody has taken, and of the bodies' replays; the next ones are made anew. */
void fg_replays_free(fg_program *);
/* The addresses of the inputs and then of the outputs, for the caller to set: contiguous memory. Those of kept outputs
 * are set already. */
void **fg_replay_address(fg_replay *);
void **fg_replay_owner(fg_replay *);            /* as many pointers for the caller's use, NULL at first */
/* Touches nothing but the replay, so that it needs no lock, unless the program `allocates` (fg_program_describe). */
int fg_replay_run(const fg_program *, fg_replay *);
/* The same where the addresses of the inputs before input `from` are those of the last run. */
int fg_replay_run_again(const fg_program *, fg_replay *, int from);
/* From now on replays of this program, which is no body, are runs of this function instead (native.h); NULL: of its
 * steps again. A replay under way goes on as it began. */
void fg_program_set_native(fg_program *, fg_native_function *);
/* Memory for input i that lives as long as the replay, set as its address; NULL: no memory. */
void *fg_replay_own_input(const fg_program *, fg_replay *, int i);

/* ---- program/training.c: for a program whose first n_gradients inputs are parameters, whose first output is the loss,
 * and whose last outputs are the gradients (fg_trace_end) ------------------------------------------------------ */
/* What is done to the gradients of a step before they are used. They are multiplied by `scale`, which makes a mean of
 * what has been summed over ranks. Then nothing; elements are brought into [-limit, limit]; or gradients are scaled so
 * that the root of the sum of their squares is at most limit, of all together or of each. */
typedef enum { FG_CLIP_NOTHING, FG_CLIP_VALUE, FG_CLIP_NORM, FG_CLIP_EACH_NORM } fg_clip_kind;
typedef struct {
    fg_clip_kind kind;
    double limit, scale;
} fg_clip;
/* The updates of the parameters at one step. */
typedef struct {
    const fg_update_rule *rule;
    const int *rule_of;         /* for each parameter which rule, or NULL: all by the first */
    fg_clip clip;
} fg_updates;

/* ---- program/row_sparse.c ------------------------------------------------------------------------------- */
/* A gradient that is kept as rows: n of `width` elements, their numbers, which ascend, and their values. Any other row
 * is 0. A panel has room for panel_rows rows of the whole gradient. */
typedef struct {
    int64_t n, width, panel_rows;
    const int64_t *row;
    char *values, *panel;
} fg_row_sums;
/* Add up the terms of a gradient of this shape, in memory that *values begins, for the caller to free. */
int fg_row_terms_sum(const fg_row_terms *, const fg_shape *, int dtype, fg_row_sums *);
/* A copy of gradient i of a replay that has run, in such memory, if it is kept as rows; else *values is NULL. */
int fg_replay_gradient_rows(const fg_program *, fg_replay *, int i, fg_row_sums *);
/* Fill the panel with rows from..from+n-1 of the whole gradient. */
void fg_row_sums_spread(const fg_row_sums *, size_t itemsize, int64_t from, int64_t n);
/* Write the whole gradient, of `size` elements. */
void fg_row_sums_write(const fg_row_sums *, size_t itemsize, int64_t size, void *to);

/* ---- program/training.c again --------------------------------------------------------------------------- */
/* One parameter of a step in which the gradients are arrays. */
typedef struct {
    int dtype, ndim;
    const int64_t *dim;
    int64_t n;                  /* elements */
    void *p;
    const void *g;
    void *state[FG_MAX_STATES];         /* or NULL */
    const fg_row_sums *rows;            /* the gradient in the place of g, or NULL */
} fg_parameter;
/* Change parameters and state in place, if there is memory for what that needs. */
int fg_update(const fg_updates *, int n, const fg_parameter *);
/* Run, and then update the parameters in place. If `checked`, only if the loss and all gradients are finite: *bad is
 * the number of the first gradient that is not, n_gradients if only the loss is not, -1 if all are. state:
 * FG_MAX_STATES arrays, or NULL, for each parameter. */
int fg_replay_train(const fg_program *, fg_replay *, const fg_updates *, void *const *state, int checked, int *bad);
double fg_replay_loss(const fg_program *, fg_replay *);
/* A copy of gradient i. A large one may not be in the arena as a whole: it is computed while its parameter changes. */
void fg_replay_gradient(const fg_program *, fg_replay *, int i, void *to);
/* Before a step, under the caller's lock: copies an input of such a gradient that shares memory with a parameter. */
int fg_replay_copy_aliased(const fg_program *, fg_replay *);
/* y[i] = x[row[i]]; dim and stride, in elements, are those of x, y is contiguous. */
void fg_gather_rows(int ndim, const int64_t *dim, const int64_t *stride, size_t itemsize, int64_t n, const int64_t *row,
                    const void *x, void *y);

/* ---- program/control_flow.c ----------------------------------------------------------------------------- */
/* At which byte of the result of scan, while_loop or cond its result k begins. A scan that stacks what it carries has,
 * after the outputs of the body, a stack of each value as it came into the steps, and one of each as it went out. */
int64_t fg_control_flow_offset(int op, const int64_t *attr, int k);

/* ---- program/describe.c --------------------------------------------------------------------------------- */
typedef struct {
    int n_in, n_out;
    int n_instructions;         /* steps of a replay ... */
    int n_traced;               /* ... and instructions of the trace */
    int64_t arena_bytes;        /* what the intermediates need together at most */
    int64_t separate_bytes;     /* what they would need if each had memory of its own */
    int64_t constant_bytes;     /* what its constants take, without those on frozen memory of the caller's */
    int allocates;              /* it must run under the caller's lock */
    double work;                /* an estimate of a replay's nanoseconds */
} fg_program_facts;
fg_program_facts fg_program_describe(const fg_program *);
fg_shape *fg_program_input_shape(const fg_program *, int i);
int fg_program_input_dtype(const fg_program *, int i);
fg_shape *fg_program_output_shape(const fg_program *, int i);
int fg_program_output_dtype(const fg_program *, int i);
int fg_program_keeps(const fg_program *, int i);    /* is output i kept in the arena? */
int fg_program_in_place(const fg_program *, int input);     /* of a body: does this input share its output's memory? */
/* A line about step i: "%7 = add %3 %5 (64, 10) float32"; returns the length it has or would have. */
int fg_program_line(const fg_program *, int i, char *text, int size);
/* Its parts: the operation's name (the same of the length), and dtype and shape of the result. */
int fg_program_name(const fg_program *, int i, char *text, int size);
int fg_program_result_dtype(const fg_program *, int i);
fg_shape *fg_program_result_shape(const fg_program *, int i);
/* The value whose memory operand k of step i is, or with k = -1 its result; -1: a missing one. Inputs have the first
 * numbers. */
int fg_program_operand(const fg_program *, int i, int k);
int fg_program_operand_count(const fg_program *, int i);
int fg_program_output(const fg_program *, int i);   /* the value whose memory output i is */
/* The i-th generator's state that a replay advances, borrowed; NULL after the last. */
fg_array *fg_program_rng_state(const fg_program *, int i);
/* The programs that step i runs, borrowed; NULL after the last. */
fg_program *fg_program_body(const fg_program *, int i, int k);
const char *fg_program_gradient(const fg_program *, int i);     /* how gradient i is kept, such as "row-sparse" */
int fg_program_group(const fg_program *, int i);    /* how many steps from i on are fused; 1: alone */

/* What native code is written from: all that is known of a buffer, and of a step. */
typedef struct {
    int dtype, root;
    fg_shape *shape;            /* NULL: no buffer has this number */
    int64_t shift;              /* where in the root's memory it begins, in bytes */
    int output;                 /* of a root: the output whose memory it is, or -1 */
    int kept;                   /* of a root: it is read after the replay, from the arena */
    int padded;                 /* of a root: there are zeros around it */
    int blockwise;              /* exists within one fused group only */
    int64_t period;             /* of a row repeated: its length; else 0 */
    int64_t offset;             /* of a root: in the arena, or -1 */
    const void *data;           /* of a constant, whose elements never change; else NULL */
} fg_buffer_facts;
typedef struct {
    int op, y, n_in, n_attr, group;
    int late;                   /* it runs after the replay (training.c) */
    const int *in;              /* buffers; -1: a missing operand */
    const int64_t *attr;
} fg_step_facts;
int fg_program_buffer_count(const fg_program *);
fg_buffer_facts fg_program_buffer(const fg_program *, int v);
fg_step_facts fg_program_step(const fg_program *, int i);
int fg_program_out(const fg_program *, int i);      /* the buffer that output i is */

#endif
