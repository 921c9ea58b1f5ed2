"""The exit codes of workers, which come through a pipe from the fork server. In a program of its own: the fork server
stays as long as the process that started it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ASKED_BY_MANY = """
import os, threading
import tempfile
from pathlib import Path
from supervisor.pool.context import SafeContext
from supervisor.pool.forkserver import ForkServer

context = SafeContext(ForkServer(Path(tempfile.mkdtemp())))
wrong = []
for _ in range(20):
    processes = [context.Process(target=os._exit, args=(7,)) for _ in range(2)]
    for process in processes:
        process.start()
    ended = threading.Event()
    def ask():
        while not ended.is_set():
            for process in processes:
                process._popen.poll()
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for process in processes:
        process.join(20)
    ended.set()
    for thread in threads:
        thread.join()
    wrong += [process.exitcode for process in processes if process.exitcode != 7]
print(wrong)
"""

NOBODY_TELLS = """
import os, tempfile, time
from pathlib import Path
from supervisor.pool.context import SafeContext
from supervisor.pool.forkserver import ForkServer

server = ForkServer(Path(tempfile.mkdtemp()))
process = SafeContext(server).Process(target=time.sleep, args=(60,))
process.start()
print(process._popen.poll(), process._popen.untold)
server.kill()
process.join(20)
print(process._popen.untold)
os.kill(process.pid, 9)
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [(ASKED_BY_MANY, "[]\n"), (NOBODY_TELLS, "None False\nTrue\n")],
    ids=["asked by many threads at once", "the fork server is gone"],
)
def test_an_exit_code_is_right_or_known_to_be_unknown(program: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"if __name__ == '__main__':\n{_indented(program)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def _indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.splitlines())
