"""The benches that CI has no time for still run."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_benches_of_claims_run() -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--only", "claim_cost,fleet"]
    done = subprocess.run(command, timeout=600, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "claims/s" in done.stdout
