"""The fork server, and the exit codes of workers, which come through a pipe from it; in programs of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

ASKED_BY_MANY = """
import os, sys, threading
from pathlib import Path
from supervisor.pool.context import SafeContext
from supervisor.pool.forkserver import ForkServer

context = SafeContext(ForkServer(Path(sys.argv[1])))
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
import os, sys, time
from pathlib import Path
from supervisor.pool.context import SafeContext
from supervisor.pool.forkserver import ForkServer

server = ForkServer(Path(sys.argv[1]))
process = SafeContext(server).Process(target=time.sleep, args=(60,))
process.start()
print(process._popen.poll(), process._popen.untold)
server.kill()
process.join(20)
print(process._popen.untold)
os.kill(process.pid, 9)
"""

CANNOT_BE_REPLACED = """
import multiprocessing, os, sys
from pathlib import Path
from supervisor.pool.forkserver import ForkServer

def start():
    try:
        server.ensure_running()
    except FileNotFoundError:
        print("refused")

server = ForkServer(Path(sys.argv[1]))
start()
server.kill()
server._process.wait(20)
multiprocessing.set_executable("/nowhere")
start()
strangers = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]  # one of them has the number of the pipe's end
start()
print(len([os.fstat(each) for each in strangers]), os.listdir(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("program", "said"),
    [(ASKED_BY_MANY, "[]\n"), (NOBODY_TELLS, "None False\nTrue\n")],
    ids=["asked by many threads at once", "the fork server is gone"],
)
def test_an_exit_code_is_right_or_known_to_be_unknown(program: str, said: str, tmp_path: Path) -> None:
    assert output_of(program, tmp_path) == said


def test_a_fork_server_that_cannot_be_replaced_costs_no_file_of_others(tmp_path: Path) -> None:
    assert output_of(CANNOT_BE_REPLACED, tmp_path) == "refused\nrefused\n20 ['obituaries']\n"


def output_of(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", f"if __name__ == '__main__':\n{_indented(program)}", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _indented(program: str) -> str:
    return "\n".join(f"    {line}" for line in program.splitlines())
