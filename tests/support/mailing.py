"""Handlers with a side effect: a line in a file stands for an e-mail."""

import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel

from supervisor import JobContext, handler


@handler("mails", max_attempts=3)
def mails(payload: dict, job: JobContext) -> dict:
    """Send one mail under a key; die, fail or linger inside or behind the block, in the first attempt only."""
    with job.once(payload["key"], at_most=payload.get("at_most", False)) as todo:
        if todo:
            with Path(payload["ledger"]).open("a") as ledger:
                ledger.write(f"{job.id} {job.attempt} {job.token}\n")
            time.sleep(payload.get("seconds", 0))
            _misbehave(payload.get("inside"), job.attempt)
    _misbehave(payload.get("behind"), job.attempt)
    return {"sent": todo}


class Mail(BaseModel):
    """What `mails` takes, with a type that BSON does not have."""

    key: str
    ledger: Path
    inside: str | None = None
    behind: str | None = None


@handler("fans_out", max_attempts=3)
def fans_out(payload: dict, job: JobContext) -> dict:
    """Enqueue other jobs, and fail in the first attempt."""
    found = [job.enqueue("mails", Mail(**each), key=f"mail-{number}") for number, each in enumerate(payload["mails"])]
    if payload.get("handler"):
        job.enqueue(payload["handler"], {})
    _misbehave(payload.get("behind"), job.attempt)
    return {"enqueued": found}


def _misbehave(how: str | None, attempt: int) -> None:
    if attempt == 1 and how == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if attempt == 1 and how == "fails":
        raise ValueError("as ordered")
