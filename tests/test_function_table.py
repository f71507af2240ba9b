"""docs/functions.md says what becomes of NumPy's and SciPy's functions of tensors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy

ROOT = Path(__file__).parent.parent


def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "functions.md").read_text()
    if f"NumPy {np.__version__} and SciPy {scipy.__version__};" not in page:
        pytest.skip("the page is written for another version of NumPy or SciPy, which has other functions")
    command = [sys.executable, str(ROOT / "tools" / "function_table.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
