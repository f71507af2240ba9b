"""Train on a table that stays on disk: a memory map of rows, read batch by batch by a thread, with a checkpoint.

The descent is ended after a third of its steps and goes on from its checkpoint to the same bits.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

import fastgrad as fg

folder = Path(tempfile.mkdtemp())
rows, columns = 100_000, 20
rng = np.random.default_rng(0)
weights = rng.normal(size=columns - 1).astype(np.float32)
table = np.lib.format.open_memmap(folder / "table.npy", mode="w+", dtype=np.float32, shape=(rows, columns))
for start in range(0, rows, 10_000):  # written in parts, as a table that does not fit in memory would be
    x = rng.normal(size=(10_000, columns - 1)).astype(np.float32)
    table[start : start + 10_000, :-1] = x
    table[start : start + 10_000, -1] = x @ weights + 0.1 * rng.normal(size=10_000)
table.flush()


def loss(params, batch):
    x, y = batch[:, :-1], batch[:, -1]
    return fg.losses.mse(x @ params["weights"] + params["bias"], y)


def train(steps, **more):
    return fg.descend(
        loss,
        {"weights": np.zeros(columns - 1, np.float32), "bias": np.float32(0)},
        np.load(folder / "table.npy", mmap_mode="r"),
        optimizer=fg.optim.Adam(fg.schedules.cosine(0.05, steps=1500)),
        batch_size=256,
        steps=steps,
        seed=0,
        prefetch=2,
        **more,
    )


train(500, checkpoint=folder / "run.npz", every=250)
resumed = train(1500, checkpoint=folder / "run.npz", every=250, resume=True)
whole = train(1500)

error = np.abs(resumed.params["weights"] - weights).max()
print(
    f"after {resumed.steps} steps: mean loss of the last 100 {resumed.history[-100:].mean():.4f}, of noise alone 0.01"
)
print(f"largest error of a weight {error:.4f}")
print(f"the same bits as without a stop: {np.array_equal(resumed.params['weights'], whole.params['weights'])}")
shutil.rmtree(folder)
