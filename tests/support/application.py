"""A FastAPI application with a supervisor in its lifespan, for tests: `uvicorn tests.support.application:app`.

What it is to be comes from the environment: MONGO, DATABASE, and TABLES, further tables of the configuration as JSON.
"""

import json
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from supervisor import Supervisor

logging.basicConfig(level="INFO", format="app %(levelname)s %(name)s %(message)s")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    tables = json.loads(os.environ.get("TABLES", "{}"))
    mongo = {"uri": os.environ["MONGO"], "database": os.environ["DATABASE"], "wait_s": 10}
    async with Supervisor(mongo=mongo, **tables) as app.state.supervisor:
        yield


app = FastAPI(lifespan=lifespan)


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
