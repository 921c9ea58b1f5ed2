"""A service manager as far as sd_notify(3) goes: a datagram socket, and what has arrived there."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.until import until

LARGEST = 65_536


@dataclass
class Notifications:
    """Every assignment that has arrived, in order, such as `READY=1`."""

    address: str
    """What NOTIFY_SOCKET has to say."""
    line: socket.socket
    _seen: list[str] = field(default_factory=list)

    def all(self) -> list[str]:
        """Read what has arrived since, and return it with everything before."""
        while True:
            try:
                self._seen += self.line.recv(LARGEST).decode().split("\n")
            except BlockingIOError:
                return self._seen

    def of(self, name: str) -> list[str]:
        """The values of one variable, in order."""
        return [each.partition("=")[2] for each in self.all() if each.startswith(f"{name}=")]

    def since(self, position: int) -> list[str]:
        """The names that have arrived after `position`, in order, without the pulse and the status."""
        names = [each.partition("=")[0] for each in self.all()[position:]]
        return [name for name in names if name not in ("WATCHDOG", "STATUS", "EXTEND_TIMEOUT_USEC")]

    def wait_for(self, name: str, more_than: int = 0, timeout_s: float = 30) -> None:
        """Wait until `name` has arrived more than `more_than` times."""
        until(lambda: len(self.of(name)) > more_than, timeout_s, f"{name} of the notifications")

    def wait_for_status(self, text: str, timeout_s: float = 30) -> None:
        """Wait until the status that arrived last is `text`."""
        until(lambda: self.of("STATUS")[-1:] == [text], timeout_s, f"the status {text!r}, got {self.of('STATUS')[-3:]}")


@contextmanager
def notifications(address: Path | str) -> Iterator[Notifications]:
    """Listen at a path, or at an abstract address that begins with `@`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.bind(str(address).replace("@", "\0", 1))
        line.setblocking(False)
        yield Notifications(str(address), line)
