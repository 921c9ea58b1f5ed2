"""The data directory of the embedded MongoDB: who may use it, its locks, the way to its socket, its last words."""

import contextlib
import fcntl
import json
import os
import re
import stat
import tempfile
from pathlib import Path
from urllib.parse import quote

import platformdirs

from supervisor.embedded import keeper
from supervisor.errors import DatabaseUnreachableError

SOCKET_PATH_BYTES = 107  # sun_path is 108 bytes with its final NUL
LOG_TAIL_BYTES = 200_000
KEEPER_PREFIX = re.compile(rf"\S+ keeper \d+: (?:{keeper.GIVES_UP})?")
STARTING_ID = 4615611  # "MongoDB starting": the first line that one run of mongod logs
ABORT_IDS = {23091, 23092}  # the assertion that ends mongod; the reason is the line before


def default_data_dir() -> Path:
    """Where the embedded database of this user lives unless another place is given."""
    return platformdirs.user_data_path("mongo-job-supervisor") / "mongodb"


def try_lock(path: Path, *, exclusive: bool) -> int | None:
    """Lock this file, made if need be, without waiting: its descriptor, which is the lock, or None if it is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd


def unlock(fd: int) -> None:
    """Release a lock, also one that a forked child still shares."""
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def prepare(data_dir: Path) -> None:
    """Make the directory, for this user alone.

    Raises DatabaseUnreachableError if it belongs to another user, OSError if it cannot be made.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = data_dir.stat()
    if status.st_uid != os.geteuid():
        raise DatabaseUnreachableError(
            f"embedded MongoDB: {data_dir} belongs to another user (uid {status.st_uid}), not to uid {os.geteuid()}"
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        data_dir.chmod(0o700)


def uri(data_dir: Path) -> str:
    """The connection string; makes the short way to the socket if its own path is too long for the kernel.

    The caller holds the users' lock: without it the keeper may be removing that short way.
    """
    return f"mongodb://{quote(str(socket_path(data_dir)), safe='')}/?directConnection=true"


def socket_path(data_dir: Path) -> Path:
    """A path of at most 107 bytes that leads to the socket."""
    direct = data_dir / keeper.SOCKET
    return direct if _fits(direct) else _short_dir(data_dir) / "d" / keeper.SOCKET


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= SOCKET_PATH_BYTES


def _short_dir(data_dir: Path) -> Path:
    """A private directory with a link `d` to the data directory, shared by all users through its record."""
    record = data_dir / keeper.SHORT_DIR_RECORD
    with contextlib.suppress(OSError):
        recorded = Path(record.read_text("utf-8"))
        if _leads_to(recorded, data_dir):
            return recorded
    short = _make_short_dir()
    (short / "d").symlink_to(data_dir)
    record.write_text(str(short), "utf-8")
    return short


def _leads_to(short: Path, data_dir: Path) -> bool:
    """Whether the recorded directory is still ours: something may have tidied up, and somebody else moved in."""
    status = short.lstat()
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) == 0o700
    return private and (short / "d").samefile(data_dir)


def _make_short_dir() -> Path:
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):  # noqa: S108 - mkdtemp's is private
        if parent and _fits(Path(parent) / "mongo-12345678" / "d" / keeper.SOCKET) and os.access(parent, os.W_OK):
            return Path(tempfile.mkdtemp(prefix="mongo-", dir=parent))
    raise DatabaseUnreachableError("embedded MongoDB: no directory with a path short enough for a Unix socket")


def keeper_gave_up(data_dir: Path) -> bool:
    """Whether the last keeper ended because it could not go on; if not, it had no more users or was killed."""
    return any(keeper.GIVES_UP in line for line in _tail(data_dir / keeper.KEEPER_LOG)[-1:])


def failure_reason(data_dir: Path) -> str:
    """Why mongod's last start failed, in one line: its last logged error, else the keeper's last line."""
    reason = ""
    for line in _tail(data_dir / keeper.MONGOD_LOG):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("id") == STARTING_ID:
            reason = ""
        elif entry.get("s") in {"E", "F"} and entry.get("id") not in ABORT_IDS:
            reason = f"{entry.get('msg')}{_detail(entry.get('attr', {}))}"
    return " ".join((reason or _keepers_reason(data_dir) or "no reason was logged").split())


def _keepers_reason(data_dir: Path) -> str:
    """What a program that never got to log said on stderr (a missing library), else the keeper's last line."""
    lines = [line for line in _tail(data_dir / keeper.KEEPER_LOG) if not line.startswith("{")]
    said = [KEEPER_PREFIX.sub("", line) for line in lines]
    strangers = [line for line in lines if not KEEPER_PREFIX.match(line)]
    return (strangers or said or [""])[-1]


def _detail(attributes: dict[str, object]) -> str:
    detail = str(attributes.get("error") or attributes.get("message") or json.dumps(attributes))[:300]
    return f": {detail}" if attributes else ""


def _tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            return [line for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []
