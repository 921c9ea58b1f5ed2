"""The HTTP interface: `router(queue)` makes a FastAPI router for an application of yours. Needs the extra `web`."""

from supervisor.web.router import router

__all__ = ["router"]
