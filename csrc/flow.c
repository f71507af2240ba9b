/* flow.c: loops and branches as single operations.
 *
 * Their work is given by programs, the bodies, whose addresses come first among the attributes: of scan and
 * while_loop, a step; of cond, the two branches. A body is run by replays, which read and write right where the
 * operands and the results lie, so that a step neither allocates nor copies arrays.
 *
 * All results of such an operation lie in one block of bytes, of which `part` takes one out: a view in a program. A
 * carried value has two places there, written in turn, as a step reads the old value while it writes the new one.
 */
#include "recording.h"

#include <stdlib.h>
#include <string.h>

int fg_n_bodies(int op)
{
    return op == FG_OP_scan ? 1 : op == FG_OP_cond || op == FG_OP_while_loop ? 2 : 0;
}

fg_program *fg_body(const int64_t *attr, int i) { return (fg_program *)(intptr_t)attr[i]; }

int fg_draws(int op, const int64_t *attr)
{
    int draws = op == FG_OP_random;
    for (int i = 0; i < fg_n_bodies(op); i++)
        draws |= fg_body(attr, i)->draws;
    return draws;
}

/* ---- where results lie ------------------------------------------------------------------------------------------ */
enum { LENGTH = 1, REVERSE, CONSTANTS, CARRY };     /* attributes of scan; of while_loop the third: constants */

static int64_t bytes_of(const fg_program *p, int v)
{
    return p->slot[v].array.shape->size * (int64_t)fg_itemsize(p->slot[v].array.dtype);
}

static int64_t room(int64_t bytes) { return bytes / FG_ALIGN * FG_ALIGN + FG_ALIGN; }   /* also of nothing */

static int n_results(int op, const int64_t *attr) { return fg_body(attr, fg_n_bodies(op) - 1)->n_out; }

int64_t fg_flow_place(int op, const int64_t *attr, int k)
{
    const fg_program *p = fg_body(attr, fg_n_bodies(op) - 1);
    int64_t at = 0;
    for (int i = 0; i < k; i++) {
        int64_t bytes = bytes_of(p, p->out[i]);
        int carried = op == FG_OP_while_loop || (op == FG_OP_scan && i < attr[CARRY]);
        at += carried ? 2 * room(bytes) : room(op == FG_OP_scan ? attr[LENGTH] * bytes : bytes);
    }
    return at;
}

static int block_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    double bytes = 0;
    for (int k = 0; k < n_results(c->op, c->attr); k++) {
        const fg_program *p = fg_body(c->attr, fg_n_bodies(c->op) - 1);
        bytes += ((double)bytes_of(p, p->out[k]) + FG_ALIGN) * (c->op == FG_OP_scan ? (double)c->attr[LENGTH] + 2 : 2);
    }
    if (bytes > 1e18)
        return fg_fail(FG_NO_MEMORY, "%s: its results would take %g bytes", fg_ops[c->op].name, bytes);
    *dtype = FG_UINT8;
    int64_t total = fg_flow_place(c->op, c->attr, n_results(c->op, c->attr));
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
/* Run a body whose input addresses are set and whose results go to `to`. */
static int run_body(const fg_program *p, fg_replay *r, char *const *to)
{
    void **out = fg_replay_address(r) + p->n_in;
    for (int k = 0; k < p->n_out; k++)
        if (!fg_program_keeps(p, k))
            out[k] = to[k];
    int status = fg_replay_run(p, r);
    for (int k = 0; !status && k < p->n_out; k++)
        if (fg_program_keeps(p, k))             /* a single element */
            memcpy(to[k], out[k], fg_itemsize(p->slot[p->out[k]].array.dtype));
    return status;
}

/* What a loop needs to know of a carried value: its two places, and as the third where it comes from at first. */
typedef struct { char *place[3]; int64_t bytes; } carried;

/* Room for so many carried values and pointers, and the values as they come in. */
static carried *carried_new(const fg_call *c, fg_array *y, int n_constants, int n, int n_to, char ***to)
{
    const fg_program *p = fg_body(c->attr, fg_n_bodies(c->op) - 1);
    carried *x = malloc((size_t)n * sizeof *x + (size_t)n_to * sizeof **to + 1);
    if (!x) {
        fg_fail(FG_NO_MEMORY, "no memory for a loop");
        return NULL;
    }
    *to = (char **)(x + n);
    char *at = y->data;
    for (int k = 0; k < n; k++) {
        int64_t bytes = bytes_of(p, p->out[k]);
        x[k] = (carried){{at, at + room(bytes), c->in[n_constants + k].array->data}, bytes};
        at += 2 * room(bytes);
    }
    return x;
}

static void set_inputs(fg_replay *r, const fg_tensor *in, int n)
{
    for (int i = 0; i < n; i++)
        fg_replay_address(r)[i] = in[i].array->data;
}

int fg_scan_run(const fg_call *c, fg_array *y)
{
    fg_program *p = fg_body(c->attr, 0);
    int64_t length = c->attr[LENGTH];
    int n_constants = (int)c->attr[CONSTANTS], n = (int)c->attr[CARRY], n_xs = p->n_in - n_constants - n;
    int64_t stacks = fg_flow_place(c->op, c->attr, n);
    char **to;
    carried *x = carried_new(c, y, n_constants, n, p->n_out, &to);
    fg_replay *r = x ? fg_replay_take(p) : NULL;
    int status = r ? FG_OK : FG_NO_MEMORY, from = 2;
    if (r)
        set_inputs(r, c->in, n_constants);
    for (int64_t t = 0; !status && t < length; t++) {
        void **in = fg_replay_address(r) + n_constants;
        int64_t at = c->attr[REVERSE] ? length - 1 - t : t;
        int next = (length - t) % 2 ? 0 : 1;    /* the last step writes the first place */
        for (int k = 0; k < n; k++) {
            in[k] = x[k].place[from];
            to[k] = x[k].place[next];
        }
        for (int i = 0; i < n_xs; i++)
            in[n + i] = (char *)c->in[n_constants + n + i].array->data + at * bytes_of(p, n_constants + n + i);
        char *ys = (char *)y->data + stacks;
        for (int k = n; k < p->n_out; k++) {
            int64_t bytes = bytes_of(p, p->out[k]);
            to[k] = ys + at * bytes;
            ys += room(length * bytes);
        }
        status = run_body(p, r, to);
        from = next;
    }
    for (int k = 0; !status && k < n; k++)
        copy(x[k].place[0], x[k].place[from], x[k].bytes);
    if (r)
        fg_replay_give(p, r);
    free(x);
    return status;
}

int fg_while_loop_run(const fg_call *c, fg_array *y)
{
    fg_program *test = fg_body(c->attr, 0), *p = fg_body(c->attr, 1);
    int n = p->n_out, n_constants = (int)c->attr[2], status = FG_OK, from = 2;
    char **to;
    carried *x = carried_new(c, y, n_constants, n, n, &to);
    fg_replay *r = x ? fg_replay_take(p) : NULL, *test_r = r ? fg_replay_take(test) : NULL;
    if (!test_r)
        status = FG_NO_MEMORY;
    for (uint8_t goes_on = 1; !status;) {
        char *answer = (char *)&goes_on;
        set_inputs(test_r, c->in, n_constants);
        set_inputs(r, c->in, n_constants);
        for (int k = 0; k < n; k++) {
            fg_replay_address(test_r)[n_constants + k] = fg_replay_address(r)[n_constants + k] = x[k].place[from];
            to[k] = x[k].place[from == 0];
        }
        if ((status = run_body(test, test_r, &answer)) || !goes_on)
            break;
        status = run_body(p, r, to);
        from = from == 0;
    }
    for (int k = 0; !status && k < n; k++)
        copy(x[k].place[0], x[k].place[from], x[k].bytes);
    if (test_r)
        fg_replay_give(test, test_r);
    if (r)
        fg_replay_give(p, r);
    free(x);
    return status;
}

int fg_cond_run(const fg_call *c, fg_array *y)
{
    fg_program *p = fg_body(c->attr, !*(const uint8_t *)c->in[0].array->data);
    char **to = malloc((size_t)p->n_out * sizeof *to + 1), *at = y->data;
    fg_replay *r = to ? fg_replay_take(p) : NULL;
    int status = r ? FG_OK : fg_fail(FG_NO_MEMORY, "no memory for a branch");
    if (r) {
        set_inputs(r, c->in + 1, p->n_in);
        for (int k = 0; k < p->n_out; k++) {
            to[k] = at;
            at += room(bytes_of(p, p->out[k]));
        }
        status = run_body(p, r, to);
        fg_replay_give(p, r);
    }
    free(to);
    return status;
}
