/* apply.c: how an operation is applied to tensors.
 *
 * Each goes through the same steps: the shape and dtype of the result, an array for it, the kernel unless the result is
 * abstract, a node on the tape if an input has one, and an instruction in the trace if a function is traced.
 * Elementwise operations on small arrays are the hot path: what they need is inline in this file and in broadcast.h.
 */
#include "program.h"
#include "ops/broadcast.h"

int fg_not_float(const char *name, const fg_array *x)
{
    return fg_fail(FG_BAD_TYPE, "%s: expected float32 or float64, got %s", name, fg_dtype_name(x->dtype));
}

/* A result is abstract if it depends on an input of a trace: then no kernel runs. */
static inline int is_abstract(const fg_call *c) { return fg_tracing && fg_trace_is_abstract(c); }

static inline fg_array *new_result(fg_shape *shape, int dtype, int abstract)
{
    return abstract ? fg_array_abstract(shape, dtype) : fg_array_new(shape, dtype);
}

/* The last part of every operation: record it on the tape, append it to the trace, and return the result. */
static int finish(const fg_call *call, fg_array *y, fg_tensor *out)
{
    fg_tensor result = {y, NULL};
    int status = call->op < FG_N_OPS && fg_ops[call->op].vjp ? fg_tape_record(call, &result) : FG_OK;
    if (!status && fg_tracing && (status = fg_trace_append(call, y)))
        fg_node_unref(result.node);
    if (status) {
        fg_array_unref(y);
        return status;
    }
    *out = result;
    return FG_OK;
}

/* An elementwise operation on integers or booleans of one dtype. */
static int apply_integers(int op, int n_in, const fg_tensor *in, fg_tensor *out)
{
    if (!fg_integer_kernel_of(op, in[0].array->dtype))
        return fg_not_float(fg_ops[op].name, in[0].array);
    fg_call call = {.op = op, .n_in = n_in, .in = in};
    fg_shape *shape = n_in == 1 ? fg_shape_ref(in[0].array->shape)
                                : fg_broadcast_shapes(fg_ops[op].name, in[0].array->shape, in[1].array->shape);
    int abstract = is_abstract(&call), status;
    fg_array *y = shape ? new_result(shape, in[0].array->dtype, abstract) : NULL;
    fg_shape_unref(shape);
    if (!y)
        return fg_failed();
    if (!abstract && (status = fg_integer_run(&call, y))) {
        fg_array_unref(y);
        return status;
    }
    return finish(&call, y, out);
}

int fg_unary(int op, fg_tensor x, fg_tensor *out)
{
    if (!FG_IS_FLOAT(x.array->dtype))
        return apply_integers(op, 1, &x, out);
    int abstract = fg_tracing && fg_traced(x.array);
    fg_array *y = new_result(x.array->shape, x.array->dtype, abstract);
    if (!y)
        return FG_NO_MEMORY;
    if (!abstract)
        run_unary(op, x.array, y);
    return finish(&(fg_call){.op = op, .n_in = 1, .in = &x}, y, out);
}

/* Cast the float32 one of two float operands to the float64 of the other, on the tape: *owned is the result, or
 * empty. */
static int promote(const char *name, fg_tensor *a, fg_tensor *b, fg_tensor *owned)
{
    *owned = (fg_tensor){0};
    if (!FG_IS_FLOAT(a->array->dtype))
        return fg_not_float(name, a->array);
    if (!FG_IS_FLOAT(b->array->dtype))
        return fg_not_float(name, b->array);
    if (a->array->dtype == b->array->dtype)
        return FG_OK;
    fg_tensor *narrow = a->array->dtype == FG_FLOAT32 ? a : b;
    int64_t wide = FG_FLOAT64;
    int status = fg_on_promotion ? fg_on_promotion(narrow->array, (narrow == a ? b : a)->array) : FG_OK;
    if (!status)
        status = fg_apply(FG_OP_cast, 1, narrow, 1, &wide, owned);
    if (!status)
        *narrow = *owned;
    return status;
}

int fg_binary(int op, fg_tensor a, fg_tensor b, fg_tensor *out)
{
    fg_tensor owned = {0};
    if (a.array->dtype != b.array->dtype || !FG_IS_FLOAT(a.array->dtype)) {
        if (a.array->dtype == b.array->dtype)
            return apply_integers(op, 2, (fg_tensor[]){a, b}, out);
        int status = promote(fg_ops[op].name, &a, &b, &owned);
        if (status)
            return status;
    }
    fg_shape *shape = fg_broadcast_shapes(fg_ops[op].name, a.array->shape, b.array->shape);
    int abstract = fg_tracing && (fg_traced(a.array) || fg_traced(b.array)), status;
    fg_array *y = shape ? new_result(shape, a.array->dtype, abstract) : NULL;
    fg_shape_unref(shape);
    if (y) {
        if (!abstract)
            run_binary(op, a.array, b.array, y);
        status = finish(&(fg_call){.op = op, .n_in = 2, .in = (fg_tensor[]){a, b}}, y, out);
    } else {
        status = fg_failed();
    }
    fg_tensor_unref(owned);
    return status;
}

/* The kernels of linear algebra exist for floats alone. An input of a derivative's kernel may be missing. */
static int check_floats(const fg_call *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (c->in[i].array && !FG_IS_FLOAT(c->in[i].array->dtype))
            return fg_not_float(fg_ops[c->op].name, c->in[i].array);
    return FG_OK;
}

int fg_apply(int op, int n_in, const fg_tensor *in, int n_attr, const int64_t *attr, fg_tensor *out)
{
    if (op < FG_N_UNARY)
        return fg_unary(op, in[0], out);
    if (op < FG_N_ELEMENTWISE)
        return fg_binary(op, in[0], in[1], out);
    fg_call call = {.op = op, .n_in = n_in, .n_attr = n_attr, .in = in, .attr = attr};
    fg_shape *shape = NULL;
    int dtype, status;
    if (fg_flags(op) & FG_IS_CUBIC && (status = check_floats(&call)))
        return status;
    if (op < FG_N_OPS) {
        dtype = n_in ? in[0].array->dtype : 0;
        if ((status = fg_ops[op].shape(&call, &shape, &dtype)))
            return status;
    } else {                                    /* a vjp kernel: as the cotangent, which is the last input */
        dtype = in[n_in - 1].array->dtype;
        shape = fg_shape_ref(in[n_in - 1].array->shape);
    }
    int abstract = is_abstract(&call);
    fg_array *y =
        fg_flags(op) & FG_IS_VIEW && !abstract ? fg_array_view(in[0].array, shape) : new_result(shape, dtype, abstract);
    fg_shape_unref(shape);
    if (!y)
        return FG_NO_MEMORY;
    if (!abstract && (status = fg_run_of(op)(&call, y))) {
        fg_array_unref(y);
        return status;
    }
    return finish(&call, y, out);
}
