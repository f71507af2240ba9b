/* ir.h: the intermediate representation of a program: values, and instructions that compute values from values.
 *
 * trace.c appends an instruction for each operation of a traced function. The list is in execution order, and every
 * value is computed once (static single assignment). The passes of program/compile.c rewrite the instructions, and
 * lower them to steps and buffers (program/steps.h), which a program owns beside its instructions.
 */
#ifndef FG_IR_H
#define FG_IR_H

#include "native.h"
#include "program.h"

typedef enum { INPUT, CONSTANT, RESULT } origin;

typedef struct {
    fg_array *array;            /* held while tracing and compiling; afterwards only if it is a constant */
    origin from;
    int numbered;               /* array->trace is the number of this value ... */
    int32_t outer_number;       /* ... and goes back to this one, of an outer trace or 0, when the trace ends */
    int next_same_array;        /* the next value of the same array, which has another node; 0: none */
    fg_node *node;              /* of a constant in a trace of instructions: by which outer transforms know it */
} value;

typedef struct {
    int op, n_in, n_attr, y;    /* y: the value it computes */
    int in;                     /* where its operands start in the list of operands; an operand -1 is missing */
    int attr;                   /* where its attributes start in the list of attributes */
} instruction;

typedef struct { int n, capacity; void *item; } list;

/* Whether a gradient of a training step is kept as rows (program/row_sparse.c), and if not, for what reason; FG_DENSE:
 * because the parameter is not read by gathers of rows. */
typedef enum { FG_DENSE, FG_ROW_SPARSE, FG_DENSE_OTHER_TERMS, FG_DENSE_READ, FG_DENSE_MANY_TERMS,
               FG_DENSE_MANY_ROWS } fg_gradient_form;

struct fg_program {
    int refs;                   /* a loop's instruction refers to its bodies, which are programs, too */

    /* ---- from tracing ---- */
    list values, instructions, operands, attrs;     /* of value, instruction, int, int64_t */
    list bodies;                /* of fg_program *: one reference for each time that an instruction names it */
    list tracked;               /* of char, in a trace of instructions: do outer transforms track this operand? */
    uint32_t number;            /* tells traces apart */
    fg_program *outer;          /* while tracing: the trace that is the innermost again when this one ends */
    fg_trace_kind what;
    int depth;                  /* how many traces are around it */
    int defers_zeros;           /* fg_trace_defer_zeros */
    uint64_t last_node_id;      /* of the tape when tracing began: nodes up to it belong to outer transforms */
    int status;                 /* of the first instruction that could not be appended: then ending the trace fails */
    int n_in, n_out;
    int n_gradients;            /* how many of the last outputs are gradients by the first inputs (training.c) */
    int *out;                   /* the value that each output is */
    int n_traced;               /* instructions before any pass */
    int body;                   /* it is the body of a loop or branch: of its outputs, small ones alone are kept */
    int first_carried, n_carried;   /* of a body: output k may share the memory of input first_carried + k ... */
    int stack_carry;            /* ... unless the loop stacks the carried values of all its iterations */

    /* ---- from compiling ---- */
    fg_gradient_form *form;     /* of each gradient; NULL: there are none */
    struct buffer *buffer;      /* one for each value, one for each output that needs a copy, and repeated rows */
    struct step *step;
    int n_buffers, n_steps;
    list joined;                /* of fg_joined *, which JOIN_STEPs read */
    int n_late;                 /* the last of the steps: products that training.c computes panel by panel */
    int draws;                  /* some step draws random numbers */
    int allocates;              /* some step takes memory from the pool while it runs */
    double work;                /* an estimate of a replay's nanoseconds */
    int64_t arena_bytes, separate_bytes;
    int64_t scratch;            /* offset of the arena's part for the partial sums of a running group */
    int64_t thread_bytes;       /* what each thread beside the caller's needs for the groups that they share ... */
    int64_t partials_bytes;     /* ... and what the partial sums of all parts need */
    struct fg_replay *idle;     /* replays that nobody runs at the moment */
    _Atomic(fg_native_function *) native;   /* what does the work of the steps instead of them, or NULL */
    void (*free_compiled)(fg_program *);            /* frees what compiling has made; NULL before */
};

void *fg_list_add(list *, size_t size);             /* room for one more item; NULL: no memory */

static inline value *values_of(const fg_program *p) { return p->values.item; }
static inline instruction *instructions_of(const fg_program *p) { return p->instructions.item; }
static inline int *operands_of(const fg_program *p, const instruction *n) { return (int *)p->operands.item + n->in; }
static inline int64_t *attrs_of(const fg_program *p, const instruction *n)
{
    return (int64_t *)p->attrs.item + n->attr;
}

/* The output that carries input v of a body on to its next iteration, or -1. */
static inline int carried_to(const fg_program *p, int v)
{
    return v >= p->first_carried && v < p->first_carried + p->n_carried ? v - p->first_carried : -1;
}

int fg_n_bodies(int op);                    /* how many of its first attributes are programs */
fg_program *fg_body(const int64_t *attr, int i);
int fg_draws(int op, const int64_t *attr);  /* does each run of it give other numbers? */

/* Equality: of what two instructions do with their operands, whatever these are, of two instructions on operands of the
 * same numbers, and of arrays in dtype, shape and every bit. The state of a generator equals itself only, because its
 * elements change. */
int fg_same_work(const fg_program *, const instruction *, const fg_program *, const instruction *);
int fg_same_instruction(const fg_program *, const instruction *, const fg_program *, const instruction *);
int fg_same_array(const fg_array *, const fg_array *);
size_t fg_data_bytes(const fg_array *);

/* Give an array the trace number that it had before this value. */
void fg_value_restore_number(value *);
/* The same, and release array and node. */
void fg_value_release(value *);
/* Release all values, or all but the constants. */
void fg_values_release(fg_program *, int keep_constants);

#endif
