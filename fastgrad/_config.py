"""The version, and what this installation of fastgrad runs on.

The version stands here alone: the build reads it from this file, and `fastgrad.__version__` is it.
"""

import platform
from typing import Any, Literal, overload

import numpy

from . import _blas, _core

__version__ = "0.1.0"


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...
@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...
def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print the version, instruction set, BLAS, LAPACK, threads, C compiler and pool; or return them as a dict.

    The instruction set is the best of this machine unless the environment variable FASTGRAD_ISA names another
    of the available ones. The BLAS is the one that NumPy has loaded; it serves the larger matrix products. Its
    `threads` are None where it does not say, or where there is none; other long work has those of ``get_num_threads``.
    LAPACK, which factors larger matrices, is looked for in the same place. The C compiler is that of native programs
    (docs/native.md); if there is none, or no directory for what it compiles, `why` says so. The pool keeps the memory
    of arrays that are dropped for the next ones, up to so many bytes (docs/speed.md).

    Parameters
    ----------
    mode : "stdout" or "dicts", as in `numpy.show_config`

    Raises
    ------
    ValueError
        If mode is another word.

    Examples
    --------
    >>> import fastgrad as fg
    >>> config = fg.show_config(mode="dicts")
    >>> list(config)
    ['version', 'python', 'numpy', 'instruction_set', 'blas', 'lapack', 'native', 'pool', 'threads']
    >>> config["instruction_set"]["in_use"] in config["instruction_set"]["available"]
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be 'stdout' or 'dicts', not {mode!r}")
    from . import _lapack, _native  # which only linear algebra, and native programs, need otherwise

    blas, lapack = _blas.IN_USE, _lapack.IN_USE
    config = {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "instruction_set": {"in_use": _core.isa(), "available": list(_core.available_isas())},
        "blas": {
            "provider": f"{blas.name}, loaded by NumPy" if blas else "none, fastgrad's own kernel",
            "integer_bits": (64 if blas.ilp64 else 32) if blas else None,
            "threads": _blas.threads(blas),
        },
        "lapack": {
            "provider": "that of the BLAS, loaded by NumPy" if lapack else "none, fastgrad's own kernels",
            "integer_bits": (64 if lapack.ilp64 else 32) if lapack else None,
        },
        "native": _native.configuration(),
        "pool": {"limit": _core.pool_limit()},
        "threads": _core.threads_limit(),
    }
    if mode == "dicts":
        return config
    print(_as_text(config))
    return None


def _as_text(config: dict[str, Any]) -> str:
    isa, blas = config["instruction_set"], config["blas"]
    bits = f", {blas['integer_bits']}-bit integers" if blas["integer_bits"] else ""
    threads = f"{blas['threads'] or 'an unknown number'} in BLAS, " if blas["integer_bits"] else ""
    return "\n".join(
        (
            f"fastgrad {config['version']} on Python {config['python']}, NumPy {config['numpy']}",
            f"instruction set: {isa['in_use']} (available: {', '.join(isa['available'])})",
            f"BLAS: {blas['provider']}{bits}",
            f"LAPACK: {config['lapack']['provider']}",
            f"threads: {threads}{config['threads']} elsewhere",
            f"C compiler of native programs: {_native_as_text(config['native'])}",
            f"pool: keeps up to {config['pool']['limit'] / 2**20:.0f} MiB of freed memory",
        )
    )


def _native_as_text(native: dict[str, str | None]) -> str:
    if native["compiler"] is None:
        return f"none: {native['why']}"
    kept = f"programs are kept in {native['directory']}" if native["directory"] else f"nothing is kept: {native['why']}"
    return f"{native['compiler']}; {kept}"
