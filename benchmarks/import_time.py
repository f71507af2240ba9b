"""What `import fastgrad` costs above `import numpy`: the median of fresh interpreters.

    python benchmarks/import_time.py [--limit MILLISECONDS]

With a limit the exit status says whether it was kept. The test suite and .ci/run use this file too. It is
the processor's time that counts: on an idle machine that is the time one waits, on a busy one it still is.
"""

import argparse
import os
import statistics
import subprocess
import sys

PROGRAM = """
import time
import numpy
start = time.thread_time()
import fastgrad
print(time.thread_time() - start)
"""


def import_milliseconds(repetitions: int = 7) -> list[float]:
    """The time `import fastgrad` takes once numpy is there, in milliseconds, shortest first.

    One interpreter more runs before them, so that none of those counted writes or first reads bytecode.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    runs = [
        subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
        for _ in range(repetitions + 1)
    ]
    return sorted(1000 * float(run.stdout) for run in runs[1:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limit", type=float, help="fail above this median, in milliseconds")
    limit = parser.parse_args().limit
    times = import_milliseconds()
    median = statistics.median(times)
    print(f"import fastgrad above import numpy: {median:.1f} ms ({times[0]:.1f} to {times[-1]:.1f})")
    if limit is not None and median > limit:
        sys.exit(f"more than {limit:g} ms")
