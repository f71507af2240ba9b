"""The arguments of an exported function: names from the Python function's parameters and from paths in its trees."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from .._native.plain import is_function
from .._native.values import c_type

_WORDS = frozenset(
    "alignas alignof asm auto bool break case char const constexpr continue default do double else enum extern false "
    "float for goto if inline int long main nullptr register restrict return short signed sizeof static static_assert "
    "struct switch thread_local true typedef typeof union unsigned void volatile while NAN INFINITY NULL memcpy".split()
)
# Names of functions of the C library that compilers know, beside those that Python's math has.
_LIBRARY = frozenset(dir(math)) | set(
    "abort abs calloc cimag creal div exit fputs free j0 j1 jn labs main malloc memcmp memmove memset printf puts rand "
    "realloc rint round scanf strlen y0 y1 yn".split()
)
# Names of the function's own variables.
_OURS = re.compile(r"[a-z]+\d[\d_]*|[ijksocpr]|at|total|label|workspace")


class Argument(NamedTuple):
    """An input or output."""

    name: str
    path: str  # in Python
    dtype: np.dtype
    shape: tuple[int, ...]

    @property
    def c_type(self) -> str:
        return c_type(self.dtype)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def described(self) -> str:
        """In a comment, which no name may end."""
        path = self.path.replace("*/", "* /").replace("/*", "/ *").encode("ascii", "backslashreplace").decode()
        shape = "a number" if self.shape == () else f"shape {self.shape}, in C order"
        return f"{path}: {self.dtype.name}, {shape}"


class Names:
    """Names that are taken, and others made of paths."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)

    def of(self, path: str) -> str:
        name = "_".join(re.findall(r"[A-Za-z0-9_]+", path)).strip("_") or "x"
        name = re.sub("__+", "_", name)
        if name[0].isdigit():
            name = f"x_{name}"
        if name in _WORDS or is_function(name) or _OURS.fullmatch(name):
            name += "_"
        found, k = name, 2
        while found in self.taken:
            found, k = f"{name}_{k}", k + 1
        self.taken.add(found)
        return found


def is_name(name: str) -> bool:
    """Whether C can have a function of this name beside those that are copied into its file."""
    known = name in _WORDS or name in _LIBRARY or is_function(name)
    return re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) is not None and not known


def _parameters(f: Callable[..., Any], n: int) -> list[str]:
    """The names of n positional arguments."""
    names = []
    try:
        for p in inspect.signature(f).parameters.values():
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
                names.append(p.name)
            elif p.kind is p.VAR_POSITIONAL:
                names += [f"{p.name}[{i}]" for i in range(n - len(names))]
    except (TypeError, ValueError):  # some functions do not tell theirs
        pass
    return [*names, *(f"argument[{i}]" for i in range(len(names), n))][:n]


def inputs(
    f: Callable[..., Any], n: int, dynamic: dict[int, Any], arrays: Sequence[np.ndarray], names: Names
) -> list[Argument]:
    """One for each leaf of the arguments of these places among n."""
    parameters = _parameters(f, n)
    paths = [path for i, arg in dynamic.items() for path, _ in tree.flatten_with_path(arg, parameters[i])[0]]
    return [Argument(names.of(path), path, a.dtype, a.shape) for path, a in zip(paths, arrays)]


def outputs(result: Any, arrays: Sequence[np.ndarray], names: Names) -> list[Argument]:
    """One for each array of the result, a tree whose leaves are their numbers."""
    paths = {leaf.k: path for path, leaf in tree.flatten_with_path(result, "result")[0] if isinstance(leaf, Place)}
    return [Argument(names.of(paths[k]), paths[k], a.dtype, a.shape) for k, a in enumerate(arrays)]


class Place:
    """Stands for result k, as a leaf of a tree."""

    def __init__(self, k: int) -> None:
        self.k = k
