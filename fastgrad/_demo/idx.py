"""The idx format of the MNIST files: a magic number, the lengths of the axes, then the data, big-endian.

    byte 0-1  zero        byte 2  type of the data        byte 3  number of axes
    then one 32-bit length per axis, then the elements with the last axis running fastest

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

__all__ = ["read_idx"]

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an idx file, plain or compressed with gzip (told by its content, not its name).

    Raises OSError if it cannot be read, ValueError if it is not an idx file or is not whole.
    """
    path = Path(path)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: the gzip data is damaged or cut off ({error}); download it again") from error
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _TYPES:
        raise ValueError(
            f"{path}: not an idx file: it starts with {content[:4].hex(' ') or 'nothing'}, "
            "expected 00 00, a type from 08 to 0e, and the number of axes"
        )
    dtype, axes = np.dtype(_TYPES[content[2]]), content[3]
    start = 4 + 4 * axes
    if len(content) < start:
        raise ValueError(f"{path}: the header is cut off after {len(content)} of {start} bytes")
    if axes > 64:
        raise ValueError(f"{path}: {axes} axes, which is more than NumPy has")
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, start, 4))
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(f"{path}: {len(content)} bytes, expected {expected} for shape {shape}")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))
