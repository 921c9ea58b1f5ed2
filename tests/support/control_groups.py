"""Control groups of a test's own: a real limit of the kernel's on processes or memory."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.support.until import until

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ControlGroup:
    """One group; `limit` is the file that takes its limit."""

    folder: Path
    limit: Path

    def take_in(self, process: psutil.Process) -> None:
        """Move a process with everything below it into the group, and what it starts meanwhile."""
        members = self.folder / "cgroup.procs"
        for _ in range(5):  # whoever is not in yet may have started another
            for pid in _family(process) - set(map(int, members.read_text().split())):
                with contextlib.suppress(ProcessLookupError):  # it has ended
                    members.write_text(str(pid))


def _family(process: psutil.Process) -> set[int]:
    return {each.pid for each in (process, *process.children(recursive=True))}


@contextlib.contextmanager
def control_group(controller: str, *limits: str) -> Iterator[ControlGroup]:
    """Make a group in which one of the files `limits` of `controller` is there; skip where that cannot be done."""
    for parent in (ROOT / controller, ROOT):
        folder = parent / f"mongo-job-supervisor-test-{os.getpid()}"
        with contextlib.suppress(OSError):
            folder.mkdir()
            found = [folder / name for name in limits if (folder / name).exists()]
            if not found:
                folder.rmdir()
                continue
            try:
                yield ControlGroup(folder, found[0])
            finally:
                until(lambda folder=folder: not (folder / "cgroup.procs").read_text(), 20, "the group to be empty")
                folder.rmdir()
            return
    pytest.skip(f"no control group with a limit of {controller} can be made here (needs root)")
