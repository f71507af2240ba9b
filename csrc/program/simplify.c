/* simplify.c: the passes on instructions: constant shrinking, algebraic simplification, transpose absorption, common
 * subexpression elimination (CSE), dead code elimination (DCE), and in-place accumulation. compile.c has their order.
 *
 * An instruction that a pass makes superfluous stays in the list, without users, until dead code elimination.
 */
#include "kernels/gemm_dispatch.h"
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

/* ---- common subexpression elimination: a hash table of the instructions so far ----------------------------------- */
static uint64_t mix(uint64_t h, uint64_t x) { return (h ^ x) * 0x9E3779B97F4A7C15u ^ h >> 29; }

/* Bodies are left out: equal ones may be different objects. */
static uint64_t hash_instruction(const fg_program *p, const instruction *n)
{
    uint64_t h = mix(0, (uint64_t)n->op);
    for (int i = 0; i < n->n_in; i++)
        h = mix(h, (uint64_t)(uint32_t)operands_of(p, n)[i]);
    for (int i = fg_n_bodies(n->op); i < n->n_attr; i++)
        h = mix(h, (uint64_t)attrs_of(p, n)[i]);
    return h;
}

/* Of a large array only the first elements count: fg_same_array compares the rest. */
static uint64_t hash_array(const fg_array *x)
{
    const uint8_t *c = x->data;
    size_t bytes = fg_data_bytes(x);
    uint64_t h = mix(x->dtype, (uint64_t)x->shape->size);
    for (size_t i = 0; i < bytes && i < 256; i++)
        h = mix(h, c[i]);
    return h ^ h >> 32;
}

/* Set same[v] of each constant v to the first constant with the same elements. */
static void merge_constants(fg_program *p, int size, int *table, int *same)
{
    for (int i = 0; i < size; i++)
        table[i] = -1;
    for (int v = 0; v < p->values.n; v++) {
        if (values_of(p)[v].from != CONSTANT)
            continue;
        const fg_array *x = values_of(p)[v].array;
        int at = (int)(hash_array(x) & (uint64_t)(size - 1));
        while (table[at] >= 0 && !fg_same_array(x, values_of(p)[table[at]].array))
            at = (at + 1) & (size - 1);
        if (table[at] >= 0)
            same[v] = table[at];
        else
            table[at] = v;
    }
}

/* Let every operand and output name the first value that is computed by an equal instruction. */
int fg_pass_eliminate_common_subexpressions(fg_program *p)
{
    int n = p->instructions.n, size = 16;
    while (size < 2 * p->values.n)              /* each instruction has made a value */
        size *= 2;
    int *table = malloc((size_t)size * sizeof *table), *same = malloc((size_t)p->values.n * sizeof *same + 1);
    if (!table || !same) {
        free(table);
        free(same);
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    }
    for (int i = 0; i < p->values.n; i++)
        same[i] = i;
    merge_constants(p, size, table, same);
    for (int i = 0; i < size; i++)
        table[i] = -1;
    for (int k = 0; k < n; k++) {
        instruction *a = &instructions_of(p)[k];
        for (int i = 0; i < a->n_in; i++)
            if (operands_of(p, a)[i] >= 0)
                operands_of(p, a)[i] = same[operands_of(p, a)[i]];
        if (fg_draws(a->op, attrs_of(p, a)) || fg_flags(a->op) & FG_IS_DISTINCT)
            continue;
        int at = (int)(hash_instruction(p, a) & (uint64_t)(size - 1));
        while (table[at] >= 0 && !fg_same_instruction(p, a, p, &instructions_of(p)[table[at]]))
            at = (at + 1) & (size - 1);
        if (table[at] >= 0)
            same[a->y] = instructions_of(p)[table[at]].y;
        else
            table[at] = k;
    }
    for (int i = 0; i < p->n_out; i++)
        p->out[i] = same[p->out[i]];
    free(table);
    free(same);
    return FG_OK;
}

/* ---- constant shrinking ------------------------------------------------------------------------------------------ */
static const fg_array *array_at(const fg_program *p, int v) { return values_of(p)[v].array; }

/* Is v a constant of one element, this number with this sign? */
static int is_number(const fg_program *p, int v, double number)
{
    const fg_array *x = array_at(p, v);
    if (values_of(p)[v].from != CONSTANT || !FG_IS_FLOAT(x->dtype) || x->shape->size != 1)
        return 0;
    double found = x->dtype == FG_FLOAT32 ? *(const float *)x->data : *(const double *)x->data;
    return !memcmp(&found, &number, sizeof number);
}

/* Is v a constant whose elements have all the same bits, as the cotangent of a sum is? */
static int is_uniform(const fg_program *p, int v)
{
    const fg_array *x = v < 0 || values_of(p)[v].from != CONSTANT ? NULL : array_at(p, v);
    if (!x || !FG_IS_FLOAT(x->dtype) || x->shape->size < 2)
        return 0;
    size_t itemsize = fg_itemsize(x->dtype);
    return !memcmp(x->data, (const char *)x->data + itemsize, fg_data_bytes(x) - itemsize);
}

static int has_shape_of_result(const fg_program *p, const instruction *a, int i)
{
    int v = operands_of(p, a)[i];
    return v >= 0 && fg_shape_equal(array_at(p, v)->shape, array_at(p, a->y)->shape);
}

/* Can operand i of an instruction be a single element without a change of the result's shape? It can if the instruction
 * is binary or the vjp of a binary one, and its other operand has the result's shape. */
static int can_be_single(const fg_program *p, const instruction *a, int i)
{
    int op = a->op < FG_N_ELEMENTWISE ? a->op : a->op < FG_N_OPS ? 0 : (a->op - FG_N_OPS) / 2;
    return op >= FG_N_UNARY && i < 2 && has_shape_of_result(p, a, a->op < FG_N_ELEMENTWISE ? !i : a->n_in - 1);
}

/* Is operand i the cotangent of an elementwise vjp, and may it be shrunk? It may if each other operand has the shape of
 * the result or is a single element that the kernel broadcasts, and at least one has that shape. */
static int is_only_cotangent(const fg_program *p, const instruction *a, int i)
{
    int is_binary = (a->op - FG_N_OPS) / 2 >= FG_N_UNARY, whole = 0;
    if (a->op < FG_N_OPS || i < a->n_in - 1 || !has_shape_of_result(p, a, i))
        return 0;
    for (int k = 0; k < i; k++) {
        int v = operands_of(p, a)[k], here = has_shape_of_result(p, a, k);
        if (v >= 0 && !here && !(is_binary && k < 2 && array_at(p, v)->shape->size == 1))
            return 0;
        whole += here;
    }
    return whole;
}

static int is_product_vjp(const instruction *a)
{
    return a->op == FG_VJP(FG_OP_multiply, 0) || a->op == FG_VJP(FG_OP_multiply, 1);
}

/* The vjp of a product is the product of one factor with the cotangent. */
static void as_product(const fg_program *p, instruction *a)
{
    int *in = operands_of(p, a);
    in[0] = a->op == FG_VJP(FG_OP_multiply, 0) ? in[1] : in[0];
    in[1] = in[a->n_in - 1];
    a->op = FG_OP_multiply;
    a->n_in = 2;
}

/* A new constant of n elements like the first one of v, or -1: no memory. */
static int shrunk(fg_program *p, int v, int64_t n)
{
    const fg_array *x = array_at(p, v);
    size_t itemsize = fg_itemsize(x->dtype);
    fg_shape *shape = fg_shape_new(n > 1, &n);
    fg_array *y = shape ? fg_array_new(shape, x->dtype) : NULL;
    value *made = y ? fg_list_add(&p->values, sizeof *made) : NULL;
    fg_shape_unref(shape);
    if (!made) {
        fg_array_unref(y);
        return -1;
    }
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)y->data + (size_t)i * itemsize, x->data, itemsize);
    *made = (value){.array = y, .from = CONSTANT};
    return p->values.n - 1;
}

/* Replace a uniform constant
 * (a) by a single element where that can be broadcast. Then its memory is not read, and the next pass sees whether it
 *     is the 1 of a product or the 0 of a sum. The vjp of a product becomes a product for it;
 * (b) where it is the cotangent of another long vjp, whose kernel cannot broadcast it, by a block of elements that each
 *     block of a step reads (is_any_block in lower.c). */
int fg_pass_shrink_constants(fg_program *p)
{
    int n = p->values.n, *made = calloc(2 * (size_t)n + 1, sizeof *made);  /* 0: not known; -1: there is none */
    if (!made)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->instructions.n; k++) {
        instruction *a = &instructions_of(p)[k];
        for (int i = 0; i < a->n_in; i++) {
            int *v = &operands_of(p, a)[i];
            if (*v < 0 || *v >= n || values_of(p)[*v].from != CONSTANT)
                continue;
            int is_cotangent = is_only_cotangent(p, a, i), is_product = is_cotangent && is_product_vjp(a);
            int is_block = is_cotangent && !is_product && array_at(p, a->y)->shape->size >= FG_FUSE_FROM;
            if (!is_product && !is_block && !can_be_single(p, a, i))
                continue;
            int *single = &made[2 * *v + is_block];
            if (!*single && !is_uniform(p, *v))
                made[2 * *v] = made[2 * *v + 1] = -1;
            if (!*single && (*single = shrunk(p, *v, is_block ? FG_BLOCK : 1)) < 0) {
                free(made);
                return FG_NO_MEMORY;
            }
            if (*single > 0) {
                *v = *single;
                if (is_product)
                    as_product(p, a);
            }
        }
    }
    free(made);
    return FG_OK;
}

/* ---- algebraic simplification ------------------------------------------------------------------------------------ */
/* Does a transpose leave all axes where they are? */
static int keeps_order(const fg_program *p, const instruction *t)
{
    for (int i = 0; i < t->n_attr; i++)
        if (attrs_of(p, t)[i] != i)
            return 0;
    return 1;
}

/* The operand that an instruction returns unchanged, bit for bit, or -1. It is -1 for x + 0, because -0 + 0 is 0. */
static int neutral(const fg_program *p, const instruction *a)
{
    const int *in = operands_of(p, a);
    switch (a->op) {
    case FG_OP_multiply:
        return is_number(p, in[1], 1) ? in[0] : is_number(p, in[0], 1) ? in[1] : -1;
    case FG_OP_add:
        return is_number(p, in[1], -0.0) ? in[0] : is_number(p, in[0], -0.0) ? in[1] : -1;
    case FG_OP_divide:
        return is_number(p, in[1], 1) ? in[0] : -1;
    case FG_OP_subtract:
        return is_number(p, in[1], 0.0) ? in[0] : -1;
    case FG_VJP(FG_OP_multiply, 0):
    case FG_VJP(FG_OP_divide, 0):
        return in[1] >= 0 && is_number(p, in[1], 1) ? in[3] : -1;
    case FG_VJP(FG_OP_multiply, 1):
        return in[0] >= 0 && is_number(p, in[0], 1) ? in[3] : -1;
    case FG_OP_transpose:
        return keeps_order(p, a) ? in[0] : -1;
    case FG_OP_positive:
    case FG_OP_cast:
    case FG_OP_reshape:
    case FG_OP_broadcast_to:
        return in[0];                           /* the caller compares dtypes and shapes */
    default:
        return -1;
    }
}

/* The operand of the instruction before a, where a undoes that instruction; or -1. */
static int undone(const fg_program *p, const instruction *a, const int *maker)
{
    if (a->op != FG_OP_negative && a->op != FG_OP_transpose && a->op != FG_OP_cast)
        return -1;
    int m = maker[operands_of(p, a)[0]];
    const instruction *b = m < 0 ? NULL : &instructions_of(p)[m];
    if (!b || b->op != a->op)
        return -1;
    int v = operands_of(p, b)[0];
    if (a->op == FG_OP_cast)                    /* float32 to float64 and back is exact; the caller compares dtypes */
        return array_at(p, v)->dtype == FG_FLOAT32 && attrs_of(p, b)[0] == FG_FLOAT64 ? v : -1;
    for (int i = 0; a->op == FG_OP_transpose && i < a->n_attr; i++)
        if (attrs_of(p, b)[attrs_of(p, a)[i]] != i)
            return -1;
    return v;
}

/* Let the users of an instruction that changes nothing read its operand instead. */
int fg_pass_remove_identities(fg_program *p)
{
    int n = p->values.n, *maker = malloc(2 * (size_t)n * sizeof *maker + 1);
    if (!maker)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    int *same = maker + n;
    for (int v = 0; v < n; v++) {
        maker[v] = -1;
        same[v] = v;
    }
    for (int k = 0; k < p->instructions.n; k++) {
        const instruction *a = &instructions_of(p)[k];
        for (int i = 0; i < a->n_in; i++)
            if (operands_of(p, a)[i] >= 0)
                operands_of(p, a)[i] = same[operands_of(p, a)[i]];
        if (a->op == FG_OP_multiply && operands_of(p, a)[0] == operands_of(p, a)[1] &&
            FG_IS_FLOAT(array_at(p, a->y)->dtype)) {
            instructions_of(p)[k].op = FG_OP_square;    /* the same bits */
            instructions_of(p)[k].n_in = 1;
        }
        int v = neutral(p, a);
        const fg_array *y = array_at(p, a->y), *x = v < 0 ? NULL : array_at(p, v);
        if (!x || x->dtype != y->dtype || !fg_shape_equal(x->shape, y->shape)) {
            v = undone(p, a, maker);
            x = v < 0 ? NULL : array_at(p, v);
        }
        if (x && x->dtype == y->dtype && fg_shape_equal(x->shape, y->shape))
            same[a->y] = v;
        maker[a->y] = k;
    }
    for (int i = 0; i < p->n_out; i++)
        p->out[i] = same[p->out[i]];
    free(maker);
    return FG_OK;
}

/* ---- transpose absorption ---------------------------------------------------------------------------------------- */
/* Does a transpose exchange the last two axes only? Then a product can read its operand transposed. */
static int swaps_last_two(const fg_program *p, const instruction *t)
{
    const int64_t *order = attrs_of(p, t);
    int n = t->n_attr;
    for (int i = 0; i < n - 2; i++)
        if (order[i] != i)
            return 0;
    return n >= 2 && order[n - 2] == n - 1 && order[n - 1] == n - 2;
}

/* Let a product that only transpose t reads make the result of t: (A B)' = B' A', with the same bits. Returns whether
 * it does: not where a BLAS computes the product, whose sums would differ in the last bits. */
static int make_transposed(fg_program *p, instruction *a, instruction *t)
{
    int *in = operands_of(p, a), first = in[0], y = a->y;
    int64_t *flag = attrs_of(p, a), ta = flag[0];
    const fg_array *product = array_at(p, y);
    int64_t m = fg_rows_of(product->shape, 0), n = fg_cols_of(product->shape, 0),
            k = fg_cols_of(array_at(p, first)->shape, (int)ta);
    if (fg_choose_gemm_backend(product->dtype, (int)ta, (int)flag[1], m, n, k) == FG_GEMM_BLAS && k > 1)
        return 0;
    in[0] = in[1];
    in[1] = first;
    flag[0] = !flag[1];
    flag[1] = !ta;
    a->y = t->y;
    t->y = y;                                   /* which nothing reads */
    operands_of(p, t)[0] = a->y;
    return 1;
}

int fg_pass_absorb_transposes(fg_program *p)
{
    int *maker, *uses;
    if (!fg_count_uses(p, &maker, &uses))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->instructions.n; k++) {
        instruction *a = &instructions_of(p)[k];
        maker[a->y] = k;
        for (int i = 0; a->op == FG_OP_matmul && i < 2; i++) {
            int m = maker[operands_of(p, a)[i]];
            const instruction *t = m < 0 ? NULL : &instructions_of(p)[m];
            if (t && t->op == FG_OP_transpose && swaps_last_two(p, t)) {
                operands_of(p, a)[i] = operands_of(p, t)[0];
                attrs_of(p, a)[i] ^= 1;
            }
        }
        int m = a->op == FG_OP_transpose ? maker[operands_of(p, a)[0]] : -1;
        if (m >= 0 && instructions_of(p)[m].op == FG_OP_matmul && uses[operands_of(p, a)[0]] == 1 &&
            swaps_last_two(p, a) && make_transposed(p, &instructions_of(p)[m], a)) {
            maker[a->y] = -1;
            maker[instructions_of(p)[m].y] = m;
        }
    }
    free(maker);
    return FG_OK;
}

/* ---- in-place accumulation --------------------------------------------------------------------------------------- */
int fg_count_uses(const fg_program *p, int **maker, int **uses)
{
    int n = p->values.n;
    *maker = malloc(2 * (size_t)n * sizeof **maker + 1);
    if (!*maker)
        return 0;
    *uses = *maker + n;
    for (int v = 0; v < n; v++)
        (*maker)[v] = -1, (*uses)[v] = 0;
    for (int i = 0; i < p->n_out; i++)
        (*uses)[p->out[i]]++;
    for (int k = 0; k < p->instructions.n; k++)
        for (int i = 0; i < instructions_of(p)[k].n_in; i++)
            if (operands_of(p, &instructions_of(p)[k])[i] >= 0)
                (*uses)[operands_of(p, &instructions_of(p)[k])[i]]++;
    return 1;
}

/* Make instruction a compute product b plus a value, in the memory of that value. */
static int accumulate(fg_program *p, instruction *a, instruction b, int value)
{
    int operand[3] = {operands_of(p, &b)[0], operands_of(p, &b)[1], value}, start = p->operands.n;
    for (int i = 0; i < 3; i++) {
        int *to = fg_list_add(&p->operands, sizeof *to);
        if (!to)
            return FG_NO_MEMORY;
        *to = operand[i];
    }
    *a = (instruction){FG_OP_matmul, 3, b.n_attr, a->y, start, b.attr};
    return FG_OK;
}

/* Of a loop's body: is an instruction the sum of a carried value and a product (or a chain of accumulated ones), which
 * is that carried value in the next iteration? Then the index of the operand that is the product; else -1. */
static int carried_product(const fg_program *p, const instruction *a, const int *maker, const int *uses)
{
    const int *in = operands_of(p, a);
    for (int i = 0; a->op == FG_OP_add && !p->stack_carry && i < 2; i++) {
        int k = carried_to(p, in[!i]), m = maker[in[i]];
        if (k >= 0 && p->out[k] == a->y && uses[in[!i]] == 1 && uses[in[i]] == 1 && m >= 0 &&
            instructions_of(p)[m].op == FG_OP_matmul &&
            fg_shape_equal(values_of(p)[in[0]].array->shape, values_of(p)[in[1]].array->shape))
            return i;
    }
    return -1;
}

/* The sum of two products without other users becomes one product that is added to the memory of the other: so the
 * gradient of a weight that is used several times is accumulated in one buffer. */
int fg_pass_accumulate_products(fg_program *p)
{
    int status = FG_OK, *maker, *uses;
    if (!fg_count_uses(p, &maker, &uses))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->instructions.n; k++) {
        instruction *a = &instructions_of(p)[k];
        int *in = operands_of(p, a), both = a->op == FG_OP_add, carried = carried_product(p, a, maker, uses);
        maker[a->y] = k;
        if (carried >= 0) {
            instruction *first = &instructions_of(p)[maker[in[carried]]], product = *first;
            int value = in[!carried];
            while (is_accumulated(first))
                first = &instructions_of(p)[maker[operands_of(p, first)[2]]];
            if (first->y == product.y)
                status = accumulate(p, a, product, value);
            else if (!(status = accumulate(p, first, *first, value)))
                *a = (instruction){FG_OP_matmul, 3, product.n_attr, a->y, product.in, product.attr};
            if (status)
                break;
            continue;
        }
        for (int i = 0; both && i < 2; i++) {
            int m = maker[in[i]];
            both = uses[in[i]] == 1 && m >= 0 && instructions_of(p)[m].op == FG_OP_matmul &&
                   fg_shape_equal(array_at(p, in[i])->shape, array_at(p, a->y)->shape);
        }
        if (!both)
            continue;
        int later = maker[in[1]] > maker[in[0]], other = in[!later];
        instruction product = instructions_of(p)[maker[in[later]]];
        if (is_accumulated(&product))
            continue;
        if ((status = accumulate(p, a, product, other)))
            break;
    }
    free(maker);
    return status;
}

/* Are both paddings with zeros (unslice), of the same shapes and at the same offsets? */
static int same_padding(const fg_program *p, const instruction *a, const instruction *b)
{
    return a->op == FG_OP_unslice && b->op == FG_OP_unslice && a->n_attr == b->n_attr &&
           !memcmp(attrs_of(p, a), attrs_of(p, b), (size_t)a->n_attr * sizeof(int64_t)) &&
           fg_shape_equal(array_at(p, operands_of(p, a)[0])->shape, array_at(p, operands_of(p, b)[0])->shape);
}

/* The sum of two values that are padded alike and have no other users becomes a padded sum, as for the gradients of
 * equal slices. */
int fg_pass_add_before_padding(fg_program *p)
{
    int *maker, *uses;
    if (!fg_count_uses(p, &maker, &uses))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->instructions.n; k++) {
        instruction *sum = &instructions_of(p)[k];
        int *in = operands_of(p, sum);
        maker[sum->y] = k;
        if (sum->op != FG_OP_add || uses[in[0]] != 1 || uses[in[1]] != 1 || maker[in[0]] < 0 || maker[in[1]] < 0 ||
            !same_padding(p, &instructions_of(p)[maker[in[0]]], &instructions_of(p)[maker[in[1]]]))
            continue;
        instruction *a = &instructions_of(p)[maker[in[0]]], *b = &instructions_of(p)[maker[in[1]]];
        instruction *later = a > b ? a : b, padding = *later;
        value *v = fg_list_add(&p->values, sizeof *v);
        if (!v) {
            free(maker);
            return FG_NO_MEMORY;
        }
        int x = operands_of(p, a)[0], y = operands_of(p, b)[0];
        *v = (value){.array = fg_array_ref((fg_array *)array_at(p, x)), .from = RESULT};
        *later = (instruction){FG_OP_add, 2, 0, p->values.n - 1, sum->in, sum->attr};
        in[0] = x;
        in[1] = y;
        operands_of(p, &padding)[0] = later->y;
        *sum = (instruction){FG_OP_unslice, 1, padding.n_attr, sum->y, padding.in, padding.attr};
    }
    free(maker);
    return FG_OK;
}

/* ---- dead code elimination --------------------------------------------------------------------------------------- */
/* Keep the instructions and the constants that an output depends on. Draws stay, because they advance the generator's
 * state: later draws must give the numbers of the eager run. */
int fg_pass_eliminate_dead_code(fg_program *p)
{
    char *used = calloc((size_t)p->values.n + 1, 1);
    if (!used)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int i = 0; i < p->n_out; i++)
        used[p->out[i]] = 1;
    for (int k = p->instructions.n - 1; k >= 0; k--) {
        const instruction *a = &instructions_of(p)[k];
        used[a->y] |= fg_draws(a->op, attrs_of(p, a));
        for (int i = 0; used[a->y] && i < a->n_in; i++)
            if (operands_of(p, a)[i] >= 0)
                used[operands_of(p, a)[i]] = 1;
    }
    int kept = 0;
    for (int k = 0; k < p->instructions.n; k++)
        if (used[instructions_of(p)[k].y])
            instructions_of(p)[kept++] = instructions_of(p)[k];
    p->instructions.n = kept;
    for (int v = 0; v < p->values.n; v++)
        if (values_of(p)[v].from == CONSTANT && !used[v])
            fg_value_release(&values_of(p)[v]);
    free(used);
    return FG_OK;
}

/* ---- memory of constants ----------------------------------------------------------------------------------------- */
static int64_t rest_of_vector(const fg_array *x) { return -(int64_t)fg_data_bytes(x) & (FG_ALIGN - 1); }

/* The largest constant that is padded: longer operands belong to fused groups, which read no more than their elements.
 * Integers, and with them the states of generators, which change, are read by no step that computes whole vectors. */
enum { LARGEST_PADDED = FG_FUSE_FROM * sizeof(double) };

static int is_padded(const fg_array *x)
{
    return (FG_IS_FLOAT(x->dtype) || x->dtype == FG_BOOL) && fg_data_bytes(x) <= LARGEST_PADDED;
}

int fg_constant_is_padded(const fg_array *x) { return !rest_of_vector(x) || is_padded(x); }

/* A constant in memory of the caller is copied, as its elements may change after the trace, unless nobody writes it. A
 * small one is copied where its last vector is not full, as what comes after it belongs to others, or was never
 * written: the copy has zeros there. */
int fg_pass_own_constants(fg_program *p)
{
    for (int i = 0; i < p->values.n; i++) {
        value *v = &values_of(p)[i];
        const fg_array *root = v->from == CONSTANT && v->array ? fg_array_root(v->array) : NULL;
        int64_t rest = root && is_padded(v->array) ? rest_of_vector(v->array) : 0;
        if (!root || (!rest && (root->storage != FG_FOREIGN || root->frozen)))
            continue;
        fg_array *copy = fg_array_copy(v->array);
        if (!copy)
            return FG_NO_MEMORY;
        memset((char *)copy->data + fg_data_bytes(copy), 0, (size_t)rest);
        fg_value_release(v);
        v->array = copy;
    }
    return FG_OK;
}
