"""A peer as a contender: its environment, its server, its workers and a producer, driven from outside."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.measuring import BenchError
from bench.peers import servers
from tests.support.until import until

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
NAMES = ("celery", "dramatiq", "huey", "procrastinate", "rq", "taskiq")
WORKERS = 2
PATIENCE_S = 300.0
Document = dict[str, Any]


class Peer:
    """See bench.contenders.Contender."""

    def __init__(
        self, name: str, producer: subprocess.Popen[str], workers: Sequence[subprocess.Popen[Any]], folder: Path
    ) -> None:
        self.name = name
        self.pids = [worker.pid for worker in workers]
        """Its processes with everything below them: what is idle when there is nothing to do."""
        self._producer = producer
        self._folder = folder
        self._notes = folder / "notes"
        self._notes.touch()
        self._runs = 0

    def run(self, job: Callable[[Document], Any], payloads: Sequence[Document]) -> float:
        """See Contender. The workers are held until all is enqueued."""
        self._runs += 1
        release = self._folder / f"release-{self._runs}"
        seen = self._notes.stat().st_size
        until(lambda: self._holds(release, seen), 60, f"both workers of {self.name} to be held")
        self._enqueue(job.__name__, payloads)
        begun = time.monotonic()
        release.touch()
        ends = self._ends(job.__name__, seen, len(payloads))
        return max(end for _, end in ends) - begun

    def pick_up(self) -> float:
        """See Contender."""
        seen = self._notes.stat().st_size
        handed_in = self._enqueue("tells_its_start", [{}])["at"]
        ((started, _),) = self._ends("tells_its_start", seen, 1)
        return started - float(handed_in)

    def one_by_one(self, count: int) -> float:
        """Enqueue so many jobs one after the other, and return the seconds that took. The workers are held."""
        self._runs += 1
        release, seen = self._folder / f"release-{self._runs}", self._notes.stat().st_size
        until(lambda: self._holds(release, seen), 60, f"both workers of {self.name} to be held")
        seconds = self._enqueue("noop", [{}] * count)["seconds"]
        release.touch()
        self._ends("noop", seen, count)
        return float(seconds)

    def _holds(self, release: Path, seen: int) -> bool:
        # one by one: a worker that fetches ahead could take both for itself
        if len(self._noted("holds", seen)) < WORKERS:
            self._enqueue("holds", [{"until": str(release)}])
            time.sleep(0.3)
        return len(self._noted("holds", seen)) >= WORKERS

    def _enqueue(self, name: str, payloads: Sequence[Document]) -> Document:
        assert self._producer.stdin is not None
        assert self._producer.stdout is not None
        self._producer.stdin.write(json.dumps({"name": name, "payloads": list(payloads)}) + "\n")
        self._producer.stdin.flush()
        answer = self._producer.stdout.readline()
        if not answer:
            raise BenchError(f"{self.name}: its producer has ended: {(self._folder / 'log').read_text()[-500:]}")
        return dict(json.loads(answer))

    def _ends(self, name: str, seen: int, count: int) -> list[tuple[float, float]]:
        """Wait for so many notes; look often at the size of the file, and seldom into it."""
        deadline = time.monotonic() + PATIENCE_S
        while len(found := self._noted(name, seen)) < count:
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name}: {len(found)} of {count} jobs have ended after {PATIENCE_S:g} s")
            time.sleep(0.1 if count > 1 else 0.002)
        return found

    def _noted(self, name: str, seen: int) -> list[tuple[float, float]]:
        with self._notes.open() as notes:
            notes.seek(seen)
            lines = [line.split() for line in notes if line.startswith(f"{name} ") and line.endswith("\n")]
        return [(float(started), float(ended)) for _, started, ended in lines]


@contextlib.contextmanager
def peer(name: str, folder: Path) -> Iterator[Peer]:
    """Start a peer, warm."""
    folder.mkdir()
    constants = literals(HERE / f"{name}.py")
    bin_ = environment(name, constants["PACKAGES"]) / "bin"
    with servers.RUNNING[constants["SERVER"]](folder) as server, (folder / "log").open("ab") as log:
        environ = {
            **{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
            "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "BENCH_SERVER": server,
            "BENCH_NOTES": str(folder / "notes"),
        }

        def start(command: str, **options: Any) -> subprocess.Popen[Any]:
            program, *words = command.format(server=server).split()
            options |= {"env": environ, "cwd": folder, "stderr": log, "start_new_session": True}
            return subprocess.Popen([str(bin_ / program), *words], **options)

        if "PREPARE" in constants and start(constants["PREPARE"], stdout=log).wait(60):
            raise BenchError(f"{name}: {constants['PREPARE']} failed: {(folder / 'log').read_text()[-500:]}")
        pipes: Mapping[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with contextlib.ExitStack() as stack:
            number = WORKERS if constants.get("EACH") else 1
            workers = [start(constants["WORKER"], stdout=log) for _ in range(number)]
            for worker in workers:
                stack.callback(_end, worker)
            producer = start(f"python -m bench.peers.producer {name}", **pipes)
            stack.callback(_end, producer)
            yield Peer(name, producer, workers, folder)


def literals(path: Path) -> Document:
    """Return the constants of a peer's file without importing it, since its packages are not here."""
    return {
        target.id: ast.literal_eval(node.value)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id.isupper()
    }


def environment(name: str, packages: Sequence[str]) -> Path:
    """Return the peer's virtual environment; make it unless it is there with these very packages."""
    folder = ROOT / ".venv-bench" / f"{name}-{hashlib.sha256(repr(packages).encode()).hexdigest()[:8]}"
    if not (folder / "ready").exists():
        print(f"  making an environment for {name} …", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *packages]
        if subprocess.run(pip, check=False).returncode:
            raise BenchError(f"--peers {name}: pip could not install {', '.join(packages)}")
        (folder / "ready").touch()
    return folder


def _end(process: subprocess.Popen[Any]) -> None:
    """End a program and everything that it has started: not every system does that by itself."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    for each in (process, *family):
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            each.kill()
    process.wait(10)
