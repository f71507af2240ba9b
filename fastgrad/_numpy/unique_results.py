"""What ``unique_all``, ``unique_counts`` and ``unique_inverse`` return. Imported when one of them is first called."""

from __future__ import annotations

from typing import NamedTuple

from .._core import Tensor


class UniqueAllResult(NamedTuple):
    """What ``unique_all`` returns."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCountsResult(NamedTuple):
    """What ``unique_counts`` returns."""

    values: Tensor
    counts: Tensor


class UniqueInverseResult(NamedTuple):
    """What ``unique_inverse`` returns."""

    values: Tensor
    inverse_indices: Tensor
