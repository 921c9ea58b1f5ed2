"""A FastAPI application with a supervisor in its lifespan, for tests: `uvicorn tests.support.application:app`.

What it is to be comes from the environment: MONGO, DATABASE, and TABLES, further tables of the configuration as JSON.
An embedded database is in DATA_DIR. The application's own client has the supervisor's database, whichever that is.
"""

import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from pymongo import AsyncMongoClient

from supervisor import AsyncQueue, Supervisor
from supervisor.registry import REGISTRY
from supervisor.web import router

logging.basicConfig(level="INFO", format="app %(levelname)s %(name)s %(message)s")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    tables = json.loads(os.environ.get("TABLES", "{}"))
    mongo = {"uri": os.environ["MONGO"], "database": os.environ["DATABASE"], "wait_s": 10}
    async with (
        Supervisor(mongo=mongo, data_dir=os.environ.get("DATA_DIR"), **tables) as app.state.supervisor,
        AsyncMongoClient(app.state.supervisor.mongo_uri, tz_aware=True) as client,
    ):
        app.state.queue = AsyncQueue(client, os.environ["DATABASE"], registry=REGISTRY)
        yield


def queue_of(request: Request) -> AsyncQueue:
    found: AsyncQueue = request.app.state.queue
    return found


app = FastAPI(lifespan=lifespan)
app.include_router(router(queue_of), prefix="/api")


@app.get("/state")
async def state() -> dict:
    found = app.state.supervisor
    return {"pid": os.getpid(), "is_running": found.is_running, "failure": found.failure and str(found.failure)}


@app.get("/forks")
async def forks(seconds: float) -> dict:
    pid = os.fork()
    if not pid:
        time.sleep(seconds)  # noqa: ASYNC251 - there is no event loop in it
        os._exit(0)
    return {"pid": pid}


@app.get("/blocks")
async def blocks(seconds: float) -> dict:
    time.sleep(seconds)  # noqa: ASYNC251 - what no endpoint should do
    return {}
