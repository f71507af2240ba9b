/* control, as C. Written by fastgrad 0.1.0.
 *
 *   angle: angle: float64, a number
 *   speed: speed: float64, a number
 *   plan: plan: float64, shape (40,), in C order
 * Results, which are written to where these pointers lead; it must not overlap an argument:
 *   result_0: result[0]: float64, a number
 *   result_1: result[1]: float64, shape (40,), in C order
 *
 * The workspace is memory of the caller's, which a call overwrites: calls with workspaces of their own may run
 * at once.
 * Nothing else is needed or changed, but the library of <math.h>.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CONTROL_WORKSPACE_BYTES 2640
typedef struct {
    double of_double[330];
} control_workspace;

/* What it returns. */
enum {
    CONTROL_OK = 0,
    CONTROL_BAD_INDEX = 1, /* an index was out of range */
    CONTROL_BAD_MATRIX = 2 /* a matrix was singular, or not positive definite */
};

int control(double angle, double speed, const double *plan, double *result_0, double *result_1,
            control_workspace *workspace);

#ifdef __cplusplus
}
#endif

#endif
