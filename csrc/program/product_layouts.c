/* product_layouts.c: a pass on instructions: products of matrices that read transposed and sliced operands where they
 * are, and write a transposed result where it belongs.
 *
 * An einsum moves the axes of its operands until each is a stack of matrices, and those of the result back. Each move
 * would be a copy. But a kernel takes matrices whose rows lie apart, so it is enough to tell where the first matrix of
 * an array begins, and how many elements it is from row to row and from matrix to matrix.
 */
#include "kernels/gemm_dispatch.h"
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

/* How a value lies in the array of value v, of which it has the elements. */
typedef struct {
    int v, ndim, copies;        /* copies: how many instructions that would copy it are passed over */
    int axis[FG_MAX_NDIM];      /* along which axis of the array each of its axes is, */
    int64_t step[FG_MAX_NDIM], first[FG_MAX_NDIM]; /* in which steps; where it begins along each axis of the array */
} layout;

/* The strides of a matrix operand or result, as a kernel takes them. */
typedef struct {
    int transposed;
    int64_t shift, row;
    int64_t along[FG_MAX_NDIM]; /* the stack's axes; 0 where the operand is broadcast */
} placed;

static const fg_shape *shape_of(const fg_program *p, int v) { return values_of(p)[v].array->shape; }

static void begin(const fg_program *p, int v, layout *x)
{
    *x = (layout){.v = v, .ndim = shape_of(p, v)->ndim};
    for (int i = 0; i < x->ndim; i++) {
        x->axis[i] = i;
        x->step[i] = 1;
    }
}

/* Go on to the operand of transpose t. */
static void pass_transpose(const fg_program *p, const instruction *t, layout *x)
{
    int64_t first[FG_MAX_NDIM];
    const int64_t *order = attrs_of(p, t);
    memcpy(first, x->first, sizeof first);
    for (int i = 0; i < t->n_attr; i++)
        x->first[order[i]] = first[i];
    for (int i = 0; i < x->ndim; i++)
        x->axis[i] = (int)order[x->axis[i]];
    x->v = operands_of(p, t)[0];
    x->copies++;
}

/* Go on to the operand of slice s. Not to one that is much larger, and would stay in memory for this alone: 0. */
static int pass_slice(const fg_program *p, const instruction *s, layout *x)
{
    int v = operands_of(p, s)[0];
    const int64_t *attr = attrs_of(p, s);
    int64_t ignored;
    if (shape_of(p, v)->size > 4 * shape_of(p, s->y)->size && values_of(p)[v].from == RESULT)
        return 0;
    x->copies += !fg_slice_is_contiguous(shape_of(p, v), attr, shape_of(p, s->y), &ignored);
    for (int i = 0; i < x->ndim; i++)
        x->step[i] *= attr[3 * x->axis[i] + 1];
    for (int i = 0; i < shape_of(p, v)->ndim; i++)
        x->first[i] = attr[3 * i] + attr[3 * i + 1] * x->first[i];
    x->v = v;
    return 1;
}

/* Where the matrices of x lie, if a kernel takes them: one of their axes must be contiguous. */
static int place(const fg_program *p, const layout *x, const int64_t *dim, int stack, placed *found)
{
    const fg_shape *array = shape_of(p, x->v);
    int64_t own[FG_MAX_NDIM], stride[FG_MAX_NDIM], extent = 1;
    *found = (placed){0};
    for (int i = array->ndim - 1; i >= 0; extent *= array->dim[i--]) {
        own[i] = extent;
        found->shift += x->first[i] * extent;
    }
    for (int i = 0; i < x->ndim; i++)
        stride[i] = own[x->axis[i]] * x->step[i];
    for (int i = 0; i < stack; i++) {
        int j = i - (stack - (x->ndim - 2));
        found->along[i] = j < 0 || dim[j] == 1 ? 0 : stride[j];
    }
    int64_t rows = dim[x->ndim - 2], columns = dim[x->ndim - 1], by_row = stride[x->ndim - 2],
            by_column = stride[x->ndim - 1];
    found->transposed = by_column != 1 && columns > 1;
    int64_t length = found->transposed ? rows : columns;
    found->row = found->transposed ? by_column : rows > 1 ? by_row : columns;
    return (!found->transposed || by_row == 1 || rows == 1) && found->row >= length;
}

/* Where operand i of a product lies in the array *v that its elements come from: the farthest one from which they need
 * not be copied. Returns whether that saves a copy. */
static int find_operand(const fg_program *p, const int *maker, const instruction *a, int i, int stack, placed *found,
                        int *v)
{
    const fg_shape *s = shape_of(p, operands_of(p, a)[i]);
    int is_large = s->size >= FG_FUSE_FROM && (stack || s->size >= shape_of(p, a->y)->size), saves = 0, go_on = 1;
    layout x;
    placed at;
    begin(p, operands_of(p, a)[i], &x);
    place(p, &x, s->dim, stack, found);
    *v = x.v;
    while (go_on) {
        const instruction *m = maker[x.v] < 0 ? NULL : &instructions_of(p)[maker[x.v]];
        go_on = is_large && m && (m->op == FG_OP_transpose || m->op == FG_OP_slice);
        if (go_on && m->op == FG_OP_transpose)
            pass_transpose(p, m, &x);
        else if (go_on)
            go_on = pass_slice(p, m, &x);
        if (go_on && x.copies && place(p, &x, s->dim, stack, &at)) {
            *found = at;
            *v = x.v;
            saves = 1;
        }
    }
    return saves;
}

/* Where the result lies in that of transpose t, its only user, or NULL. */
static int find_result(const fg_program *p, const instruction *a, const instruction *t, int stack, placed *found)
{
    layout x;
    const fg_shape *s = shape_of(p, a->y);
    begin(p, a->y, &x);
    if (t && s->size >= FG_FUSE_FROM) {
        for (int i = 0; i < x.ndim; i++)
            x.axis[attrs_of(p, t)[i]] = i;
        x.v = t->y;
        if (place(p, &x, s->dim, stack, found))
            return 1;
        begin(p, a->y, &x);
    }
    place(p, &x, s->dim, stack, found);
    return 0;
}

static int add_attr(fg_program *p, int64_t value)
{
    int64_t *to = fg_list_add(&p->attrs, sizeof *to);
    if (to)
        *to = value;
    return to != NULL;
}

/* Let a product be of matrices in such places. */
static int rewrite(fg_program *p, instruction *a, int stack, const placed *at, int64_t k)
{
    const fg_shape *y = shape_of(p, a->y);
    int64_t head[FG_PRODUCT_STACK] = {attrs_of(p, a)[0] ^ at[0].transposed,
                                      attrs_of(p, a)[1] ^ at[1].transposed,
                                      y->dim[stack],
                                      y->dim[stack + 1],
                                      k,
                                      stack};
    int start = p->attrs.n, ok = 1;
    for (int i = 0; i < FG_PRODUCT_STACK; i++)
        ok = ok && add_attr(p, head[i]);
    for (int i = 0; i < stack; i++)
        ok = ok && add_attr(p, y->dim[i]);
    for (int i = 0; i < 3; i++) {
        ok = ok && add_attr(p, at[i].shift) && add_attr(p, at[i].row);
        for (int j = 0; j < stack; j++)
            ok = ok && add_attr(p, at[i].along[j]);
    }
    a->attr = start;
    a->n_attr = fg_product_attrs(stack);
    return ok ? FG_OK : FG_NO_MEMORY;
}

/* What computes a product of depth k, if the flags of transposition are exchanged where `also` says so. */
static fg_gemm_backend backend_of(const fg_program *p, const instruction *a, int64_t k, int also_a, int also_b)
{
    const fg_shape *y = shape_of(p, a->y);
    const int64_t *flag = attrs_of(p, a);
    return fg_choose_gemm_backend(values_of(p)[a->y].array->dtype, (int)flag[0] ^ also_a, (int)flag[1] ^ also_b,
                                  fg_rows_of(y, 0), fg_cols_of(y, 0), k);
}

/* Is a product of depth k one whose kernel takes any rows? */
static int takes_rows(const fg_program *p, const instruction *a, int64_t k)
{
    const fg_shape *y = shape_of(p, a->y);
    fg_gemm_backend by = backend_of(p, a, k, 0, 0);
    return y->size && fg_rows_of(y, 0) * fg_cols_of(y, 0) > 1 && k && by != FG_GEMM_ROWS && by != FG_GEMM_DOTS;
}

int fg_pass_read_products_in_place(fg_program *p)
{
    int *maker, *uses, status = FG_OK;
    if (!fg_count_uses(p, &maker, &uses))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    int *moves = calloc((size_t)p->values.n + 1, sizeof *moves); /* the last transpose of a value, from 1 on */
    if (!moves) {
        free(maker);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    for (int k = 0; k < p->instructions.n; k++) {
        maker[instructions_of(p)[k].y] = k;
        if (instructions_of(p)[k].op == FG_OP_transpose)
            moves[operands_of(p, &instructions_of(p)[k])[0]] = k + 1;
    }
    for (int k = 0; !status && k < p->instructions.n; k++) {
        instruction *a = &instructions_of(p)[k];
        if (a->op != FG_OP_matmul || a->n_in != 2)
            continue;
        int stack = shape_of(p, a->y)->ndim - 2, v[2];
        int64_t depth = fg_cols_of(shape_of(p, operands_of(p, a)[0]), (int)attrs_of(p, a)[0]);
        if (!takes_rows(p, a, depth))
            continue;
        instruction *t = stack && uses[a->y] == 1 && moves[a->y] ? &instructions_of(p)[moves[a->y] - 1] : NULL;
        placed at[3];
        int changed = find_operand(p, maker, a, 0, stack, &at[0], &v[0]);
        changed += find_operand(p, maker, a, 1, stack, &at[1], &v[1]);
        int moved = find_result(p, a, t, stack, &at[2]);
        if (moved && at[2].transposed) /* its columns are contiguous: left as it is */
            moved = find_result(p, a, NULL, stack, &at[2]);
        /* Where matrices that lie otherwise would have another kernel, they are copied: it may read vectors alone. */
        if ((!changed && !moved) ||
            backend_of(p, a, depth, at[0].transposed, at[1].transposed) != backend_of(p, a, depth, 0, 0))
            continue;
        status = rewrite(p, a, stack, at, depth);
        operands_of(p, a)[0] = v[0];
        operands_of(p, a)[1] = v[1];
        if (moved) { /* the transpose is left without users */
            int y = a->y;
            a->y = t->y;
            t->y = y;
            operands_of(p, t)[0] = a->y;
            maker[a->y] = k;
            maker[y] = -1;
        }
    }
    free(moves);
    free(maker);
    return status;
}
