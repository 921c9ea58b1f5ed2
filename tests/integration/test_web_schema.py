"""What OpenAPI says is true: schemathesis makes requests of it, sound and broken, and no answer is a surprise."""

import asyncio
import threading

import pytest
import schemathesis
import uvicorn
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from pydantic import BaseModel
from pymongo import AsyncMongoClient, MongoClient
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from supervisor import AsyncQueue
from supervisor.registry import HandlerSpec, Registry
from supervisor.web import router
from tests.support.until import until

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
EXAMPLES = 15
DATABASE = "schemathesis"


class Page(BaseModel):
    path: str


@pytest.fixture(scope="module")
def schema(mongod):
    """The routes but the stream of events, served by uvicorn in a thread; a few jobs are there to be found."""
    registry = Registry()
    registry.add(HandlerSpec("count", print, Page, takes_context=False, module="tests"))
    registry.add(HandlerSpec("sum", print, dict, takes_context=False, module="tests"))
    app = FastAPI()
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none", lifespan="off"))

    async def serve():
        async with AsyncMongoClient(mongod.uri, tz_aware=True) as client:
            app.include_router(router(AsyncQueue(client, DATABASE, registry=registry), max_upload_mb=1))
            await server.serve()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    until(lambda: server.started, 30, "uvicorn to serve")
    port = server.servers[0].sockets[0].getsockname()[1]
    found = schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json")
    yield found.exclude(path="/jobs/{job_id}/events")
    server.should_exit = True
    thread.join(20)
    with MongoClient(mongod.uri) as client:
        client.drop_database(DATABASE)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_answer_is_as_the_openapi_says(schema, mode):
    asked = []
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def no_surprise(case):
            asked.append(case.operation.label)
            case.call_and_validate(checks=CHECKS)

        try:
            no_surprise()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "without parameters, there is nothing to break"
    assert len(set(asked)) >= (9 if mode is GenerationMode.POSITIVE else 4)
