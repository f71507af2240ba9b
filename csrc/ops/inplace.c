/* inplace.c: in-place operations, a op= b, on the tape and in traces as well. */
#include "program.h"
#include "ops/broadcast.h"

static int overlap(const fg_array *x, const fg_array *y)
{
    const char *a = x->data, *b = y->data;
    return a < b + y->shape->size * (int64_t)fg_itemsize(y->dtype) &&
           b < a + x->shape->size * (int64_t)fg_itemsize(x->dtype);
}

int fg_may_change(const char *name, const char *instead, const fg_tensor *a)
{
    if (!a->node || (a->node->op != FG_OP_leaf && !a->node->fixed) || !fg_grad_enabled)
        return FG_OK;
    if (fg_transform)
        return fg_fail(FG_BAD_TAPE,
                       "%s: an argument that is being differentiated is changed in place; make a new tensor, as in %s",
                       name, instead);
    return fg_fail(FG_BAD_TAPE,
                   "%s: a tensor made with requires_grad=True is changed in place while gradients are recorded; "
                   "do it under fg.no_grad(), or make a new tensor",
                   name);
}

/* What the tape holds keeps its value, and the tensor takes a new array. But under no_grad, as where parameters are
 * updated, and where an ndarray shows the memory, which is to see the change, a backward pass has to find out. */
int fg_changes_in_place(const fg_array *x)
{
    return fg_array_is_private(x) && (!x->tape_refs || !fg_grad_enabled || x->exports || x->storage != FG_OWNED);
}

/* Whether the tape would hold the value that a has before the operation. */
static int needs_old_value(int op, const fg_tensor *a, const fg_tensor *b)
{
    const fg_op_info *info = &fg_ops[op];
    unsigned needs = (a->node ? info->needs[0] : 0) | (b->node ? info->needs[1] : 0);
    return fg_grad_enabled && (needs & FG_IN(0)) && !a->array->exports && a->array->storage == FG_OWNED;
}

int fg_binary_inplace(int op, fg_tensor *a, fg_tensor b)
{
    char sa[FG_SHAPE_TEXT], sb[FG_SHAPE_TEXT];
    const char *name = fg_ops[op].name;
    fg_array *x = a->array;
    int status = fg_may_change(name, "x = x * 2 instead of x *= 2", a);
    if (status)
        return status;
    if (!FG_IS_FLOAT(x->dtype))
        return fg_not_float(name, x);
    if (!FG_IS_FLOAT(b.array->dtype))
        return fg_not_float(name, b.array);
    fg_shape *shape = fg_broadcast_shapes(name, x->shape, b.array->shape);
    if (!shape)
        return fg_failed();
    int fits = fg_shape_equal(shape, x->shape);
    fg_shape_unref(shape);
    if (!fits)
        return fg_fail(FG_BAD_VALUE, "%s: an in-place change cannot stretch shape %s to take in shape %s", name,
                       fg_shape_text(x->shape, sa), fg_shape_text(b.array->shape, sb));

    fg_tensor owned = {0};
    if (b.array->dtype != x->dtype) {           /* as NumPy's "same_kind": the result keeps a's dtype */
        int64_t dtype = x->dtype;
        if ((status = fg_apply(FG_OP_cast, 1, &b, 1, &dtype, &owned)))
            return status;
        b = owned;
    }
    int traced = fg_tracing && (fg_trace_here() || fg_traced(x) || fg_traced(b.array));
    /* A trace consists of values, which do not change: a new one there. */
    if (fg_changes_in_place(x) && !needs_old_value(op, a, &b) && !traced) {
        /* The node saves what it needs of x at its present version; then the change increments the version, so that a
         * backward pass whose derivative names the old value finds out. */
        fg_tensor y = {x, NULL}, in[2] = {*a, b};
        fg_array *copy = NULL;
        if (overlap(x, b.array)) { /* b is read while x is written */
            if (!(copy = fg_array_copy(b.array))) {
                fg_tensor_unref(owned);
                return FG_NO_MEMORY;
            }
            in[1].array = copy;
            if (b.array == x)
                in[0].array = copy;
        }
        fg_call call = {.op = op, .n_in = 2, .in = in};
        if (!(status = fg_tape_record(&call, &y))) {
            run_binary(op, x, in[1].array, x);
            fg_array_changed(x);
            if (y.node && y.node->saved == x)
                y.node->version = fg_array_version(x);
            else if (y.node && y.node->saved) /* a copy, made before the change, of memory that others may write */
                memcpy(y.node->saved->data, x->data, (size_t)x->shape->size * fg_itemsize(x->dtype));
            if (fg_grad_enabled) {
                fg_node_unref(a->node);
                a->node = y.node;
            }
        }
        fg_array_unref(copy);
    } else {
        fg_tensor y;
        if (!(status = fg_binary(op, *a, b, &y))) {
            a->array = y.array;
            if (fg_grad_enabled) {
                fg_node_unref(a->node);
                a->node = y.node;
            }
            fg_array_unref(x); /* last, because it may run code of x's owner, which may read a */
        }
    }
    fg_tensor_unref(owned);
    return status;
}
