"""``export``: a function as C that needs nothing of fastgrad's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .._compile.compiled import Compiled, Traced
from .._config import __version__
from .._native.function import NotWritten, body
from . import arguments, lines, text

__all__ = ["export"]


def export(
    f: Callable[..., Any],
    *example_args: Any,
    path: str | os.PathLike[str],
    name: str | None = None,
    workspace: Literal["caller", "static"] = "caller",
    self_test: bool = False,
) -> tuple[Path, Path]:
    """Write f as one file of C11 and its header, which need nothing but a C compiler and its <math.h>.

    The function in C takes what f takes, for arguments of the shapes and dtypes of these, and computes what f returns:
    values, gradients, Jacobians, steps of an optimizer. It takes no memory from the heap, calls no other library, has
    no state, and may be called from several threads at once, each with a workspace of its own.

    Parameters
    ----------
    f : callable
        What `compile` takes, or has returned: a function, ``value_and_grad(g)``, ``jacobian(g)``, ...
    *example_args : arrays, numbers, or nested structures of them
        Arguments of the shapes and dtypes that the C function takes. Each leaf is an argument of that: a number by
        value, an array by a pointer to its elements in C order. The static arguments of a compiled function are
        constants.
    path : str or path
        The file, which ends in ".c"; the header is beside it and ends in ".h".
    name : str, optional
        The C function's name; without it the file's.
    workspace : "caller" or "static"
        Where intermediate values are: in memory that the caller gives, a struct ``<name>_workspace`` of
        ``<NAME>_WORKSPACE_BYTES`` bytes; or in static memory of the function, which then must not be called by two
        threads at once.
    self_test : bool
        Whether the file has a ``main``, if compiled with ``-D<NAME>_MAIN``, that calls the function with these
        arguments and compares its results with those of f here.

    Returns
    -------
    tuple of Path
        The file and the header. The header tells the order of the arguments, and what each is.

    The C function returns 0, or 1 where an index is out of range, or 2 where a matrix is singular or not positive
    definite. A generator of ``fastgrad.random`` that f draws from becomes an argument, its state, and draws what it
    would here. Where NumPy warns of integers, of a division by zero say, C goes on with the value that NumPy has.

    Results differ from those of ``compile(f)`` by the rounding of sums and products, which are taken in plain order,
    and of the elementary functions, each of which is within the bounds of docs/accuracy.md.

    Raises NotImplementedError, which names the operation and the line, for what cannot be written: functions of the
    user's such as those of ``pure_callback``, NumPy's functions that fastgrad has no kernel for, and eigenvalues,
    singular values, QR factorizations and matrix exponentials. ValueError for another path, name or workspace; what
    `compile` raises for functions and arguments that it does not take.

    >>> import fastgrad as fg, numpy as np, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> source, header = fg.export(fg.grad(lambda x: np.sum(x ** 3)), np.ones(4), path=folder + "/slope.c")
    >>> print([line for line in header.read_text().splitlines() if line.startswith("int slope")][0])
    int slope(const double *x, double *result, slope_workspace *workspace);
    """
    target = Path(path)
    if target.suffix != ".c":
        raise ValueError(f"export: expected a path that ends in .c, got {str(target)!r}")
    if set(target.name) & set('"\\\n\r'):
        raise ValueError(f"export: a line of C cannot include the header of {target.name!r}; give another path")
    name = target.stem if name is None else name
    if not isinstance(name, str) or not arguments.is_name(name):
        raise ValueError(f"export: a C function cannot have the name {name!r} here; give another one as name")
    if workspace not in ("caller", "static"):
        raise ValueError(f"export: expected workspace 'caller' or 'static', got {workspace!r}")
    if not callable(f):
        raise TypeError(f"export: expected a function, got {type(f).__name__}")
    traced = (f if isinstance(f, Compiled) else Compiled(f)).traced(*example_args)
    results = _results(traced)
    names = arguments.Names([name])
    inputs = arguments.inputs(traced.function, len(example_args), traced.dynamic, traced.inputs, names)
    places = list(map(arguments.Place, range(len(results))))
    outputs = arguments.outputs(places[0] if traced.rebuild is None else traced.rebuild(places), results, names)
    try:
        written = body(traced.program, [a.name for a in inputs], [a.name for a in outputs])
    except NotWritten as error:
        where = lines.of_operation(traced.function, example_args, str(error))
        raise NotImplementedError(
            f"export: {_called(str(error))} cannot be written as C that stands alone{where}"
        ) from None
    made = text.Function(
        name, _described(traced.function), inputs, outputs, written, workspace == "static", __version__
    )
    test = text.self_test(made, traced.inputs, results) if self_test else ""
    header = target.with_suffix(".h")
    _write({header: text.header(made), target: text.source(made, header.name, test)})
    return target, header


def _write(texts: dict[Path, str]) -> None:
    """Write these files, each of them whole. If a text cannot be written, all of them are as they were."""
    for path in texts:
        if path.is_dir():
            raise IsADirectoryError(f"export: expected a path for a file, but {str(path)!r} is a folder")
    parts = {path: path.with_name(f"{path.name}.{os.getpid()}.part") for path in texts}
    try:
        for path, part in parts.items():
            part.write_text(texts[path], encoding="utf-8")
        for path, part in parts.items():
            os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _results(traced: Traced) -> list[np.ndarray]:
    """What the program computes of the example; its generators are left as they were."""
    program = traced.program
    buffers = program.buffers(0)
    states = [(state, state.copy()) for state in program.random_states()]
    try:
        found = program.run(traced.inputs)
    finally:
        for state, before in states:
            state[...] = before
    return [np.asarray(x, buffers[out][0]) for x, out in zip(found, program.outs())]


def _called(operation: str) -> str:
    return {
        "numpy": "a function of NumPy's or of the user's, which runs in Python,",
        "host_elementwise": "a function of SciPy's, which runs in Python,",
    }.get(operation, f"the operation {operation}")


def _described(f: Callable[..., Any]) -> str:
    name = getattr(f, "__qualname__", None) or type(f).__name__
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name).replace("*/", "")
