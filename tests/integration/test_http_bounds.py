"""What clients can take of a supervisor that serves them, with the part itself, its thread and a real mongod."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import structlog
from pymongo import AsyncMongoClient
from pymongo.errors import InvalidURI

from supervisor.config.settings import HttpSettings, MongoSettings, Settings
from supervisor.errors import ConfigError
from supervisor.health import Health
from supervisor.http_service import requests, server
from supervisor.http_service.listening import PortTakenError, listen, shown
from supervisor.http_service.service import Door, HttpService
from supervisor.registry import Registry
from supervisor.store.schema import ensure
from tests.support.until import until_async
from tests.support.web import check_problem

HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n"


def fine() -> Health:
    return Health(1, "running", 0.1)


@pytest.fixture
def settings(database_name: str) -> Settings:
    return Settings(mongo=MongoSettings(database=database_name), http=HttpSettings(enabled=True, port=0))


@contextlib.asynccontextmanager
async def serving(mongo_uri: str, settings: Settings, health: Callable[[], Health] = fine) -> AsyncIterator[str]:
    """Run the part and yield its address."""
    sockets = listen(settings.http)
    where = shown(sockets[0])
    running = asyncio.create_task(HttpService(Door(sockets, mongo_uri), lambda: settings, health, Registry()).run())
    try:
        yield where
    finally:
        running.cancel()
        await asyncio.wait({running})
    assert running.cancelled(), running.exception()


async def connected(where: str, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = where.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    return reader, writer


async def ending(where: str, sent: bytes) -> bytes:
    """Send this and nothing more, and return what comes until the other side closes."""
    reader, writer = await connected(where, sent)
    try:
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_more_requests_than_there_is_room_for_are_503_and_probes_get_through(mongo_uri, settings, monkeypatch):
    monkeypatch.setattr(server, "most_connections", lambda: 4)
    monkeypatch.setattr(server, "HEAD_S", 600)
    async with AsyncMongoClient(mongo_uri) as mongo:
        await ensure(mongo[settings.mongo.database], "jobs")
        await mongo[settings.mongo.database]["jobs"].insert_one({"_id": "a", "handler": "h", "status": "pending"})
    with structlog.testing.capture_logs() as logs:
        async with serving(mongo_uri, settings) as where:
            stream = f"GET /jobs/a/events HTTP/1.1\r\nHost: {where}\r\n\r\n".encode()
            streams = [await connected(where, stream) for _ in range(3)]
            for reader, _ in streams:
                await reader.readuntil(b"event: status")
            asks_nothing = asyncio.create_task(ending(where, b"GET /"))
            async with httpx.AsyncClient(base_url=f"http://{where}", trust_env=False, timeout=30) as client:
                for _ in range(3):
                    answer = await client.get("/jobs")
                    check_problem(answer, 503, "3 requests are under way already")
                    assert answer.headers["retry-after"] == "5"
                assert (await client.get("/health/ready")).status_code == 200
                assert await asks_nothing == b"", "it has lost its place to the client, or never had one"
                streams.pop()[1].close()

                async def is_let_in() -> bool:
                    return (await client.get("/jobs")).status_code == 200

                await until_async(is_let_in, what="room again")
    for _, writer in streams:
        writer.close()
    assert [entry["event"] for entry in logs if entry["log_level"] != "info"] == ["http.crowded"], "told once"


async def test_who_does_not_send_a_request_is_let_go(mongo_uri, settings, monkeypatch):
    monkeypatch.setattr(server, "HEAD_S", 0.2)
    half = b"GET /health/live HTTP/1.1\r\nHost:"
    async with serving(mongo_uri, settings) as where:
        assert await ending(where, b"") == b""
        assert await ending(where, half) == b""
        monkeypatch.setattr(server, "HEAD_S", 60)
        reader, writer = await connected(where, half + b" localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        monkeypatch.setattr(server, "HEAD_S", 0.2)
        writer.write(half)
        async with asyncio.timeout(30):
            assert await reader.read() == b"", "nor a second one"
        writer.close()


async def test_a_body_that_does_not_come_is_408(mongo_uri, settings, monkeypatch):
    monkeypatch.setattr(requests, "SILENT_S", 0.2)
    async with serving(mongo_uri, settings) as where:
        answer = await ending(where, HEAD + b'{"handler":')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"no more of the body has come" in answer


async def test_a_fault_of_ours_is_500_and_logged_and_the_next_request_is_served(mongo_uri, settings):
    faults = [ZeroDivisionError("for once")]

    def health() -> Health:
        if faults:
            raise faults.pop()
        return fine()

    with structlog.testing.capture_logs() as logs:
        async with (
            serving(mongo_uri, settings, health) as where,
            httpx.AsyncClient(base_url=f"http://{where}", trust_env=False, timeout=30) as client,
        ):
            check_problem(await client.get("/health/live"), 500, "the supervisor's log says why")
            assert (await client.get("/health/live")).status_code == 200
    (failed,) = [entry for entry in logs if entry["event"] == "http.failed"]
    assert (failed["method"], failed["path"], failed["exc_info"]) == ("GET", "/health/live", True)


@pytest.mark.parametrize(
    ("health", "live", "ready"),
    [
        (Health(1, "starting", 0.1), 200, 503),
        (Health(1, "draining", 0.1), 200, 503),
        (Health(1, "running", 31.0), 503, 503),
        (Health(1, "running", 0.1), 200, 200),
    ],
)
async def test_probes_say_what_the_command_health_says(mongo_uri, settings, health, live, ready):
    async with (
        serving(mongo_uri, settings, lambda: health) as where,
        httpx.AsyncClient(base_url=f"http://{where}", trust_env=False, timeout=30) as client,
    ):
        found = [(await client.get(f"/health/{name}")).status_code for name in ("live", "ready")]
    assert found == [live, ready]


async def test_what_serving_dies_of_comes_out(settings):
    sockets = listen(settings.http)
    with pytest.raises(InvalidURI):
        await HttpService(Door(sockets, "mongodb://"), lambda: settings, fine, Registry()).run()
    for made in sockets:
        made.close()


# where it listens


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("203.0.113.1", '[http] host = "203.0.113.1": is no address of this machine'),
        ("a..b", '[http] host = "a..b": cannot be resolved: it is no host name'),
    ],
)
def test_a_host_that_cannot_be_served_is_named_with_the_reason(host: str, reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        listen(HttpSettings(host=host, port=0))
    assert str(raised.value) == reason


def test_a_taken_port_is_named_with_its_host() -> None:
    taken = listen(HttpSettings(port=0))
    port = taken[0].getsockname()[1]
    with pytest.raises(PortTakenError, match=f"^.http. port = {port}: 127.0.0.1:{port} is taken by another program"):
        listen(HttpSettings(port=port))
    taken[0].close()
    again = listen(HttpSettings(port=port))
    again[0].close()


def test_localhost_is_every_loopback_address_of_the_machine() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sockets: list[Any] = listen(HttpSettings(host="localhost", port=port))
    assert f"127.0.0.1:{port}" in [shown(made) for made in sockets]
    for made in sockets:
        made.close()
