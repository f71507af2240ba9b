/* op_table.c: the table of all operations, filled once by fg_init.
 *
 * This is the only file that names the functions of every wing. A row of structural.def names its shape rule, its run
 * function and its vjp rule: one that is missing does not link. The elementwise operations share theirs, and what the
 * tape saves for them is read off the texts of their derivatives.
 */
#include "fastgrad.h"

#include <ctype.h>
#include <string.h>

#define STRUCTURAL(name, n, flags, need0, need1, need2, doc)    \
    int fg_##name##_shape(const fg_call *, fg_shape **, int *); \
    int fg_##name##_run(const fg_call *, fg_array *);           \
    int fg_##name##_vjp(fg_node *, fg_tensor, fg_tensor *);
#define KERNEL(name, n, flags, doc)                             \
    int fg_##name##_shape(const fg_call *, fg_shape **, int *); \
    int fg_##name##_run(const fg_call *, fg_array *);
#include "structural.def"
#undef STRUCTURAL
#undef KERNEL

/* Of all elementwise operations: run.c, elementwise_vjp.c. */
int fg_unary_run(const fg_call *, fg_array *y);
int fg_binary_run(const fg_call *, fg_array *y);
int fg_unary_vjp_run(const fg_call *, fg_array *gx);
int fg_binary_vjp_run(const fg_call *, fg_array *ga);
int fg_unary_vjp(fg_node *, fg_tensor g, fg_tensor *gin);
int fg_binary_vjp(fg_node *, fg_tensor g, fg_tensor *gin);
int fg_recorded_binary_vjp(fg_node *, fg_tensor g, fg_tensor *gin);

static const fg_op_info structural[FG_N_OPS] = {
#define STRUCTURAL(op, n, bits, need0, need1, need2, doc) \
    [FG_OP_##op] = {.name = #op,                          \
                    .n_in = n,                            \
                    .shape = fg_##op##_shape,             \
                    .run = fg_##op##_run,                 \
                    .vjp = fg_##op##_vjp,                 \
                    .needs = {need0, need1, need2},       \
                    .flags = bits},
#define KERNEL(op, n, bits, doc) \
    [FG_OP_##op] = {.name = #op, .n_in = n, .shape = fg_##op##_shape, .run = fg_##op##_run, .flags = bits},
#include "structural.def"
#undef STRUCTURAL
#undef KERNEL
    [FG_OP_leaf] = {.name = "leaf"},
    [FG_OP_custom] = {.name = "custom", .n_in = -1, .vjp = fg_custom_vjp},
};

/* The values that a derivative's text names, by the letters x, a, b, y that stand alone in it: the tape must save
 * them. */
static unsigned letters_named(const char *text)
{
    unsigned needs = 0;
    for (const char *c = text; *c;) {
        const char *word = c;
        while (isalnum((unsigned char)*c) || *c == '_')
            c++;
        if (c - word == 1)
            needs |= *word == 'x' || *word == 'a' ? FG_IN(0) : *word == 'b' ? FG_IN(1) : *word == 'y' ? FG_OUT : 0;
        if (c == word)
            c++;
    }
    return needs;
}

void fg_init(void)
{
    memcpy(fg_ops, structural, sizeof fg_ops);
    for (int op = 0; op < FG_N_ELEMENTWISE; op++) {
        const fg_op_text *text = &fg_texts[op];
        fg_op_info *info = &fg_ops[op];
        info->name = text->name;
        info->n_in = text->arity;
        info->run = text->arity == 1 ? fg_unary_run : fg_binary_run;
        info->run_vjp = text->arity == 1 ? fg_unary_vjp_run : fg_binary_vjp_run;
        info->vjp = text->arity == 1 ? fg_unary_vjp : fg_binary_vjp;
        info->recorded_vjp = text->arity == 1 ? fg_vjp_by_rule : fg_recorded_binary_vjp;
        for (int i = 0; i < text->arity; i++) {
            const char *derivative = text->derivative[i];
            info->needs[i] = (uint8_t)letters_named(derivative);
            info->unit[i] = !strcmp(derivative, "1") ? 1 : !strcmp(derivative, "-1") ? -1 : 0;
        }
    }
    for (int op = FG_N_ELEMENTWISE; op < FG_N_OPS; op++)
        fg_ops[op].recorded_vjp = fg_flags(op) & FG_RULE_IN_PYTHON ? fg_vjp_by_rule : fg_ops[op].vjp;
}
