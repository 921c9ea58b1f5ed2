"""Handlers: how user code registers, and how the supervisor and its workers find it by name.

A handler is a function with a name. The name is the queue. Importing a module is what registers its handlers, so a
module must be cheap to import; whatever is heavy (a model, an engine) belongs in a setup hook, which runs once per
worker before its first job, or once in the fork server when the handler declares itself `fork_safe`.

An `async def` handler is a coroutine: it runs in the event loop of the supervisor, or of the application around it.

Nothing here touches the database, a process or the clock: producers import this module too.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from supervisor.errors import OF_A_VALIDATOR, PayloadError, UnknownHandlerError

DEFAULT_TIMEOUT_S = 600.0
"""Time limit in seconds of a handler that names none: a job without a limit can hold its slot for ever."""

MOST_FAULTS = 20
"""Faults of one payload that a message names; a list may have thousands."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,99}")
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Setup:
    """A hook that prepares a process for the handlers of one module: loads a model, opens an engine."""

    module: str
    function: Callable[[], Any]
    fork_safe: bool

    @property
    def name(self) -> str:
        """Where it is defined."""
        return f"{self.module}.{self.function.__qualname__}"

    @property
    def is_coroutine(self) -> bool:
        """Whether it is an `async def`, which runs in the event loop of coroutine handlers and nowhere else."""
        return inspect.iscoroutinefunction(self.function)


@dataclass(frozen=True)
class HandlerSpec:
    """What is known of one registered handler; `None` means "as configured"."""

    name: str
    function: Callable[..., Any]
    payload_type: Any
    takes_context: bool
    module: str
    timeout_s: float = DEFAULT_TIMEOUT_S
    max_attempts: int | None = None
    max_running: int | None = None
    memory_limit_mb: int | None = None
    is_coroutine: bool = False

    def prepare(self) -> None:
        """Build now what the first payload would wait for; pydantic loads much of itself only then."""
        _adapter(self.payload_type)

    def parse_payload(self, payload: Mapping[str, Any]) -> Any:
        """Validate `payload` and return what the function takes: a pydantic model or a dict.

        Raises PayloadError with one line that names the field, the value and what is allowed.
        """
        try:
            return _adapter(self.payload_type).validate_python(dict(payload))
        except ValidationError as error:
            raise PayloadError(describe_validation_error(error)) from None


@cache
def _adapter(payload_type: Any) -> TypeAdapter[Any]:
    """Building one takes longer than validating a payload."""
    return TypeAdapter(payload_type)


@dataclass(frozen=True)
class ImportFailure:
    """A module that could not be imported, with the reason in one line and the whole traceback."""

    module: str
    reason: str
    traceback: str


@dataclass
class Registry:
    """The handlers and setup hooks of one process, by name."""

    handlers: dict[str, HandlerSpec] = field(default_factory=dict)
    setups: list[Setup] = field(default_factory=list)

    def get(self, name: str) -> HandlerSpec:
        """Return the handler called `name`; raises UnknownHandlerError naming the known ones."""
        try:
            return self.handlers[name]
        except KeyError:
            known = ", ".join(sorted(self.handlers)) or "none"
            raise UnknownHandlerError(f"unknown handler {name!r}; registered: {known}") from None

    def add(self, spec: HandlerSpec) -> None:
        """Register `spec`; a second function under the same name is an error, a re-import is not."""
        known = self.handlers.get(spec.name)
        if known is not None and (known.module, known.function.__qualname__) != (
            spec.module,
            spec.function.__qualname__,
        ):
            raise ValueError(
                f"handler {spec.name!r} is already registered by {known.module}.{known.function.__qualname__}"
            )
        self.handlers[spec.name] = spec


REGISTRY = Registry()
"""The registry that `@handler` fills in this process."""


class _HandlerDecorator:
    """`@handler("name", …)` and `@handler.setup`; one instance, exported as `handler`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        max_attempts: int | None = None,
        max_running: int | None = None,
        memory_limit_mb: int | None = None,
    ) -> Callable[[Function], Function]:
        """Register the decorated function as the handler called `name`.

        The function takes the payload (a pydantic model or a dict, by its annotation) and optionally a `JobContext`
        (`AsyncJobContext` if it is an `async def`), and returns a dict, a pydantic model or None. `timeout_s` is in
        seconds, at most `max_attempts` tries are made, at most `max_running` of its jobs run at once on one
        supervisor, and `memory_limit_mb` bounds the worker with its subprocesses. config.toml's `[handlers.NAME]`
        overrides each.

        Raises ValueError for a bad name or limit, TypeError for a signature that cannot be called.
        """
        _check_limits(name, timeout_s, max_attempts, max_running)

        def register(function: Function) -> Function:
            payload_type, takes_context = _signature(name, function)
            is_coroutine = _is_coroutine(name, function, memory_limit_mb)
            self._registry.add(
                HandlerSpec(
                    name=name,
                    function=function,
                    payload_type=payload_type,
                    takes_context=takes_context,
                    module=function.__module__,
                    timeout_s=DEFAULT_TIMEOUT_S if timeout_s is None else float(timeout_s),
                    max_attempts=max_attempts,
                    max_running=max_running,
                    memory_limit_mb=memory_limit_mb,
                    is_coroutine=is_coroutine,
                )
            )
            return function

        return register

    @typing.overload
    def setup(self, function: Function) -> Function: ...
    @typing.overload
    def setup(self, *, fork_safe: bool = ...) -> Callable[[Function], Function]: ...
    def setup(self, function: Any = None, *, fork_safe: bool = False) -> Any:
        """Register a function without parameters that runs once per worker, before its first job.

        With `fork_safe=True` it runs once in the fork server instead, and all workers share the memory of what it
        loaded. Say so only if it leaves no thread, no open connection and no lock behind.

        For coroutine handlers of its module it runs once in the supervisor's process: an `async def` hook in the event
        loop (and in no worker), any other in a thread.
        """

        def register(hook: Function) -> Function:
            if fork_safe and inspect.iscoroutinefunction(hook):
                raise TypeError(
                    f"setup hook {hook.__qualname__}: an `async def` runs in an event loop, not before a fork"
                )
            known = {(known.module, known.function.__qualname__) for known in self._registry.setups}
            if (hook.__module__, hook.__qualname__) not in known:
                self._registry.setups.append(Setup(hook.__module__, hook, fork_safe))
            return hook

        return register if function is None else register(function)


handler = _HandlerDecorator(REGISTRY)


def import_modules(names: Iterable[str]) -> list[ImportFailure]:
    """Import each module, and the submodules of each package, and return those that failed.

    One module that cannot be imported does not keep the others from loading.
    """
    attempted = [import_module(name) for given in names for name in with_submodules(given)]
    return [failure for failure in attempted if failure]


def describe_validation_error(error: ValidationError) -> str:
    """Say in one line what pydantic refused: field, reason and value, for every field at fault."""
    lines = []
    for item in error.errors(include_url=False)[:MOST_FAULTS]:
        where = ".".join(str(part) for part in item["loc"]) or "payload"
        value = repr(item["input"])
        shown = value if len(value) <= 80 else value[:77] + "..."
        reason = item["msg"].removeprefix(OF_A_VALIDATOR)
        lines.append(f"{where}: {reason}" + ("" if item["type"] == "missing" else f" (got {shown})"))
    if (more := error.error_count() - MOST_FAULTS) > 0:
        lines.append(f"and {more} more")
    return "; ".join(lines)


def with_submodules(name: str) -> list[str]:
    """Return `name`, and of a package every module directly inside it that is not private."""
    try:
        spec = importlib.util.find_spec(name)
    except (Exception, SystemExit):  # noqa: BLE001 - the parent's import failed; importing `name` itself reports why
        return [name]
    if spec is None or not spec.submodule_search_locations:
        return [name]
    inside = sorted(
        module.name
        for module in pkgutil.iter_modules(spec.submodule_search_locations)
        if not module.name.startswith("_")
    )
    return [name, *(f"{name}.{module}" for module in inside)]


def import_module(name: str) -> ImportFailure | None:
    """Import one module; return why that failed."""
    if name in sys.modules:
        return None
    try:
        importlib.import_module(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a module of the user's may raise anything at all
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return ImportFailure(name, reason, traceback.format_exc())
    return None


def _signature(name: str, function: Callable[..., Any]) -> tuple[Any, bool]:
    """Return (payload type, whether the function takes a JobContext)."""
    parameters = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    if not parameters or len(required) > 2:
        raise TypeError(f"handler {name!r}: {function.__qualname__} must take (payload) or (payload, job)")
    every = inspect.signature(function).parameters.values()
    if keywords := [each.name for each in every if each.kind is each.KEYWORD_ONLY and each.default is each.empty]:
        raise TypeError(f"handler {name!r}: nobody passes {', '.join(keywords)}; only (payload, job) are given")
    payload_type = typing.get_type_hints(function).get(parameters[0].name, dict[str, Any])
    if payload_type is dict:
        payload_type = dict[str, Any]
    if not (typing.get_origin(payload_type) is dict or _is_model(payload_type)):
        raise TypeError(f"handler {name!r}: the payload must be a pydantic model or a dict, not {payload_type!r}")
    return payload_type, len(parameters) > 1


def _is_coroutine(name: str, function: Callable[..., Any], memory_limit_mb: int | None) -> bool:
    if inspect.isasyncgenfunction(function):
        raise TypeError(f"handler {name!r}: {function.__qualname__} yields; a handler returns its result")
    if not inspect.iscoroutinefunction(function):
        return False
    if memory_limit_mb is not None:
        raise ValueError(
            f"handler {name!r}: memory_limit_mb is for workers; an `async def` shares the supervisor's memory"
        )
    return True


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _check_limits(name: str, timeout_s: float | None, max_attempts: int | None, max_running: int | None) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"handler name {name!r}: letters, digits and _ . : - only, at most 100")
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise ValueError(f"handler {name!r}: timeout_s is {timeout_s!r}, must be a number of seconds above 0")
    for label, value in (("max_attempts", max_attempts), ("max_running", max_running)):
        if value is not None and value < 1:
            raise ValueError(f"handler {name!r}: {label} is {value!r}, must be at least 1")
