"""Training on several processes, each with its part of every batch: `mpiexec -n 4 python mpi_regression.py`.

Without mpiexec, or without mpi4py (`pip install 'fastgrad[mpi]'`), it is one process with the same result.
"""

import numpy as np

import fastgrad as fg

try:
    from mpi4py import MPI

    comm, rank, size = MPI.COMM_WORLD, MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
except ImportError:
    comm, rank, size = None, 0, 1

rng = np.random.default_rng(0)
x = rng.normal(size=(20_000, 10))
y = np.sin(x[:, 0]) * x[:, 1] + 0.1 * rng.normal(size=len(x))
start = {
    "hidden": rng.normal(0, 0.3, (10, 64)),
    "bias": np.zeros(64),
    "out": rng.normal(0, 0.1, 64),
}


def predict(params, x):
    return np.tanh(x @ params["hidden"] + params["bias"]) @ params["out"]


def loss(params, x, y):  # a mean over rows, which the ranks weight by the rows that each has
    return fg.losses.mse(predict(params, x), y)


result = fg.descend(
    loss,
    start,
    (x[2000:], y[2000:]),
    optimizer=fg.optim.Adam(learning_rate=0.01),
    batch_size=500,  # of all ranks together
    epochs=20,
    seed=1,
    clip_norm=1.0,
    progress=False,
    comm=comm,
)
if rank == 0:
    error = fg.losses.mse(predict(result.params, x[:2000]), y[:2000])
    print(f"{size} {'process' if size == 1 else 'processes'}, {result.steps} steps, {result.message}")
    print(f"loss {result.loss:.4f}, mean squared error on new rows {float(error):.4f}, of which noise 0.0100")
