/* isa_dispatch.c: which instruction set's kernels serve this process.
 *
 * setup.py compiles the kernel files once per set and says which exist here by -DFG_HAVE_<SET>; the machine
 * says which it can run. The best of both is chosen once, at import, unless the caller forces one.
 */
#include "fastgrad.h"

#include <string.h>

#define DECLARE(isa)                                             \
    extern const fg_elementwise_kernels fg_elementwise_##isa[2]; \
    extern const fg_reduce_kernels fg_reduce_##isa[2];           \
    extern const fg_gemm_kernels fg_gemm_##isa[2];               \
    extern const fg_linalg_kernels fg_linalg_##isa[2];           \
    extern const fg_random_kernels fg_random_##isa[2];           \
    extern const fg_optim_kernels fg_optim_##isa[2];
#define KERNELS(isa) \
    fg_elementwise_##isa, fg_reduce_##isa, fg_gemm_##isa, fg_linalg_##isa, fg_random_##isa, fg_optim_##isa
#define SET(isa, usable)               \
    {                                  \
        #isa, usable, { KERNELS(isa) } \
    }

fg_kernel_set fg_kernels[2];

static int always(void) { return 1; }

#ifdef FG_HAVE_NEON
DECLARE(neon)
#else
DECLARE(baseline)
#endif
#ifdef FG_HAVE_AVX2
DECLARE(avx2)
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#endif
#ifdef FG_HAVE_AVX512
DECLARE(avx512)
static int has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx2") &&
           __builtin_cpu_supports("fma");
}
#endif

static const struct {
    const char *name;
    int (*usable)(void);
    fg_kernel_set kernels;      /* each the first of two, for float32 and float64 */
} sets[] = {
/* from the least to the most capable */
#ifdef FG_HAVE_NEON
    SET(neon, always),
#else
    SET(baseline, always),
#endif
#ifdef FG_HAVE_AVX2
    SET(avx2, has_avx2),
#endif
#ifdef FG_HAVE_AVX512
    SET(avx512, has_avx512),
#endif
};
enum { N_SETS = sizeof sets / sizeof *sets };

static int chosen = -1;

int fg_kernels_select(const char *isa)
{
    int best = -1, known = 0;
    for (int i = 0; i < N_SETS; i++) {
        known = known || (isa && !strcmp(sets[i].name, isa));
        if (sets[i].usable() && (!isa || !strcmp(sets[i].name, isa)))
            best = i;
    }
    if (best < 0)
        return fg_fail(FG_BAD_VALUE,
                       known ? "this machine cannot run the %s kernels" : "no kernels named %s were built", isa);
    chosen = best;
    const fg_kernel_set *k = &sets[best].kernels;
    for (int dtype = 0; dtype < 2; dtype++)
        fg_kernels[dtype] = (fg_kernel_set){&k->elementwise[dtype], &k->reduce[dtype], &k->gemm[dtype],
                                            &k->linalg[dtype],      &k->random[dtype], &k->optim[dtype]};
    return FG_OK;
}

const char *fg_isa(void) { return chosen < 0 ? NULL : sets[chosen].name; }

const char *fg_isa_available(int i)
{
    for (int k = 0; k < N_SETS; k++)
        if (sets[k].usable() && i-- == 0)
            return sets[k].name;
    return NULL;
}
