"""A model of 500 MB, half a million Python objects among it, as a handler declares one: once fork-safe, once not.

Chosen by the environment, so that both are the same code: MODEL=shared loads it in the fork server, anything else in
each worker.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil

from supervisor import handler

MEGABYTES = int(os.environ.get("MODEL_MB", "500"))
WORDS = MEGABYTES * 1000
MODEL: dict[str, Any] = {}


@handler.setup(fork_safe=os.environ.get("MODEL") == "shared")
def load() -> None:
    """Make the model: words as Python objects, about a tenth of it, and weights."""
    words = {f"word {number}": float(number) for number in range(WORDS)}
    MODEL["words"] = words
    MODEL["weights"] = [bytearray(os.urandom(1 << 10) * (1 << 10)) for _ in range(MEGABYTES - len(words) // 8000)]


@handler("predicts")
def predicts(payload: dict) -> dict:
    """Use a share of all parts of the model, as an inference does, and tell when it started."""
    at = time.monotonic()
    words: dict[str, float] = MODEL["words"]
    weights: list[bytearray] = MODEL["weights"]
    total = sum(words[f"word {number}"] for number in range(0, WORDS, 50)) + sum(piece[4711] for piece in weights)
    time.sleep(payload.get("seconds", 0))
    return {"at": at, "total": total, "pid": os.getpid()}


@handler("dies_with_its_model")
def dies_with_its_model(_payload: dict) -> dict:
    """Print the time, and die."""
    print(time.monotonic(), flush=True)
    psutil.Process().kill()
    return {}
