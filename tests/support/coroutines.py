"""Coroutine handlers, well-behaved and otherwise. They run in the supervisor itself."""

import asyncio
import os
import re
import threading
import time
from pathlib import Path

from pydantic import BaseModel
from pymongo import network_layer

from supervisor import AsyncJobContext, JobContext, JobStopped, JobTimeout, PermanentError, Retry, handler

KEPT: list[asyncio.Task[None]] = []
STATE: dict[str, int] = {"setups": 0, "running": 0, "most": 0}


class Number(BaseModel):
    n: int


def exists(path: str) -> bool:
    return Path(path).exists()


def write(path: str, text: str) -> None:
    Path(path).write_text(text)


@handler.setup
async def load() -> None:
    STATE["loop"] = id(asyncio.get_running_loop())
    STATE["setups"] += 1


@handler.setup
def load_in_a_thread() -> None:
    STATE["in_main_thread"] = int(threading.current_thread() is threading.main_thread())


@handler("c_whoami")
async def whoami(payload: dict, job: AsyncJobContext) -> dict:
    own_loop = STATE["loop"] == id(asyncio.get_running_loop())
    facts = {"pid": os.getpid(), "attempt": job.attempt, "token": job.token, "handler": job.handler, "id": job.id}
    return {**facts, "settings": dict(job.settings), "deadline": job.deadline, "own_loop": own_loop, **STATE}


@handler("c_annotated_as_in_a_worker")
async def annotated(payload: Number, job: JobContext) -> Number:
    job.progress(1, 1, "done")
    return Number(n=payload.n * 2)


@handler("c_sleeps", max_running=1000)
async def sleeps(payload: dict) -> dict:
    STATE["running"] += 1
    STATE["most"] = max(STATE["most"], STATE["running"])
    try:
        await asyncio.sleep(payload["seconds"])
    finally:
        STATE["running"] -= 1
    return {"most": STATE["most"]}


@handler("c_waits", max_running=1000)
async def waits(payload: dict) -> dict:
    """Wait until a file appears."""
    while not exists(payload["until"]):  # noqa: ASYNC110 - nobody in this process makes it
        await asyncio.sleep(0.2)
    return {}


@handler("c_capped", max_running=2)
async def capped(payload: dict) -> dict:
    return await sleeps(payload)


@handler("c_nothing")
async def nothing(payload: dict) -> None:
    await asyncio.sleep(0)


@handler("c_raises")
async def raises(payload: dict) -> dict:
    errors = {"value": ValueError("as ordered"), "exit": SystemExit(3), "interrupt": KeyboardInterrupt(),
              "cancelled": asyncio.CancelledError("by itself"), "stop": StopIteration(),
              "permanent": PermanentError("never mind", code="no_use"), "limit": JobTimeout("mine")}  # fmt: skip
    raise errors[payload["error"]]


@handler("c_retries")
async def retries(payload: dict, job: AsyncJobContext) -> dict:
    if job.attempt < payload["until"]:
        raise Retry("not yet", in_s=0.05)
    return {"attempt": job.attempt}


@handler("c_unstorable")
async def unstorable(payload: dict) -> dict:
    return {"lock": threading.Lock()}


@handler("c_large")
async def large(payload: dict) -> dict:
    return {"text": "x" * payload["bytes"]}


@handler("c_catches_limit")
async def catches_limit(payload: dict) -> dict:
    try:
        await asyncio.sleep(60)
    except JobTimeout as limit:
        return {"caught": type(limit).__name__, "is_cancellation": isinstance(limit, asyncio.CancelledError)}
    return {}


@handler("c_cleans_up")
async def cleans_up(payload: dict) -> dict:
    """Wait in a task of a group in a timeout, and say in files what happened to each."""

    async def child() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            write(f"{payload['folder']}/child", "")

    try:
        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(60)
    except* JobStopped as stops:
        write(f"{payload['folder']}/stop", type(stops.exceptions[0]).__name__)
        raise
    return {}


@handler("c_ignores_orders")
async def ignores_orders(payload: dict, job: AsyncJobContext) -> dict:
    """Go on until a file appears, whatever is raised here."""
    orders, until_s = 0, time.monotonic() + 60
    while not exists(payload["until"]) and time.monotonic() < until_s:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            orders += 1
            job.log.info("ignored", orders=orders)
    return {"went": "on"}


@handler("c_blocks")
async def blocks(payload: dict) -> dict:
    time.sleep(payload["seconds"])  # noqa: ASYNC251 - what no coroutine should do
    return {}


@handler("c_blocks_in_a_task")
async def blocks_in_a_task(payload: dict) -> dict:
    return await asyncio.create_task(blocks(payload))


@handler("c_holds_the_lock")
async def holds_the_lock(payload: dict) -> dict:
    re.match(r"(a+)+$", "a" * payload["n"] + "b")
    return {}


@handler("c_driver")
async def driver(payload: dict) -> dict:
    """Tell whether the driver waits as all else in this process does."""
    return {"mended": network_layer.asyncio.wait_for is asyncio.wait_for}  # type: ignore[attr-defined]


@handler("c_progress")
async def progress(payload: dict, job: AsyncJobContext) -> dict:
    for step in range(1, 6):
        job.progress(step, 5, f"step {step}")
        await asyncio.sleep(payload["pause_s"])
    await asyncio.to_thread(job.progress, 6, 6, "from a thread")
    return {}


@handler("c_logs")
async def logs(payload: dict, job: AsyncJobContext) -> dict:
    job.log.info("counted", pages=3)
    await asyncio.to_thread(job.log.warning, "from a thread")
    await asyncio.sleep(payload.get("seconds", 0))
    return {}


@handler("c_files")
async def files(payload: dict, job: AsyncJobContext) -> dict:
    with await job.open_file(payload["file_id"]) as file:
        data = file.read()
    return {"bytes": len(data), "copy": await job.save_file("copy.bin", data[::-1])}


@handler("c_once")
async def once(payload: dict, job: AsyncJobContext) -> dict:
    """Do something once in spite of a failure in between, and enqueue another job once for all attempts."""
    async with job.once(payload["key"]) as todo:
        if todo and job.attempt == 1:
            raise ValueError("before it happened")
    child = await job.enqueue("c_nothing", {"from": job.id}, key="child")
    if job.attempt < 3:
        raise ValueError("afterwards")
    return {"todo": todo, "child": child}


@handler("c_follows")
async def follows(payload: dict, job: AsyncJobContext) -> dict:
    return {"parent": await job.parent_result()}


@handler("c_does_not_await")
async def does_not_await(payload: dict, job: AsyncJobContext) -> dict:
    if payload["way"] == "forgets":
        job.save_file("x", b"")
    elif payload["way"] == "with":
        with job.open_file(1) as file:  # type: ignore[attr-defined]
            file.read()
    elif payload["way"] == "read":
        job.open_file(1).read()  # type: ignore[attr-defined]
    elif payload["way"] == "item":
        return {"x": job.parent_result()["x"]}  # type: ignore[index]
    return {}


@handler("c_leaves_a_task")
async def leaves_a_task(payload: dict, job: AsyncJobContext) -> dict:
    async def late() -> None:
        await asyncio.sleep(0.2)
        try:
            job.progress(99)
        except RuntimeError as refused:
            write(payload["said"], str(refused))

    KEPT.append(asyncio.create_task(late()))
    return {}
