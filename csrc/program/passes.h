/* passes.h: the passes of the compiler, for compile.c, which runs them in order and says what each does. */
#ifndef FG_PASSES_H
#define FG_PASSES_H

#include "record/ir.h"

/* On instructions: simplify.c. */
int fg_pass_shrink_constants(fg_program *);
int fg_pass_remove_identities(fg_program *);
int fg_pass_absorb_transposes(fg_program *);
int fg_pass_eliminate_common_subexpressions(fg_program *);
int fg_pass_eliminate_dead_code(fg_program *);
int fg_pass_accumulate_products(fg_program *);
int fg_pass_add_before_padding(fg_program *);
int fg_pass_join_paddings(fg_program *);    /* join_paddings.c */
int fg_pass_keep_rows(fg_program *);        /* row_sparse.c */
int fg_pass_read_products_in_place(fg_program *);   /* product_layouts.c */
int fg_pass_own_constants(fg_program *);    /* after it, fg_constant_is_padded may be asked */
int fg_constant_is_padded(const fg_array *);    /* may steps read it up to the end of its last vector? */
/* Allocates two arrays over values: maker, the instruction that computes each, is -1 for the caller to fill in; uses is
 * how often each is an operand or output. To be freed by freeing *maker. 0: no memory. */
int fg_count_uses(const fg_program *, int **maker, int **uses);

/* On instructions: repeated_constants.c. */
int fg_pass_repeat_rows(fg_program *);

/* On instructions: join_loops.c. */
int fg_pass_join_loops(fg_program *);

/* From instructions to steps: lower.c, and its parts operands.c and choose_kernel.c. */
int fg_pass_lower(fg_program *);
struct step;
void fg_choose_kernel(const fg_program *, struct step *);   /* of a flat step, where it has one */
int fg_load_operands(fg_program *);
/* Is a slice one contiguous run of elements of x, from element *first on? */
int fg_slice_is_contiguous(const fg_shape *x, const int64_t *attr, const fg_shape *part, int64_t *first);
/* How often a long elementwise instruction reads each element of operand i in turn, if one kernel call for each element
 * computes the run; FG_ROW, if the operand is a row of the length of such runs; 0: it reads it otherwise. */
int64_t fg_run_of_operand(const fg_program *, const instruction *, int i);
/* How an instruction reads its operand with strides, if that is all it does; 0: it does more, or has too many axes. */
int fg_find_strides(const fg_program *, const instruction *, fg_strided *);

/* Is an instruction's result put together from its operands, as a concatenation is, so that some elements of it can be
 * made at a time? The place of each operand, where that is asked for. */
int fg_find_joined(const fg_program *, const instruction *, fg_joined *);

/* On steps: the files of their names; insert_zeros is in lower.c, liveness in memory_plan.c. */
int fg_pass_fuse(fg_program *);
int fg_pass_liveness(fg_program *);
int fg_pass_rematerialize(fg_program *);
int fg_pass_insert_zeros(fg_program *);
int fg_pass_plan_memory(fg_program *);
int fg_pass_share(fg_program *);
int fg_pass_specialize(fg_program *);

#endif
