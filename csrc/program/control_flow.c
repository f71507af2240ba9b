/* control_flow.c: loops and branches as single operations.
 *
 * Their work is given by programs, the bodies, whose addresses come first among the attributes: of scan and
 * while_loop, a step; of cond, the two branches. A body is run by replays, which read and write right where the
 * operands and the results lie, so that a step neither allocates nor copies arrays.
 *
 * All results of such an operation lie in one block of bytes, of which `part` takes one out: a view in a program. A
 * carried value has two places there, written in turn, as a step reads the old value while it writes the new one, or a
 * row for each step and one more: the values that came into the steps and those that went out of them are stacks in the
 * same memory.
 */
#include "record/ir.h"

#include <stdlib.h>
#include <string.h>

int (*fg_on_pause)(void);

int fg_n_bodies(int op) { return (int)(fg_flags(op) >> FG_BODIES_SHIFT); }

fg_program *fg_body(const int64_t *attr, int i) { return (fg_program *)(intptr_t)attr[i]; }

int fg_draws(int op, const int64_t *attr)
{
    int draws = (fg_flags(op) & FG_DRAWS) != 0;
    for (int i = 0; i < fg_n_bodies(op); i++)
        draws |= fg_body(attr, i)->draws;
    return draws;
}

/* ---- where results lie ------------------------------------------------------------------------------------------ */
/* Attributes of scan, of which the last tells whether what is carried is to be stacked; of while_loop the third:
 * constants. */
enum { LENGTH = 1, REVERSE, CONSTANTS, CARRY, STACKED };

static int64_t room(int64_t bytes) { return bytes / FG_ALIGN * FG_ALIGN + FG_ALIGN; }   /* also of nothing */

static int n_results(int op, const int64_t *attr) { return fg_body(attr, fg_n_bodies(op) - 1)->n_out; }

/* Where what is written for output k of the body begins; behind the last, the end of the block. */
static int64_t place_of(int op, const int64_t *attr, int k)
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

int64_t fg_control_flow_offset(int op, const int64_t *attr, int k)
{
    int n = n_results(op, attr), after = k >= n && (k - n) / (int)attr[CARRY];
    if (op != FG_OP_scan || !attr[STACKED] || (k >= attr[CARRY] && k < n))
        return place_of(op, attr, k);
    const fg_program *p = fg_body(attr, 0);
    int i = k < n ? k : (k - n) % (int)attr[CARRY];
    int64_t first = k < n ? (attr[REVERSE] ? 0 : attr[LENGTH]) : after != (int)attr[REVERSE];
    return place_of(op, attr, i) + first * bytes_at(p, p->out[i]);
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
    int64_t total = place_of(c->op, c->attr, n_results(c->op, c->attr));
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
/* The replay of body i: the one that a replay of the program around keeps for it, or one taken for this time. */
static fg_replay *replay_of(const fg_call *c, int i)
{
    return c->replay ? c->replay[i] : fg_replay_take(fg_body(c->attr, i));
}

static void done(const fg_call *c, int i, fg_replay *r)
{
    if (r && !c->replay)
        fg_replay_give(fg_body(c->attr, i), r);
}

/* To and from the place of a lodged value, which is a whole vector. */
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

/* How many nanoseconds a step takes, about. */
static double duration(const fg_program *p) { return p->work + 10; }

/* After a step: has the loop run so long since the last pause that it is time for another? */
static int take_pause(double *since, double step)
{
    if (!fg_on_pause || (*since += step) < 1e6)
        return FG_OK;
    *since = 0;
    return fg_on_pause();
}

/* How an input or output of a body moves from step to step: on by so many bytes, or between two places. A lodged one is
 * copied from there before a step, or to there after it. */
typedef struct {
    void **address;
    char *at, *other;
    int64_t step, words;
} cursor;

/* n of them: not lodged, copied before a step, copied after it, or carried on within the arena. */
typedef struct { int n; cursor *x; } cursors;

static void move(const cursors *m)
{
    for (cursor *x = m->x, *end = x + m->n; x < end; x++) {
        char *at = *x->address = x->at;
        if (x->other) {
            x->at = x->other;
            x->other = at;
        } else {
            x->at += x->step;
        }
    }
}

/* `how` is widen or narrow. */
static void copy_moving(const cursors *m, int in, void (*how)(int64_t n, const void *x, void *y))
{
    for (cursor *x = m->x, *end = x + m->n; x < end; x++) {
        how(x->words, in ? x->at : *x->address, in ? *x->address : x->at);
        x->at += x->step;
    }
}

/* Carried value k goes to and fro between two places, so that it ends in the first, or from row to row of its stack; it
 * stays where it is if the body adds to it in place. A lodged one stays in the body, copied on if its result lies
 * elsewhere. */
static void begin_carried(const fg_call *c, int k, char *place, fg_replay *r, cursors *moved, cursors *after,
                          cursors *on)
{
    fg_program *p = fg_body(c->attr, 0);
    int input = (int)c->attr[CONSTANTS] + k;
    void **in = fg_replay_address(r) + input, **out = fg_replay_address(r) + p->n_in + k;
    int64_t length = c->attr[LENGTH], bytes = bytes_at(p, input), step = c->attr[REVERSE] ? -bytes : bytes;
    char *from = place, *to = place;
    if (c->attr[STACKED])
        from += c->attr[REVERSE] ? length * bytes : 0;
    else if (!is_arena_resident(p, input) && !fg_program_in_place(p, input))
        *(length % 2 ? &from : &to) += room(bytes);
    copy(from, c->in[input].array->data, bytes);
    if (is_arena_resident(p, input)) {
        widen(bytes, from, *in);
        if (c->attr[STACKED])
            after->x[after->n++] = (cursor){out, from + step, NULL, step, bytes / FG_WORD};
        if (*in != *out)
            on->x[on->n++] = (cursor){in, *out, NULL, 0, bytes / FG_WORD};
    } else if (c->attr[STACKED]) {
        moved->x[moved->n++] = (cursor){in, from, NULL, step, bytes / FG_WORD};
        moved->x[moved->n++] = (cursor){out, from + step, NULL, step, bytes / FG_WORD};
    } else {
        moved->x[moved->n++] = (cursor){in, from, to, 0, 0};
        moved->x[moved->n++] = (cursor){out, to, from, 0, 0};
    }
}

int fg_scan_run(const fg_call *c, fg_array *y)
{
    fg_program *p = fg_body(c->attr, 0);
    int64_t length = c->attr[LENGTH], sign = c->attr[REVERSE] ? -1 : 1, first = c->attr[REVERSE] ? length - 1 : 0;
    int n_constants = (int)c->attr[CONSTANTS], n = (int)c->attr[CARRY], most = p->n_in + p->n_out;
    fg_replay *r = replay_of(c, 0);
    cursor *all = r ? malloc((size_t)(4 * most) * sizeof *all + 1) : NULL;
    if (!all) {
        done(c, 0, r);
        return fg_fail(FG_NO_MEMORY, "no memory for a loop");
    }
    cursors moved = {0, all}, before = {0, all + most}, after = {0, all + 2 * most}, on = {0, all + 3 * most};
    set_inputs(p, r, c->in, n_constants);
    for (int k = 0; k < n; k++)
        begin_carried(c, k, (char *)y->data + place_of(c->op, c->attr, k), r, &moved, &after, &on);
    for (int i = n_constants + n; i < p->n_in; i++) {
        int64_t bytes = bytes_at(p, i);
        cursors *m = is_arena_resident(p, i) ? &before : &moved;
        char *row = (char *)c->in[i].array->data + first * bytes;
        m->x[m->n++] = (cursor){fg_replay_address(r) + i, row, NULL, sign * bytes, bytes / FG_WORD};
    }
    for (int k = n; k < p->n_out; k++) {
        int64_t bytes = bytes_at(p, p->out[k]);
        cursors *m = is_arena_resident(p, p->out[k]) ? &after : &moved;
        char *row = (char *)y->data + place_of(c->op, c->attr, k) + first * bytes;
        m->x[m->n++] = (cursor){fg_replay_address(r) + p->n_in + k, row, NULL, sign * bytes, bytes / FG_WORD};
    }
    int status = FG_OK;
    double since = 0, step = duration(p);
    const fg_elementwise_kernels *kernels = fg_kernels[FG_FLOAT32].elementwise;
    for (int64_t t = 0; !status && t < length; t++) {
        move(&moved);
        copy_moving(&before, 1, kernels->widen);
        if (!(status = fg_replay_run_again(p, r, t ? n_constants : 0)))
            status = take_pause(&since, step);
        copy_moving(&after, 0, kernels->narrow);
        copy_moving(&on, 1, kernels->widen);
    }
    for (int k = 0; !status && k < n; k++)
        if (is_arena_resident(p, n_constants + k) && !c->attr[STACKED])
            narrow(bytes_at(p, n_constants + k), fg_replay_address(r)[n_constants + k],
                   (char *)y->data + place_of(c->op, c->attr, k));
    free(all);
    done(c, 0, r);
    return status;
}

int fg_while_loop_run(const fg_call *c, fg_array *y)
{
    fg_program *test = fg_body(c->attr, 0), *p = fg_body(c->attr, 1);
    int n = p->n_out, n_constants = (int)c->attr[2], status = FG_OK;
    fg_replay *test_r = replay_of(c, 0), *r = test_r ? replay_of(c, 1) : NULL;
    char *place = y->data;
    uint8_t goes_on = 1;
    if (!r)
        status = FG_NO_MEMORY;
    for (int k = 0; !status && k < n; k++) {
        int64_t bytes = bytes_at(p, p->out[k]);
        copy(place, c->in[n_constants + k].array->data, bytes);
        set_input(test, test_r, n_constants + k, place);
        set_input(p, r, n_constants + k, place);
        if (!is_arena_resident(p, n_constants + k))
            fg_replay_address(r)[p->n_in + k] = place + room(bytes);
        place += 2 * room(bytes);
    }
    if (!status) {
        set_inputs(test, test_r, c->in, n_constants);
        set_inputs(p, r, c->in, n_constants);
        fg_replay_address(test_r)[test->n_in] = &goes_on;
    }
    double since = 0, step = duration(test) + duration(p);
    int turned = 0;
    for (int from = 0; !status; from = n_constants, turned = !turned) {
        if ((status = fg_replay_run_again(test, test_r, from)) || !goes_on)
            break;
        if (!(status = fg_replay_run_again(p, r, from)))
            status = take_pause(&since, step);
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
    place = y->data;
    for (int k = 0; !status && k < n; k++) {
        int64_t bytes = bytes_at(p, p->out[k]);
        if (is_arena_resident(p, n_constants + k))
            narrow(bytes, fg_replay_address(r)[n_constants + k], place);
        else if (turned)
            copy(place, fg_replay_address(r)[n_constants + k], bytes);
        place += 2 * room(bytes);
    }
    done(c, 0, test_r);
    done(c, 1, r);
    return status;
}

int fg_cond_run(const fg_call *c, fg_array *y)
{
    int i = !*(const uint8_t *)c->in[0].array->data;
    fg_program *p = fg_body(c->attr, i);
    fg_replay *r = replay_of(c, i);
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
    done(c, i, r);
    return status;
}
