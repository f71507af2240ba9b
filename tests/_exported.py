"""Calling exported functions: many files compiled to one library, and each called with arrays."""

import ctypes
import re
import shutil
import subprocess
import warnings

import numpy as np

import fastgrad as fg
from fastgrad._compile.compiled import Compiled

STRICT = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Werror"]
COMPILERS = [cc for cc in ("gcc", "clang") if shutil.which(cc)]
_NUMBERS = {
    "float64": ctypes.c_double, "float32": ctypes.c_float, "int64": ctypes.c_int64, "int32": ctypes.c_int32,
    "uint8": ctypes.c_uint8, "bool": ctypes.c_uint8, "int8": ctypes.c_int8, "uint64": ctypes.c_uint64,
}  # fmt: skip


def compiled(cc, *arguments):
    """Run a compiler, which must say nothing."""
    done = subprocess.run([cc, *map(str, arguments)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and not done.stderr, done.stderr[:4000]


class Exported:
    """A function's export, and what it was made of."""

    def __init__(self, folder, name, f, args, **options):
        self.name, self.f, self.args = name, f, args
        self.source, self.header = fg.export(f, *args, path=folder / f"{name}.c", **options)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            result = (f if isinstance(f, Compiled) else fg.compile(f))(*args)
        self.expected, self.structure = fg.tree.flatten(result)

    def loaded(self, cc="gcc", *flags):
        return library(self.source.parent, [self], cc, *flags)

    def call(self, lib, *args, states=()):
        """What the function of a library makes of these arguments."""
        text = self.header.read_text()
        leaves = [np.asarray(leaf) for leaf in fg.tree.leaves(args)]
        declared = re.search(rf"^int {self.name}\((.*?)\);", text, re.DOTALL | re.MULTILINE).group(1).split(",")
        given, kept = [], []
        for leaf, parameter in zip(leaves, declared):
            if "*" in parameter:
                kept.append(np.ascontiguousarray(leaf))
                given.append(ctypes.c_void_p(kept[-1].ctypes.data))
            else:
                given.append(_NUMBERS[leaf.dtype.name](leaf.item()))
        given += [ctypes.c_void_p(state.ctypes.data) for state in states]
        kinds = [p.split("*")[0].split()[-1] for p in declared[len(given) :] if "_workspace" not in p]
        dtypes = {"double": np.float64, "float": np.float32}
        results = []
        for kind, like in zip(kinds, self.expected):
            dtype = dtypes.get(kind) or np.dtype(kind.removesuffix("_t"))
            results.append(np.full(np.shape(like), 77, dtype))
            given.append(ctypes.c_void_p(results[-1].ctypes.data))
        if "_workspace *workspace" in declared[-1]:
            n = int(re.search(r"_WORKSPACE_BYTES (\d+)", text).group(1))
            workspace = np.full(n // 8 + 1, np.nan)
            given.append(ctypes.c_void_p(workspace.ctypes.data))
        self.status = getattr(lib, self.name)(*given)
        return fg.tree.unflatten(self.structure, results)


def library(folder, exported, cc="gcc", *flags):
    """The files as one library."""
    target = folder / f"lib{exported[0].name}_{len(exported)}.so"
    sources = [e.source for e in exported]
    compiled(cc, *STRICT, "-O0", "-shared", "-fPIC", *flags, *sources, "-o", target, "-lm")
    return ctypes.CDLL(str(target))
