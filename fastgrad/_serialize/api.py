"""`save` and `load`: any tree in one file, without pickle."""

from __future__ import annotations

import json
import os
import struct
import zipfile
from collections.abc import Iterable
from typing import Any

from .atomic import write_whole
from .containers import reading, writer_of
from .nodes import Damaged, decode, encode

__all__ = ["check_tree", "load", "load_tree", "save", "save_tree"]

# What reading a damaged file raises besides Damaged: zipfile, NumPy's parser of headers, JSON.
_OF_DAMAGE = (
    Damaged, EOFError, IndexError, KeyError, NotImplementedError, OverflowError, RuntimeError, SyntaxError,
    UnicodeError, json.JSONDecodeError, struct.error, zipfile.BadZipFile,
)  # fmt: skip


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write a tree of arrays to a file, from which `load` makes the same again. Nothing is pickled.

    Parameters
    ----------
    path : str or path-like
        The file. If it ends in ".safetensors" it is of that format, by the package of that name (``pip install
        "fastgrad[safetensors]"``), else an npz, as `numpy.savez` writes them, under exactly this name. Other programs
        find the arrays in it by names such as "layers.0.weight" for tree["layers"][0]["weight"].
    tree : nested structure
        Arrays, tensors, NumPy and Python numbers, str, bytes and None, in dicts (with keys of these), lists, tuples,
        and NamedTuples, dataclasses and classes given to `fastgrad.tree.register`, of which names and constants are
        written, but no code. Bits, dtypes and shapes are kept: also of 0-d and empty arrays, nan payloads, strings and
        times; not the order of memory, and not that one array stands in two places.

    The file appears whole or not at all: it is written beside the old one under another name, brought to the disk, and
    renamed.

    Raises TypeError, naming the place, for objects of other types, arrays of objects or with fields, masked arrays and
    results of recorded operations; ValueError for a tree that holds itself; OSError if the file cannot be written, with
    the old one as it was; ImportError where the package is missing.

    >>> import os, tempfile
    >>> import fastgrad as fg, numpy as np
    >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
    >>> fg.save(path, {"weight": np.ones((2, 1), np.float32), "names": ("a", None), "epoch": 3})
    >>> fg.load(path)
    {'weight': array([[1.],
           [1.]], dtype=float32), 'names': ('a', None), 'epoch': 3}
    """
    save_tree(os.fsdecode(path), tree, "save")


def load(path: str | os.PathLike[str], *, types: Iterable[type] = ()) -> Any:
    """The tree that `save` wrote to a file.

    Parameters
    ----------
    path : str or path-like
        The file, of the format that its name tells, as for `save`.
    types : iterable of types
        The NamedTuples and dataclasses that the tree may hold, which are found by module and name; those given to
        `fastgrad.tree.register` are known. No module is imported for a file, and no code of it is run.

    Arrays are new and can be written to; tensors come back as tensors, and leaves that require gradients as those.

    Raises ValueError for a file that is truncated, was changed after it was written, or was written by something else,
    and for a class that is not among types or has other fields than when it was saved; OSError if it cannot be read;
    ImportError where the package safetensors is missing. Checksums (SHA-256) of the whole content find any change by
    accident; they are no signature, so they do not tell who wrote a file.

    >>> import os, tempfile, typing
    >>> import fastgrad as fg
    >>> class Line(typing.NamedTuple):
    ...     slope: float
    ...     offset: float
    >>> path = os.path.join(tempfile.mkdtemp(), "line.npz")
    >>> fg.save(path, [Line(2.0, 1.0)])
    >>> fg.load(path, types=[Line])
    [Line(slope=2.0, offset=1.0)]
    """
    known = tuple(types) if isinstance(types, Iterable) and not isinstance(types, type) else (types,)
    if isinstance(types, type) or not all(isinstance(t, type) for t in known):
        raise TypeError(f"load: types is {types!r}, expected a list of classes")
    return load_tree(os.fsdecode(path), "load", known)


def save_tree(path: str, tree: Any, subject: str, keep_previous: bool = False) -> None:
    """`save` in the name of another function."""
    nodes, arrays = encode(tree, subject)
    write_whole(path, writer_of(path, nodes, arrays, subject), subject, keep_previous)


def check_tree(tree: Any, subject: str) -> bool:
    """Raise what `save` would for a tree that cannot be saved; whether it can be read without types."""
    nodes, _ = encode(tree, subject)
    return all(node[0] != "object" for node in nodes)


def load_tree(path: str, subject: str, types: Iterable[type] = ()) -> Any:
    """`load` in the name of another function."""
    try:
        with reading(path, subject) as (nodes, read, end):
            tree = decode(nodes, read, types)
            end()
    except _OF_DAMAGE as error:
        raise ValueError(f"{subject}: {path!r} cannot be used: {_first_line(error)}") from error
    except ValueError as error:  # of NumPy's parser, or of a class that is not known
        raise ValueError(f"{subject}: {path!r} cannot be used: {_first_line(error)}") from error
    return tree


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
