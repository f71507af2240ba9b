/* step, as C. Written by fastgrad 0.1.0.
 *
 *   params_v: params['v']: float64, shape (4,), in C order
 *   params_w: params['w']: float64, shape (3, 4), in C order
 *   x: x: float64, shape (10, 3), in C order
 *   y: y: float64, shape (10,), in C order
 *   rate: rate: float64, a number
 * Results, which are written to where these pointers lead; it must not overlap an argument:
 *   result_0: result[0]: float64, a number
 *   result_1_v: result[1]['v']: float64, shape (4,), in C order
 *   result_1_w: result[1]['w']: float64, shape (3, 4), in C order
 *
 * The workspace is memory of the caller's, which a call overwrites: calls with workspaces of their own may run
 * at once.
 * Nothing else is needed or changed, but the library of <math.h>.
 */
#ifndef STEP_H
#define STEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STEP_WORKSPACE_BYTES 960
typedef struct {
    double of_double[120];
} step_workspace;

/* What it returns. */
enum {
    STEP_OK = 0,
    STEP_BAD_INDEX = 1, /* an index was out of range */
    STEP_BAD_MATRIX = 2 /* a matrix was singular, or not positive definite */
};

int step(const double *params_v, const double *params_w, const double *x, const double *y, double rate,
         double *result_0, double *result_1_v, double *result_1_w, step_workspace *workspace);

#ifdef __cplusplus
}
#endif

#endif
