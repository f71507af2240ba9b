"""The two kinds of files: npz as NumPy's (a zip of .npy entries, not compressed), and safetensors.

Both hold the arrays by name, readable for other programs, and a header of texts: what wrote it, the nodes of the tree
as JSON, and a checksum of those. Nothing in a file is ever run, no size that a file claims is believed before it is
compared with the file's own, and nothing is unpacked to the disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from .nodes import Array, Damaged, digest

__all__ = ["reading", "writer_of"]

_FORMAT, _VERSION = "fastgrad tree", "1"
_HEADER = "fastgrad.json"  # the entry of an npz
_LONGEST_HEADER = 100_000_000  # bytes, as the library of safetensors allows
_LONGEST_NPY_HEADER = 10_000
_NATIVE = {"bool", "float16", "float32", "float64", "complex64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}  # dtypes of safetensors; arrays of others are stored as their bytes

_Read = Callable[[str, "np.dtype[Any]", tuple[int, ...], str], np.ndarray]


def writer_of(path: str, nodes: list[list[Any]], arrays: list[Array], subject: str) -> Callable[[BinaryIO], Any]:
    """The function that writes a tree to an open file, of the kind that the path's end names."""
    if is_safetensors(path):
        library = _safetensors(subject)
        return lambda file: file.write(_as_safetensors(library, nodes, arrays, subject))
    return lambda file: _write_npz(file, nodes, arrays, subject)


@contextmanager
def reading(path: str, subject: str) -> Iterator[tuple[Any, _Read, Callable[[], None]]]:
    """Of a file its nodes, the function that reads an array, and one that raises if there are arrays left. Damaged, or
    what the libraries raise, where the file is not as it was written."""
    if is_safetensors(path):
        library = _safetensors(subject)
        with open(path, "rb"):  # so that errors of the file system are Python's
            pass
        try:
            file = library.safe_open(path, framework="numpy")
        except OSError:
            raise
        except Exception as error:  # SafetensorError, which is a subclass of Exception alone
            raise Damaged(f"{error}") from None
        with file:
            yield _from_safetensors(file)
    else:
        with open(path, "rb") as opened, zipfile.ZipFile(opened) as archive:
            yield _from_npz(archive, os.fstat(opened.fileno()).st_size)


def is_safetensors(path: str) -> bool:
    return path.endswith(".safetensors")


def _header(nodes: list[list[Any]], subject: str) -> dict[str, str]:
    text = json.dumps(nodes, allow_nan=False, separators=(",", ":"))
    if len(text) > _LONGEST_HEADER // 2:
        raise ValueError(
            f"{subject}: the tree without its arrays takes {len(text):,} bytes, more than {_LONGEST_HEADER // 2:,}; "
            "put numbers into arrays"
        )
    return {"format": _FORMAT, "version": _VERSION, "tree": text, "sha256": _sha256(text)}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _nodes(header: Any) -> Any:
    """The nodes of a header; Damaged if it is not one of ours, or not as it was written."""
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise Damaged("fastgrad.save did not write it")
    if header.get("version") != _VERSION:
        raise Damaged(f"it is of version {header.get('version')!r:.20}, and this fastgrad reads version {_VERSION}")
    text, sha = header.get("tree"), header.get("sha256")
    if type(text) is not str or not text.isascii() or sha != _sha256(text):
        raise Damaged("its checksum does not fit: it was changed after it was written")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"its tree is no JSON: {error}") from None


def _checked(a: np.ndarray, name: str, sha: str) -> np.ndarray:
    if digest(a) != sha:
        raise Damaged(f"the checksum of the array {name!r} does not fit: it was changed after it was written")
    return a


# npz --------------------------------------------------------------------------------------------------------


def _write_npz(file: BinaryIO, nodes: list[list[Any]], arrays: Iterable[Array], subject: str) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for array in arrays:
            copy = array.snapshot()
            with archive.open(zipfile.ZipInfo(f"{array.name}.npy"), "w", force_zip64=copy.nbytes > 2**30) as entry:
                np.lib.format.write_array(entry, copy, allow_pickle=False)
        archive.writestr(zipfile.ZipInfo(_HEADER), json.dumps(_header(nodes, subject)))


def _from_npz(archive: zipfile.ZipFile, size: int) -> tuple[Any, _Read, Callable[[], None]]:
    entries = {info.filename: info for info in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise Damaged("it has two entries of one name")
    for info in entries.values():
        if not 0 <= info.header_offset < size:
            raise Damaged(f"its entry {info.filename!r:.100} is outside of the file")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > size or info.flag_bits & 1:
            raise Damaged(f"its entry {info.filename!r:.100} is compressed, encrypted, or larger than the file")
    if _HEADER not in entries:
        raise Damaged("fastgrad.save did not write it")
    header = entries.pop(_HEADER)
    if header.file_size > 2 * _LONGEST_HEADER:
        raise Damaged("its header is too long")
    nodes = _nodes(json.loads(archive.read(header)))

    def read(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], sha: str) -> np.ndarray:
        info = entries.pop(f"{name}.npy", None)
        if info is None:
            raise Damaged(f"it lacks the array {name!r}")
        content = archive.read(info)
        start = io.BytesIO(content[: _LONGEST_NPY_HEADER + 12])
        version = np.lib.format.read_magic(start)
        parse = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
        if parse is None:
            raise Damaged(f"the array {name!r} is of another version of NumPy's format")
        found_shape, by_columns, found = parse(start, max_header_size=_LONGEST_NPY_HEADER)
        n = len(content) - start.tell()
        if by_columns or (found_shape, found) != (shape, dtype) or n != math.prod(shape) * dtype.itemsize:
            raise Damaged(f"the array {name!r} is not as its description")
        data = np.frombuffer(content, np.uint8, offset=start.tell()) if n else np.empty(0, np.uint8)
        return _checked(data.copy().view(dtype).reshape(shape), name, sha)

    return nodes, read, lambda: _refuse_more(entries)


def _refuse_more(entries: Iterable[str]) -> None:
    for name in entries:
        raise Damaged(f"it holds {name!r:.100}, which is not of the tree")


# safetensors ------------------------------------------------------------------------------------------------


def _safetensors(subject: str) -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            f"{subject}: files that end in .safetensors need the package safetensors: pip install "
            '"fastgrad[safetensors]", or give the file another name, and it is an npz'
        ) from None
    return safetensors


def _is_native(dtype: np.dtype[Any]) -> bool:
    return dtype.name in _NATIVE and dtype.str[0] != ">"


def _as_safetensors(library: Any, nodes: list[list[Any]], arrays: list[Array], subject: str) -> bytes:
    copies = {array.name: array.snapshot() for array in arrays}
    stored = {
        name: copy if _is_native(copy.dtype) else copy.reshape(-1).view(np.uint8) for name, copy in copies.items()
    }
    header = _header(nodes, subject)
    content: bytes = library.numpy.save(stored, metadata=header)
    return content


def _from_safetensors(file: Any) -> tuple[Any, _Read, Callable[[], None]]:
    nodes, left = _nodes(file.metadata()), set(file.keys())

    def read(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], sha: str) -> np.ndarray:
        if name not in left:
            raise Damaged(f"it lacks the array {name!r}")
        left.remove(name)
        found = np.array(file.get_tensor(name))
        if not _is_native(dtype):
            if found.dtype != np.uint8 or found.size != math.prod(shape) * dtype.itemsize:
                raise Damaged(f"the array {name!r} is not as its description")
            found = found.reshape(-1).view(dtype).reshape(shape)
        if (found.shape, found.dtype) != (shape, dtype):
            raise Damaged(f"the array {name!r} is not as its description")
        return _checked(found, name, sha)

    return nodes, read, lambda: _refuse_more(left)
