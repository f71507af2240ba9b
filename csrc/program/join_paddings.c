/* join_paddings.c: a pass on instructions: the sum of values that are padded with zeros becomes one instruction.
 *
 * The gradient of several slices of one array is such a sum. Each padding would be an array of the whole size, and each
 * addition a pass over two of them. An `unslice` of several operands writes zeros once, and adds each operand where it
 * belongs, in the order of the sum, so that the bits are the same.
 */
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    fg_program *p;
    int *maker, *uses;  /* fg_count_uses */
} pass;

/* The instruction that pads v with zeros, if nothing reads v but sum y, which does not broadcast it; else NULL. */
static const instruction *padding_of(const pass *a, int v, int y)
{
    int m = a->maker[v];
    const instruction *n = m < 0 ? NULL : &instructions_of(a->p)[m];
    int is_whole = fg_shape_equal(values_of(a->p)[v].array->shape, values_of(a->p)[y].array->shape);
    return n && n->op == FG_OP_unslice && a->uses[v] == 1 && is_whole ? n : NULL;
}

/* Does an addition read v, which is computed by instruction k, and another padding? */
static int is_added_to_a_padding(const pass *a, int k, int v)
{
    const fg_program *p = a->p;
    for (int j = k + 1; a->uses[v] == 1 && j < p->instructions.n; j++) {
        const instruction *n = &instructions_of(p)[j];
        const int *in = operands_of(p, n);
        for (int i = 0; i < n->n_in; i++)
            if (in[i] == v)
                return n->op == FG_OP_add && in[!i] != v && padding_of(a, in[!i], n->y);
    }
    return 0;
}

static int add_item(list *to, size_t size, const void *item)
{
    void *at = fg_list_add(to, size);
    if (at)
        memcpy(at, item, size);
    return at != NULL;
}

/* The padding by `first` and then by `second`, which is by one operand, as an instruction in the place of `sum`. If
 * `first` has as many operands as there may be, its result is the first operand, which needs no zeros around it. If
 * the operands of `first` are the last ones of the list, that of `second` is added there, so that a long sum takes no
 * memory for each of its parts: `first` is not used any more. */
static int join(fg_program *p, const instruction *first, const instruction *second, instruction sum,
                instruction *joined)
{
    const instruction *both[] = {first, second};
    *joined = (instruction){.op = FG_OP_unslice, .y = sum.y, .in = p->operands.n, .attr = p->attrs.n};
    const fg_array *y = values_of(p)[sum.y].array;
    int is_full = first->n_in == FG_MAX_PIECES, copied = 0;
    if (is_full) {
        if (!add_item(&p->operands, sizeof(int), &first->y))
            return FG_NO_MEMORY;
        for (int i = 0; i < 3 * y->shape->ndim; i++)
            if (!add_item(&p->attrs, sizeof(int64_t), &(int64_t[]){0, 1, y->shape->dim[i / 3]}[i % 3]))
                return FG_NO_MEMORY;
        joined->n_in = copied = 1;
        joined->n_attr = 3 * y->shape->ndim;
    } else if (first->in + first->n_in == p->operands.n && first->attr + first->n_attr == p->attrs.n) {
        *joined = *first;
        joined->y = sum.y;
        copied = 1;
    }
    for (; copied < 2; copied++) {
        instruction n = *both[copied];
        for (int i = 0; i < n.n_in; i++, joined->n_in++)
            if (!add_item(&p->operands, sizeof(int), &(int){operands_of(p, &n)[i]}))
                return FG_NO_MEMORY;
        for (int i = 0; i < n.n_attr; i++, joined->n_attr++)
            if (!add_item(&p->attrs, sizeof(int64_t), &(int64_t){attrs_of(p, &n)[i]}))
                return FG_NO_MEMORY;
    }
    return FG_OK;
}

static int find_joined(const fg_program *p, const instruction *joined, fg_joined *found)
{
    const int64_t *part[FG_MAX_PIECES];
    const fg_shape *y = values_of(p)[joined->y].array->shape;
    if (joined->n_in > FG_MAX_PIECES)
        return 0;
    for (int i = 0; i < joined->n_in; i++)
        part[i] = values_of(p)[operands_of(p, joined)[i]].array->shape->dim;
    return fg_joined_find(found, 1, joined->n_in, part, attrs_of(p, joined), y->ndim, y->dim);
}

/* ---- pieces of one place ----------------------------------------------------------------------------------------- */
/* Do pieces i and j of a sum have the same place? */
static int are_in_one_place(const fg_program *p, const instruction *n, int i, int j)
{
    const int64_t *a = attrs_of(p, n) + i * (n->n_attr / n->n_in), *b = attrs_of(p, n) + j * (n->n_attr / n->n_in);
    return !memcmp(a, b, (size_t)(n->n_attr / n->n_in) * sizeof *a) &&
           fg_shape_equal(values_of(p)[operands_of(p, n)[i]].array->shape,
                          values_of(p)[operands_of(p, n)[j]].array->shape);
}

/* Have they elements in common, or may they have? */
static int overlap(const fg_program *p, const instruction *n, int i, int j)
{
    const fg_shape *y = values_of(p)[n->y].array->shape;
    const int64_t *part[2] = {values_of(p)[operands_of(p, n)[i]].array->shape->dim,
                              values_of(p)[operands_of(p, n)[j]].array->shape->dim};
    int64_t attr[2 * 3 * FG_MAX_NDIM], size = n->n_attr / n->n_in;
    fg_joined found;
    memcpy(attr, attrs_of(p, n) + i * size, (size_t)size * sizeof *attr);
    memcpy(attr + size, attrs_of(p, n) + j * size, (size_t)size * sizeof *attr);
    return !fg_joined_find(&found, 1, 2, part, attr, y->ndim, y->dim) || found.common.size;
}

/* The last piece of a sum is added to an earlier one that has the same place, by an instruction in the place of one
 * that is not needed any more: the additions run in the group that computes both, and there is a piece less. The bits
 * are the same if no other piece has elements of theirs. */
static int add_last(fg_program *p, instruction *n, int spare)
{
    int last = n->n_in - 1, i = -1;
    for (int j = 0; j < last; j++)
        if (i < 0 && are_in_one_place(p, n, j, last))
            i = j;
        else if (overlap(p, n, j, last))
            return FG_OK;
    if (i < 0)
        return FG_OK;
    int start = p->operands.n, x = operands_of(p, n)[i], y = operands_of(p, n)[last];
    value *v = fg_list_add(&p->values, sizeof *v);
    if (!v)
        return FG_NO_MEMORY;
    *v = (value){.array = fg_array_ref(values_of(p)[x].array), .from = RESULT};
    if (!add_item(&p->operands, sizeof(int), &x) || !add_item(&p->operands, sizeof(int), &y))
        return FG_NO_MEMORY;
    instructions_of(p)[spare] = (instruction){.op = FG_OP_add, .n_in = 2, .y = p->values.n - 1, .in = start};
    operands_of(p, n)[i] = p->values.n - 1;
    n->n_attr -= n->n_attr / n->n_in;
    n->n_in--;
    return FG_OK;
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */
/* Are two paddings better left alone? Those of few elements are written as fast; and those of most of the elements, in
 * one run, are computed in place (can_pad_in_place in lower.c). */
static int is_better_apart(const fg_joined *found, const fg_shape *y)
{
    int in_place = found->n == 2;
    for (int k = 0; k < 2; k++) {
        const fg_piece *s = &found->piece[k];
        in_place = in_place && 2 * s->size >= y->size && s->dim[1] == 1 && s->step[0] == 1 && s->stride[0] == 1;
    }
    return found->n == 2 && (in_place || y->size < FG_FUSE_FROM);
}

int fg_pass_join_paddings(fg_program *p)
{
    pass a = {.p = p};
    int status = FG_OK;
    if (!fg_count_uses(p, &a.maker, &a.uses))
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int k = 0; k < p->instructions.n; k++)
        a.maker[instructions_of(p)[k].y] = k;
    for (int k = 0; !status && k < p->instructions.n; k++) {
        instruction sum = instructions_of(p)[k], joined;
        const int *in = operands_of(p, &sum);
        fg_joined found;
        const fg_array *y = values_of(p)[sum.y].array;
        const instruction *first = sum.op == FG_OP_add ? padding_of(&a, in[0], sum.y) : NULL;
        const instruction *second = first ? padding_of(&a, in[1], sum.y) : NULL;
        if (!second || !FG_IS_FLOAT(y->dtype) || (first->n_in > 1 && second->n_in > 1))
            continue;
        if (second->n_in > 1) {
            const instruction *swap = first;
            first = second;
            second = swap;
        }
        int one = a.maker[in[0]], other = a.maker[in[1]], later = one > other ? one : other;
        status = join(p, first, second, sum, &joined); /* which moves the list of operands */
        if (!status && find_joined(p, &joined, &found) &&
            (!is_better_apart(&found, y->shape) || is_added_to_a_padding(&a, k, sum.y))) {
            status = first->n_in == FG_MAX_PIECES ? FG_OK : add_last(p, &joined, later);
            instructions_of(p)[k] = joined;
        }
    }
    free(a.maker);
    return status;
}
