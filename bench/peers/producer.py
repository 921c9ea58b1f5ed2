"""Enqueues for a peer, in its environment: a line of JSON in, a line out when all of it is enqueued.

{"name": "noop", "payloads": [{}, {}]}  →  {"seconds": 0.004, "at": 1234.5}
"""

from __future__ import annotations

import importlib
import json
import sys
import time


def main() -> None:
    """Serve until the input ends."""
    peer = importlib.import_module(f"bench.peers.{sys.argv[1]}")
    for line in sys.stdin:
        asked = json.loads(line)
        begun = time.monotonic()
        for payload in asked["payloads"]:
            peer.enqueue(asked["name"], payload)
        ended = time.monotonic()
        print(json.dumps({"seconds": ended - begun, "at": ended}), flush=True)


if __name__ == "__main__":
    main()
