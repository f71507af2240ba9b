# Programs as text, and as graphs. Included by _core.pyx.

cdef list lines_of_program(Program program):
    """A line for each instruction."""
    cdef char text[1024]
    lines = []
    for i in range(fg_program_describe(program.program).n_instructions):
        cut = fg_program_line(program.program, i, text, sizeof(text)) >= <int>sizeof(text)
        lines.append(text.decode() + " ..." * cut)
    return lines


cdef str text_of_program(Program program):
    facts, lines, fused = program.facts, [], 0
    for i, line in enumerate(lines_of_program(program)):
        size = fg_program_group(program.program, i)
        if size > 1:
            lines.append(f"  fused {size}:")
            fused = size
        lines.append(("    " if fused else "  ") + line)
        fused -= fused > 0
        for body in program.bodies(i):
            lines += ["    " + inner for inner in str(body).replace("program:", "body:", 1).splitlines()]
    counts = [f"{facts[what]} {what[:-1]}{'s' * (facts[what] != 1)}"
              for what in ("inputs", "outputs", "instructions")]
    head = (f"program: {', '.join(counts)} ({facts['traced']} traced), {facts['peak_bytes']} bytes of "
            f"intermediates ({facts['separate_bytes']} without sharing)")
    return "\n".join([head, *lines])


cdef list graph_of_program(Program program, str prefix):
    """The lines of ``Program.dot``, for names that begin so."""
    cdef fg_program *p = program.program
    cdef char text[256]
    facts, makers, nodes, edges, constants, left = program.facts, {}, [], [], {}, 0
    for k in range(program.n_in):
        makers[k] = f"{prefix}in{k}"
        what = DTYPES[fg_program_input_dtype(p, k)], shape_tuple(fg_program_input_shape(p, k))
        nodes.append(f'{makers[k]} [shape=ellipse label="in{k}\\n{what[0]} {what[1]}"]')
    for i in range(facts["instructions"]):
        name = f"{prefix}i{i}"
        size = fg_program_group(p, i)
        if size > 1:
            nodes.append(f'subgraph cluster_{name} {{ label="fused {size}"')
            left = size
        fg_program_name(p, i, text, sizeof(text))
        what = (DTYPES[fg_program_result_dtype(p, i)],
                shape_tuple(fg_program_result_shape(p, i)))
        nodes.append("  " * (left > 0) + f'{name} [label="{text.decode()}\\n{what[0]} {what[1]}"]')
        left -= 1
        if left == 0:
            nodes.append("}")
        for k, body in enumerate(program.bodies(i)):
            inner = f"{name}_{k}_"
            nodes.append(f'subgraph cluster_{inner} {{ label="body {k} of {name}"')
            nodes += ["  " + x for x in graph_of_program(body, inner)] + ["}"]
            edges.append(f"{inner}out0 -> {name} [style=dashed]")
        for k in range(fg_program_operand_count(p, i)):
            v = fg_program_operand(p, i, k)
            if v >= 0:
                source = makers.get(v) or constants.setdefault(v, f"{prefix}const{v}")
                edges.append(f"{source} -> {name}")
        makers[fg_program_operand(p, i, -1)] = name
    nodes.extend(f"{name} [shape=ellipse]" for name in constants.values())
    for k in range(facts["outputs"]):
        nodes.append(f"{prefix}out{k} [shape=ellipse]")
        edges.append(f"{makers[fg_program_output(p, k)]} -> {prefix}out{k}")
    return nodes + edges
