/* compile.c: the compiler from traced instructions to steps that a replay runs: its passes, in order.
 *
 * Every pass keeps the bits of the results: a replay returns what the traced function returned. A pass that fails
 * leaves a program that can only be freed.
 */
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>

static int (*const passes[])(fg_program *) = {
    /* Constant shrinking: a constant whose elements are all equal becomes a single element, which is broadcast, or a
     * block of them, which is read again and again. */
    fg_pass_shrink_constants,
    /* A long constant that repeats a row becomes that row, which is broadcast. */
    fg_pass_repeat_rows,
    /* Algebraic simplification (identity elimination): x * 1, -(-x), a cast to the same dtype: users read x instead.
     * x * x is a square. */
    fg_pass_remove_identities,
    /* Transpose absorption: a product of a transposed matrix reads the matrix itself, with a flag, and one whose result
     * is transposed, (A B)', becomes B' A'. */
    fg_pass_absorb_transposes,
    /* Common subexpression elimination (CSE): what is computed twice from equal operands is computed once. */
    fg_pass_eliminate_common_subexpressions,
    /* A while_loop whose results another one computes, too, as its jvp does, is left without users. */
    fg_pass_join_loops,
    /* Dead code elimination (DCE): an instruction whose value no output depends on is removed. */
    fg_pass_eliminate_dead_code,
    /* In-place accumulation: the sum of two products becomes one product that is added to the memory of the other. */
    fg_pass_accumulate_products,
    /* The sum of two values that are padded with zeros alike becomes a padded sum, so that fewer elements are added. */
    fg_pass_add_before_padding,
    /* A sum of values that are padded with zeros, as the gradient of several slices, is one instruction. */
    fg_pass_join_paddings,
    /* Gradients of gathers stay rows: sums of the rows that are read, instead of additions to zeros of the size of the
     * parameter. */
    fg_pass_keep_rows,
    /* Products of stacks of matrices read and write arrays of another order of axes in place of moved copies. */
    fg_pass_read_products_in_place,
    /* DCE once more: the last five passes leave instructions without users. */
    fg_pass_eliminate_dead_code,
    /* Constants in memory that the caller may write later are copied. */
    fg_pass_own_constants,
    /* Lowering: each value gets a buffer, or is a view of another's; each instruction but a view becomes a step. */
    fg_pass_lower,
    /* Fusion: elementwise steps of one length, with sums and products around them, form groups that run in blocks. */
    fg_pass_fuse,
    /* Liveness analysis: the first and the last step that use each buffer. */
    fg_pass_liveness,
    /* Rematerialization: large values that are cheap to compute are computed again where a later group reads them. */
    fg_pass_rematerialize,
    /* A value that is computed inside the result of its padding gets a step before it that writes the zeros around. */
    fg_pass_insert_zeros,
    /* Liveness analysis again, of the steps as they are now. */
    fg_pass_liveness,
    /* Memory planning: buffers that are not alive at the same time share offsets in one arena. */
    fg_pass_plan_memory,
    /* Long groups and steps are divided into parts for several threads. */
    fg_pass_share,
    /* Specialization: strides are computed in advance, and small steps become direct calls of a kernel. */
    fg_pass_specialize,
};

static void free_compiled(fg_program *p)
{
    fg_replays_free(p);
    for (int v = 0; p->buffer && v < p->n_buffers; v++)
        fg_shape_unref(p->buffer[v].array.shape);
    for (int i = 0; i < p->joined.n; i++)
        free(((fg_joined **)p->joined.item)[i]);
    free(p->joined.item);
    free(p->step);
    free(p->form);
    free(p->buffer);
}

int fg_program_compile(fg_program *p)
{
    int status = FG_OK;
    p->free_compiled = free_compiled;
    for (size_t i = 0; !status && i < sizeof passes / sizeof *passes; i++)
        status = passes[i](p);
    if (!status)
        fg_values_release(p, 1);                /* the steps need only the constants */
    return status;
}
