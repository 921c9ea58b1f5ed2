"""What is known of a process that another user runs and /proc hides."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.proc import start_ticks

ROOT = Path(__file__).parents[2]
AS_NOBODY = """
import os, sys
from supervisor.proc import is_alive, stat
stat(1)  # loads what that user may not be able to read
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
pid, ticks = map(int, sys.argv[1:])
print("hidden" if stat(pid) is None else "seen", is_alive(pid, ticks), is_alive(2**22 - 1, ticks))
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root, and unshare")
@pytest.mark.parametrize(("hidepid", "seen"), [("0", "seen"), ("2", "hidden")])
def test_a_process_that_is_hidden_from_us_is_not_taken_for_dead(hidepid, seen):
    mounted = f'mount -t proc -o hidepid={hidepid} proc /proc && exec "$@"'
    program = [sys.executable, "-c", AS_NOBODY, str(os.getpid()), str(start_ticks())]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", mounted, "sh", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"/proc cannot be mounted here: {done.stderr.strip()}")
    assert done.stdout.split() == [seen, "True", "False"], done.stderr
