"""A systemd of a test's own, booted in namespaces on a root file system in memory (own_root.sh).

It cannot write to anything of the machine's: a systemd that shared the root would tidy up its /tmp at boot, to begin
with. It knows no units but those that are put there.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.supervising import ROOT
from tests.support.until import until

SYSTEMD = Path("/usr/lib/systemd/systemd")
SCRIPT = Path(__file__).with_name("own_root.sh")
NAMESPACES = ("--mount", "--pid", "--ipc", "--uts", "--cgroup")
TARGETS = ("sysinit", "basic", "default", "multi-user", "network-online", "shutdown", "umount", "final")
BOOT_S = 30


@dataclass(frozen=True)
class BootedSystemd:
    """The booted one, seen from outside."""

    init: int
    """The process id of its process 1."""

    def run(self, *command: str, folder: str = "/") -> subprocess.CompletedProcess[str]:
        """Run a command in there."""
        there = ["nsenter", "--target", str(self.init), "--mount", "--pid", "--ipc", "--uts", "--cgroup"]
        inside = ["sh", "-c", 'cd "$0" && exec "$@"', folder, *command]
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
        return subprocess.run([*there, *inside], capture_output=True, text=True, check=False, timeout=120, env=environ)

    def python(self, *arguments: str, folder: str) -> subprocess.CompletedProcess[str]:
        """Run `python -m supervisor` in there."""
        return self.run(sys.executable, "-m", "supervisor", *arguments, folder=folder)

    def systemctl(self, *arguments: str) -> None:
        """Run systemctl in there, which has to succeed."""
        done = self.run("systemctl", *arguments)
        assert done.returncode == 0, done.stderr + self.run("systemctl", "status", *arguments[1:]).stdout

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "--value", "--property", name, unit).stdout.strip()

    def path(self, inside: str | Path) -> Path:
        """Where a file of there is to be found from here."""
        return Path(f"/proc/{self.init}/root") / str(inside).lstrip("/")


@contextlib.contextmanager
def booted_systemd(folder: Path) -> Iterator[BootedSystemd]:
    """Boot a systemd; skip where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("a systemd can be booted by root only")
    missing = [name for name in ("unshare", "nsenter", "setpriv") if not shutil.which(name)]
    if missing or not SYSTEMD.exists():
        pytest.skip(f"a systemd cannot be booted here without {', '.join(missing) or SYSTEMD}")
    with _control_group() as group, (folder / "boot.log").open("w+b") as log:
        process = subprocess.Popen(_command(group, folder), stdout=log, stderr=log, env=_environ(folder))
        try:
            yield BootedSystemd(_boot(process, folder / "boot.log"))
        finally:
            process.kill()  # and the kernel kills all that is in there
            process.wait(10)


def _command(group: Path, folder: Path) -> list[str]:
    """Enter the group, then namespaces, then the root in memory, then systemd; all of it dies with this process."""
    root = folder / "root"
    root.mkdir()
    manager = ["env", "-i", f"PATH={os.environ['PATH']}", "container=test", "SYSTEMD_UNIT_PATH=/etc/systemd/system",
               "SYSTEMD_LOG_TARGET=console", str(SYSTEMD), "--system", "--show-status=false"]  # fmt: skip
    return [
        *("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', str(group)),
        *("setpriv", "--pdeathsig", "KILL", "unshare", *NAMESPACES, "--fork", "--kill-child"),
        *("sh", str(SCRIPT), str(root), *manager),
    ]


def _environ(folder: Path) -> dict[str, str]:
    skeleton = folder / "skeleton"
    units = skeleton / "etc" / "systemd" / "system"
    units.mkdir(parents=True)
    for name in TARGETS:
        (units / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    readable = dict.fromkeys([str(ROOT), str(Path(sys.prefix).resolve()), str(Path(sys.base_prefix).resolve())])
    outside = [place for place in readable if not place.startswith("/usr/")]
    return {**os.environ, "OWN_ROOT_SKELETON": str(skeleton), "OWN_ROOT_BINDS": "\n".join(outside)}


def _boot(process: subprocess.Popen[bytes], log: Path) -> int:
    """Wait until it is up and return its process id, as seen from here."""

    def init() -> int:
        if process.poll() is not None:
            pytest.skip(f"a systemd cannot be booted here: {log.read_text(errors='replace')[-500:]}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        booted = [int(child) for child in children if Path(f"/proc/{child}/exe").resolve() == SYSTEMD.resolve()]
        return booted[0] if booted else 0

    pid = until(init, BOOT_S, "the first process of systemd")
    systemd = BootedSystemd(pid)
    until(lambda: systemd.run("systemctl", "is-system-running").stdout.strip() == "running", BOOT_S, "systemd to be up")
    return pid


@contextlib.contextmanager
def _control_group() -> Iterator[Path]:
    """Make a group for all of it, which looks like the root from inside."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    tree = next((Path(where) for _, where, kind, *_ in mounts if kind == "cgroup2"), None)
    if tree is None:
        pytest.skip("a systemd cannot be booted here: there is no control group file system of version 2")
    group = tree / f"mongo-job-supervisor-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"a systemd cannot be booted here: {error}")
    try:
        yield group
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), 10, "the group to be empty")
        for each in sorted(group.rglob("*/"), reverse=True):
            until(lambda each=each: not (each / "cgroup.procs").read_text(), 10, f"{each} to be empty")
            each.rmdir()
        group.rmdir()
