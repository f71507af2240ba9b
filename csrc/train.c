/* train.c: what a training step does behind its program: look at the gradients, and update the parameters. */
#include "recording.h"

#include <math.h>
#include <string.h>

static const void *kept(const fg_program *p, fg_replay *r, int i) { return fg_replay_address(r)[p->n_in + i]; }

double fg_replay_loss(const fg_program *p, fg_replay *r)
{
    return p->slot[p->out[0]].array.dtype == FG_FLOAT32 ? *(const float *)kept(p, r, 0) : *(const double *)kept(p, r, 0);
}

static int not_finite(const fg_program *p, fg_replay *r)
{
    for (int i = 0; i < p->n_kept; i++) {
        int k = p->n_out - p->n_kept + i;
        const fg_array *g = &p->slot[p->out[k]].array;
        if (!fg_kernels[g->dtype].reduce->all_finite(g->shape->size, kept(p, r, k)))
            return i;
    }
    return isfinite(fg_replay_loss(p, r)) ? -1 : p->n_kept;
}

void fg_update(const fg_rule *u, int dtype, int64_t n, void *p, const void *g, void *s0, void *s1)
{
    const fg_reduce_kernels *k = fg_kernels[dtype].reduce;
    if (u->adam)
        k->adam(n, p, g, s0, s1, u->rate, u->beta1, u->beta2, u->eps, u->weight_decay, u->decoupled, u->correction1,
                u->correction2);
    else
        k->sgd(n, p, g, s0, u->rate, u->momentum, u->dampening, u->weight_decay, u->nesterov, u->first);
}

int fg_replay_train(const fg_program *p, fg_replay *r, const fg_rule *rule, void *const *state, int checked, int *bad)
{
    int status = fg_replay_run(p, r);
    if (status)
        return status;
    *bad = checked ? not_finite(p, r) : -1;
    for (int i = 0; *bad < 0 && i < p->n_kept; i++) {
        const fg_array *w = &p->slot[i].array;
        fg_update(rule, w->dtype, w->shape->size, fg_replay_address(r)[i], kept(p, r, p->n_out - p->n_kept + i),
                  state[2 * i], state[2 * i + 1]);
    }
    return FG_OK;
}

void fg_gather_rows(int64_t row_bytes, int64_t n, const int64_t *row, const void *x, void *y)
{
    for (int64_t i = 0; i < n; i++)
        memcpy((char *)y + i * row_bytes, (const char *)x + row[i] * row_bytes, (size_t)row_bytes);
}
