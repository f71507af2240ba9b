/* host_call.c: the operation `numpy`: a call back to the caller, who computes it, because integers and booleans have no
 * kernels here. In a program, where the caller has a loop over elements, that is run in the place of the call.
 */
#include "fastgrad.h"

#include <fenv.h>

int fg_numpy_shape(const fg_call *c, fg_shape **shape, int *dtype)
{
    *dtype = (int)c->attr[1];
    return fg_shape_made(fg_shape_new(c->n_attr - 2, c->attr + 2), shape);
}

int fg_numpy_run(const fg_call *c, fg_array *y)
{
    if (!c->loop)
        return fg_on_numpy(c, y);
    char *at[FG_HOST_OPERANDS + 1];
    intptr_t n = (intptr_t)y->shape->size, bytes[FG_HOST_OPERANDS + 1];
    for (int i = 0; i <= c->n_in; i++) {
        const fg_array *x = i < c->n_in ? c->in[i].array : y;
        at[i] = x->data;
        bytes[i] = x->shape->size == n ? (intptr_t)fg_itemsize(x->dtype) : 0; /* a single one is read n times */
    }
    if (c->loop->reports)
        feclearexcept(FE_ALL_EXCEPT);
    c->loop->run(at, &n, bytes, c->loop->data);
    if (c->loop->reports && fetestexcept(FE_DIVBYZERO | FE_OVERFLOW | FE_INVALID))
        return fg_on_numpy(c, y); /* the caller warns or raises, as it is asked to */
    return FG_OK;
}
