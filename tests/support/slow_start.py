"""Handlers whose setup takes until a file appears: their worker shakes hands no sooner."""

import os
import time
from pathlib import Path

from supervisor import handler

VARIABLE = "TEST_START_WHEN_THERE_IS"


@handler("prompt")
def prompt(payload: dict) -> dict:
    return {}


@handler.setup
def wait_for_the_file() -> None:
    file = Path(os.environ[VARIABLE])
    while not file.exists():
        time.sleep(0.02)
