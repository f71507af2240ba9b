/* op_info.c: the rows of ops.def as text, and room for the table of all operations.
 *
 * The table names functions of every wing, so op_table.c, which may know them all, fills it. What runs, differentiates
 * or compiles an operation reaches these functions through the table: a lower wing never names a higher one.
 */
#include "fastgrad.h"

fg_op_info fg_ops[FG_N_OPS];

const fg_op_text fg_texts[FG_N_ELEMENTWISE] = {
#define UNARY(name, def, dx, lo, hi, doc) {#name, #def, {#dx, NULL}, doc, 1, {lo, 0}, {hi, 0}},
#define BINARY(name, def, da, db, alo, ahi, blo, bhi, doc) {#name, #def, {#da, #db}, doc, 2, {alo, blo}, {ahi, bhi}},
#define UNARY_FN UNARY
#define BINARY_FN BINARY
#include "ops.def"
#undef UNARY
#undef BINARY
#undef UNARY_FN
#undef BINARY_FN
};
