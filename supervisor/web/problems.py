"""Every error as a problem document (RFC 9457), and requests that are too large to be read.

A router has no exception handlers of its own, and the application's are not ours to change; so it is the route that
turns errors into answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pymongo.errors import DocumentTooLarge, PyMongoError, WriteError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from supervisor.errors import OF_A_VALIDATOR, JobNotFoundError, JobStateError, PayloadTooLargeError, SupervisorError
from supervisor.store.patience import first_line

log = structlog.get_logger("supervisor.web")

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_VALIDATOR_REFUSES = 121
"""MongoDB's code for a document that the collection's validator does not let in."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Coroutine[Any, Any, Message]]


class Fault(BaseModel):
    """One thing that is wrong with a request."""

    field: str = Field(description="Where it is, such as `payload` or `jobs.3.priority`.")
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field(default="about:blank", description="Always `about:blank`: `title` and `status` say all there is.")
    title: str = Field(description="The status in words.", examples=["Unprocessable Content"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="One line for a person.", examples=["payload of 'ner': text: Field required"])
    errors: list[Fault] = Field(default=[], description="The fields at fault, where some are.")


class Json(JSONResponse):
    """JSON of other people's strings: half a character (`\\ud800`), which UTF-8 cannot hold, becomes a `?`."""

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", errors="replace")


def problem(
    status: int, detail: str, faults: list[Fault] | None = None, headers: MutableMapping[str, str] | None = None
) -> Response:
    """Return a problem as an answer."""
    found = Problem(title=_title(status), status=status, detail=detail, errors=faults or [])
    content = found.model_dump(exclude=None if faults else {"errors"})
    return Json(content, status, headers=headers, media_type=MEDIA_TYPE)


def documented(**reasons: str) -> dict[int | str, dict[str, Any]]:
    """Return what FastAPI is told of the problems of a route, as `_404="no job has this id"`."""
    content = {MEDIA_TYPE: {"schema": _without_references(Problem)}}
    return {int(status.strip("_")): {"description": why, "content": content} for status, why in reasons.items()}


def _without_references(model: type[BaseModel]) -> dict[str, Any]:
    """Return the schema with the model of a fault put in where it is named."""
    schema = model.model_json_schema()
    schema["properties"]["errors"]["items"] = schema.pop("$defs")[Fault.__name__]
    return schema


def problem_route(most_body_bytes: int) -> type[APIRoute]:
    """Return the class of routes that answer with problems, and read no JSON body that is larger than this."""

    class ProblemRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            answer = super().get_route_handler()
            reads_a_body = self.body_field is not None

            async def answer_or_problem(request: Request) -> Response:
                try:
                    if reads_a_body:
                        refuse_large(request, most_body_bytes)
                        receive = within(request.receive, most_body_bytes)  # type: ignore[arg-type]
                        request = Request(request.scope, receive)
                    return await answer(request)
                except ClientDisconnect:
                    return Response(status_code=HTTPStatus.BAD_REQUEST)  # which nobody reads
                except Exception as error:
                    if (found := _problem_of(error)) is None:
                        raise
                    return found

            return answer_or_problem

    return ProblemRoute


def refuse_large(request: Request, most_bytes: int, refusal: HTTPException | None = None) -> None:
    """Raise 413 (or `refusal`) for a request that says itself that it is too large, before any of it is read."""
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > most_bytes:
        raise refusal or too_large(most_bytes)


def within(receive: Receive, most_bytes: int) -> Receive:
    """Return `receive`, which raises 413 when more than this has come."""
    seen = 0

    async def receive_some() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body") or b"")
        if seen > most_bytes:
            raise too_large(most_bytes)
        return message

    return receive_some


def too_large(most_bytes: int, what: str = "the body") -> HTTPException:
    """Return the error for more than `most_bytes`."""
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what} is larger than {most_bytes / 2**20:g} MB")


def _problem_of(error: Exception) -> Response | None:
    match error:
        case RequestValidationError():
            faults = [_fault(each) for each in error.errors()]
            detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults)
        case StarletteHTTPException():
            headers = dict(error.headers) if error.headers else None
            return problem(error.status_code, str(error.detail), headers=headers)
        case SupervisorError():
            return _refusal(error)
        case PyMongoError():
            return _of_the_database(error)
    return None


def _of_the_database(error: PyMongoError) -> Response:
    if isinstance(error, DocumentTooLarge):
        return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the job is larger than a document can be")
    if isinstance(error, WriteError) and error.code == _VALIDATOR_REFUSES:
        return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "the collection's own validator refuses the job")
    log.warning("http.database_failed", reason=first_line(error))
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer", headers=headers)


def _refusal(error: SupervisorError) -> Response:
    text = str(error)
    match error:
        case JobNotFoundError():
            return problem(HTTPStatus.NOT_FOUND, text)
        case JobStateError():
            return problem(HTTPStatus.CONFLICT, text)
        case PayloadTooLargeError():
            return problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, text, [Fault(field=_named_in(text), message=text)])


def _named_in(text: str) -> str:
    """Return the field that a message names: `priority: is 'x', must be an integer`, `payload of 'ner': …`."""
    if text.startswith("unknown handler"):
        return "handler"
    return text.partition(":")[0].partition(" ")[0]


def _fault(error: Mapping[str, Any]) -> Fault:
    """Return in our words what pydantic or FastAPI refuse."""
    if error["type"] == "json_invalid":
        return Fault(field="body", message=f"is not JSON: {error['ctx']['error']}, at character {error['loc'][-1]}")
    field = _field(error["loc"])
    if error["type"] == "model_attributes_type":
        how = ", sent as application/json" if field == "body" else ""
        return Fault(field=field, message=f"must be an object{how}")
    return Fault(field=field, message=error["msg"].removeprefix(OF_A_VALIDATOR))


def _field(loc: tuple[int | str, ...]) -> str:
    """Return where a fault is, without the part of the request, which is clear from the name."""
    return ".".join(str(step) for step in loc[1:] or loc)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
