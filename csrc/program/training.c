/* training.c: a training step: run the program of loss and gradients, check the gradients, update the parameters.
 *
 * A large gradient that is a matrix product may never exist as a whole (lower.c): it is computed a panel of rows at a
 * time, and each panel is used while it is in cache. All gradients must be known to be finite before any parameter
 * changes: usually a bound from the product's operands proves it; where it does not, the panels are computed twice.
 */
#include "kernels/gemm_dispatch.h"
#include "program/steps.h"

#include <float.h>
#include <math.h>
#include <string.h>

static double number(int dtype, const void *x) { return dtype == FG_FLOAT32 ? *(const float *)x : *(const double *)x; }

double fg_replay_loss(const fg_program *p, fg_replay *r)
{
    return number(p->buffer[p->out[0]].array.dtype, fg_replay_address(r)[p->n_in]);
}

/* ---- gradients, as a whole or in panels -------------------------------------------------------------------------- */
static const buffer *gradient(const fg_program *p, int i) { return &p->buffer[p->out[p->n_out - p->n_gradients + i]]; }

static void *gradient_address(const fg_program *p, fg_replay *r, int i)
{
    return fg_replay_address(r)[p->n_in + p->n_out - p->n_gradients + i];
}

/* Compute the panel of gradient i that begins at element `at`, if it has panels. Returns how many of its elements, from
 * that one on, are at its address now. */
static int64_t compute_panel(const fg_program *p, fg_replay *r, int i, int64_t at)
{
    const buffer *g = gradient(p, i);
    int64_t rest = g->array.shape->size - at, n = g->panel ? g->panel * g->array.shape->dim[1] : rest;
    n = n < rest ? n : rest;
    if (g->panel)
        fg_gemm_rows(fg_replay_call(r, g->first), at / g->array.shape->dim[1], n / g->array.shape->dim[1],
                     gradient_address(p, r, i));
    return n;
}

void fg_replay_gradient(const fg_program *p, fg_replay *r, int i, void *to)
{
    const fg_array *g = &gradient(p, i)->array;
    size_t itemsize = fg_itemsize(g->dtype);
    for (int64_t at = 0, n; at < g->shape->size; at += n) {
        n = compute_panel(p, r, i, at);
        memcpy((char *)to + (size_t)at * itemsize, gradient_address(p, r, i), (size_t)n * itemsize);
    }
}

/* ---- are all gradients finite? ----------------------------------------------------------------------------------- */
/* The largest magnitude; nan if any element is. */
static double largest(const fg_array *x)
{
    const fg_reduce_kernels *k = fg_kernels[x->dtype].reduce;
    union {
        float f;
        double d;
    } most, least;
    if (!x->shape->size)
        return 0;
    k->max_rows(1, x->shape->size, x->data, &most);
    k->min_rows(1, x->shape->size, x->data, &least);
    double high = number(x->dtype, &most), low = number(x->dtype, &least);
    return high > -low ? high : -low;
}

/* Do its operands prove that a product is finite? A sum is at most the number of its terms times the largest one, and
 * with all roundings at most twice that. */
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
        n = compute_panel(p, r, i, at);
        if (!fg_kernels[g->array.dtype].optim->all_finite(n, gradient_address(p, r, i)))
            return 0;
    }
    return 1;
}

/* The first gradient that is not finite, n_gradients if it is the loss alone, or -1. */
static int not_finite(const fg_program *p, fg_replay *r)
{
    for (int i = 0; i < p->n_gradients; i++)
        if (!is_finite(p, r, i))
            return i;
    return isfinite(fg_replay_loss(p, r)) ? -1 : p->n_gradients;
}

/* ---- updates ----------------------------------------------------------------------------------------------------- */
void fg_update(const fg_update_rule *u, int dtype, int64_t n, void *p, const void *g, void *const *state)
{
    fg_kernels[dtype].optim->update[u->optimizer](n, p, g, state, u->number);
}

int fg_replay_train(const fg_program *p, fg_replay *r, const fg_update_rule *rule, void *const *state, int checked,
                    int *bad)
{
    int status = fg_replay_run(p, r);
    if (status)
        return status;
    *bad = checked ? not_finite(p, r) : -1;
    for (int i = 0; *bad < 0 && i < p->n_gradients; i++) {
        const fg_array *w = &p->buffer[i].array;
        int64_t itemsize = (int64_t)fg_itemsize(w->dtype);
        for (int64_t at = 0, n; at < w->shape->size; at += n) {
            n = compute_panel(p, r, i, at);
            void *rest[FG_MAX_STATES];
            for (int k = 0; k < FG_MAX_STATES; k++) {
                char *whole = state[FG_MAX_STATES * i + k];
                rest[k] = whole ? whole + at * itemsize : NULL;
            }
            fg_update(rule, w->dtype, n, (char *)fg_replay_address(r)[i] + at * itemsize, gradient_address(p, r, i),
                      rest);
        }
    }
    return FG_OK;
}

int fg_replay_copy_aliased(const fg_program *p, fg_replay *r)
{
    for (int k = p->n_steps - p->n_late; k < p->n_steps; k++)
        for (int i = 0; i < 2; i++) {
            int v = p->buffer[p->step[k].in[i]].root;
            for (int w = 0; v < p->n_in && w < p->n_gradients; w++) {
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
