"""The demo from the command line, and the reader of MNIST's files."""

import gzip
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from _errors import raises_text

from fastgrad import activations, demo
from fastgrad._demo.idx import read_idx


def idx_bytes(array, code, dtype):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(dtype).tobytes()


CODES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("shape", [(3,), (2, 3, 4), (0, 5), ()])
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_files_are_read_plain_and_compressed(tmp_path, code, shape, compress):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    (tmp_path / "file").write_bytes(compress(idx_bytes(array, code, CODES[code])))
    got = read_idx(tmp_path / "file")
    np.testing.assert_array_equal(got, array)
    assert got.dtype == np.dtype(CODES[code]).newbyteorder("=")
    assert got.flags.writeable


GOOD = idx_bytes(np.arange(12).reshape(3, 4), 0x08, ">u1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an idx file: it starts with nothing, expected 00 00, a type from 08 to 0e, and the number of axes"),
        (b"\x89PNG\r\n", "not an idx file: it starts with 89 50 4e 47, expected 00 00, "),
        (b"\0\0\x0a\x01" + GOOD[4:], "not an idx file: it starts with 00 00 0a 01, "),
        (GOOD[:9], "the header is cut off after 9 of 12 bytes"),
        (GOOD[:-1], "23 bytes, expected 24 for shape (3, 4)"),
        (GOOD + b"\0", "25 bytes, expected 24 for shape (3, 4)"),
        (gzip.compress(GOOD, mtime=0)[:-9], "the gzip data is damaged or cut off ("),
        (b"\x1f\x8bgarbage", "the gzip data is damaged or cut off ("),
    ],
)
def test_idx_files_that_are_damaged(tmp_path, content, message):
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def digits(n, seed=0):
    """Images that a net can tell apart: class k has its row k lit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, n)
    images = rng.integers(0, 60, (n, 10, 10))
    images[np.arange(n), labels] += 150
    return images, labels


def write_digits(directory, name, n, end="", compress=bytes):
    images, labels = digits(n)
    (directory / f"{name}-images-idx3-ubyte{end}").write_bytes(compress(idx_bytes(images, 0x08, ">u1")))
    (directory / f"{name}-labels-idx1-ubyte{end}").write_bytes(compress(idx_bytes(labels, 0x08, ">u1")))


@pytest.mark.parametrize(("end", "compress"), [("", bytes), (".gz", gzip.compress)])
@pytest.mark.parametrize("name", ["train", "t10k"])
def test_one_pair_of_files_is_split(tmp_path, name, end, compress):
    write_digits(tmp_path, name, 50, end, compress)
    train_x, train_y, test_x, test_y = demo.idx_digits(tmp_path)
    assert train_x.shape == (40, 100) and test_x.shape == (10, 100)
    assert train_x.dtype == np.float32 and train_y.dtype == np.int64
    assert 0 <= train_x.min() and train_x.max() <= 1
    images, labels = digits(50)
    rows = sorted(map(tuple, np.rint(np.concatenate([train_x, test_x]) * 255).astype(int).tolist()))
    assert rows == sorted(map(tuple, images.reshape(50, 100).tolist()))
    assert sorted([*train_y, *test_y]) == sorted(labels)


def test_two_pairs_of_files_are_train_and_test(tmp_path):
    write_digits(tmp_path, "train", 30)
    write_digits(tmp_path, "t10k", 20)
    train_x, _, test_x, _ = demo.idx_digits(tmp_path)
    assert len(train_x) == 30 and len(test_x) == 20


@pytest.mark.parametrize("f", activations._TEXTBOOK + activations._OTHERS, ids=repr)
def test_the_check_of_a_row_passes_and_can_fail(f, monkeypatch):
    assert demo.check_mark(f) == "ok"
    method = "jacobian" if isinstance(f, activations.RowActivation) else "derivative"
    right = getattr(f, method)
    monkeypatch.setattr(f, method, lambda *args: right(*args) + 1e-5)
    assert demo.check_mark(f) == "WRONG"


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastgrad.demo", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_demo_on_the_bundled_digits(tmp_path):
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    done = run(cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "tanh          tanh(x)" in done.stdout
    assert "32 of 32 derivatives agree with finite differences" in done.stdout
    assert "64-128-10 tanh net, 1,437 images to train, 360 to test" in done.stdout
    assert float(re.search(r"test accuracy ([\d.]+)%", done.stdout)[1]) >= 97
    seconds, per_step = re.search(r"690 steps in ([\d.]+) s: (\d+) microseconds a step", done.stdout).groups()
    assert float(seconds) < 10 and int(per_step) > 0
    assert "690/690" in done.stderr
    assert "loss curve in fastgrad-demo.png" in done.stdout
    assert (tmp_path / "fastgrad-demo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_demo_on_files(tmp_path):
    pytest.importorskip("matplotlib")
    write_digits(tmp_path, "t10k", 500, ".gz", gzip.compress)
    done = run("--data", tmp_path, "--output", tmp_path / "curve.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "100-128-10 tanh net, 400 images to train, 100 to test" in done.stdout
    assert float(re.search(r"test accuracy ([\d.]+)%", done.stdout)[1]) >= 97
    assert (tmp_path / "curve.png").exists()


def test_demo_without_files_says_what_it_wants(tmp_path):
    done = run("--data", tmp_path / "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == f"--data: {tmp_path / 'nowhere'} is not a directory"
    done = run("--data", tmp_path, cwd=tmp_path)
    assert done.stderr.strip() == (
        f"--data: no MNIST files in {tmp_path}: expected t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, "
        "or the same with train for t10k, plain or with .gz"
    )


def test_demo_with_damaged_files(tmp_path):
    write_digits(tmp_path, "train", 20)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SystemExit, match=f"^--data: {re.escape(str(path))}: 2015 bytes, expected 2016 for shape "):
        demo.main(["--data", str(tmp_path)])
    write_digits(tmp_path, "train", 20)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(20), 0x08, ">u1"))
    with pytest.raises(SystemExit, match="expected \\(n, rows, columns\\) and \\(n,\\) of uint8, labels 0..9$"):
        demo.main(["--data", str(tmp_path)])


def test_files_that_no_net_can_be_trained_on(tmp_path):
    def refused(images, labels, message, name="t10k", code=0x08, kind=">u1"):
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(idx_bytes(images, code, kind))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(idx_bytes(labels, 0x08, ">u1"))
        with pytest.raises(ValueError, match=message):
            demo.idx_digits(tmp_path)

    refused(
        np.zeros((0, 4, 4)), np.zeros(0), ": 0 images of 16 pixels to train and 0 of 16 to test, expected some of each"
    )
    refused(
        np.zeros((1, 4, 4)), np.zeros(1), ": 0 images of 16 pixels to train and 1 of 16 to test, expected some of each"
    )
    refused(
        np.zeros((9, 0, 4)), np.zeros(9), ": 7 images of 0 pixels to train and 2 of 0 to test, expected some of each"
    )
    refused(
        np.full((9, 4, 4), np.nan),
        np.zeros(9),
        r"images of shape \(9, 4, 4\) and float32 .*of uint8",
        code=0x0D,
        kind=">f4",
    )
    write_digits(tmp_path, "train", 20)
    refused(
        np.zeros((9, 4, 4)), np.zeros(9), ": 20 images of 100 pixels to train and 9 of 16 to test, .*of the same size$"
    )
    (tmp_path / "many").write_bytes(bytes([0, 0, 8, 255]) + b"\0\0\0\1" * 255 + b"x")
    with pytest.raises(ValueError, match="many: 255 axes, which is more than NumPy has$"):
        read_idx(tmp_path / "many")


def test_demo_with_less_than_a_batch(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    write_digits(tmp_path, "t10k", 10)
    assert demo.main(["--data", str(tmp_path), "--output", str(tmp_path / "curve.png")]) == 0
    assert "8 images to train, 2 to test" in capsys.readouterr().out


def test_demo_with_nowhere_to_write(tmp_path):
    pytest.importorskip("matplotlib")
    write_digits(tmp_path, "t10k", 100)
    done = run("--data", tmp_path, "--output", tmp_path / "nowhere" / "curve.png", cwd=tmp_path)
    assert done.returncode == 1
    assert "test accuracy" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("--output: [Errno 2] No such file or directory: ")


@pytest.mark.parametrize(
    ("module", "call", "message"),
    [
        (
            "sklearn.datasets",
            lambda path: demo.bundled_digits(),
            "The digits come with scikit-learn, which is not installed: pip install 'fastgrad[demo]', "
            "or give a directory of MNIST files with --data",
        ),
        (
            "matplotlib.figure",
            lambda path: demo.plot([1.0], path),
            "The loss curve is drawn by matplotlib, which is not installed: pip install 'fastgrad[demo]'",
        ),
    ],
)
def test_what_is_not_installed_is_named(module, call, message, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)
    with raises_text(SystemExit, message):
        call(tmp_path / "curve.png")
