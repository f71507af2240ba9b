"""Samples a second of training on ranks: `python mpi_scaling.py` for one, `mpiexec -n 2 python mpi_scaling.py` for two.

Each line is a net, the rows of each rank, and the best time of a step of many; also that of the all-reduce alone.
Give each rank the same threads: OPENBLAS_NUM_THREADS=1.
"""

import time

import numpy as np
from mpi4py import MPI

import fastgrad as fg

comm = MPI.COMM_WORLD


def best(f, repeats):
    """The least time of f on the slowest rank."""
    times = []
    for _ in range(repeats):
        comm.Barrier()
        start = time.perf_counter()
        f()
        times.append(comm.allreduce(time.perf_counter() - start, op=MPI.MAX))
    return min(times)


def measure(width, rows):
    rng = np.random.default_rng(comm.rank)
    x, y = rng.normal(size=(rows, width)).astype("f"), rng.normal(size=rows).astype("f")
    params = {key: rng.normal(0, 0.05, (width, width)).astype("f") for key in "abc"}

    def loss(p, x, y):
        h = np.tanh(np.tanh(np.tanh(x @ p["a"]) @ p["b"]) @ p["c"])
        return fg.losses.mse(h.sum(1), y)

    step = fg.training_step(loss, params, fg.optim.Adam(1e-4), comm=comm)
    block = np.zeros(3 * width * width + 3, "f")
    for _ in range(5):
        step(x, y)
    whole = best(lambda: step(x, y), 200)
    summed = best(lambda: comm.Allreduce(MPI.IN_PLACE, block), 200)
    if comm.rank == 0:
        print(
            f"ranks {comm.size}  width {width}  rows {rows}  gradients {block.nbytes / 1e6:.1f} MB  "
            f"step {whole * 1e3:.2f} ms  all-reduce {summed * 1e3:.3f} ms  {comm.size * rows / whole:.0f} samples/s"
        )


for width, rows in ((128, 2048), (256, 1024), (512, 512), (512, 2048)):
    measure(width, rows)
