/* random.c: draws of random numbers, the only operation that changes its input.
 *
 * A generator's state is an array of FG_RANDOM_WORDS uint64 that draws advance (fg_array.is_rng_state). A draw takes
 * whole chunks of the stream, so that each draw starts at the beginning of a chunk. While a function is traced,
 * its draws become instructions and draw nothing: the replay that follows draws the numbers of an eager run.
 */
#include "program.h"

#include <stdatomic.h>
#include <string.h>

int fg_random_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = (int)c->attr[0];
    return fg_shape_made(fg_shape_new(c->n_attr - 3, c->attr + 3), shape);
}

/* Doubles uniform in [0, 1) become integers from low to low + count - 1, in the same memory. */
static void scale(int64_t n, int64_t low, int64_t count, void *y_)
{
    char *y = y_;
    for (int64_t i = 0; i < n; i++, y += sizeof(double)) {
        double u;
        memcpy(&u, y, sizeof u);
        memcpy(y, &(int64_t){low + (int64_t)(u * (double)count)}, sizeof u);
    }
}

/* Floats uniform in [0, 1), or int64 from low to low + count - 1. */
int fg_random_run(const fg_call *c, fg_array *y)
{
    uint64_t *state = c->in[0].array->data;
    uint64_t bytes = (uint64_t)y->shape->size * fg_itemsize(y->dtype);
    uint64_t blocks = (bytes + FG_RANDOM_CHUNK_BYTES - 1) / FG_RANDOM_CHUNK_BYTES * FG_RANDOM_CHUNK;
    /* Atomic, so that two threads never draw the same numbers where a program runs without the caller's lock. */
    uint64_t position = atomic_fetch_add((_Atomic uint64_t *)&state[FG_RANDOM_POSITION], blocks);
    fg_kernels[FG_IS_FLOAT(y->dtype) ? y->dtype : FG_FLOAT64].random->uniform(y->shape->size, state, position, y->data);
    if (!FG_IS_FLOAT(y->dtype))
        scale(y->shape->size, c->attr[1], c->attr[2], y->data);
    return FG_OK;
}
