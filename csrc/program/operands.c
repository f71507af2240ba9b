/* operands.c: a part of lowering: operands that a long elementwise instruction does not read element by element.
 *
 * A row that is broadcast along the leading axes is repeated in a buffer, once. Where each element of an operand stands
 * for a long run, such as a column that is broadcast along rows, a step calls its kernel for each run, with that single
 * element. Any other operand that is broadcast, a slice, or an array whose outer axes have been moved, is read with
 * strides: each group that reads it loads it, one block at a time. So the instructions are flat steps, a chain of them
 * is one group, and no such operand is ever in memory as a whole.
 */
#include "program/passes.h"
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_RUN = 32 }; /* a shorter run of equal elements is loaded: a call of a kernel takes longer */

/* Is v a row of at least 2 elements that is broadcast along y's leading axes to y's shape? */
static int is_row(const fg_program *p, int v, int y)
{
    const fg_shape *row = shape_at(p, v), *whole = shape_at(p, y);
    int axes = row->ndim;
    while (axes && row->dim[row->ndim - axes] == 1)
        axes--;
    if (row->size < 2 || axes >= whole->ndim)
        return 0;
    for (int i = 1; i <= axes; i++)
        if (row->dim[row->ndim - i] != whole->dim[whole->ndim - i])
            return 0;
    return row->size < whole->size;
}

/* Is operand i the cotangent of an elementwise vjp, and only a block of equal elements that stands for a larger array?
 * (fg_pass_shrink_constants) */
static int is_any_block(const fg_program *p, const instruction *a, int i)
{
    return a->op >= FG_N_OPS && i == a->n_in - 1 && shape_at(p, operands_of(p, a)[i])->size < shape_at(p, a->y)->size;
}

/* Is an instruction a long elementwise step, once its operands are read as if they had the result's shape? */
static int is_long_flat(const fg_program *p, const instruction *a)
{
    step s = {.kind = RUN, .op = a->op, .n_in = a->n_in, .in = operands_of(p, a)};
    if (a->n_in && shape_at(p, a->y)->size >= FG_FUSE_FROM)
        fg_choose_kernel(p, &s);
    return s.kind != RUN && s.kind != LOOP_STEP && a->op != FG_OP_broadcast_to;
}

/* ---- reading with strides ---------------------------------------------------------------------------------------- */
int fg_find_strides(const fg_program *p, const instruction *a, fg_strided *found)
{
    *found = (fg_strided){0};
    if (a->op != FG_OP_broadcast_to && a->op != FG_OP_transpose && a->op != FG_OP_slice)
        return 0;
    const fg_shape *x = shape_at(p, operands_of(p, a)[0]), *y = shape_at(p, a->y);
    const int64_t *attr = attrs_of(p, a);
    int64_t own[FG_MAX_NDIM], extent = 1;
    for (int i = x->ndim - 1; i >= 0; extent *= x->dim[i--])
        own[i] = extent;
    for (int i = y->ndim - 1; i >= 0; i--) {
        int64_t stride;
        int j = i - (y->ndim - x->ndim);
        if (a->op == FG_OP_broadcast_to)
            stride = j < 0 || x->dim[j] == 1 ? 0 : own[j];
        else if (a->op == FG_OP_transpose)
            stride = own[attr[i]];
        else
            stride = own[i] * attr[3 * i + 1];
        if (a->op == FG_OP_slice)
            found->shift += own[i] * attr[3 * i];
        if (!fg_strided_add(found, y->dim[i], stride))
            return 0;
    }
    return found->ndim > 0;
}

int fg_find_joined(const fg_program *p, const instruction *a, fg_joined *found)
{
    const int64_t *part[FG_MAX_PIECES];
    fg_joined own;
    if ((a->op != FG_OP_unslice && a->op != FG_OP_concatenate) || a->n_in > FG_MAX_PIECES)
        return 0;
    for (int k = 0; k < a->n_in; k++)
        part[k] = shape_at(p, operands_of(p, a)[k])->dim;
    return fg_joined_find(found ? found : &own, a->op == FG_OP_unslice, a->n_in, part, attrs_of(p, a),
                          shape_at(p, a->y)->ndim, shape_at(p, a->y)->dim);
}

/* Does an instruction gather the rows of an array, which are named by a constant and in range? Then nothing can fail
 * while a group runs. The constant is in memory of the program's own: the caller may make a read-only array writable
 * again. The array of the rows is small, as several groups may read it, in any order. */
static int gathers_rows(const fg_program *p, const instruction *a)
{
    enum { LARGEST = 1 << 20 };
    if (a->op != FG_OP_take || attrs_of(p, a)[1])
        return 0;
    int v = operands_of(p, a)[0], index = operands_of(p, a)[1];
    int64_t axis = attrs_of(p, a)[0], length = shape_at(p, v)->dim[axis];
    const int64_t *i = p->buffer[index].array.data;
    if (bytes_at(p, v) > LARGEST || !shape_at(p, v)->size || !i || fg_array_root(values_of(p)[index].array)->frozen)
        return 0;
    for (int64_t k = 0; k < axis; k++)
        if (shape_at(p, v)->dim[k] != 1)
            return 0;
    for (int64_t k = 0; k < shape_at(p, index)->size; k++)
        if (i[k] < -length || i[k] >= length)
            return 0;
    return 1;
}

/* Is the value of instruction m worth loading a block at a time from its operands, instead of being stored? Then these
 * live as long as its readers, so what is sliced must not be much larger, unless it is in memory anyway. */
static int is_loadable(const fg_program *p, const instruction *m)
{
    const fg_shape *y = shape_at(p, m->y);
    fg_strided strided;
    if (p->buffer[m->y].root != m->y || p->buffer[m->y].padded_in_place)
        return 0;
    if (m->op == FG_OP_unslice || m->op == FG_OP_concatenate)
        return fg_find_joined(p, m, NULL);
    if (m->op == FG_OP_take)
        return gathers_rows(p, m);
    if (!fg_find_strides(p, m, &strided))
        return 0;
    int v = operands_of(p, m)[0];
    if (m->op == FG_OP_broadcast_to)
        return shape_at(p, v)->size > 1;
    return shape_at(p, v)->size <= 4 * y->size || values_of(p)[p->buffer[v].root].from != RESULT;
}

/* Does a kernel take a single element as operand i of an instruction? A derivative's does for the first operands of a
 * binary operation, but not for its result and cotangent. */
static int takes_single(const instruction *a, int i)
{
    if (a->op >= FG_N_OPS)
        return (a->op - FG_N_OPS) / 2 >= FG_N_UNARY && i < 2;
    return a->op == FG_OP_where || (a->op >= FG_N_UNARY && a->op < FG_N_ELEMENTWISE) ||
           (a->op >= FG_OP_less && a->op <= FG_OP_not_equal);
}

/* How often an instruction reads each element of the operand that *spread broadcasts to its shape, if it can read
 * that as operand i in runs; else 0. */
static int64_t run_of(const fg_program *p, const instruction *a, int i, const instruction *spread)
{
    const fg_shape *x = shape_at(p, operands_of(p, spread)[0]), *y = shape_at(p, a->y);
    fg_strided t;
    if (!takes_single(a, i) || x->size < 2 || x->size >= y->size || y->size < FG_FUSE_FROM ||
        !fg_find_strides(p, spread, &t))
        return 0;
    int is_run = (t.ndim == 2 || (t.ndim == 3 && t.stride[2] == 0)) && t.stride[0] == 0 && t.stride[1] == 1;
    return is_run && t.dim[0] >= LEAST_RUN ? t.dim[0] : 0;
}

static int64_t run_as_it_is(const fg_program *p, const instruction *a, int i)
{
    int v = operands_of(p, a)[i];
    instruction spread = {.op = FG_OP_broadcast_to, .n_in = 1, .y = a->y, .in = a->in + i};
    return v < 0 || p->buffer[v].period || shape_at(p, v)->ndim > shape_at(p, a->y)->ndim ? 0
                                                                                          : run_of(p, a, i, &spread);
}

int64_t fg_run_of_operand(const fg_program *p, const instruction *a, int i)
{
    int v = operands_of(p, a)[i];
    int64_t run = run_as_it_is(p, a, i);
    for (int j = 0; !run && v >= 0 && !p->buffer[v].period && j < a->n_in; j++)
        if (j != i && is_row(p, v, a->y) && run_as_it_is(p, a, j) == shape_at(p, v)->size)
            run = FG_ROW;
    return run;
}

static int add_buffer(fg_program *p, buffer b)
{
    buffer *grown = realloc(p->buffer, (size_t)(p->n_buffers + 1) * sizeof *grown);
    if (!grown) {
        fg_shape_unref(b.array.shape);
        fg_fail(FG_NO_MEMORY, "no memory for a program");
        return -1;
    }
    p->buffer = grown;
    b.root = p->n_buffers;
    b.output = -1;
    b.offset = -1;
    p->buffer[p->n_buffers] = b;
    return p->n_buffers++;
}

/* A new buffer on the memory of v, a constant block of equal elements, of which every block reads the same; -1: no
 * memory. */
static int same_in_blocks(fg_program *p, int v)
{
    fg_shape_ref(shape_at(p, v));
    return add_buffer(p, (buffer){.array = p->buffer[v].array, .period = 1});
}

/* A new buffer of row v repeated, so often that a block may begin anywhere in its first copy; -1: no memory. */
static int repeated(fg_program *p, int v)
{
    const fg_shape *row = shape_at(p, v);
    int64_t dim[FG_MAX_NDIM], copies = 1 + (FG_BLOCK + row->size - 2) / row->size;
    int lead = row->dim[0] != 1;
    for (int i = 0; i < row->ndim; i++)
        dim[i + lead] = row->dim[i];
    dim[0] = copies;
    fg_shape *shape = fg_shape_new(row->ndim + lead, dim);
    if (!shape) {
        fg_fail(FG_NO_MEMORY, "no memory for a program");
        return -1;
    }
    return add_buffer(
        p, (buffer){.array = {.refs = 1, .dtype = p->buffer[v].array.dtype, .storage = FG_OWNED, .shape = shape},
                    .period = row->size});
}

/* A new buffer that the group which reads it loads a block at a time; -1: no memory. */
static int loaded(fg_program *p, int dtype, fg_shape *shape)
{
    fg_shape_ref(shape);
    return add_buffer(p,
                      (buffer){.array = {.refs = 1, .dtype = dtype, .storage = FG_OWNED, .shape = shape}, .loaded = 1});
}

static int add_repetition(fg_program *p, list *instructions, int v, int copy)
{
    int *operand = fg_list_add(&p->operands, sizeof *operand);
    instruction *n = operand ? fg_list_add(instructions, sizeof *n) : NULL;
    if (!n)
        return FG_NO_MEMORY;
    *operand = v;
    *n = (instruction){.op = FG_OP_broadcast_to, .n_in = 1, .y = copy, .in = p->operands.n - 1};
    return FG_OK;
}

/* Append an instruction like a, with operands of its own, as those of a are about to change. */
static int add_load(fg_program *p, list *instructions, instruction a)
{
    instruction *n = fg_list_add(instructions, sizeof *n);
    int start = p->operands.n;
    for (int i = 0; n && i < a.n_in; i++) {
        int *operand = fg_list_add(&p->operands, sizeof *operand);
        if (!operand)
            return FG_NO_MEMORY;
        *operand = operands_of(p, &a)[i];
    }
    if (!n)
        return FG_NO_MEMORY;
    *n = a;
    n->in = start;
    return FG_OK;
}

typedef struct {
    fg_program *p;
    int n;                      /* values before this pass */
    int *copy;                  /* of each of these: the buffer where it is repeated, or 0 */
    int *maker;                 /* and the instruction that computes it, or -1; */
    int *is_whole;              /* and is it in memory as a whole anyway? */
    list instructions;          /* the new ones */
    int changed;                /* is any operand read otherwise than before? */
} pass;

/* How a long elementwise instruction reads its operand i, if that is not element by element and no single element: a
 * block of equal elements or a row, which is repeated; in runs of equal elements; or with strides, from pieces or by
 * index, as instruction *load. */
typedef enum { AS_IT_IS, ANY_BLOCK, ROW, IN_RUNS, STRIDED, TOO_MANY_AXES } reading;

/* Is the second of two values of one size the first with leading axes of length 1, if with any? Then what the first is
 * broadcast from is broadcast to the second as well. */
static int adds_leading_axes(const fg_shape *x, const fg_shape *y)
{
    for (int i = 1; i <= x->ndim && i <= y->ndim; i++)
        if (x->dim[x->ndim - i] != y->dim[y->ndim - i])
            return 0;
    return x->ndim <= y->ndim;
}

static reading reading_of(const pass *a, const instruction *reader, int i, instruction *load)
{
    const fg_program *p = a->p;
    int v = operands_of(p, reader)[i];
    if (v < 0 || v >= a->n || shape_at(p, v)->size == 1)
        return AS_IT_IS;
    *load = (instruction){.op = FG_OP_broadcast_to, .n_in = 1, .y = reader->y, .in = reader->in + i};
    if (shape_at(p, v)->size == shape_at(p, reader->y)->size) {
        const instruction *m = a->maker[v] < 0 ? NULL : &instructions_of(p)[a->maker[v]];
        while (m && m->op == FG_OP_reshape && a->maker[operands_of(p, m)[0]] >= 0)
            m = &instructions_of(p)[a->maker[operands_of(p, m)[0]]];
        if (!m || (m->op != FG_OP_broadcast_to && (a->is_whole[v] || a->is_whole[m->y])) || !is_loadable(p, m))
            return AS_IT_IS;
        *load = *m;
    } else if (is_any_block(p, reader, i)) {
        return ANY_BLOCK;
    }
    fg_strided strided;
    if (load->op == FG_OP_unslice || load->op == FG_OP_concatenate || load->op == FG_OP_take)
        return STRIDED;
    if (load->op == FG_OP_broadcast_to && is_row(p, operands_of(p, load)[0], load->y))
        return ROW;
    if (load->op == FG_OP_broadcast_to && run_of(p, reader, i, load) &&
        adds_leading_axes(shape_at(p, load->y), shape_at(p, reader->y)))
        return IN_RUNS;
    return fg_find_strides(p, load, &strided) ? STRIDED : TOO_MANY_AXES;
}

/* Let all operands of an instruction be read so, if it is a long elementwise one. */
static int load_operands(pass *a, const instruction *reader)
{
    fg_program *p = a->p;
    instruction load;
    if (!is_long_flat(p, reader))
        return FG_OK;
    int64_t run = 0;
    for (int i = 0; i < reader->n_in; i++) {
        reading how = reading_of(a, reader, i, &load);
        if (how == TOO_MANY_AXES)
            return FG_OK;
        if (how == IN_RUNS && !run)
            run = run_of(p, reader, i, &load);
    }
    for (int i = 0; i < reader->n_in; i++) {
        reading how = reading_of(a, reader, i, &load);
        if (how == AS_IT_IS)
            continue;
        int v = operands_of(p, &load)[0], y, status;
        int64_t own = how == IN_RUNS ? run_of(p, reader, i, &load) : how == ROW ? shape_at(p, v)->size : 0;
        if (own && own == run && adds_leading_axes(shape_at(p, load.y), shape_at(p, reader->y))) {
            y = v;
        } else if (how == ANY_BLOCK || how == ROW) {
            if (!a->copy[v] && (a->copy[v] = how == ANY_BLOCK ? same_in_blocks(p, v) : repeated(p, v)) < 0)
                return FG_NO_MEMORY;
            y = a->copy[v];
        } else {
            if ((y = loaded(p, p->buffer[v].array.dtype, shape_at(p, load.y))) < 0)
                return FG_NO_MEMORY;
            load.y = y;
            if ((status = add_load(p, &a->instructions, load)))
                return status;
        }
        operands_of(p, reader)[i] = y;
        a->changed = 1;
    }
    return FG_OK;
}

/* Remove the instructions that moved elements for operands that are loaded now. */
static int remove_unread(fg_program *p)
{
    int *uses = calloc((size_t)p->n_buffers + 1, sizeof *uses), kept = p->instructions.n;
    if (!uses)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    for (int i = 0; i < p->n_out; i++)
        uses[p->out[i]]++;
    for (int k = 0; k < p->instructions.n; k++)
        for (int i = 0; i < instructions_of(p)[k].n_in; i++)
            if (operands_of(p, &instructions_of(p)[k])[i] >= 0)
                uses[operands_of(p, &instructions_of(p)[k])[i]]++;
    for (int k = p->instructions.n - 1; k >= 0; k--) {
        instruction a = instructions_of(p)[k];
        int moves = a.op == FG_OP_broadcast_to || a.op == FG_OP_slice || a.op == FG_OP_transpose ||
                    a.op == FG_OP_unslice || a.op == FG_OP_concatenate || a.op == FG_OP_take || a.op == FG_OP_reshape;
        for (int i = 0; !uses[a.y] && moves && i < a.n_in; i++)
            uses[operands_of(p, &a)[i]]--;
        if (uses[a.y] || !moves)
            instructions_of(p)[--kept] = a;
    }
    memmove(p->instructions.item, instructions_of(p) + kept, (size_t)(p->instructions.n - kept) * sizeof(instruction));
    p->instructions.n -= kept;
    free(uses);
    return FG_OK;
}

/* Replace the instructions by the new ones, with the repetitions of rows. */
static int insert_repetitions(pass *a)
{
    fg_program *p = a->p;
    list new = {0, 0, NULL};
    int status = FG_OK;
    for (int v = 0; !status && v < a->n; v++)
        if (a->copy[v] && !p->buffer[a->copy[v]].array.data && a->maker[v] < 0)
            status = add_repetition(p, &new, v, a->copy[v]);
    for (int k = 0; !status && k < a->instructions.n; k++) {
        instruction x = ((instruction *)a->instructions.item)[k], *b = fg_list_add(&new, sizeof *b);
        if (!b)
            status = FG_NO_MEMORY;
        else
            *b = x;
        if (b && x.y < a->n && a->copy[x.y])
            status = add_repetition(p, &new, x.y, a->copy[x.y]);
    }
    if (!status) {
        list old = p->instructions;
        p->instructions = new;
        new = old;
    }
    free(new.item);
    return status;
}

/* Find the values that are in memory as a whole: those that outputs and instructions other than long elementwise ones
 * read, themselves or in another shape. */
static void find_whole(pass *a)
{
    const fg_program *p = a->p;
    for (int i = 0; i < p->n_out; i++)
        if (p->out[i] < a->n)
            a->is_whole[p->out[i]] = 1;
    for (int k = p->instructions.n - 1; k >= 0; k--) {
        const instruction *reader = &instructions_of(p)[k];
        int is_read = reader->op == FG_OP_reshape ? a->is_whole[reader->y] : !is_long_flat(p, reader);
        for (int i = 0; i < reader->n_in && is_read; i++)
            if (operands_of(p, reader)[i] >= 0)
                a->is_whole[operands_of(p, reader)[i]] = 1;
    }
}

int fg_load_operands(fg_program *p)
{
    int n = p->n_buffers, n_instructions = p->instructions.n, status = FG_OK;
    pass a = {p, n, calloc(3 * (size_t)n + 1, sizeof(int)), NULL, NULL, {0, 0, NULL}, 0};
    if (!a.copy)
        return fg_fail(FG_NO_MEMORY, "no memory for a program");
    a.maker = a.copy + n;
    a.is_whole = a.maker + n;
    for (int v = 0; v < n; v++)
        a.maker[v] = -1;
    for (int k = 0; k < n_instructions; k++)
        a.maker[instructions_of(p)[k].y] = k;
    find_whole(&a);
    for (int k = 0; !status && k < n_instructions; k++) {
        instruction x = instructions_of(p)[k];
        status = load_operands(&a, &x);
        instruction *b = status ? NULL : fg_list_add(&a.instructions, sizeof *b);
        if (b)
            *b = x;
        else
            status = status ? status : FG_NO_MEMORY;
    }
    if (!status && p->n_buffers > n)
        status = insert_repetitions(&a);
    if (!status && a.changed)
        status = remove_unread(p);
    free(a.copy);
    free(a.instructions.item);
    return status;
}
