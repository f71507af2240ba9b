"""Curves as pictures: by matplotlib where it is installed, and as SVG text for notebooks, which needs nothing."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["Curve", "axes", "is_steep", "svg"]

Curve = tuple[str, np.ndarray, np.ndarray]  # name, x, y
_COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#8c564b")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _MARGIN = 480, 240, 60, 30, 12
_MOST_POINTS = 300


def axes(name: str, ax: Any) -> Any:
    """The matplotlib axes to draw in: those given, or new ones. `name` is the caller, for the error."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        raise ImportError(f"{name} draws with matplotlib, which is not installed: pip install matplotlib") from None
    return pyplot.subplots()[1]


def is_steep(values: np.ndarray) -> bool:
    """Whether values are better shown by their logarithms: all are above 0, and they are of different magnitudes."""
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() > 0 and values.max() > 30 * values.min())


def svg(curves: Sequence[Curve], x_label: str, log_x: bool = False) -> str:
    """A drawing of curves as SVG: axes with the least and largest values, a line and a word for each curve."""
    finite = [(name, *_thinned(x, y)) for name, x, y in curves]
    finite = [curve for curve in finite if curve[1].size]
    if not finite:
        return ""
    log_y = is_steep(np.concatenate([y for _, _, y in finite]))
    shown = [(name, np.log(x) if log_x else x, np.log(y) if log_y else y) for name, x, y in finite]
    left, right = min(x.min() for _, x, _ in shown), max(x.max() for _, x, _ in shown)
    low, high = min(y.min() for *_, y in shown), max(y.max() for *_, y in shown)
    width, height = _WIDTH - _LEFT - _MARGIN, _HEIGHT - _BOTTOM - _MARGIN
    lines = []
    for i, (name, x, y) in enumerate(shown):
        color = _COLORS[i % len(_COLORS)]
        h = _LEFT + width * (x - left) / ((right - left) or 1)
        v = _MARGIN + height * (high - y) / ((high - low) or 1)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(h, v))
        lines.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.5" points="{points}"/>')
        lines.append(_text(_WIDTH - _MARGIN, _MARGIN + 14 * (i + 1), "end", name, color))
    bottom = _MARGIN + height
    back = math.exp if log_x else float
    back_y = math.exp if log_y else float
    labels = [
        _text(_LEFT - 4, _MARGIN + 10, "end", f"{back_y(high):.3g}"),
        _text(_LEFT - 4, bottom, "end", f"{back_y(low):.3g}"),
        _text(_LEFT, bottom + 16, "middle", f"{back(left):.3g}"),
        _text(_WIDTH - _MARGIN, bottom + 16, "end", f"{back(right):.3g}"),
        _text(_LEFT + width / 2, bottom + 16, "middle", x_label),
    ]
    frame = f'<path fill="none" stroke="currentColor" d="M{_LEFT},{_MARGIN}V{bottom}H{_WIDTH - _MARGIN}"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11">'
        f"{frame}{''.join(lines)}{''.join(labels)}</svg>"
    )


def _text(x: float, y: float, anchor: str, text: str, color: str = "currentColor") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{color}">{html.escape(text)}</text>'


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points that are finite; of many, the means of as many neighbours as leave few."""
    keep = np.isfinite(x) & np.isfinite(y)
    x, y = np.asarray(x, np.float64)[keep], np.asarray(y, np.float64)[keep]
    if x.size <= _MOST_POINTS:
        return x, y
    starts = np.arange(0, x.size, -(-x.size // _MOST_POINTS))
    counts = np.diff(np.append(starts, x.size))
    return np.add.reduceat(x, starts) / counts, np.add.reduceat(y, starts) / counts
