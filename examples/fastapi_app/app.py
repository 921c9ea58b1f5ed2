"""Upload a scan, watch it being read, see its text and what was found in it. README.md says how to run it."""

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from pymongo import AsyncMongoClient

from supervisor import AsyncQueue
from supervisor.registry import REGISTRY, import_modules
from supervisor.web import router

PAGE = Path(__file__).parent / "page.html"

import_modules(["handlers"])  # ocr and ner: so a wrong request is refused at once
client: AsyncMongoClient = AsyncMongoClient(os.environ["MONGO"], tz_aware=True)
queue = AsyncQueue(client, os.environ.get("DATABASE", "supervisor"), registry=REGISTRY)

app = FastAPI(title="Scans")
app.include_router(
    router(queue, max_upload_mb=20, upload_types=["application/pdf", "image/png", "image/jpeg", "image/tiff"]),
    prefix="/api",
)


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """Show the page."""
    return FileResponse(PAGE, media_type="text/html")
