# The tables of operations as Python sees them. Included by _core.pyx when the core's own are filled.

# Names of all operations by their numbers, those of csrc/ops.def first, and the numbers by names.
OP_NAMES = [fg_ops[i].name.decode() for i in range(FG_N_OPS)]
OP_NUMBERS = {name: i for i, name in enumerate(OP_NAMES)}


def vjp_number(int op, int i):
    """The number of the operation g * d op / d input i, the derivative's kernel of an elementwise op."""
    return FG_N_OPS + 2 * op + i


cdef extern from *:
    """
    typedef struct { const char *name, *doc; int inputs, differentiable; } fg_structural_row;
    static const fg_structural_row fg_structural[] = {
    #define STRUCTURAL(name, inputs, flags, need0, need1, need2, doc) {#name, doc, inputs, 1},
    #define KERNEL(name, inputs, flags, doc) {#name, doc, inputs, 0},
    #include "structural.def"
    #undef STRUCTURAL
    #undef KERNEL
    };
    enum { FG_N_STRUCTURAL = sizeof fg_structural / sizeof *fg_structural };
    """
    ctypedef struct fg_structural_row:
        const char *name
        const char *doc
        int inputs, differentiable
    const fg_structural_row fg_structural[]
    int FG_N_STRUCTURAL


def structural_table():
    """The rows of csrc/structural.def: a list of dicts with the keys name, index, inputs (-1: any number), flags (a set
    of their names without FG_), bodies, differentiable (it has a vjp rule) and doc."""
    cdef int i, flags
    bits = {"IS_VIEW": FG_IS_VIEW, "IS_DISTINCT": FG_IS_DISTINCT, "RULE_IN_PYTHON": FG_RULE_IN_PYTHON,
            "ALLOCATES": FG_ALLOCATES, "ALLOCATES_BY_AXES": FG_ALLOCATES_BY_AXES, "DRAWS": FG_DRAWS,
            "BY_HOST": FG_BY_HOST, "IS_CUBIC": FG_IS_CUBIC}
    rows = []
    for i in range(FG_N_STRUCTURAL):
        row = fg_structural[i]
        flags = fg_flags(FG_N_ELEMENTWISE + i)
        rows.append({
            "name": row.name.decode(), "index": FG_N_ELEMENTWISE + i, "inputs": row.inputs,
            "flags": {name for name, bit in bits.items() if flags & bit == bit}, "bodies": flags >> FG_BODIES_SHIFT,
            "differentiable": row.differentiable != 0, "doc": row.doc.decode(),
        })
    return rows


STRUCTURAL = {row["name"]: row for row in structural_table()}
