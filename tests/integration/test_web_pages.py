"""The FastAPI examples of the README and the how-to page run as they stand there."""

import re

import pytest

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
