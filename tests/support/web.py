"""Applications served by a real uvicorn, in the event loop of the test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import uvicorn

from tests.support.until import until_async


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve `app` on a free port of loopback and yield its address."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", lifespan="off"))
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await until_async(lambda: server.started or running.done(), what="uvicorn to serve")
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True
            await running


@contextlib.asynccontextmanager
async def client_of(app: Any, token: str | None = None, prefix: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application, served by uvicorn."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=address + prefix, headers=headers, timeout=30, trust_env=False) as client,
    ):
        yield client


def check_problem(answer: httpx.Response, status: int, *words: str) -> dict[str, Any]:
    """Check that an answer is a problem document of this status that has these words, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    for word in words:
        assert word in str(problem), problem
    return problem
