"""`save` and `load`: what comes back, what is refused, and that a file is whole at every moment."""

import collections
import dataclasses
import functools
import io
import itertools
import json
import math
import os
import struct
import sys
import threading
import typing
import zipfile

import numpy as np
import pytest

import fastgrad as fg
from fastgrad._serialize import atomic

KINDS = ["npz", "safetensors"]


@pytest.fixture(params=KINDS)
def path(request, tmp_path):
    if request.param == "safetensors":
        pytest.importorskip("safetensors")
    return str(tmp_path / f"tree.{request.param}")


class Point(typing.NamedTuple):
    x: object
    y: object


@dataclasses.dataclass
class Layer:
    weight: object
    activation: str = dataclasses.field(default="tanh", metadata={"static": True})


class Line:
    def __init__(self, slope, unit):
        self.slope, self.unit = slope, unit


fg.tree.register(Line, lambda line: ((line.slope,), line.unit), lambda unit, children: Line(children[0], unit))


def assert_same(found, expected, place="tree"):
    """Equal in type and to the last bit, and dicts also in their order."""
    assert type(found) is type(expected), f"{place}: {type(found)} for {type(expected)}"
    if isinstance(expected, fg.Tensor):
        assert found.requires_grad == expected.requires_grad, place
        found, expected = found.detach().numpy(), expected.detach().numpy()
    if isinstance(expected, (np.ndarray, np.generic)):
        assert (found.dtype.str, found.shape) == (expected.dtype.str, expected.shape), place
        assert found.tobytes() == expected.tobytes(), place
    elif isinstance(expected, float):
        assert struct.pack("d", found) == struct.pack("d", expected), place
    elif isinstance(expected, complex):
        assert_same(found.real, expected.real, place)
        assert_same(found.imag, expected.imag, place)
    elif isinstance(expected, dict):
        for (k, a), (j, b) in itertools.zip_longest(found.items(), expected.items(), fillvalue=("none", None)):
            assert_same(k, j, f"{place}, a key")
            assert_same(a, b, f"{place}[{j!r}]")
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), place
        for i, (a, b) in enumerate(zip(found, expected)):
            assert_same(a, b, f"{place}[{i}]")
    elif isinstance(expected, Layer):
        assert_same(vars(found), vars(expected), place)
    elif isinstance(expected, Line):
        assert_same([found.slope, found.unit], [expected.slope, expected.unit], place)
    else:
        assert found == expected, place


def nan(bits, dtype):
    return np.array([bits], f"u{np.dtype(dtype).itemsize}").view(dtype)


ARRAYS = {
    **{
        dtype: np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in "? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 g c8 c16 >f8 >i2 >f4 M8[ns] m8[s] S3 U4".split()
    },
    "0-d": np.array(1.5),
    "0-d bool": np.array(True),
    "0-d big-endian": np.array(1.5, ">f8"),
    "empty": np.zeros((0, 3), np.float32),
    "empty text": np.zeros(0, "U3"),
    "empty big-endian": np.zeros((2, 0), ">i4"),
    "strided": np.arange(20.0)[::3],
    "by columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "reversed": np.arange(6, dtype=np.int16).reshape(2, 3)[::-1, ::-1],
    "broadcast": np.broadcast_to(np.float32(2), (3, 2)),
    "read-only": np.broadcast_to(np.arange(3), (3,)),
    "nan payload": nan(0x7FF8_0000_DEAD_BEEF, "f8"),
    "signalling nan": nan(0xFFF0_0000_0000_0001, "f8"),
    "nan payload, float32": nan(0x7FA0_0001, "f4"),
    "zeros": np.array([0.0, -0.0, np.inf, -np.inf, 5e-324]),
}


def test_arrays(path):
    fg.save(path, ARRAYS)
    found = fg.load(path)
    assert_same(found, ARRAYS)
    for name, array in found.items():
        assert array.flags.writeable and array.flags.c_contiguous and array.flags.aligned, name


VALUES = [
    None, True, False, 0, -1, 2**53, -(2**53) - 1, 2**64, -(10**5000), 0.1, -0.0, math.inf, -math.inf, math.nan,
    struct.unpack("d", struct.pack("Q", 0xFFF8_0000_0000_1234))[0], 1e-320, 1 + 2j, complex(math.nan, -0.0),
    "", "text", "\ud800 \0 \U0001f600", b"", b"\0\xff", np.float64(1.5), np.float32("nan"), np.int8(-3), np.bool_(True),
    np.datetime64("2020-01-01", "D"), np.str_("x"), (), [], {}, collections.OrderedDict(), [[], ({},)],
]  # fmt: skip


def test_values_and_containers(path):
    keys = {"b": 1, "a": 2, 3: 4, 2.5: 5, (1, "x"): 6, None: 7, b"k": 8, True: 9, "": 10, ".": 11, np.int64(99): 12}
    tree = {"values": VALUES, "keys": keys, "ordered": collections.OrderedDict(z=1, a=(np.ones(2), [np.zeros(1)]))}
    fg.save(path, tree)
    assert_same(fg.load(path), tree)


@pytest.mark.parametrize("tree", [None, 1.5, np.arange(3), fg.tensor([1.0]), [], "x"], ids=repr)
def test_a_leaf_alone(path, tree):
    fg.save(path, tree)
    assert_same(fg.load(path), tree)


def test_tensors(path):
    tree = {
        "leaf": fg.tensor([1.0, 2.0], requires_grad=True), "plain": fg.tensor([[1, 2]]), "0-d": fg.tensor(2.0),
        "float32": fg.zeros((2, 0), dtype=np.float32),
    }  # fmt: skip
    fg.save(path, tree)
    assert_same(fg.load(path), tree)


def test_classes(path):
    tree = [Point(np.ones(2), None), Layer(Point(1, np.zeros(1))), Line(np.arange(2.0), "m"), Line(1.0, ("a", 2))]
    fg.save(path, tree)
    assert_same(fg.load(path, types=[Point, Layer]), tree)
    with pytest.raises(ValueError, match=r"class test_save.Point, which is not known here; pass the class, as in "
                                         r"types=\[Point\]"):  # fmt: skip
        fg.load(path, types=[Layer])


def test_a_class_that_has_changed(path):
    fg.save(path, Point(1, 2))
    other = collections.namedtuple("Point", "x z", module=__name__)
    with pytest.raises(ValueError, match="Point was saved with the fields x, y and has the fields x, z here"):
        fg.load(path, types=[other])
    other = collections.namedtuple("Point", "x", module=__name__)
    with pytest.raises(ValueError, match="an object of the class Point cannot be built"):
        fg.load(path, types=[other])


def test_names_for_other_programs(path):
    tree = {"layers": [{"weight": np.ones(2)}, {"weight": np.zeros(3)}], "a.b": np.ones(1), "a": {"b": np.zeros(1)}}
    tree |= {"../../etc/passwd": np.ones(4), "a/../b": np.ones(5), "C:\\x": np.ones(6), "é": np.ones(7)}
    fg.save(path, tree)
    assert_same(fg.load(path), tree)
    if path.endswith("npz"):
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files if name != "fastgrad.json"}
    else:
        from safetensors.numpy import load_file

        found = load_file(path)
    assert {"layers.0.weight", "layers.1.weight", "a_b"} <= set(found), sorted(found)
    np.testing.assert_array_equal(found["layers.1.weight"], np.zeros(3))
    assert all("/" not in name and "\\" not in name and not name.startswith(".") for name in found), sorted(found)


def test_what_cannot_be_saved(path):
    recorded = fg.tensor([1.0], requires_grad=True) * 2
    cases = [
        ({"a": [object()]}, r"save: tree\['a'\]\[0\] is of type object, which cannot be saved; expected arrays"),
        ([np.array([None])], r"save: tree\[0\] is an array of object, .* a list of the objects"),
        (np.zeros(2, "f8,i4"), "save: tree is an array of .*, which cannot be saved; expected numbers, strings or"),
        (np.ma.ones(2), "save: tree is of type MaskedArray, .* expected its .filled"),
        (recorded, "save: tree is of type Tensor, .* expected its .detach"),
        (Layer(np.ones(1), activation=np.tanh), r"save: tree\['its constants'\]\[0\] is of type ufunc"),
        ({1, 2}, "save: tree is of type set"),
        (np.random, "save: tree is of type module"),
    ]
    fg.save(path, "before")
    for tree, text in cases:
        with pytest.raises(TypeError, match=text):
            fg.save(path, tree)
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="save: the tree holds itself, or is nested too deeply"):
        fg.save(path, loop)
    assert fg.load(path) == "before"


def test_no_tensor_of_a_trace(tmp_path):
    def f(x):
        fg.save(tmp_path / "x.npz", x)
        return x

    with pytest.raises(TypeError):
        fg.compile(f)(np.ones(2))
    assert not os.listdir(tmp_path)


def test_deep_trees(path):
    tree = np.ones(1)
    for _ in range(200):
        tree = [tree]
    fg.save(path, tree)
    limit = sys.getrecursionlimit()
    depth = len(__import__("inspect").stack())
    try:  # reading takes no recursion
        sys.setrecursionlimit(depth + 90)
        found = fg.load(path)
    finally:
        sys.setrecursionlimit(limit)
    for _ in range(200):
        (found,) = found
    assert_same(found, np.ones(1))


# what is refused --------------------------------------------------------------------------------------------

TREE = {"w": np.arange(40.0), "b": [np.float32(3), "text", None, 7], "i": np.arange(5)}


def test_truncated_files(path):
    fg.save(path, TREE)
    with open(path, "rb") as file:
        whole = file.read()
    for n in {0, 1, 4, 8, 30, 100, *range(200, len(whole), 97), len(whole) - 1}:
        with open(path, "wb") as file:
            file.write(whole[:n])
        with pytest.raises(ValueError, match=r"load: '.*' cannot be used: .+"):
            fg.load(path)


def test_files_with_other_bytes(path):
    """Wherever a byte is changed, the file is refused, or it is one that says nothing, as of a time, and nothing
    changes."""
    fg.save(path, TREE)
    with open(path, "rb") as file:
        whole = file.read()
    kept = 0
    for i in range(0, len(whole), 7):
        with open(path, "wb") as file:
            file.write(whole[:i] + bytes([whole[i] ^ (1 << i % 8)]) + whole[i + 1 :])
        try:
            found = fg.load(path)
        except ValueError as error:
            assert "cannot be used: " in str(error), i
        else:
            kept += 1
            assert_same(found, TREE)
    assert kept < len(whole) / 7 / 5


def test_foreign_files(tmp_path, path):
    files = {
        "text.npz": b"not a zip", "empty.npz": b"", "array.npz": None, "pickle.npz": None, "zip.npz": None,
        "text.safetensors": b"\xff" * 100,
    }  # fmt: skip
    np.savez(tmp_path / "array.npz", w=np.ones(2))
    np.savez(tmp_path / "pickle.npz", w=np.array([Layer(1)], object), **{"fastgrad.json": np.ones(1)})
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as file:
        file.writestr("fastgrad.json", '{"format": "other"}')
    for name, content in files.items():
        if name.endswith(path.rpartition(".")[2]):
            if content is not None:
                (tmp_path / name).write_bytes(content)
            with pytest.raises(ValueError, match=rf"load: '.*{name}' cannot be used: .+"):
                fg.load(tmp_path / name)
    if path.endswith("safetensors"):
        from safetensors.numpy import save_file

        save_file({"w": np.ones(2)}, path)
        with pytest.raises(ValueError, match=r"cannot be used: fastgrad.save did not write it"):
            fg.load(path)


def rewritten(path, change):
    """The npz at path with its entries, a dict of bytes, changed and written again, so that the CRCs of the zip fit."""
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def with_nodes(change):
    """A change of the nodes, whose checksum is made to fit."""

    def changed(entries):
        import hashlib

        header = json.loads(entries["fastgrad.json"])
        nodes = json.loads(header["tree"])
        header["tree"] = json.dumps(change(nodes) or nodes)
        header["sha256"] = hashlib.sha256(header["tree"].encode()).hexdigest()
        entries["fastgrad.json"] = json.dumps(header).encode()

    return changed


def put(number, place, value):
    def change(nodes):
        nodes[number][place] = value

    return with_nodes(change)


def test_tampered_files(tmp_path):
    path = tmp_path / "tree.npz"
    changes = [
        (lambda e: e.update({"w.npy": npy(np.arange(40.0) + 1)}), "checksum of the array 'w' does not fit"),
        (lambda e: e.update({"w.npy": npy(np.arange(40.0)[:3])}), "array 'w' is not as its description"),
        (lambda e: e.update({"w.npy": npy(np.arange(40.0).astype(">f8"))}), "array 'w' is not as its description"),
        (lambda e: e.update({"more.npy": npy(np.ones(1))}), "holds 'more.npy', which is not of the tree"),
        (lambda e: e.update({"../x.npy": npy(np.ones(1))}), "holds '../x.npy', which is not of the tree"),
        (lambda e: e.pop("w.npy"), "lacks the array 'w'"),
        (lambda e: e.update({"fastgrad.json": e["fastgrad.json"].replace(b"text", b"TEXT")}), "checksum does not fit"),
        (lambda e: e.update({"fastgrad.json": b"[" * 100_000}), "."),
        (lambda e: e.update({"w.npy": b"\x93NUMPY\x01\x00\xff\xff" + b"{" * 65535}), "."),
        (with_nodes(lambda nodes: nodes[:-1]), "the tree has no end"),
        (with_nodes(lambda nodes: [*nodes, ["none"]]), "nodes after the end of the tree"),
        (with_nodes(lambda nodes: {"a": 1}), "there are no nodes"),
        (with_nodes(lambda nodes: [[]]), "node 0 has no kind"),
        (put(0, 1, 10**9), "node 0 lacks children"),
        (put(0, 1, -1), "a dict has no length"),
        (put(1, 0, "list"), "list has no length"),
        (put(2, 1, "leaf2"), "array 'w' has a wrong description"),
        (put(2, 3, "|O"), r"'\|O' is no dtype that is saved"),
        (put(2, 3, "<f4"), "array 'w' is not as its description"),
        (put(2, 4, [2**60]), "array 'w' is not as its description"),
        (put(2, 4, [-40]), "array 'w' has the shape"),
        (put(2, 2, "i"), "."),
        (put(1, 0, "eval"), "'eval' is no kind of node"),
        (put(0, 0, "object"), "an object has no class"),
        (with_nodes(lambda nodes: [["object", "os:system", 0], ["none"]]), "class os.system, which is not known here"),
        (with_nodes(lambda nodes: [["object", "builtins:list", 0], ["none"]]), "."),
        (with_nodes(lambda nodes: [["dict", 1], ["list", 0], ["none"]]), "."),
    ]
    for change, text in changes:
        fg.save(path, TREE)
        rewritten(path, change)
        with pytest.raises(ValueError, match=f"cannot be used: .*{text}"):
            fg.load(path)


def test_bombs_are_not_unpacked(tmp_path):
    path = tmp_path / "tree.npz"
    fg.save(path, TREE)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("fastgrad.json", " " * 10_000_000)
    with pytest.raises(ValueError, match="is compressed, encrypted, or larger than the file"):
        fg.load(path)


# files ------------------------------------------------------------------------------------------------------


def test_errors_of_the_file_system(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        fg.load(path)
    with pytest.raises(FileNotFoundError, match="save: '.*' cannot be written: No such file or directory"):
        fg.save(tmp_path / "none" / os.path.basename(path), TREE)
    os.mkdir(path)
    with pytest.raises(IsADirectoryError, match="save: '.*' cannot be written: Is a directory"):
        fg.save(path, TREE)
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def open_instead(instead, name, mode):
    return open(instead, "wb")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_disk(path, tmp_path, monkeypatch):
    fg.save(path, "before")
    monkeypatch.setattr(atomic, "open", functools.partial(open_instead, "/dev/full"), raising=False)
    with pytest.raises(OSError, match="save: '.*' cannot be written: No space left on device; the file that was there "
                                      "is as it was"):  # fmt: skip
        fg.save(path, TREE)
    monkeypatch.undo()
    assert fg.load(path) == "before"
    assert os.listdir(tmp_path) == [os.path.basename(path)]


def test_links_and_permissions(path, tmp_path):
    link = str(tmp_path / ("link." + path.rpartition(".")[2]))
    fg.save(path, 1)
    os.symlink(path, link)
    os.chmod(path, 0o640)
    fg.save(link, 2)
    assert os.path.islink(link) and fg.load(path) == fg.load(link) == 2
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for f in (lambda: fg.save(tmp_path / "x.safetensors", 1), lambda: fg.load(tmp_path / "x.safetensors")):
        with pytest.raises(ImportError, match=r'pip install "fastgrad\[safetensors\]"'):
            f()
    assert not os.listdir(tmp_path)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("keep_previous", [False, True])
@pytest.mark.parametrize("killed", [False, True])
def test_a_write_that_is_interrupted_anywhere(path, tmp_path, monkeypatch, keep_previous, killed):
    """Wherever a write ends, there is the old file or the new one under the name. What a killed process leaves beside
    it, which cleans nothing up, is the new file and, where the previous one is kept, a second name of the old one."""
    from fastgrad._serialize.api import save_tree

    calls = ["fsync", "replace", "link", "chmod", "unlink"]
    name, previous = os.path.basename(path), os.path.basename(atomic.previous_of(path))
    seen, counts, number, done = set(), set(), 0, False
    while not done:
        for old in os.listdir(tmp_path):
            os.unlink(tmp_path / old)
        save_tree(path, 0, "save", True)
        save_tree(path, 1, "save", True)
        left = [number]

        def counted(f):
            def call(*args, **kwargs):
                left[0] -= 1
                if left[0] == -1 or (killed and left[0] < 0):
                    raise Stop
                return f(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            for f in calls:
                patch.setattr(os, f, counted(getattr(os, f)))
            try:
                save_tree(path, 2, "save", keep_previous)
                done = True
            except Stop:
                pass
        assert fg.load(path) in (1, 2), number
        assert fg.load(atomic.previous_of(path)) in ((0, 1) if keep_previous else (0,)), number
        leftovers = set(os.listdir(tmp_path)) - {name, previous}
        atomic.remove_leftovers(path)
        assert set(os.listdir(tmp_path)) == {name, previous}, number
        seen.add(fg.load(path))
        counts.add(len(leftovers))
        number += 1
    assert seen == {1, 2}
    if killed:
        assert max(counts) == (2 if keep_previous else 1)
    assert fg.load(atomic.previous_of(path)) == (1 if keep_previous else 0)


def test_where_there_are_no_hard_links(path, monkeypatch):
    from fastgrad._serialize.api import save_tree

    def link(a, b):
        raise OSError(1, "not permitted")

    monkeypatch.setattr(os, "link", link)
    for i in range(3):
        save_tree(path, i, "save", True)
    assert fg.load(path) == 2 and fg.load(atomic.previous_of(path)) == 1


def test_several_threads(path, tmp_path):
    """Threads that save to one path: one of their trees is there, whole; and arrays may change meanwhile."""
    arrays = [np.full(2000, i, float) for i in range(3)]
    stop = threading.Event()

    def change():
        while not stop.is_set():
            for a in arrays:
                a += 3

    def write(i):
        for _ in range(5):
            fg.save(path, {"which": i, "array": arrays[i]})

    changer = threading.Thread(target=change)
    writers = [threading.Thread(target=write, args=(i,)) for i in range(3)]
    changer.start()
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    changer.join()
    found = fg.load(path)
    assert ((found["array"] - found["which"]) % 3 == 0).all()
    assert os.listdir(tmp_path) == [os.path.basename(path)]
