"""The main job, from the command line: `python -m fastgrad.demo [--data DIR] [--output FILE]`.

Prints the derivative table with each row checked against finite differences, then trains a small tanh net on
handwritten digits by gradients of our own tape: scikit-learn's bundled 8x8 digits, or with --data the
MNIST-format idx files of a directory.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import fastgrad as fg

from . import activations
from ._demo.idx import read_idx

__all__ = ["main"]

SEED = 0
HIDDEN = 128
BATCH = 64

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # train x, train y, test x, test y


# the table --------------------------------------------------------------------------------------------------


def derivative_error(f: Any) -> float:
    """How far the derivative of an activation is from central differences of its value: the largest
    difference over its domain, relative where the derivative is above 1."""
    lo, hi = f.domain
    x = np.linspace(lo, hi, 1000) + 1e-4  # clear of the kinks, which lie at round numbers
    parameter = (0.3,) if isinstance(f, activations.ParametricActivation) else ()
    h = 1e-5
    if isinstance(f, activations.RowActivation):
        rows = x.reshape(-1, 4)
        exact = f.jacobian(rows)
        sides = [[np.asarray(f(rows + h * sign * unit, axis=-1)) for unit in np.eye(4)] for sign in (1, -1)]
        numeric = np.stack([(above - below) / (2 * h) for above, below in zip(*sides)], axis=-1)
    else:
        exact = f.derivative(x, *parameter)
        numeric = (np.asarray(f(x + h, *parameter)) - np.asarray(f(x - h, *parameter))) / (2 * h)
    return float(np.max(np.abs(exact - numeric) / np.maximum(1, np.abs(exact))))


def check_mark(f: Any) -> str:
    return "ok" if derivative_error(f) < 1e-7 else "WRONG"


# the data ---------------------------------------------------------------------------------------------------


def bundled_digits() -> Split:
    """The 1,797 images of 8x8 pixels that come with scikit-learn, a fifth of them for the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise SystemExit(
            "The digits come with scikit-learn, which is not installed: pip install 'fastgrad[demo]', "
            "or give a directory of MNIST files with --data"
        ) from None
    images, labels = load_digits(return_X_y=True)
    return _split(np.asarray(images, np.float32) / 16, labels.astype(np.int64))


def idx_digits(directory: Path) -> Split:
    """MNIST-format files of a directory: train and t10k as they are named; one of them alone is split."""
    if not directory.is_dir():
        raise SystemExit(f"--data: {directory} is not a directory")
    found = {name: pair for name in ("train", "t10k") if (pair := _idx_pair(directory, name)) is not None}
    if not found:
        raise SystemExit(
            f"--data: no MNIST files in {directory}: expected t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
            "or the same with train for t10k, plain or with .gz"
        )
    if len(found) == 2:
        split = (*found["train"], *found["t10k"])
    else:
        split = _split(*next(iter(found.values())))
    train, test = split[0].shape, split[2].shape
    if not (train[0] and test[0] and train[1] == test[1] > 0):
        raise ValueError(
            f"{directory}: {train[0]} images of {train[1]} pixels to train and {test[0]} of {test[1]} to test, "
            "expected some of each, of the same size"
        )
    return split


def _idx_pair(directory: Path, name: str) -> tuple[np.ndarray, np.ndarray] | None:
    paths = []
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        candidates = [directory / f"{name}-{kind}{end}" for end in ("", ".gz")]
        paths.append(next((path for path in candidates if path.is_file()), None))
    if paths[0] is None or paths[1] is None:
        return None
    images, labels = read_idx(paths[0]), read_idx(paths[1])
    if (images.ndim != 3 or labels.shape != images.shape[:1] or images.dtype != np.uint8 or labels.dtype != np.uint8
            or labels.max(initial=0) > 9):  # fmt: skip
        raise ValueError(
            f"{paths[0]}: images of shape {images.shape} and {images.dtype} with labels of shape {labels.shape} and "
            f"{labels.dtype}, expected (n, rows, columns) and (n,) of uint8, labels 0..9"
        )
    rows = images.reshape(len(images), images.shape[1] * images.shape[2])
    return rows.astype(np.float32) / 255, labels.astype(np.int64)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Four fifths to train and one to test, by a fixed permutation."""
    order = np.random.default_rng(SEED).permutation(len(images))
    cut = len(images) * 4 // 5
    train, test = order[:cut], order[cut:]
    return images[train], labels[train], images[test], labels[test]


# the net ----------------------------------------------------------------------------------------------------


def initial_params(inputs: int, hidden: int = HIDDEN, outputs: int = 10) -> dict[str, np.ndarray]:
    """Weights uniform within sqrt(6 / (in + out)) (Glorot and Bengio 2010), zero biases, in float32."""
    rng = np.random.default_rng(SEED)

    def weights(rows: int, columns: int) -> np.ndarray:
        bound = np.sqrt(6 / (rows + columns))
        return rng.uniform(-bound, bound, (rows, columns)).astype(np.float32)

    return {
        "W1": weights(inputs, hidden), "b1": np.zeros(hidden, np.float32),
        "W2": weights(hidden, outputs), "b2": np.zeros(outputs, np.float32),
    }  # fmt: skip


def logits(p: Any, x: Any) -> Any:
    return fg.tanh(x @ p["W1"] + p["b1"]) @ p["W2"] + p["b2"]


def loss(p: Any, x: Any, labels: Any) -> Any:
    return fg.losses.softmax_cross_entropy(logits(p, x), labels)


def accuracy(p: Any, x: np.ndarray, labels: np.ndarray) -> float:
    return float(np.mean(np.argmax(np.asarray(logits(p, fg.asarray(x))), axis=1) == labels))


def plot(history: list[float], path: Path) -> None:
    """The loss of each step and its running mean, as a PNG file."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SystemExit(
            "The loss curve is drawn by matplotlib, which is not installed: pip install 'fastgrad[demo]'"
        ) from None
    window = max(1, len(history) // 50)
    mean = np.convolve(history, np.full(window, 1 / window), "valid")
    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).subplots()
    axes.semilogy(history, color="0.75", linewidth=0.8, label="mini-batch")
    axes.semilogy(np.arange(len(mean)) + window // 2, mean, color="C0", label=f"mean of {window} steps")
    axes.set(xlabel="step", ylabel="cross-entropy", title="fastgrad: training on digits")
    axes.legend()
    figure.savefig(path, format="png", dpi=150)


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; returns the exit status: 0 if all is well, 1 if a derivative was found wrong."""
    parser = argparse.ArgumentParser(prog="python -m fastgrad.demo", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of MNIST-format idx files")
    parser.add_argument(
        "--output", type=Path, metavar="FILE", default=Path("fastgrad-demo.png"), help="PNG of the loss: %(default)s"
    )
    options = parser.parse_args(arguments)

    marks: list[str] = []

    def mark(f: Any) -> str:
        marks.append(check_mark(f))
        return marks[-1]

    print(activations.table(mark=mark))
    wrong = sum(m != "ok" for m in marks)
    print(f"{len(marks) - wrong} of {len(marks)} derivatives agree with finite differences\n")

    try:
        train_x, train_y, test_x, test_y = idx_digits(options.data) if options.data else bundled_digits()
    except (OSError, ValueError) as error:
        raise SystemExit(f"--data: {error}") from None
    inputs, epochs = train_x.shape[1], 15 if options.data else 30
    print(f"{inputs}-{HIDDEN}-10 tanh net, {len(train_x):,} images to train, {len(test_x):,} to test")
    began = time.perf_counter()
    result = fg.descend(
        loss, initial_params(inputs), (train_x, train_y), optimizer=fg.optim.SGD(learning_rate=0.1, momentum=0.9),
        epochs=epochs, batch_size=min(BATCH, len(train_x)), seed=SEED, progress=True,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    print(result.message)
    if result.steps:
        print(f"{result.steps:,} steps in {seconds:.2f} s: {seconds / result.steps * 1e6:.0f} microseconds a step")
    print(f"test accuracy {accuracy(result.params, test_x, test_y):.2%}")
    if result.steps:
        try:
            plot(result.history.tolist(), options.output)
        except OSError as error:
            raise SystemExit(f"--output: {error}") from None
        print(f"loss curve in {options.output}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
