"""What the array API standard lets ask of a namespace: ``fastgrad.__array_namespace_info__()``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._core import check_device
from . import dtypes as _dtypes

_KINDS = {
    "bool": ("bool",),
    "signed integer": ("int8", "int16", "int32", "int64"),
    "unsigned integer": ("uint8", "uint16", "uint32", "uint64"),
    "real floating": ("float32", "float64"),
    "complex floating": (),
}
_KINDS["integral"] = _KINDS["signed integer"] + _KINDS["unsigned integer"]
_KINDS["numeric"] = _KINDS["integral"] + _KINDS["real floating"]
_ALL = _KINDS["bool"] + _KINDS["numeric"]


class ArrayNamespaceInfo:
    """What the namespace can do, by the array API standard: ``capabilities``, ``default_device``, ``default_dtypes``,
    ``devices`` and ``dtypes``. There are no complex dtypes, and the only device is "cpu".

    >>> import fastgrad as fg
    >>> sorted(fg.__array_namespace_info__().dtypes(kind="real floating"))
    ['float32', 'float64']
    """

    def capabilities(self) -> dict[str, Any]:
        """Whether boolean masks may index, whether functions like ``unique_values`` exist, and how many axes there may
        be. Within ``compile`` and ``vmap`` a result whose shape depends on elements raises TraceError."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 32}

    def default_device(self) -> str:
        """The device of new tensors."""
        return "cpu"

    def devices(self) -> list[str]:
        """All devices."""
        return ["cpu"]

    def default_dtypes(self, *, device: str | None = None) -> dict[str, np.dtype[Any]]:
        """The dtypes of new tensors by kind; the real one as `set_default_dtype` says."""
        check_device(device, "default_dtypes")
        return {
            "real floating": _dtypes.get_default_dtype() or _dtypes.float64,
            "integral": _dtypes.int64,
            "indexing": _dtypes.int64,
        }

    def dtypes(
        self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None
    ) -> dict[str, np.dtype[Any]]:
        """The dtypes that tensors have by their names, or those of a kind or of any in a tuple of kinds; the kinds are
        those of ``isdtype``. Raises ValueError for another kind."""
        check_device(device, "dtypes")
        if kind is None:
            names = set(_ALL)
        else:
            kinds = kind if isinstance(kind, tuple) else (kind,)
            if unknown := [k for k in kinds if k not in _KINDS]:
                raise ValueError(f"dtypes: expected kinds among {', '.join(map(repr, _KINDS))}, got {unknown[0]!r}")
            names = {name for k in kinds for name in _KINDS[k]}
        return {name: getattr(_dtypes, name) for name in _ALL if name in names}


__array_namespace_info__ = ArrayNamespaceInfo
