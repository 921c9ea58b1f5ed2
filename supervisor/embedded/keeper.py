"""The keeper: the small process between the embedded mongod and its users.

Run as a plain script (`python -I -S keeper.py DATA_DIR MONGOD KEEPER_LOCK_FD`), so it needs nothing but the
standard library and stays at some 10 MB. What holds the parts together are `flock` locks, because the kernel
releases them however a process ends; no pid file can go stale.

    users.lock    shared by every user process while it uses the database; the keeper waits for it exclusively, and
                  gets it when the last user has left or died. Then it stops mongod and exits.
    keeper.lock   held by the keeper for its whole life; inherited from the user that started it, so that there is
                  no moment at which two users could each start one.
    mongod.lock   inherited and held by mongod; a new keeper sees by it that the mongod of a dead keeper still lives.
    start.lock    held by a user while it starts a keeper (embedded.py).

mongod listens on a Unix socket only, named relative to the data directory: the same replica set configuration then
holds wherever the directory is, and its path may be longer than the 107 bytes of a socket address.
A mongod that dies is restarted, with a budget; one that ends by itself before it came up ends the keeper (exit 1).
"""

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

USERS_LOCK = "users.lock"
KEEPER_LOCK = "keeper.lock"
START_LOCK = "start.lock"
MONGOD_LOCK = "mongod.lock"
SOCKET = "mongo.sock"
MONGOD_LOG = "mongod.log"
KEEPER_LOG = "keeper.log"
SHORT_DIR_RECORD = "short-dir"
REPLICA_SET = "embedded"
GIVES_UP = "gives up: "

MONGOD_LOG_BYTES = 10_000_000  # then it is rotated; one old log is kept
LOG_CHECK_S = 60.0
STOP_S = 15.0  # SIGTERM to SIGKILL
ORPHAN_S = 3.0  # how long the mongod of a dead keeper may take to end by itself
UP_POLL_S = 0.05
RESTARTS = 5  # in RESTART_WINDOW_S; more means that restarting does not help
RESTART_WINDOW_S = 60.0
BACKOFF_MAX_S = 2.0

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def say(text: str) -> None:
    """Write one line to the keeper's log."""
    sys.stderr.write(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} keeper {os.getpid()}: {text}\n")
    sys.stderr.flush()


def give_up(why: str) -> int:
    """Say the last word, by which users tell a keeper that cannot go on from one that was killed; the exit code."""
    say(f"{GIVES_UP}{why}")
    return 1


def listening(path: str) -> bool:
    """Whether a process accepts connections on this Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def remove_short_dir(data_dir: Path) -> None:
    """Remove the short directory that leads to the socket of a long data directory, and its record."""
    record = data_dir / SHORT_DIR_RECORD
    with contextlib.suppress(OSError):
        short = Path(record.read_text("utf-8"))
        (short / "d").unlink()
        short.rmdir()
        record.unlink()


class Keeper:
    """Runs mongod while the data directory has users; all in the main thread, but the wait for the last of them."""

    def __init__(self, data_dir: Path, mongod: str) -> None:
        self.data_dir = data_dir
        self.mongod = mongod
        self.leaving = False  # told to stop, or the last user has left
        self.last_code = 0  # of the latest mongod
        self.deserted = False  # the last user has left: nobody can come in before this process ends
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)

    def run(self) -> int:
        """Keep mongod running until the last user leaves; the exit code."""
        self._listen_for_signals()
        threading.Thread(target=self._wait_for_last_user, name="last-user", daemon=True).start()
        deaths: deque[float] = deque(maxlen=RESTARTS)
        while True:
            was_up = self._serve_once()
            if self.leaving:
                break
            now = time.monotonic()
            exhausted = len(deaths) == RESTARTS and now - deaths[0] < RESTART_WINDOW_S
            if exhausted or not (was_up or deaths or self.last_code == -signal.SIGKILL):
                return give_up(
                    f"mongod {describe_end(self.last_code)}{', too often' if exhausted else ' at its start'}"
                )
            deaths.append(now)
            recent = sum(now - at < RESTART_WINDOW_S for at in deaths)
            self._wait(min(BACKOFF_MAX_S, 0.1 * 2 ** (recent - 1)))
        if self.deserted:
            remove_short_dir(self.data_dir)
        return 0

    def _serve_once(self) -> bool:
        """Run one mongod until it ends or nobody needs it; whether it ever came up."""
        alive_fd = self._claim_database()
        try:
            Path(SOCKET).unlink(missing_ok=True)
            process = self._start_mongod(alive_fd)
        finally:
            os.close(alive_fd)  # from here on only mongod holds that lock
        up = False
        try:
            while process.poll() is None and not self.leaving:
                up = up or listening(SOCKET)
                if up:
                    self._bound_log(process)
                self._wait(LOG_CHECK_S if up else UP_POLL_S)
        finally:
            stop(process)
        self.last_code = process.returncode
        say(f"mongod {process.pid} {describe_end(self.last_code)}")
        return up

    def _start_mongod(self, alive_fd: int) -> subprocess.Popen[bytes]:
        keeper_pid = os.getpid()

        def die_with_keeper() -> None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != keeper_pid:
                os._exit(1)

        self._bound_log(None)
        command = [
            self.mongod,
            *("--dbpath", str(self.data_dir / "db"), "--replSet", REPLICA_SET),
            *("--bind_ip", f"./{SOCKET}", "--nounixsocket"),  # the latter is about mongod's own socket in /tmp
            *("--logpath", str(self.data_dir / MONGOD_LOG), "--logappend", "--logRotate", "reopen", "--quiet"),
            *("--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "512"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
        ]
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            pass_fds=(alive_fd,),
            preexec_fn=die_with_keeper,  # noqa: PLW1509 - the one other thread is inside flock() and holds no lock
        )

    def _claim_database(self) -> int:
        """Wait until no mongod of an earlier keeper is left; the descriptor of the lock for ours."""
        fd = os.open(MONGOD_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kill_at = time.monotonic() + ORPHAN_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > kill_at:
                    kill_holders(os.fstat(fd))
                self._wait(UP_POLL_S)
            else:
                return fd

    def _bound_log(self, process: subprocess.Popen[bytes] | None) -> None:
        """Keep mongod's log under its limit; one that runs is told to open the new file."""
        log = Path(MONGOD_LOG)
        if log.exists() and log.stat().st_size > MONGOD_LOG_BYTES:
            log.replace(f"{MONGOD_LOG}.1")
            if process is not None:
                process.send_signal(signal.SIGUSR1)

    def _wait_for_last_user(self) -> None:
        """Block until no user is left. The descriptor stays open and locked, so that newcomers wait for our end."""
        fd = os.open(USERS_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        self.deserted = True
        os.write(self._wake_w, b"u")

    def _listen_for_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(self._wake_w)

    def _wait(self, seconds: float) -> None:
        """Sleep until something happens: a signal, the end of mongod, the last user's leaving."""
        if select.select([self._wake_r], [], [], seconds)[0]:
            events = os.read(self._wake_r, 4096)
            self.leaving = self.leaving or any(event in events for event in (b"u", b"\x0f", b"\x02"))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End mongod cleanly, or by force after STOP_S."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            say(f"mongod {process.pid} did not end within {STOP_S:.0f} s of SIGTERM: killed")
            process.kill()
            process.wait()


def describe_end(code: int) -> str:
    """Say how a process ended, from its return code."""
    if code >= 0:
        return f"ended with exit code {code}"
    hint = " (MongoDB 5 and later need a processor with AVX)" if code == -signal.SIGILL else ""
    return f"was ended by {signal.Signals(-code).name}{hint}"


def kill_holders(lock: os.stat_result) -> None:
    """SIGKILL the processes, other than this one, that hold this file open."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _holds(entry, lock):
            say(f"killing {entry.name}, the mongod of an earlier keeper, which does not end by itself")
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)


def _holds(process: Path, lock: os.stat_result) -> bool:
    try:
        opened = [fd.stat() for fd in (process / "fd").iterdir()]
    except OSError:  # ended, or another user's
        return False
    return any(os.path.samestat(lock, one) for one in opened)


def main() -> int:
    """Detach from the user that started this, then keep."""
    data_dir, mongod, keeper_lock_fd = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    if shutil.which(mongod) is None:
        return give_up(f"{mongod} is not a program")
    if os.fork():
        os._exit(0)  # the keeper is nobody's child: no zombie, and out of reach of who kills the user's children
    os.set_inheritable(keeper_lock_fd, False)
    os.umask(0o077)
    os.chdir(data_dir)
    (data_dir / "db").mkdir(exist_ok=True)
    try:
        return Keeper(data_dir, mongod).run()
    except OSError as error:
        return give_up(str(error))


if __name__ == "__main__":
    sys.exit(main())
