"""`descend` and `training_step` on processes under mpiexec, where mpi4py and an MPI are installed (`fastgrad[mpi]`)."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None, reason="mpi4py is not installed: fastgrad[mpi]"),
    pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec: fastgrad[mpi] installs one"),
]

TRAIN = """
import json, os, signal, sys
import numpy as np
import fastgrad as fg
from mpi4py import MPI

how, comm = sys.argv[1], MPI.COMM_WORLD
bad = comm.rank == 1
rng = np.random.default_rng(0)
x = rng.normal(size=(1003, 20))
y = np.sin(x.sum(1))
params = {"w": rng.normal(size=(20, 32)) * 0.1, "v": rng.normal(size=32) * 0.1, "c": 0.0}
if how == "nan":
    x[300] = np.nan
if how == "facts" and bad:
    x, y = x[:500], y[:500]

def loss(p, x, y):
    if how == "loss" and bad:
        raise ValueError("broken loss")
    return fg.losses.mse(np.tanh(x @ p["w"]) @ p["v"] + p["c"], y)

def callback(info):
    if bad and info.step == 5:
        if how == "callback":
            raise KeyError("broken callback")
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "exit":
            sys.exit(3)
        if how == "interrupt":
            signal.raise_signal(signal.SIGINT)
        return how == "stop"

if how in ("outside", "uneven"):
    step = fg.training_step(loss, {k: np.array(v) for k, v in params.items()}, "sgd", comm=comm)
    for k in range(3 if how == "uneven" and bad else 6):
        if how == "outside" and bad and k == 3:
            raise OSError("no such file")
        step(x[k * 20 : k * 20 + 20], y[k * 20 : k * 20 + 20])
else:
    result = fg.descend(loss, params, (x, y), optimizer="adam", epochs=3, batch_size=64, seed=1, clip_norm=0.1,
                        callback=callback, progress=False, comm=comm)
    if comm.rank == 0:
        print(json.dumps({"history": result.history.tolist(), "message": result.message,
                          "params": {k: np.ravel(v).tolist() for k, v in result.params.items()}}))
"""


def run(tmp_path, n, how, script=None):
    """A script on n processes, without mpiexec if n is 1."""
    if script is None:
        script = tmp_path / "train.py"
        script.write_text(TRAIN)
    command = [sys.executable, "-W", "error", str(script), how]
    if n > 1:
        command = [MPIEXEC, "-n", str(n), *command]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy":
        ":oversubscribe",
    }  # fmt: skip
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    done = run(tmp_path_factory.mktemp("alone"), 1, "")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("n", [2, 4])
def test_processes_descend_as_one(tmp_path, alone, n):
    done = run(tmp_path, n, "")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["message"] == alone["message"]
    assert found["history"] == pytest.approx(alone["history"], rel=0, abs=1e-12)
    for key, values in alone["params"].items():
        assert found["params"][key] == pytest.approx(values, rel=0, abs=1e-12), key


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("nan", "FloatingPointError: descend: at step"),
        ("loss", "ValueError: broken loss"),
        ("callback", "KeyError: 'broken callback'"),
        ("facts", "ValueError: descend: on rank 1 rows is 500, on rank 0 1003"),
        ("outside", "OSError: no such file"),
        ("exit", "RankError: descend: rank 1 of 3 failed: SystemExit: 3"),
        ("uneven", "RankError: training_step: rank 1 of 3 takes no more steps, but others do"),
    ],
)
def test_one_error_ends_all_processes(tmp_path, how, error):
    done = run(tmp_path, 3, how)
    assert done.returncode != 0
    assert error in done.stderr, done.stderr
    assert done.stderr.count("Traceback") - done.stderr.count("During handling") == 1, done.stderr


def test_a_process_that_dies_ends_all(tmp_path):
    assert run(tmp_path, 3, "kill").returncode != 0


@pytest.mark.parametrize(("how", "message"), [("stop", "stopped by the callback"), ("interrupt", "interrupted")])
def test_one_process_stops_all(tmp_path, how, message):
    done = run(tmp_path, 3, how)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["message"] == f"{message} after 6 steps"
    assert len(found["history"]) == 6


def test_the_example_on_processes(tmp_path):
    outputs = [run(tmp_path, n, "", ROOT / "examples" / "mpi_regression.py").stdout for n in (1, 4)]
    assert "4 processes" in outputs[1]
    losses = [float(re.search(r"loss ([\d.]+)", out)[1]) for out in outputs]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_threads_are_shared(tmp_path):
    """BLAS uses no more threads in all processes of a machine than it has processors."""
    script = tmp_path / "threads.py"
    script.write_text(
        "import os; from mpi4py import MPI; import numpy as np, fastgrad as fg; from fastgrad import _blas\n"
        "fg.training_step(lambda p: (p * p).sum(), np.ones(1), 'sgd', comm=MPI.COMM_WORLD)\n"
        "own = MPI.COMM_WORLD.allgather((_blas.threads(_blas.IN_USE), len(os.sched_getaffinity(0))))\n"
        "print(*own, sep='\\n') if MPI.COMM_WORLD.rank == 0 else None"
    )
    done = run(tmp_path, 2, "", script)
    assert done.returncode == 0, done.stderr
    for threads, processors in map(eval, done.stdout.splitlines()):
        assert threads is None or threads <= max(1, processors // 2) or processors < (os.cpu_count() or 1)
