"""What `import fastgrad` adds to `import numpy`: the median of fresh interpreters.

    python benchmarks/import_time.py [--check]

Both are timed in the same interpreter, one after the other, and it is their ratio that is checked: a machine that is
slow or busy is so for both. With --check the exit status says whether the ratio is below the limit. The test
suite and nox use this file too. It is the processor's time that counts.
"""

import argparse
import os
import statistics
import subprocess
import sys

LIMIT = 0.4  # import fastgrad / import numpy

PROGRAM = """
import time
start = time.thread_time()
import numpy
between = time.thread_time()
import fastgrad
print(between - start, time.thread_time() - between)
"""


def import_seconds(repetitions: int = 9) -> list[tuple[float, float]]:
    """The seconds that `import numpy` and then `import fastgrad` take, in some fresh interpreters.

    One interpreter more runs before them, so that none of those counted writes or first reads bytecode.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
        for _ in range(repetitions + 1)
    ]
    return [(float(numpy), float(own)) for numpy, own in (run.stdout.split() for run in runs[1:])]


def import_ratio(seconds: list[tuple[float, float]]) -> float:
    """The median of what fastgrad takes, as a part of what NumPy takes."""
    return statistics.median(own / numpy for numpy, own in seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help=f"fail if the ratio is above {LIMIT}")
    check = parser.parse_args().check
    seconds = import_seconds()
    ratio = import_ratio(seconds)
    times = [1000 * own for _, own in seconds]
    median = statistics.median(times)
    print(f"import fastgrad after import numpy: {median:.1f} ms ({min(times):.1f} to {max(times):.1f}),", end=" ")
    print(f"{ratio:.2f} of what import numpy takes")
    if check and ratio > LIMIT:
        sys.exit(f"more than {LIMIT} of it")
