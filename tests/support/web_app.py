"""An application for tests, served in a process of its own: `uvicorn tests.support.web_app:app`."""

import os

from fastapi import FastAPI
from pymongo import AsyncMongoClient

from supervisor import AsyncQueue
from supervisor.registry import REGISTRY, import_modules
from supervisor.web import router

import_modules(["handlers"])
queue = AsyncQueue(AsyncMongoClient(os.environ["MONGO"], tz_aware=True), os.environ["DATABASE"], registry=REGISTRY)
app = FastAPI()
app.include_router(router(queue))
