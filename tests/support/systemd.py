"""systemd's own judgement of a unit file, where its programs are installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze; a machine without it may skip the test, and CI may not."""
    if shutil.which("systemd-analyze") is None:
        reason = "systemd-analyze is not installed (Debian package: systemd)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return subprocess.run(
        ["systemd-analyze", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SYSTEMD_COLORS": "0"},
    )


def complaints(unit: Path) -> str:
    """What `systemd-analyze verify` has to say about a unit; nothing, when all is well."""
    done = analyze("verify", "--man=no", str(unit))
    return done.stdout + done.stderr + (f"exit code {done.returncode}" if done.returncode else "")


def exposure(unit: Path) -> float:
    """The overall exposure of `systemd-analyze security`, 0 to 10; below 5 it says OK, below 1 SAFE."""
    done = analyze("security", "--offline=true", "--no-pager", str(unit))
    (line,) = [line for line in done.stdout.splitlines() if "Overall exposure level" in line]
    return float(line.partition(":")[2].split()[0])
