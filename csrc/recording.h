/* recording.h: what a program is made of; shared by the four files that make it and run it.
 *
 * record.c notes operations down, simplify.c rewrites the notes, plan.c turns them into steps with places in memory,
 * program.c runs the steps.
 */
#ifndef FG_RECORDING_H
#define FG_RECORDING_H

#include "program.h"

enum {
    FG_BLOCK = 1024             /* elements that a fused group works on at a time: a few operands fit the L1 cache */
};

/* ---- what a recording holds ------------------------------------------------------------------------------------- */
typedef enum { INPUT, CONSTANT, RESULT } origin;

typedef struct {
    fg_array *array;            /* held while recording; afterwards only if it is a constant */
    origin from;
    int marked;                 /* array->trace is this value's number ... */
    int32_t was;                /* ... and was this before: its number in an outer recording */
    int twin;                   /* the next value of the same array, which has another node; 0: none */
    fg_node *node;              /* of a constant in a recording of notes: what an outer transform knows it by */
} value;

typedef struct {
    int op, n_in, n_attr, y;
    int in;                     /* where its operands start in the list of operands; -1 there: a missing one */
    int attr;                   /* where its attributes start */
} note;

typedef struct { int n, capacity; void *item; } list;

struct fg_program {
    list values, notes, operands, attrs;        /* of value, note, int, int64_t */
    uint32_t number;                            /* tells recordings apart */
    fg_program *outer;          /* while recording: the one that goes on when this one ends */
    int notes_only, depth;
    uint64_t newest;            /* node when a recording of notes began: those up to it belong to outer transforms */
    list tracked;               /* of char; of notes only, beside the operands: do outer transforms track it? */
    int n_in, n_out, n_views;
    int *out;                                   /* the value each output is */
    int *view;                                  /* the values that look into another's memory */
    struct slot *slot;                          /* one a value */
    struct step *step;
    int n_steps, n_recorded;
    int status;                 /* of the first note that failed: then the recording is not whole */
    char *arena;
    int64_t arena_bytes, separate_bytes;
};

void *fg_list_add(list *, size_t size);         /* room for one more item; NULL: no memory */

static inline value *values_of(const fg_program *p) { return p->values.item; }
static inline note *notes_of(const fg_program *p) { return p->notes.item; }
static inline int *operands_of(const fg_program *p, const note *n) { return (int *)p->operands.item + n->in; }
static inline int64_t *attrs_of(const fg_program *p, const note *n) { return (int64_t *)p->attrs.item + n->attr; }

/* ---- places ----------------------------------------------------------------------------------------------------- */
/* A slot is a value at replay: an array header that never dies, whose data pointer is set once (a place in the
 * arena, a constant) or at each call (an input or output, and views of them: those with `root` >= 0 are copied from
 * their root's). */
typedef struct slot {
    fg_array array;
    int root;                   /* the value whose memory this is; itself unless a view */
    int output;                 /* of a root: the output whose memory it is, or -1 */
    int first, last;            /* of a root: the steps that write and last read it */
    int blockwise;              /* lives within one fused group, a block at a time */
    int64_t offset;             /* in the arena, or -1 */
} slot;

/* ---- steps ------------------------------------------------------------------------------------------------------ */
typedef enum { RUN, UNARY_STEP, BINARY_STEP, UNARY_VJP_STEP, BINARY_VJP_STEP } kind;

typedef struct step {
    kind kind;
    int group;                  /* first of a fused group: how many steps it has; else 1 */
    int y, n_in;
    const int *in;              /* values */
    void *kernel;
    int64_t n;                  /* elements */
    fg_call call;
    fg_tensor *operand;         /* call.in: the slots' arrays */
} step;

typedef void (*unary_kernel)(int64_t, const void *, void *);
typedef void (*binary_kernel)(int64_t, const void *, int, const void *, int, void *);
typedef void (*unary_vjp_kernel)(int64_t, const void *, const void *, const void *, void *);
typedef void (*binary_vjp_kernel)(int64_t, const void *, int, const void *, int, const void *, const void *, void *);

static inline fg_shape *shape_at(const fg_program *p, int v) { return p->slot[v].array.shape; }

int fg_same_note(const fg_program *, const note *, const fg_program *, const note *);
int fg_same_array(const fg_array *, const fg_array *);      /* in dtype, shape and every bit; a live one only to itself */
void fg_value_release(value *);             /* let go of a value's array */
int fg_program_simplify(fg_program *);      /* fewer and cheaper notes; every constant in memory of its own */
int fg_program_plan(fg_program *);          /* steps and memory for the notes */

#endif
