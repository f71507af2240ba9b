/* control_flow.c: the operations scan, while_loop and cond: loops and branches whose bodies are programs.
 *
 * The addresses of the bodies come first among the attributes: of scan, the step; of while_loop, the condition and the
 * step; of cond, the two branches. A body is run by replays, which read the operands and write the results where they
 * are, so that an iteration of a loop neither allocates nor copies arrays.
 *
 * All results of such an operation are in one block of bytes, from which the operation `part` takes one: a view in a
 * program. For a carried value the block has two buffers, which are read and written in turn, because an iteration
 * reads the old value while it writes the new one. If carried values are stacked, it has a row for each iteration and
 * one more instead: rows 0 to n - 1 are what came into the iterations, rows 1 to n what went out of them, of the same
 * memory (the other way around if the iterations go from the last row to the first).
 */
#include "program/steps.h"

#include <stdlib.h>
#include <string.h>

/* ---- the block of results --------------------------------------------------------------------------------------- */
/* The attributes of scan after its body: the number of iterations, whether they go from the last row to the first, how
 * many operands are constants and how many are carried, and whether carried values are stacked. Of while_loop, the
 * number of constants is the third attribute. */
enum { LENGTH = 1, REVERSE, CONSTANTS, CARRY, STACKED };

/* Bytes rounded up to whole vectors, at least one, so that every result has an address of its own. */
static int64_t room(int64_t bytes) { return bytes / FG_ALIGN * FG_ALIGN + FG_ALIGN; }

static int n_results(int op, const int64_t *attr) { return fg_body(attr, fg_n_bodies(op) - 1)->n_out; }

/* The offset in the block of what is written for output k of the body; of k = n_results, the size of the block. */
static int64_t output_offset(int op, const int64_t *attr, int k)
{
    const fg_program *p = fg_body(attr, fg_n_bodies(op) - 1);
    int64_t at = 0;
    for (int i = 0; i < k; i++) {
        int64_t bytes = bytes_at(p, p->out[i]);
        if (op == FG_OP_scan && i < attr[CARRY] && attr[STACKED])
            at += room((attr[LENGTH] + 1) * bytes);
        else if (op == FG_OP_while_loop || (op == FG_OP_scan && i < attr[CARRY]))
            at += 2 * room(bytes);
        else
            at += room(op == FG_OP_scan ? attr[LENGTH] * bytes : bytes);
    }
    return at;
}

/* Results from n on are those of a scan that stacks what it carries: first the carried values as they came into each
 * iteration, then (`after`) the same as they left it. Either is all rows of a stack but the last, or all but the first.
 */
int64_t fg_control_flow_offset(int op, const int64_t *attr, int k)
{
    int n = n_results(op, attr), after = k >= n && (k - n) / (int)attr[CARRY];
    if (op != FG_OP_scan || !attr[STACKED] || (k >= attr[CARRY] && k < n))
        return output_offset(op, attr, k);
    const fg_program *p = fg_body(attr, 0);
    int i = k < n ? k : (k - n) % (int)attr[CARRY];
    int64_t first = k < n ? (attr[REVERSE] ? 0 : attr[LENGTH]) : after != (int)attr[REVERSE];
    return output_offset(op, attr, i) + first * bytes_at(p, p->out[i]);
}

static int block_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    double bytes = 0;
    for (int k = 0; k < n_results(c->op, c->attr); k++) {
        const fg_program *p = fg_body(c->attr, fg_n_bodies(c->op) - 1);
        bytes += ((double)bytes_at(p, p->out[k]) + FG_ALIGN) * (c->op == FG_OP_scan ? (double)c->attr[LENGTH] + 2 : 2);
    }
    if (bytes > 1e18)
        return fg_fail(FG_NO_MEMORY, "%s: its results would take %g bytes", fg_ops[c->op].name, bytes);
    *dtype = FG_UINT8;
    int64_t total = output_offset(c->op, c->attr, n_results(c->op, c->attr));
    return fg_shape_made(fg_shape_new(1, &total), shape);
}

int fg_scan_shape(const fg_call *c, fg_shape **shape, int *dtype) { return block_shape(c, shape, dtype); }
int fg_cond_shape(const fg_call *c, fg_shape **shape, int *dtype) { return block_shape(c, shape, dtype); }
int fg_while_loop_shape(const fg_call *c, fg_shape **shape, int *dtype) { return block_shape(c, shape, dtype); }

int fg_part_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = (int)c->attr[1];
    return fg_shape_made(fg_shape_new(c->n_attr - 2, c->attr + 2), shape);
}

static void copy(void *to, const void *from, int64_t bytes)
{
    if (bytes && to != from)
        memcpy(to, from, (size_t)bytes);
}

int fg_part_run(const fg_call *c, fg_array *y)
{
    copy(y->data, (char *)c->in[0].array->data + c->attr[0], y->shape->size * (int64_t)fg_itemsize(y->dtype));
    return FG_OK;
}

/* ---- running bodies --------------------------------------------------------------------------------------------- */
/* The replay of body i: the one that the replay of the program around it keeps, or, outside of programs, one that is
 * taken for this run and given back after it. */
static fg_replay *take_replay(const fg_call *c, int i)
{
    return c->replay ? c->replay[i] : fg_replay_take(fg_body(c->attr, i));
}

static void give_back(const fg_call *c, int i, fg_replay *r)
{
    if (r && !c->replay)
        fg_replay_give(fg_body(c->attr, i), r);
}

/* To and from the memory of an arena-resident value, which is a whole vector. */
static void widen(int64_t bytes, const void *from, void *to)
{
    fg_kernels[FG_FLOAT32].elementwise->widen(bytes / FG_WORD, from, to);
}

static void narrow(int64_t bytes, const void *from, void *to)
{
    fg_kernels[FG_FLOAT32].elementwise->narrow(bytes / FG_WORD, from, to);
}

static void set_input(const fg_program *p, fg_replay *r, int i, void *at)
{
    if (is_arena_resident(p, i))
        widen(bytes_at(p, i), at, fg_replay_address(r)[i]);
    else
        fg_replay_address(r)[i] = at;
}

static void set_inputs(const fg_program *p, fg_replay *r, const fg_tensor *in, int n)
{
    for (int i = 0; i < n; i++)
        set_input(p, r, i, in[i].array->data);
}

/* An estimate of the nanoseconds of an iteration. */
static double duration(const fg_program *p) { return p->work + 10; }

/* After an iteration: call fg_on_pause if an estimated millisecond has passed since the last call. */
static int take_pause(double *since, double time)
{
    if (!fg_on_pause || (*since += time) < 1e6)
        return FG_OK;
    *since = 0;
    return fg_on_pause();
}

/* Where an input or output of a body is from iteration to iteration. Its address advances by `stride` bytes, or
 * alternates between `at` and `other`. An arena-resident one keeps its address, and is copied from `at` before an
 * iteration, or to it after. */
typedef struct {
    void **address;             /* an entry of the replay's address array */
    char *at, *other;
    int64_t stride, words;      /* words: its size, where it is copied */
} cursor;

typedef struct {
    int n;
    cursor *x;
} cursors;

static void advance(const cursors *m)
{
    for (cursor *x = m->x, *end = x + m->n; x < end; x++) {
        char *at = *x->address = x->at;
        if (x->other) {
            x->at = x->other;
            x->other = at;
        } else {
            x->at += x->stride;
        }
    }
}

/* `how` is widen or narrow. */
static void copy_resident(const cursors *m, int in, void (*how)(int64_t n, const void *x, void *y))
{
    for (cursor *x = m->x, *end = x + m->n; x < end; x++) {
        how(x->words, in ? x->at : *x->address, in ? *x->address : x->at);
        x->at += x->stride;
    }
}

/* Set up carried value k, whose part of the block begins at `block`. It alternates between two buffers, starting so
 * that it ends in the first, or advances from row to row of its stack; it stays where it is if the body adds to it in
 * place. An arena-resident one stays in the body's arena, and is copied from output to input if these have different
 * offsets. */
static void begin_carried(const fg_call *c, int k, char *block, fg_replay *r, cursors *advancing, cursors *after,
                          cursors *between)
{
    fg_program *p = fg_body(c->attr, 0);
    int input = (int)c->attr[CONSTANTS] + k;
    void **in = fg_replay_address(r) + input, **out = fg_replay_address(r) + p->n_in + k;
    int64_t length = c->attr[LENGTH], bytes = bytes_at(p, input), stride = c->attr[REVERSE] ? -bytes : bytes;
    char *from = block, *to = block;
    if (c->attr[STACKED])
        from += c->attr[REVERSE] ? length * bytes : 0;
    else if (!is_arena_resident(p, input) && !fg_program_in_place(p, input))
        *(length % 2 ? &from : &to) += room(bytes);
    copy(from, c->in[input].array->data, bytes);
    if (is_arena_resident(p, input)) {
        widen(bytes, from, *in);
        if (c->attr[STACKED])
            after->x[after->n++] = (cursor){out, from + stride, NULL, stride, bytes / FG_WORD};
        if (*in != *out)
            between->x[between->n++] = (cursor){in, *out, NULL, 0, bytes / FG_WORD};
    } else if (c->attr[STACKED]) {
        advancing->x[advancing->n++] = (cursor){in, from, NULL, stride, bytes / FG_WORD};
        advancing->x[advancing->n++] = (cursor){out, from + stride, NULL, stride, bytes / FG_WORD};
    } else {
        advancing->x[advancing->n++] = (cursor){in, from, to, 0, 0};
        advancing->x[advancing->n++] = (cursor){out, to, from, 0, 0};
    }
}

int fg_scan_run(const fg_call *c, fg_array *y)
{
    fg_program *p = fg_body(c->attr, 0);
    int64_t length = c->attr[LENGTH], sign = c->attr[REVERSE] ? -1 : 1, first = c->attr[REVERSE] ? length - 1 : 0;
    int n_constants = (int)c->attr[CONSTANTS], n = (int)c->attr[CARRY], most = p->n_in + p->n_out;
    fg_replay *r = take_replay(c, 0);
    cursor *all = r ? malloc((size_t)(4 * most) * sizeof *all + 1) : NULL;
    if (!all) {
        give_back(c, 0, r);
        return fg_fail(FG_NO_MEMORY, "no memory for a loop");
    }
    /* Not resident; resident and copied before an iteration, after it, or between two iterations within the arena. */
    cursors advancing = {0, all}, before = {0, all + most}, after = {0, all + 2 * most}, between = {0, all + 3 * most};
    set_inputs(p, r, c->in, n_constants);
    for (int k = 0; k < n; k++)
        begin_carried(c, k, (char *)y->data + output_offset(c->op, c->attr, k), r, &advancing, &after, &between);
    for (int i = n_constants + n; i < p->n_in; i++) {
        int64_t bytes = bytes_at(p, i);
        cursors *m = is_arena_resident(p, i) ? &before : &advancing;
        char *row = (char *)c->in[i].array->data + first * bytes;
        m->x[m->n++] = (cursor){fg_replay_address(r) + i, row, NULL, sign * bytes, bytes / FG_WORD};
    }
    for (int k = n; k < p->n_out; k++) {
        int64_t bytes = bytes_at(p, p->out[k]);
        cursors *m = is_arena_resident(p, p->out[k]) ? &after : &advancing;
        char *row = (char *)y->data + output_offset(c->op, c->attr, k) + first * bytes;
        m->x[m->n++] = (cursor){fg_replay_address(r) + p->n_in + k, row, NULL, sign * bytes, bytes / FG_WORD};
    }
    int status = FG_OK;
    double since = 0, time = duration(p);
    const fg_elementwise_kernels *kernels = fg_kernels[FG_FLOAT32].elementwise;
    for (int64_t t = 0; !status && t < length; t++) {
        advance(&advancing);
        copy_resident(&before, 1, kernels->widen);
        status = fg_replay_run_again(p, r, t ? n_constants : 0);
        status = status ? fg_refused_in_step(status, first + sign * t) : take_pause(&since, time);
        copy_resident(&after, 0, kernels->narrow);
        copy_resident(&between, 1, kernels->widen);
    }
    for (int k = 0; !status && k < n; k++)
        if (is_arena_resident(p, n_constants + k) && !c->attr[STACKED])
            narrow(bytes_at(p, n_constants + k), fg_replay_address(r)[n_constants + k],
                   (char *)y->data + output_offset(c->op, c->attr, k));
    free(all);
    give_back(c, 0, r);
    return status;
}

int fg_while_loop_run(const fg_call *c, fg_array *y)
{
    fg_program *test = fg_body(c->attr, 0), *p = fg_body(c->attr, 1);
    int n = p->n_out, n_constants = (int)c->attr[2], status = FG_OK;
    fg_replay *test_r = take_replay(c, 0), *r = test_r ? take_replay(c, 1) : NULL;
    char *block = y->data;                      /* of carried value k: two buffers, the first of which is read */
    uint8_t holds = 1;                          /* the condition */
    if (!r)
        status = FG_NO_MEMORY;
    for (int k = 0; !status && k < n; k++) {
        int64_t bytes = bytes_at(p, p->out[k]);
        copy(block, c->in[n_constants + k].array->data, bytes);
        set_input(test, test_r, n_constants + k, block);
        set_input(p, r, n_constants + k, block);
        if (!is_arena_resident(p, n_constants + k))
            fg_replay_address(r)[p->n_in + k] = block + room(bytes);
        block += 2 * room(bytes);
    }
    if (!status) {
        set_inputs(test, test_r, c->in, n_constants);
        set_inputs(p, r, c->in, n_constants);
        fg_replay_address(test_r)[test->n_in] = &holds;
    }
    double since = 0, time = duration(test) + duration(p);
    int swapped = 0;                            /* the present values are in the second buffers */
    int64_t step = 0;
    for (int from = 0; !status; from = n_constants, swapped = !swapped, step++) {
        if ((status = fg_replay_run_again(test, test_r, from)) || !holds) {
            status = fg_refused_in_step(status, step);
            break;
        }
        status = fg_replay_run_again(p, r, from);
        status = status ? fg_refused_in_step(status, step) : take_pause(&since, time);
        for (int k = 0; k < n; k++) {
            void **in = fg_replay_address(r) + n_constants + k, **out = fg_replay_address(r) + p->n_in + k, *read = *in;
            if (is_arena_resident(p, n_constants + k)) {
                int64_t bytes = bytes_at(p, n_constants + k);
                widen(bytes, *out, fg_replay_address(test_r)[n_constants + k]);
                widen(bytes, *out, *in);
            } else {
                *in = fg_replay_address(test_r)[n_constants + k] = *out;
                *out = read;
            }
        }
    }
    block = y->data;
    for (int k = 0; !status && k < n; k++) {
        int64_t bytes = bytes_at(p, p->out[k]);
        if (is_arena_resident(p, n_constants + k))
            narrow(bytes, fg_replay_address(r)[n_constants + k], block);
        else if (swapped)
            copy(block, fg_replay_address(r)[n_constants + k], bytes);
        block += 2 * room(bytes);
    }
    give_back(c, 0, test_r);
    give_back(c, 1, r);
    return status;
}

int fg_cond_run(const fg_call *c, fg_array *y)
{
    int i = !*(const uint8_t *)c->in[0].array->data;
    fg_program *p = fg_body(c->attr, i);
    fg_replay *r = take_replay(c, i);
    if (!r)
        return FG_NO_MEMORY;
    set_inputs(p, r, c->in + 1, p->n_in);
    char *at = y->data;
    for (int k = 0; k < p->n_out; at += room(bytes_at(p, p->out[k++])))
        if (!is_arena_resident(p, p->out[k]))
            fg_replay_address(r)[p->n_in + k] = at;
    int status = fg_replay_run(p, r);
    at = y->data;
    for (int k = 0; k < p->n_out; at += room(bytes_at(p, p->out[k++])))
        if (is_arena_resident(p, p->out[k]))
            narrow(bytes_at(p, p->out[k]), fg_replay_address(r)[p->n_in + k], at);
    give_back(c, i, r);
    return status;
}
