"""NumPy's functions, indexing and dispatch protocols for tensors."""

from . import functions, indexing, protocol

__all__ = ["functions", "indexing", "protocol"]
