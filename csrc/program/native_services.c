/* native_services.c: what native programs (native.h) call in the core, and how a program becomes native. */
#include "kernels/gemm_dispatch.h"
#include "program/replay.h"

#include <stdatomic.h>

static void native_bind(const fg_frame *f, int from) { bind_addresses(f->replay, from); }

static int native_run_step(const fg_frame *f, int k) { return fg_replay_run_step(f->program, f->replay, k); }

static int native_bad_matrix(const char *message) { return fg_fail(FG_BAD_MATRIX, "%s", message); }

static int native_pause(void) { return fg_on_pause ? fg_on_pause() : FG_OK; }

static void native_enter(const fg_frame *f, int k, int i, fg_frame *body)
{
    fg_replay *r = fg_replay_call(f->replay, k)->replay[i];
    *body = (fg_frame){fg_body(f->program->step[k].attr, i), r, r->address, r->arena};
}

static const void *native_constant(const fg_frame *f, int v) { return f->program->buffer[v].array.data; }

/* When the first native program is set, because the kernels are chosen at import. */
static void fill_services(void)
{
    const fg_reduce_kernels *f32 = fg_kernels[FG_FLOAT32].reduce, *f64 = fg_kernels[FG_FLOAT64].reduce;
#define BOTH(kernel) {f32->kernel, f64->kernel}
    fg_native_services =
        (fg_services){.bind = native_bind,
                      .run_step = native_run_step,
                      .in_step = fg_refused_in_step,
                      .enter = native_enter,
                      .outside = fg_index_outside,
                      .bad_matrix = native_bad_matrix,
                      .pause = native_pause,
                      .constant = native_constant,
                      .rows = {BOTH(sum_rows), BOTH(max_rows), BOTH(min_rows), BOTH(softmax_rows),
                               BOTH(log_softmax_rows), BOTH(logsumexp_rows)},
                      .cols = {BOTH(sum_cols), BOTH(max_cols), BOTH(min_cols)},
                      .part = {BOTH(sum_part), BOTH(max_part), BOTH(min_part)},
                      .rows_adjoint = {[FG_ROWS_softmax] = BOTH(softmax_vjp_rows),
                                       [FG_ROWS_log_softmax] = BOTH(log_softmax_vjp_rows),
                                       [FG_ROWS_logsumexp] = BOTH(logsumexp_vjp_rows)},
                      .gemm = {fg_kernels[FG_FLOAT32].gemm->gemm, fg_kernels[FG_FLOAT64].gemm->gemm},
                      .narrow = {fg_kernels[FG_FLOAT32].gemm->narrow, fg_kernels[FG_FLOAT64].gemm->narrow},
                      .extremum_adjoint = BOTH(extremum_vjp_rows)};
#undef BOTH
}

void fg_program_set_native(fg_program *p, fg_native_function *run)
{
    if (run && !fg_native_services.bind)
        fill_services();
    atomic_store_explicit(&p->native, run, memory_order_release);
}
