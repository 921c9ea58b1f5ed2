"""Another service, as a callback meets it: a real HTTP server on loopback, which does a thing once for each key."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LONGEST_S = 60


@dataclass
class Receiver:
    """What it was told, request by request, and what it has done; `answering` is cleared to withhold answers."""

    address: str = ""
    requests: list[tuple[str, int]] = field(default_factory=list)
    """(key, fencing token) of each request, also of one that is never answered."""
    done: dict[str, Any] = field(default_factory=dict)
    """What the first request of each key has brought."""
    answering: threading.Event = field(default_factory=threading.Event)

    def take(self, key: str, token: int, told: Any) -> None:
        """Do what a request asks for, unless it has been done under this key, and answer when that is allowed."""
        self.requests.append((key, token))
        self.done.setdefault(key, told)
        self.answering.wait(LONGEST_S)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve on a free port for the length of the block."""
    receiver = Receiver()
    receiver.answering.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.take(self.headers["Idempotency-Key"], int(self.headers["Fencing-Token"]), told)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing; it would go to stderr."""

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:  # whoever asked has been killed meanwhile
                self.close_connection = True

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.address = f"http://127.0.0.1:{server.server_port}/"
        serving = threading.Thread(target=server.serve_forever, daemon=True)
        serving.start()
        try:
            yield receiver
        finally:
            receiver.answering.set()
            server.shutdown()
            serving.join()
