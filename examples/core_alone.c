/* core_alone.c: a gradient by the C core alone, without Python.
 *
 * The loss of a straight line, sum((a * x + b - t)^2), and its derivatives by a and b. From the top of the sources:
 *
 *     cc -std=c11 -O2 -Icsrc -DFG_ISA=baseline -DFG_HAVE_BASELINE examples/core_alone.c $(find csrc -name '*.c') -lm
 *     ./a.out
 *
 * (on arm64 with neon and NEON in place of baseline and BASELINE). csrc/fastgrad.h documents each function.
 */
#include "fastgrad.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Functions return FG_OK or another status, and the reason is in fg_message. They never print and never exit: that is
 * for the program to decide. This one gives up. */
static void check(int status)
{
    if (status == FG_OK)
        return;
    fprintf(stderr, "%s\n", fg_message());
    exit(EXIT_FAILURE);
}

/* Functions that make something return NULL where they fail. */
static fg_array *made(fg_array *array)
{
    check(array ? FG_OK : fg_failed());
    return array;
}

/* A vector of float64. Shapes and arrays are counted references: the array holds its shape, so that ours can go. */
static fg_array *vector(int64_t length, const double *elements)
{
    fg_shape *shape;
    check(fg_shape_made(fg_shape_new(1, &length), &shape));
    fg_array *array = made(fg_array_new(shape, FG_FLOAT64));
    fg_shape_unref(shape);
    memcpy(array->data, elements, (size_t)length * sizeof *elements);
    return array;
}

/* A tensor is an array and its node on the tape. Without a node it is a constant ... */
static fg_tensor constant(fg_array *array) { return (fg_tensor){array, NULL}; }

/* ... and with the node of a leaf the backward pass accumulates its gradient there. */
static fg_tensor parameter(double value)
{
    fg_array *array = made(fg_array_scalar(FG_FLOAT64, value));
    fg_node *node = fg_leaf(array);
    check(node ? FG_OK : fg_failed());
    return (fg_tensor){array, node};
}

static double number(const fg_array *scalar) { return *(const double *)scalar->data; }

int main(void)
{
    /* Once: choose the kernels for this machine (NULL: the best there are), and fill the table of operations. */
    check(fg_kernels_select(NULL));
    fg_init();

    fg_tensor x = constant(vector(4, (double[]){0, 1, 2, 3}));
    fg_tensor t = constant(vector(4, (double[]){1, 3, 5, 7}));
    fg_tensor a = parameter(1.5), b = parameter(0);

    /* Each call computes a value, and records a node for it if one of its inputs has a node. Here all results get one,
     * because each is computed from a or b. Shapes broadcast as in NumPy. The result is a new reference, which is ours
     * to give back; inputs are borrowed. */
    fg_tensor product, line, residual, squares, loss;
    check(fg_binary(FG_OP_multiply, a, x, &product));
    check(fg_binary(FG_OP_add, product, b, &line));
    check(fg_binary(FG_OP_subtract, line, t, &residual));
    check(fg_unary(FG_OP_square, residual, &squares));

    /* Operations with parameters of their own take them as integers (csrc/structural.def): of sum these are the axes as
     * bits, here axis 0, and whether they are kept with length 1. */
    check(fg_apply(FG_OP_sum, 1, &squares, 2, (int64_t[]){1, 0}, &loss));
    printf("loss   %g\n", number(loss.array));

    /* A node holds what its derivative needs, so that intermediate tensors can be released before the backward pass. */
    fg_tensor_unref(product);
    fg_tensor_unref(line);
    fg_tensor_unref(residual);
    fg_tensor_unref(squares);

    /* From the derivative of the loss by itself, 1, down to the leaves. The graph is used up by this (retain_graph 0),
     * and the pass itself is not recorded (create_graph 0). */
    fg_tensor one = constant(made(fg_array_scalar(FG_FLOAT64, 1)));
    check(fg_backward(loss, one, 0, 0));
    printf("d/da   %g\n", number(fg_leaf_grad(a.node).array));  /* 2 sum(residual * x); borrowed from the leaf */
    printf("d/db   %g\n", number(fg_leaf_grad(b.node).array));  /* 2 sum(residual) */

    /* With its last reference a tensor is freed, and so is what it held. The memory stays in a pool for others. */
    fg_tensor_unref(one);
    fg_tensor_unref(loss);
    fg_tensor_unref(a);
    fg_tensor_unref(b);
    fg_tensor_unref(x);
    fg_tensor_unref(t);
    printf("alive  %lld arrays, %lld nodes\n", (long long)fg_live.arrays, (long long)fg_live.nodes);
    fg_pool_empty();
    return fg_live.arrays || fg_live.nodes;
}
