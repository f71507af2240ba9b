/* forward.h: forward mode over the tape (autodiff/forward.c), under the caller's lock as all of fastgrad.h. */
#ifndef FASTGRAD_FORWARD_H
#define FASTGRAD_FORWARD_H

#include "fastgrad.h"

/* How an operation that is not elementwise takes tangents, by its number: by the caller's rule; as an operation that is
 * linear in its first input and reads the others as constants; as one that is linear in each of its two inputs; or, if
 * none of its inputs has the tangent zero, as one that is linear in all of them together. */
enum { FG_PUSH_BY_RULE, FG_PUSH_LINEAR, FG_PUSH_PRODUCT, FG_PUSH_TOGETHER };

/* The caller's rule: the tangent of a node's result from those of its inputs, of which at least one is not zero. An
 * array that is NULL stands for zero. FG_OK or FG_RAISED. */
typedef int fg_push_rule(void *context, fg_node *, const fg_tensor *tangents, fg_tensor *out);

/* The tangents `out` of all y from the tangents of the nodes wrt; array NULL for zero. Nothing is recorded: the caller
 * has switched that off. With `directions`, which are not 0, all tangents have a first axis of that length, those that
 * the rule gets and returns, too; then nothing is traced either. `how` has FG_N_OPS places. */
int fg_push(int n_y, const fg_tensor *y, int n, fg_node *const *wrt, const fg_tensor *tangents, int64_t directions,
            const uint8_t *how, fg_push_rule *rule, void *context, fg_tensor *out);

#endif
