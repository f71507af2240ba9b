/* ir.h: what a program is made of; shared by the files that make it and run it.
 *
 * trace.c instructions operations down, simplify.c rewrites the instructions, lower.c turns them into steps, which fuse.c puts in
 * groups, rematerialize.c repeats, memory_plan.c puts in memory and specialize.c makes ready to call; replay.c runs the steps,
 * describe.c describes them.
 */
#ifndef FG_RECORDING_H
#define FG_RECORDING_H

#include "program.h"

enum {
    FG_BLOCK = 1024,            /* elements that a fused step works on at a time: a few operands fit the L1 cache */
    FG_FUSE_FROM = 2 * FG_BLOCK,    /* shorter operands are in cache anyway */
    FG_ALIGN = 64               /* every place in the arena starts and ends at a multiple of this */
};

/* ---- what a recording holds ------------------------------------------------------------------------------------- */
typedef enum { INPUT, CONSTANT, RESULT } origin;

typedef struct {
    fg_array *array;            /* held while recording; afterwards only if it is a constant */
    origin from;
    int marked;                 /* array->trace is this value's number ... */
    int32_t was;                /* ... and was this before: its number in an outer recording */
    int twin;                   /* the next value of the same array, which has another node; 0: none */
    fg_node *node;              /* of a constant in a recording of instructions: what an outer transform knows it by */
} value;

typedef struct {
    int op, n_in, n_attr, y;
    int in;                     /* where its operands start in the list of operands; -1 there: a missing one */
    int attr;                   /* where its attributes start */
} instruction;

typedef struct { int n, capacity; void *item; } list;

struct fg_program {
    list values, instructions, operands, attrs;        /* of value, instruction, int, int64_t */
    uint32_t number;                            /* tells recordings apart */
    fg_program *outer;          /* while recording: the one that goes on when this one ends */
    fg_trace_kind what;
    int depth;                  /* how many are around it */
    int spreading;              /* while recording: fg_trace_spreading */
    uint64_t last_node_id;            /* node when the recording began: those up to it belong to outer transforms */
    list tracked;               /* of char; of instructions only, beside the operands: do outer transforms track it? */
    int n_in, n_out, n_kept;
    int *out;                                   /* the value each output is; the last n_kept stay in the arena */
    struct buffer *buffer;                          /* one a value, one an output for a copy, and repeated rows (lower.c) */
    int n_buffers;
    struct step *step;
    int n_steps, n_traced;
    int n_late;                                 /* the last of the steps: products that training.c does panel by panel */
    int status;                 /* of the first instruction that failed: then the recording is not whole */
    int body;                   /* it is one of a loop or branch, which keeps small outputs only ... */
    int first_carried, n_carried;   /* ... and may get input first_carried + k in the memory of output k ... */
    int stack_carry;                  /* unless both are stacked */
    int draws;                  /* some step draws random numbers */
    int refs;                   /* bodies of loops belong to whatever names them */
    list bodies;                /* of fg_program *: those that instructions name, used or not */
    int allocates;              /* some step takes memory from the pool while it runs */
    double work;                /* an estimate of a replay's nanoseconds */
    int64_t arena_bytes, separate_bytes;
    int64_t scratch;                            /* where in the arena partial sums lie while a group runs */
    struct fg_replay *idle;                     /* those that nobody runs at the moment */
};

void *fg_list_add(list *, size_t size);         /* room for one more item; NULL: no memory */

static inline value *values_of(const fg_program *p) { return p->values.item; }
static inline instruction *instructions_of(const fg_program *p) { return p->instructions.item; }
static inline int *operands_of(const fg_program *p, const instruction *n) { return (int *)p->operands.item + n->in; }
static inline int64_t *attrs_of(const fg_program *p, const instruction *n) { return (int64_t *)p->attrs.item + n->attr; }

/* ---- places ----------------------------------------------------------------------------------------------------- */
/* What is known of a value before any replay. */
typedef struct buffer {
    fg_array array;             /* its shape and dtype; of a constant the data too */
    int root;                   /* the value whose memory this is; itself unless a view, or a product collected there */
    int64_t shift;              /* of a view: where in the root's memory it begins, in bytes */
    int output;                 /* of a root: the output whose memory it is, or -1 */
    int kept;                   /* of a root: an output that stays in the arena looks into it */
    int padded_in_place;                 /* of a root: with zeros around it, it is the result of an unslice, ... */
    int64_t before, after;      /* ... of so many bytes */
    int64_t panel;              /* of a gradient that is never there as a whole: its rows at a time; else 0 */
    int first, last;            /* of a root: the steps that write and last read it, or the ends of their groups */
    int reader;                 /* of a root: the very step that reads it last */
    int blockwise;              /* lives within one fused group: the elements of a block of it; else 0 */
    int64_t period;             /* a row repeated, for steps that read it element by element: its length; else 0 */
    int64_t offset;             /* in the arena, or -1 */
} buffer;

/* ---- steps ------------------------------------------------------------------------------------------------------ */
/* Those from UNARY_STEP to WHERE_STEP are flat: one kernel call on operands that are of the size of the result, single
 * elements or repeated rows. Within groups only there are sums, of all elements, over rows and over columns, and
 * products that are made some rows at a time. When all have their places, some steps become a LOOP_STEP: flat ones in
 * whole vectors, and small products and sums. */
typedef enum { RUN, LOOP_STEP, UNARY_STEP, BINARY_STEP, UNARY_VJP_STEP, BINARY_VJP_STEP, COMPARE_STEP, WHERE_STEP,
               SUM_STEP, ROWS_SUM_STEP, COLS_SUM_STEP, PRODUCT_STEP } kind;

enum {
    FG_RESULT = 4,              /* where a flat step's result is listed, behind at most so many operands */
    FG_MAX_REDUCTIONS = 8                /* sums in a group at most */
};

enum { BLOCKWISE = -1 };
/* How an operand of a step in a group goes on with the elements. */
typedef struct {
    int64_t itemsize;           /* 0: a single element */
    int64_t period;             /* 0: a whole array; BLOCKWISE: begins anew with each block; else a row's length */
} walk;

typedef struct step {
    kind kind;
    int group;                  /* first of a fused group: how many steps it has; else 1 */
    int reductions;                  /* and how many of them are sums, */
    int64_t block;              /* how many elements at a time; 0: the step is run at once */
    int64_t width;              /* and how long the rows are that are summed or made; 1: all is summed, 0: nothing is */
    int op, y, n_in, n_attr;
    const int *in;              /* values */
    const int64_t *attr;
    void *kernel;               /* of a RUN step: what fills the result from an fg_call */
    int64_t n;                  /* elements; outside of groups within the arena: one, or to the last vector's end */
    size_t itemsize;            /* of its result */
    fg_product product;         /* of a LOOP_STEP that is one */
    walk walk[FG_RESULT + 1];   /* of a flat step's operands and result, in a group */
} step;

/* Of a group with sums that runs over n elements: how many of them make the first half, which is summed apart from the
 * rest; 0: they are few enough to be summed in turn. */
static inline int64_t sums_half(const step *first, int64_t n)
{
    if (first->width == 1)
        return n <= FG_SUM_LEAF ? 0 : FG_SUM_HALF(n);
    int64_t rows = n / first->width;
    return rows <= FG_SUM_ROWS ? 0 : FG_SUM_HALF_ROWS(rows) * first->width;
}

/* Bytes of the partial sums of one of its steps, each as wide as the result; 0: it has none. */
static inline int64_t partial_bytes(const step *first, const step *s)
{
    return s->kind == SUM_STEP || s->kind == COLS_SUM_STEP ? (first->width * (int64_t)s->itemsize + 7) / 8 * 8 : 0;
}

/* The output in whose place input v is carried on, or -1. */
static inline int carried_to(const fg_program *p, int v)
{
    return v >= p->first_carried && v < p->first_carried + p->n_carried ? v - p->first_carried : -1;
}

/* Is a instruction a product that is added to another one, its third operand, in that one's place? */
static inline int is_accumulated(const instruction *a) { return a->op == FG_OP_matmul && a->n_in == 3; }
static inline fg_shape *shape_at(const fg_program *p, int v) { return p->buffer[v].array.shape; }
static inline int64_t bytes_at(const fg_program *p, int v)
{
    return shape_at(p, v)->size * (int64_t)fg_itemsize(p->buffer[v].array.dtype);
}

/* Does an input or output of a body, of a vector at most, lie in the arena, so that every step on it is one of whole
 * vectors? Then what runs the body copies it, in FG_WORD bytes: smaller elements may lie at any address. */
enum { FG_WORD = sizeof(float) };
static inline int is_arena_resident(const fg_program *p, int v)
{
    return p->body && bytes_at(p, v) <= FG_ALIGN && fg_itemsize(p->buffer[v].array.dtype) >= FG_WORD;
}

int fg_n_bodies(int op);                    /* how many of its first attributes are programs */
fg_program *fg_body(const int64_t *attr, int i);
int fg_draws(int op, const int64_t *attr);  /* is each run of it another? */
int fg_same_instruction(const fg_program *, const instruction *, const fg_program *, const instruction *);
int fg_same_array(const fg_array *, const fg_array *);      /* in dtype, shape and every bit; live: one array */
void fg_value_release(value *);             /* let go of a value's array */
int fg_program_simplify(fg_program *);      /* fewer and cheaper instructions; every constant in memory of its own */
int fg_program_lower(fg_program *);          /* steps and memory for the instructions */
int fg_program_fuse(fg_program *);          /* groups of steps that run block by block */
int fg_program_rematerialize(fg_program *);     /* cheap values in each group that reads them */
void fg_program_liveness(fg_program *);    /* fills first, last and reader of every buffer */
int fg_program_plan_memory(fg_program *);         /* where in the arena each result lies */
void fg_program_specialize(fg_program *);       /* what a replay calls */
const fg_call *fg_replay_call(const fg_replay *, int k);    /* what step k, a RUN step, is called with */
void fg_replays_free(fg_program *);

#endif
