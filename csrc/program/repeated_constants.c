/* repeated_constants.c: a pass: long constants that repeat a row are kept as that row.
 *
 * The tangents that a sparse Jacobian starts from are such constants, where they are gathered or broadcast while a
 * program is traced: a row of a one and zeros for each of many points. An elementwise instruction that reads one reads
 * a broadcast of its row instead, which is never in memory as a whole (operands.c).
 */
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

/* The number of leading axes along which constant v repeats what is in the others, as many as there are; 0: none, or v
 * is no long constant of floats. Constants whose elements are all equal are left to fg_pass_shrink_constants. */
static int repeated_axes(const fg_program *p, int v)
{
    const fg_array *x = values_of(p)[v].from == CONSTANT ? values_of(p)[v].array : NULL;
    if (!x || !FG_IS_FLOAT(x->dtype) || x->shape->size < FG_FUSE_FROM)
        return 0;
    int64_t row = 1, size = x->shape->size;
    for (int axes = x->shape->ndim - 1; axes; axes--) {
        row *= x->shape->dim[axes];
        size_t bytes = (size_t)row * fg_itemsize(x->dtype);
        if (row >= 2 && row <= size / 4 && !memcmp(x->data, (const char *)x->data + bytes, fg_data_bytes(x) - bytes))
            return axes;
    }
    return 0;
}

/* Does an instruction compute each element from those in the same place of its operands, of which i has the result's
 * shape? */
static int reads_elements(const fg_program *p, const instruction *a, int i)
{
    int v = operands_of(p, a)[i];
    return (a->op < FG_N_ELEMENTWISE || a->op >= FG_N_OPS) && v >= 0 &&
           fg_shape_equal(values_of(p)[v].array->shape, values_of(p)[a->y].array->shape);
}

/* A new value, whose array is taken over; -1: no memory. */
static int add_value(fg_program *p, fg_array *x, origin from)
{
    value *made = x ? fg_list_add(&p->values, sizeof *made) : NULL;
    if (!made) {
        fg_array_unref(x);
        return -1;
    }
    *made = (value){.array = x, .from = from};
    return p->values.n - 1;
}

/* A new constant that is the first row of v, without its first `axes` axes; -1: no memory. */
static int first_row(fg_program *p, int v, int axes)
{
    const fg_array *x = values_of(p)[v].array;
    fg_shape *shape = fg_shape_new(x->shape->ndim - axes, x->shape->dim + axes);
    fg_array *row = shape ? fg_array_new(shape, x->dtype) : NULL;
    fg_shape_unref(shape);
    if (row)
        memcpy(row->data, x->data, fg_data_bytes(row));
    return add_value(p, row, CONSTANT);
}

/* Append to a list the instruction that broadcasts the row of v to its shape. Returns its value; -1: no memory. */
static int add_broadcast(fg_program *p, list *made, int v, int axes)
{
    fg_shape *shape = values_of(p)[v].array->shape;
    int row = first_row(p, v, axes);
    int whole = row < 0 ? -1 : add_value(p, fg_array_abstract(shape, values_of(p)[v].array->dtype), RESULT);
    int *operand = whole < 0 ? NULL : fg_list_add(&p->operands, sizeof *operand);
    instruction *spread = operand ? fg_list_add(made, sizeof *spread) : NULL;
    if (!spread)
        return -1;
    *operand = row;
    *spread = (instruction){FG_OP_broadcast_to, 1, shape->ndim, whole, p->operands.n - 1, p->attrs.n};
    for (int i = 0; i < shape->ndim; i++) {
        int64_t *length = fg_list_add(&p->attrs, sizeof *length);
        if (!length)
            return -1;
        *length = shape->dim[i];
    }
    return whole;
}

/* Let the instructions begin with those of a list. */
static int put_first(fg_program *p, const list *made)
{
    int n = p->instructions.n;
    for (int k = 0; k < made->n; k++)
        if (!fg_list_add(&p->instructions, sizeof(instruction)))
            return FG_NO_MEMORY;
    memmove(instructions_of(p) + made->n, instructions_of(p), (size_t)n * sizeof(instruction));
    memcpy(instructions_of(p), made->item, (size_t)made->n * sizeof(instruction));
    return FG_OK;
}

int fg_pass_repeat_rows(fg_program *p)
{
    list made = {0, 0, NULL};
    int n = p->values.n, status = FG_OK;
    int *spread = calloc((size_t)n + 1, sizeof *spread); /* 0: not known; -1: it repeats no row */
    if (!spread)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; !status && k < p->instructions.n; k++) {
        const instruction *a = &instructions_of(p)[k];
        for (int i = 0; !status && i < a->n_in; i++) {
            int v = operands_of(p, a)[i];
            if (v >= n || !reads_elements(p, a, i))
                continue;
            int axes = spread[v] ? 0 : repeated_axes(p, v);
            if (!spread[v])
                spread[v] = axes ? add_broadcast(p, &made, v, axes) : -1;
            if (axes && spread[v] < 0)
                status = fg_fail(FG_NO_MEMORY, "no memory for a program");
            else if (spread[v] > 0)
                operands_of(p, a)[i] = spread[v];
        }
    }
    if (!status && made.n)
        status = put_first(p, &made);
    free(spread);
    free(made.item);
    return status;
}
