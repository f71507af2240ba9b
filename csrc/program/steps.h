/* steps.h: what instructions are lowered to: buffers, which say where values are, and steps, which are kernel calls.
 *
 * lower.c makes both. fuse.c puts steps in groups that run block by block, rematerialize.c repeats some, memory_plan.c
 * gives buffers their offsets in the arena, specialize.c prepares the calls. bind.c binds steps to memory, replay.c
 * runs them, training.c uses the gradients that they leave, describe.c prints them.
 */
#ifndef FG_STEPS_H
#define FG_STEPS_H

#include "record/ir.h"

enum {
    FG_BLOCK = 1024,                /* elements that a fused step works on at a time: a few operands fit the L1 cache */
    FG_FUSE_FROM = 2 * FG_BLOCK,    /* shorter operands are in cache anyway */
    FG_ALIGN = 64                   /* offsets and sizes in the arena are multiples of this */
};

/* ---- buffers ----------------------------------------------------------------------------------------------------- */
/* What is known before any replay of where a value is. A value whose elements are part of another's memory (a view,
 * or a product that is accumulated there) has that other as its root; every other value is its own root. */
typedef struct buffer {
    fg_array array;             /* shape and dtype; of a constant the data too */
    int root;
    int64_t shift;              /* where in the root's memory it begins, in bytes */
    int output;                 /* of a root: the output whose memory it is, or -1 */
    int kept;                   /* of a root: its memory is that of a kept output, which stays in the arena */
    int padded_in_place;        /* of a root: with the zeros around it, it is the result of an unslice: ... */
    int64_t before, after;      /* ... so many bytes of zeros */
    int64_t panel;              /* of a gradient that never exists as a whole: rows at a time; else 0 */
    int64_t row_sums;           /* of a gradient that is kept as rows: the bytes that it takes (row_sparse.c); else 0 */
    int first, last;            /* of a root: steps that write and last read it, or the first or last of their groups */
    int reader;                 /* of a root: the very step that reads it last; -1: none, or it is kept */
    int blockwise;              /* exists within one fused group only: elements of a block of it; else 0 */
    int loaded;                 /* it is an operand that is read with strides: each group loads a block at a time */
    int64_t period;             /* of a row repeated, for steps that read it element by element: its length; of a block
                                 * of equal elements: 1; else 0 */
    int64_t offset;             /* in the arena, or -1 */
    int64_t place;              /* of one that is blockwise: in the memory of each thread that shares its group */
} buffer;

/* ---- steps ------------------------------------------------------------------------------------------------------- */
/* From UNARY_STEP to WHERE_STEP a step is flat: one kernel call on operands of the size of the result, single
 * elements, or repeated rows; or one call for each element of an operand that stands for a long run of equal
 * elements. Loads of operands that are read with strides or joined from pieces, sums of all elements, sums and extremes
 * of rows and of columns, and products that are computed some rows at a time, occur within groups only.
 * Specialization makes LOOP_STEPs: of flat steps that run in whole vectors, and of small products and sums. */
typedef enum { RUN, LOOP_STEP, UNARY_STEP, BINARY_STEP, UNARY_VJP_STEP, BINARY_VJP_STEP, COMPARE_STEP, WHERE_STEP,
               LOAD_STEP, JOIN_STEP, SUM_STEP, ROWS_STEP, COLS_STEP, PRODUCT_STEP } kind;

enum {
    FG_RESULT = 4,              /* the index of a flat step's result in arrays of its operands, of which it has fewer */
    FG_MAX_REDUCTIONS = 8,      /* sums in a group at most */
    FG_BOUND_BYTES = 64         /* of a step bound to its memory (replay.h) */
};

enum { BLOCKWISE = -1, FG_ROW = -1 };
/* Where an operand of a step in a group finds element i: at byte itemsize * i, or itemsize * (i modulo period). Of an
 * operand that is read in runs, i is the number of the run. */
typedef struct {
    int64_t itemsize;           /* 0: a single element */
    int64_t period;             /* 0: a whole array; BLOCKWISE: starts again with each block; else a row's length */
} access_pattern;

typedef struct step {
    kind kind;
    int group;                  /* of the first step of a group: how many steps it has; else 1 */
    int reductions;             /* of the first: how many of them are sums or extremes, */
    int64_t block;              /* ... how many elements run at a time; 0: the step runs at once */
    int64_t width;              /* ... and the length of the rows that are summed or computed; 1: all elements are
                                   summed, 0: nothing is */
    int64_t strip;              /* ... of rows that are too long for a block: how many of their columns, all rows of
                                   which run before the next ones; 0: blocks have whole rows */
    int64_t parts;              /* of the first, or of a step that runs at once: how many parts several threads share
                                   (share.c); less than 2: it is not shared */
    int64_t part;               /* ... elements of a part, or columns, if these run in strips; 0: the parts are those
                                 * that sums are halved to ... */
    int depth;                  /* ... so many times, of which some may be empty */
    int order;                  /* ... in which order its blocks have to run, as steps read what an earlier block has
                                 * made: upwards (1), downwards (-1) or in any (0) */
    int64_t thread_blocks;      /* ... bytes of its blocks in the memory of a thread */
    int op, y, n_in, n_attr;
    const int *in;              /* values */
    const int64_t *attr;
    void *kernel;               /* of a RUN step: fills the result from an fg_call */
    int64_t n;                  /* elements; of a LOOP_STEP: one, or up to the end of the last vector */
    size_t itemsize;            /* of its result */
    fg_product product;         /* of a LOOP_STEP that is one */
    fg_strided strided;         /* of a LOAD_STEP */
    const fg_joined *joined;    /* of a JOIN_STEP, in the program's list; NULL: it gathers rows */
    /* Of a flat step's operands: how often each element is read in turn, the same number for all that are read in runs;
     * FG_ROW: it is a row of the length of the runs, which is not repeated in memory; 0: neither. */
    int64_t run[FG_RESULT];
    int by_row;                 /* of a flat step in a group: it has one element for each row of the group */
    access_pattern access[FG_RESULT + 1];   /* of a flat step's operands and result, in a group */
} step;

/* Does a step only fetch the elements of the present block of its group? */
static inline int is_load(const step *s) { return s->kind == LOAD_STEP || s->kind == JOIN_STEP; }
/* `run` of operand i of a step of any kind; 0: it is no flat step's operand. */
static inline int64_t run_at(const step *s, int i) { return i < FG_RESULT ? s->run[i] : 0; }

/* Of a group: the length of the rows that a block has, and how many elements run in turn, of a strip or of all. */
static inline int64_t block_width(const step *first) { return first->strip ? first->strip : first->width; }
static inline int64_t elements_in_turn(const step *first)
{
    return first->strip ? first->n / first->width * first->strip : first->n;
}

/* Of a group with sums that runs over n elements in rows of so many: how many of them are the first half, whose sums
 * are computed separately and then added to those of the rest; 0: they are few enough to be summed in turn. */
static inline int64_t sums_half(int64_t width, int64_t n)
{
    if (width == 1)
        return n <= FG_SUM_LEAF ? 0 : FG_SUM_HALF(n);
    int64_t rows = n / width;
    return rows <= FG_SUM_ROWS ? 0 : FG_SUM_HALF_ROWS(rows) * width;
}

/* Bytes of the partial sums, or extremes, of one of its steps, which are as wide as a block; 0: it has none. */
static inline int64_t partial_bytes(const step *first, const step *s)
{
    return s->kind == SUM_STEP || s->kind == COLS_STEP ? (block_width(first) * (int64_t)s->itemsize + 7) / 8 * 8 : 0;
}

/* Is it a product that is added to the memory of its third operand? */
static inline int is_accumulated(const instruction *a) { return a->op == FG_OP_matmul && a->n_in == 3; }
/* Does it compute the rows of a gradient (row_sparse.c)? Its operands are pairs of values and index; the attributes are
 * those of `untake`, and how many rows there are at most. */
enum { FG_ROW_SUMS_ATTRS = 4 };
static inline int is_row_sums(const instruction *a)
{
    return a->op == FG_OP_untake && a->n_attr == FG_ROW_SUMS_ATTRS;
}
static inline fg_shape *shape_at(const fg_program *p, int v) { return p->buffer[v].array.shape; }
static inline int64_t bytes_at(const fg_program *p, int v)
{
    return shape_at(p, v)->size * (int64_t)fg_itemsize(p->buffer[v].array.dtype);
}

/* Does an input or output of a body, of a vector at most, have memory in the arena, so that every step on it works on
 * whole vectors? Then what runs the body copies it there and back, in units of FG_WORD bytes: smaller elements may have
 * any address. */
enum { FG_WORD = sizeof(float) };
static inline int is_arena_resident(const fg_program *p, int v)
{
    return p->body && bytes_at(p, v) <= FG_ALIGN && fg_itemsize(p->buffer[v].array.dtype) >= FG_WORD;
}

/* Does a flat step take little more time than moving its operands? (rematerialize.c) */
int fg_is_cheap(const step *);

/* Gradients that are kept as rows: row_sparse.c. */
int fg_row_sums_run(const fg_call *, fg_array *y);          /* the kernel of the step that computes one */
/* The bytes it takes, for a parameter of so many rows; shape: of as many rows as there are at most. */
int64_t fg_row_sums_bytes(const fg_shape *, int dtype, int n_in, int64_t length);
fg_row_sums fg_row_sums_at(const fg_program *, int i, char *memory);        /* of gradient i, which is there */

const fg_call *fg_replay_call(const fg_replay *, int k);    /* what step k, a RUN step, is called with */
/* Of a matrix that was refused in a loop, the error tells the step, too; returns the status. */
int fg_refused_in_step(int status, int64_t step);

#endif
