"""The HTTP interface: `router(queue)` makes a FastAPI router for an application of yours. Needs the extra `web`."""

try:
    from supervisor.web.router import router
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] == "supervisor":
        raise
    raise ModuleNotFoundError(
        f"supervisor.web needs {error.name}: pip install 'mongo-job-supervisor[web]'", name=error.name
    ) from error

__all__ = ["router"]
