"""A short run of the fuzzing script; the long one is started by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource")


def test_damaged_files_end_in_our_own_errors_in_time_and_in_memory():
    script = Path(__file__).with_name("fuzz_readers.py")
    run = subprocess.run(
        [sys.executable, str(script), "--count", "400"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert "400 inputs" in run.stdout
