/* program.h: recording operations and replaying them.
 *
 * Between fg_trace_begin and fg_trace_end every operation that depends on a declared input is noted, in order, by what it
 * is called with. It does not run: its result is abstract (fastgrad.h), so that recording needs no memory for
 * intermediates, and no value decides what is recorded. Operations on constants alone run as ever. The backward pass is made of the
 * same operations, so a recorded gradient is an ordinary program. Recordings nest: an operation is noted in the
 * innermost whose inputs it depends on, and values of the outer ones are constants there. fg_trace_end drops what no
 * output needs, merges what is computed twice, fuses runs of elementwise operations, and gives every intermediate a
 * place in one arena. fg_replay_run then does the whole of it.
 */
#ifndef FG_PROGRAM_H
#define FG_PROGRAM_H

#include "fastgrad.h"

typedef struct fg_program fg_program;

/* What is recorded: a program, or bare instructions, to be carried out in another way and ended by fg_trace_end_instructions: of a
 * function that is mapped, or of the body of a loop or branch. */
typedef enum { FG_NOTHING, FG_PROGRAM, FG_MAPPED, FG_BODY } fg_trace_kind;
/* In this thread. Values that depend on its inputs are not to be used when it has ended, which operations refuse. */
int fg_trace_begin(fg_trace_kind);
int fg_trace_input(fg_array *);                 /* the next input of the program: an abstract array that is new */
/* Ends the recording, also when it fails. Of the outputs the last n_kept, and all without axes, are kept: they stay in
 * the replay's memory, where its address array tells. */
int fg_trace_end(int n_out, fg_array *const *out, int n_kept, fg_program **);
void fg_trace_abort(void);
fg_trace_kind fg_trace_here(void);                /* by the innermost recording of this thread */
/* The recording under way is that of a body: its outputs are all written where they are wanted, and output k may lie in
 * the memory of input first + k, for each of the n that are carried, if fg_program_in_place says so; not if apart. */
int fg_trace_body(int first, int n, int stack_carry);
int fg_program_in_place(const fg_program *, int input);
/* From now on, in this thread's recording, or no longer: operations that put few elements among many zeros are noted also
 * where they are given constants, so that the many are not held by the program. */
int fg_trace_spreading(int on);
int fg_trace_is_program(void);                    /* is any recording of it other than of a function that is mapped? */
int fg_trace_compiles(void);                    /* is any of it an FG_PROGRAM? */
uint32_t fg_trace_number(void);                 /* of the recording of this thread, 0 if there is none */
int fg_trace_outside(const fg_array *);         /* is this thread recording, and was the array made before? */
int fg_trace_outside_node(const fg_node *);     /* the same of a node */
/* Does it depend on an input of a recording, in whatever thread, under way or ended? */
static inline int fg_traced(const fg_array *x) { return x->storage == FG_ABSTRACT; }
int fg_trace_is_abstract(const fg_call *);      /* is the result of this call abstract? asked while fg_tracing */
int fg_trace_goes_on(const fg_array *);         /* FG_OK, unless it depended on an input of one that has ended */
int fg_trace_append(const fg_call *, fg_array *y);    /* called by every operation while fg_tracing */
/* How many recordings are under way in all threads, and how many abstract arrays there are: 0 mostly. */
extern int fg_tracing;

fg_program *fg_program_ref(fg_program *);
void fg_program_free(fg_program *);             /* if nobody else refers to it; no replay of it is taken */

/* A run of a program goes: take, fill in the addresses, run, read what is kept, give back. */
typedef struct fg_replay fg_replay;
fg_replay *fg_replay_take(fg_program *);        /* one that nobody else has; NULL: no memory */
void fg_replay_give(fg_program *, fg_replay *);
/* Of the inputs, then of the outputs: contiguous memory for those that are not kept. */
void **fg_replay_address(fg_replay *);
void **fg_replay_owner(fg_replay *);            /* for the caller's use, as many and NULL at first */
/* Touches nothing but the replay, so that it needs no lock, unless the program `allocates` (fg_program_describe). */
int fg_replay_run(const fg_program *, fg_replay *);
int fg_replay_run_again(const fg_program *, fg_replay *, int from);     /* only inputs from this one on have moved */
/* Memory for input i that lives as long as the replay, set as its address; NULL: no memory. */
void *fg_replay_own_input(const fg_program *, fg_replay *, int i);

/* ---- training.c: of a program whose first inputs are parameters, first output the loss, kept outputs the gradients -- */
typedef struct {                /* an optimizer's numbers at one step; what they mean is in kernels.h */
    double rate, weight_decay;
    int adam;                   /* which of the following count */
    double momentum, dampening;
    int nesterov, first;
    double beta1, beta2, eps, correction1, correction2;
    int decoupled;
} fg_update_rule;
/* Change n elements of a parameter along its gradient, and of its state: two arrays, or NULL. */
void fg_update(const fg_update_rule *, int dtype, int64_t n, void *p, const void *g, void *s0, void *s1);
/* Run, and then update the parameters in place, unless `checked` finds something not finite: *bad is that gradient's
 * number, or how many there are if it is the loss alone, or -1. state: two arrays, or NULL, for each parameter. */
int fg_replay_train(const fg_program *, fg_replay *, const fg_update_rule *, void *const *state, int checked, int *bad);
double fg_replay_loss(const fg_program *, fg_replay *);
/* A copy of gradient i. Large ones are not in the replay's memory: they are computed while their parameters change. */
void fg_replay_gradient(const fg_program *, fg_replay *, int i, void *to);
/* Before a step, under the caller's lock: copies an input of such a gradient that shares memory with a parameter. */
int fg_replay_copy_aliased(const fg_program *, fg_replay *);
/* y[i] = x[row[i]], rows of so many bytes. */
void fg_gather_rows(int64_t row_bytes, int64_t n, const int64_t *row, const void *x, void *y);

/* ---- control_flow.c ------------------------------------------------------------------------------------------------------ */
/* Where in its block of bytes result k of scan, while_loop or cond lies. Of a scan that stacks what it carries, behind
 * the outputs of the body are a stack of each value as it came into the steps, and one of each as it went out. */
int64_t fg_control_flow_offset(int op, const int64_t *attr, int k);

/* The bare instructions, to be carried out in another way. An operand that outer transforms do not track (fg_tape_record) was a
 * constant to them; constants of the recording keep the nodes that those know. */
typedef struct {
    int op, y, n_in, n_attr;
    const int *in;              /* values; -1: a missing operand */
    const char *tracked;
    const int64_t *attr;
} fg_instruction;
typedef struct { int n_values, n_instructions; } fg_instructions_size;
int fg_trace_end_instructions(fg_program **);              /* ends the recording, also when it fails */
int fg_trace_value(const fg_array *);           /* number of a value that depends on the innermost's inputs; or -1 */
/* The number of x in the innermost recording on whose inputs it depends, and that recording, borrowed; NULL and -1 if
 * there is none in this thread. The number of a recording. */
int fg_trace_find(const fg_array *x, fg_program **);
uint32_t fg_trace_number_of(const fg_program *);
int fg_trace_keeps_instructions(int n_in, const fg_tensor *in);     /* does the innermost on whose inputs any depends take instructions? */
int fg_trace_tracked(fg_tensor);                /* do transforms from outside the innermost recording track it? */
fg_instructions_size fg_instructions_count(const fg_program *);
fg_instruction fg_instructions_get(const fg_program *, int i);
fg_tensor fg_instructions_constant(const fg_program *, int v);     /* borrowed; array NULL: depends on an input */

typedef struct {
    int n_in, n_out, n_instructions, n_traced;
    int64_t arena_bytes;        /* what the intermediates need together at most */
    int64_t separate_bytes;     /* what they would need if each had memory of its own */
    int64_t constant_bytes;     /* what its constants take, but for memory that is shared with read-only arrays */
    int allocates;              /* it must run under the caller's lock */
    double work;                /* an estimate of a replay's nanoseconds */
} fg_program_facts;
fg_program_facts fg_program_describe(const fg_program *);
fg_shape *fg_program_input_shape(const fg_program *, int i);
int fg_program_input_dtype(const fg_program *, int i);
fg_shape *fg_program_output_shape(const fg_program *, int i);
int fg_program_output_dtype(const fg_program *, int i);
int fg_program_keeps(const fg_program *, int i);    /* is output i kept? */
/* A line about instruction i: "%7 = add %3 %5 (64, 10) float32"; returns the length it has or would have. */
int fg_program_line(const fg_program *, int i, char *text, int size);
/* Whose memory operand k of instruction i is, or with k = -1 its result; -1: a missing one. Inputs have the first
 * numbers. */
int fg_program_operand(const fg_program *, int i, int k);
int fg_program_operand_count(const fg_program *, int i);
int fg_program_output(const fg_program *, int i);   /* whose memory output i is */
/* Do both compute the same from the same constants? */
int fg_program_equal(const fg_program *, const fg_program *);
/* The i-th generator's state that a replay advances, borrowed; NULL after the last. */
fg_array *fg_program_rng_state(const fg_program *, int i);
/* The programs that instruction i runs, borrowed; NULL after the last. */
fg_program *fg_program_body(const fg_program *, int i, int k);
int fg_program_group(const fg_program *, int i);    /* how many instructions from i on are fused; 1: alone */

#endif
