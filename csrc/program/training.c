/* training.c: what a training step does behind its program: look at the gradients, and update the parameters.
 *
 * A large gradient that is a matrix product may never be there as a whole (lower.c): its rows are computed a panel at a
 * time and used up while they are in cache. Before any parameter changes all gradients must be known to be finite: of
 * such a product its operands mostly prove it; where they do not, its panels are computed twice.
 */
#include "record/ir.h"

#include <float.h>
#include <math.h>
#include <string.h>

static double number(int dtype, const void *x) { return dtype == FG_FLOAT32 ? *(const float *)x : *(const double *)x; }

double fg_replay_loss(const fg_program *p, fg_replay *r)
{
    return number(p->buffer[p->out[0]].array.dtype, fg_replay_address(r)[p->n_in]);
}

/* ---- gradients, as a whole or in panels -------------------------------------------------------------------------- */
static const buffer *gradient(const fg_program *p, int i) { return &p->buffer[p->out[p->n_out - p->n_kept + i]]; }

static void *place(const fg_program *p, fg_replay *r, int i)
{
    return fg_replay_address(r)[p->n_in + p->n_out - p->n_kept + i];
}

/* How many elements of gradient i, from element `at` on, are in its place now. */
static int64_t stretch(const fg_program *p, fg_replay *r, int i, int64_t at)
{
    const buffer *g = gradient(p, i);
    int64_t rest = g->array.shape->size - at, n = g->panel ? g->panel * g->array.shape->dim[1] : rest;
    n = n < rest ? n : rest;
    if (g->panel)
        fg_matmul_rows(fg_replay_call(r, g->first), at / g->array.shape->dim[1], n / g->array.shape->dim[1],
                       place(p, r, i));
    return n;
}

void fg_replay_gradient(const fg_program *p, fg_replay *r, int i, void *to)
{
    const fg_array *g = &gradient(p, i)->array;
    size_t itemsize = fg_itemsize(g->dtype);
    for (int64_t at = 0, n; at < g->shape->size; at += n) {
        n = stretch(p, r, i, at);
        memcpy((char *)to + (size_t)at * itemsize, place(p, r, i), (size_t)n * itemsize);
    }
}

/* ---- looking at them --------------------------------------------------------------------------------------------- */
/* The largest magnitude; nan if any element is. */
static double largest(const fg_array *x)
{
    const fg_reduce_kernels *k = fg_kernels[x->dtype].reduce;
    union { float f; double d; } most, least;
    if (!x->shape->size)
        return 0;
    k->max_rows(1, x->shape->size, x->data, &most);
    k->min_rows(1, x->shape->size, x->data, &least);
    double high = number(x->dtype, &most), low = number(x->dtype, &least);
    return high > -low ? high : -low;
}

/* Do its operands prove that all of a product is finite? A sum of so many terms is at most their number times the
 * largest, and twice that with all roundings. */
static int is_bounded(const fg_call *c)
{
    const fg_array *a = c->in[0].array, *b = c->in[1].array;
    int64_t terms = a->shape->dim[!c->attr[0]];
    double most = a->dtype == FG_FLOAT32 ? FLT_MAX : DBL_MAX;
    return terms <= 1 << 22 && (double)terms * largest(a) * largest(b) < most / 2;
}

static int is_finite(const fg_program *p, fg_replay *r, int i)
{
    const buffer *g = gradient(p, i);
    if (g->panel && is_bounded(fg_replay_call(r, g->first)))
        return 1;
    for (int64_t at = 0, n; at < g->array.shape->size; at += n) {
        n = stretch(p, r, i, at);
        if (!fg_kernels[g->array.dtype].reduce->all_finite(n, place(p, r, i)))
            return 0;
    }
    return 1;
}

static int not_finite(const fg_program *p, fg_replay *r)
{
    for (int i = 0; i < p->n_kept; i++)
        if (!is_finite(p, r, i))
            return i;
    return isfinite(fg_replay_loss(p, r)) ? -1 : p->n_kept;
}

/* ---- using them -------------------------------------------------------------------------------------------------- */
void fg_update(const fg_update_rule *u, int dtype, int64_t n, void *p, const void *g, void *const *state)
{
    fg_kernels[dtype].reduce->update[u->optimizer](n, p, g, state, u->number);
}

int fg_replay_train(const fg_program *p, fg_replay *r, const fg_update_rule *rule, void *const *state, int checked, int *bad)
{
    int status = fg_replay_run(p, r);
    if (status)
        return status;
    *bad = checked ? not_finite(p, r) : -1;
    for (int i = 0; *bad < 0 && i < p->n_kept; i++) {
        const fg_array *w = &p->buffer[i].array;
        int64_t itemsize = (int64_t)fg_itemsize(w->dtype);
        for (int64_t at = 0, n; at < w->shape->size; at += n) {
            n = stretch(p, r, i, at);
            void *rest[FG_MAX_STATES];
            for (int k = 0; k < FG_MAX_STATES; k++) {
                char *whole = state[FG_MAX_STATES * i + k];
                rest[k] = whole ? whole + at * itemsize : NULL;
            }
            fg_update(rule, w->dtype, n, (char *)fg_replay_address(r)[i] + at * itemsize, place(p, r, i), rest);
        }
    }
    return FG_OK;
}

int fg_replay_copy_aliased(const fg_program *p, fg_replay *r)
{
    for (int k = p->n_steps - p->n_late; k < p->n_steps; k++)
        for (int i = 0; i < 2; i++) {
            int v = p->buffer[p->step[k].in[i]].root;
            for (int w = 0; v < p->n_in && w < p->n_kept; w++) {
                const char *x = fg_replay_address(r)[v], *y = fg_replay_address(r)[w];
                if (x >= y + bytes_at(p, w) || y >= x + bytes_at(p, v))
                    continue;
                void *own = fg_replay_own_input(p, r, v);
                if (!own)
                    return fg_fail(FG_NO_MEMORY, "no memory for a program");
                memcpy(own, x, (size_t)bytes_at(p, v));
            }
        }
    return FG_OK;
}

void fg_gather_rows(int64_t row_bytes, int64_t n, const int64_t *row, const void *x, void *y)
{
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)y + i * row_bytes, (const char *)x + row[i] * row_bytes, (size_t)row_bytes);
}
