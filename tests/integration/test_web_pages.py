"""The FastAPI examples of the README and the how-to page run as they stand there.

What of the page is a whole program with its commands is tried in tests/acceptance/test_fastapi_page.py.
"""

import re

import pytest
from fastapi import FastAPI, Request
from pymongo import AsyncMongoClient

from supervisor import AsyncQueue
from supervisor.web import router
from tests.support.supervising import ROOT
from tests.support.web import check_problem, client_of

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
URI = re.compile(r"mongodb://db\.example/[^\"]*")


def block_with(page: str, word: str) -> str:
    """Return the first Python block of a page that has this word."""
    return next(block for block in BLOCK.findall((ROOT / page).read_text("utf-8")) if word in block)


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/fastapi.md"])
async def test_the_examples_of_a_fastapi_application_work(page, mongod):
    source = URI.sub(mongod.uri, block_with(page, "router(queue"))
    found = {}
    exec(compile(source, page, "exec", dont_inherit=True), found)  # it is our own page
    with mongod.client() as mongo:
        try:
            async with client_of(found["app"], "change me") as client:
                body = {"handler": "ner", "payload": {"text": "Due 4 May"}}
                assert (await client.post("/api/jobs", json=body)).status_code == 202
                check_problem(await client.get("/api/jobs", headers={"Authorization": ""}), 401)
                if page == "README.md":
                    assert (await client.post("/count", params={"text": "to be"})).status_code == 202
                counted = mongo["supervisor"]["jobs"].count_documents({"status": "pending"})
                assert counted == (2 if page == "README.md" else 1)
        finally:
            mongo.drop_database("supervisor")
            await found["queue"]._database.client.close()


async def test_the_queue_may_be_a_dependency_as_the_page_says(mongo_uri, database_name):
    app = FastAPI()
    found = {"app": app, "router": router, "Request": Request, "AsyncQueue": AsyncQueue}
    source = block_with("docs/how-to/fastapi.md", "queue_of")
    exec(compile(source, "the page", "exec", dont_inherit=True), found)  # it is our own page
    async with AsyncMongoClient(mongo_uri, tz_aware=True) as client:
        app.state.queue = AsyncQueue(client, database_name)
        async with client_of(app) as asking:
            made = (await asking.post("/jobs", json={"handler": "count"})).json()
            assert (await asking.get(f"/jobs/{made['job_id']}")).json()["status"] == "pending"
