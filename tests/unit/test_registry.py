"""How handlers register, what their payloads are checked for, and what becomes of modules that cannot be imported."""

import sys
import textwrap
from typing import Literal

import pytest
from pydantic import BaseModel, Field

from supervisor.context import JobContext
from supervisor.errors import PayloadError, UnknownHandlerError
from supervisor.registry import DEFAULT_TIMEOUT_S, REGISTRY, Registry, _HandlerDecorator, import_modules


class Page(BaseModel):
    path: str
    dpi: int = Field(default=300, ge=70, le=1200)
    engine: Literal["tesseract", "rapid"] = "tesseract"


class Document(BaseModel):
    pages: list[Page]


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def handler(registry):
    return _HandlerDecorator(registry)


# signatures


def payload_only(payload): ...
def untyped_payload_and_job(payload, job): ...
def model(payload: Page): ...
def model_and_job(payload: Page, job: JobContext): ...
def plain_dict(payload: dict): ...
def typed_dict(payload: dict[str, int], job): ...
def job_by_default(payload: Page, job: JobContext | None = None): ...
def positional_only(payload: Page, job: JobContext, /): ...
async def coroutine(payload: Page): ...


@pytest.mark.parametrize(
    ("function", "takes_context"),
    [
        (payload_only, False),
        (untyped_payload_and_job, True),
        (model, False),
        (model_and_job, True),
        (plain_dict, False),
        (typed_dict, True),
        (job_by_default, True),
        (positional_only, True),
        (coroutine, False),
    ],
)
def test_a_handler_takes_a_payload_and_if_it_wants_the_job(registry, handler, function, takes_context):
    assert handler("count")(function) is function
    spec = registry.get("count")
    assert (spec.function, spec.takes_context, spec.module) == (function, takes_context, __name__)


def nothing(): ...
def three(payload, job, more): ...
def keyword_only(*, payload): ...
def only_star(*payload): ...


@pytest.mark.parametrize("function", [nothing, three, keyword_only, only_star])
def test_a_function_that_cannot_be_called_with_payload_and_job_is_refused(registry, handler, function):
    with pytest.raises(TypeError) as refusal:
        handler("count")(function)
    assert str(refusal.value) == f"handler 'count': {function.__qualname__} must take (payload) or (payload, job)"
    assert not registry.handlers


def needs_a_keyword(payload, *, dpi): ...


def test_a_required_keyword_is_refused_at_import_and_not_at_every_job(handler):
    with pytest.raises(TypeError):
        handler("count")(needs_a_keyword)


def text(payload: str): ...
def maybe(payload: Page | None): ...
def many(payload: list[Page]): ...


@pytest.mark.parametrize(
    ("function", "shown"),
    [(text, "<class 'str'>"), (maybe, f"{Page.__module__}.Page | None"), (many, f"list[{Page.__module__}.Page]")],
)
def test_a_payload_that_is_no_document_is_refused(handler, function, shown):
    with pytest.raises(TypeError) as refusal:
        handler("count")(function)
    assert str(refusal.value) == f"handler 'count': the payload must be a pydantic model or a dict, not {shown}"


# coroutines


async def yields(payload):
    yield payload


def test_an_async_def_is_a_coroutine_handler_and_what_returns_a_coroutine_is_not(registry, handler):
    handler("is")(coroutine)
    handler("returns")(lambda payload: coroutine({**payload}))
    assert (registry.get("is").is_coroutine, registry.get("returns").is_coroutine) == (True, False)


def test_an_async_def_that_yields_is_refused(handler):
    with pytest.raises(TypeError, match="handler 'ask': yields yields; a handler returns its result"):
        handler("ask")(yields)


def test_a_memory_limit_on_a_coroutine_is_refused(registry, handler):
    with pytest.raises(ValueError, match="handler 'ask': memory_limit_mb is for workers"):
        handler("ask", memory_limit_mb=100)(coroutine)
    assert not registry.handlers


async def connect(): ...


def test_a_setup_hook_may_be_a_coroutine_but_not_before_a_fork(registry, handler):
    handler.setup(connect)
    assert registry.setups[0].is_coroutine
    with pytest.raises(TypeError, match="setup hook connect: an `async def` runs in an event loop"):
        handler.setup(fork_safe=True)(connect)


# names and limits


def test_what_the_decorator_says_is_kept_and_what_it_leaves_out_is_as_configured(registry, handler):
    handler("given", timeout_s=5, max_attempts=2, max_running=4, memory_limit_mb=100)(payload_only)
    handler("left-out")(payload_only)
    given, left_out = registry.get("given"), registry.get("left-out")
    assert (given.timeout_s, given.max_attempts, given.max_running, given.memory_limit_mb) == (5.0, 2, 4, 100)
    assert (left_out.timeout_s, left_out.max_attempts, left_out.max_running) == (DEFAULT_TIMEOUT_S, None, None)


@pytest.mark.parametrize("name", ["ocr", "OCR2", "a.b:c-d_e", "1", "_x", "a" * 100])
def test_a_name_of_letters_digits_and_a_few_signs_is_taken(registry, handler, name):
    handler(name)(payload_only)
    assert registry.get(name).name == name


@pytest.mark.parametrize("name", ["", "a" * 101, "two words", "ä", ".hidden", "-x", "a/b", "a\n", "$where"])
def test_any_other_name_is_refused(handler, name):
    with pytest.raises(ValueError) as refusal:
        handler(name)
    assert str(refusal.value) == f"handler name {name!r}: letters, digits and _ . : - only, at most 100"


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"timeout_s": 0}, "timeout_s is 0, must be a number of seconds above 0"),
        ({"timeout_s": -1}, "timeout_s is -1, must be a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "timeout_s is nan, must be a number of seconds above 0"),
        ({"timeout_s": float("inf")}, "timeout_s is inf, must be a number of seconds above 0"),
        ({"max_attempts": 0}, "max_attempts is 0, must be at least 1"),
        ({"max_running": 0}, "max_running is 0, must be at least 1"),
        ({"max_running": -3}, "max_running is -3, must be at least 1"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(handler, limits, problem):
    with pytest.raises(ValueError) as refusal:
        handler("count", **limits)
    assert str(refusal.value) == f"handler 'count': {problem}"


def test_two_functions_cannot_share_a_name(registry, handler):
    handler("count")(model)
    with pytest.raises(ValueError) as refusal:
        handler("count")(plain_dict)
    assert str(refusal.value) == f"handler 'count' is already registered by {__name__}.model"
    assert registry.get("count").function is model


def test_registering_the_same_function_again_replaces_it(registry, handler):
    handler("count", timeout_s=1)(model)
    handler("count", timeout_s=2)(model)
    assert registry.get("count").timeout_s == 2.0


def test_an_unknown_handler_is_answered_with_the_known_ones(registry, handler):
    with pytest.raises(UnknownHandlerError) as unknown:
        registry.get("ocr")
    assert str(unknown.value) == "unknown handler 'ocr'; registered: none"
    handler("ner")(model)
    handler("count")(model)
    with pytest.raises(UnknownHandlerError) as unknown:
        registry.get("ocr")
    assert str(unknown.value) == "unknown handler 'ocr'; registered: count, ner"


# setup hooks


def load(): ...
def warm_up(): ...


def test_a_setup_hook_is_registered_once_with_or_without_parentheses(registry, handler):
    assert handler.setup(load) is load
    assert handler.setup(load) is load
    assert handler.setup(fork_safe=True)(warm_up) is warm_up
    assert [(setup.function, setup.module, setup.fork_safe) for setup in registry.setups] == [
        (load, __name__, False),
        (warm_up, __name__, True),
    ]


# payloads


@pytest.mark.parametrize(
    ("function", "payload", "problem"),
    [
        (model, {}, "path: Field required"),
        (model, {"path": None}, "path: Input should be a valid string (got None)"),
        (
            model,
            {"path": "a.png", "dpi": 5000},
            "dpi: Input should be less than or equal to 1200 (got 5000)",
        ),
        (
            model,
            {"path": 1, "engine": "abbyy"},
            (
                "path: Input should be a valid string (got 1); "
                "engine: Input should be 'tesseract' or 'rapid' (got 'abbyy')"
            ),
        ),
        (
            model,
            {"path": ["x" * 1000]},
            f"path: Input should be a valid string (got ['{'x' * 75}...)",
        ),
        (
            typed_dict,
            {"a": 1, "b": "two"},
            "b: Input should be a valid integer, unable to parse string as an integer (got 'two')",
        ),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_in_one_line(registry, handler, function, payload, problem):
    handler("count")(function)
    with pytest.raises(PayloadError) as refusal:
        registry.get("count").parse_payload(payload)
    assert str(refusal.value) == problem


def test_the_place_of_a_nested_mistake_is_named(registry, handler):
    def nested(payload: Document): ...

    nested.__annotations__["payload"] = Document
    handler("count")(nested)
    with pytest.raises(PayloadError) as refusal:
        registry.get("count").parse_payload({"pages": [{"path": "a"}, {"path": "b", "dpi": "high"}]})
    assert str(refusal.value) == (
        "pages.1.dpi: Input should be a valid integer, unable to parse string as an integer (got 'high')"
    )


def test_a_model_handler_gets_its_model_and_a_dict_handler_the_very_payload(registry, handler):
    handler("model")(model)
    handler("dict")(plain_dict)
    handler("untyped")(payload_only)
    assert registry.get("model").parse_payload({"path": "a", "dpi": "150"}) == Page(path="a", dpi=150)
    for name in ("dict", "untyped"):
        assert registry.get(name).parse_payload({"a": [1], "$b": None}) == {"a": [1], "$b": None}


# importing


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """Write modules under names no other test has, and forget them and their handlers afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    handlers, setups, loaded = dict(REGISTRY.handlers), list(REGISTRY.setups), set(sys.modules)

    def write(**files: str) -> None:
        for name, source in files.items():
            path = tmp_path.joinpath(*name.split("__", 1)).with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(textwrap.dedent(source))

    yield write
    REGISTRY.handlers.clear()
    REGISTRY.handlers.update(handlers)
    REGISTRY.setups[:] = setups
    for name in set(sys.modules) - loaded:
        del sys.modules[name]


GOOD = """
    from supervisor import handler

    @handler("{name}")
    def run(payload): ...
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_thing", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("def (", "SyntaxError: invalid syntax (broken_module.py, line 1)"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('not today')", "SystemExit: not today"),
        ("import sys; sys.exit()", "SystemExit: "),
        ("raise ValueError('first\\nsecond')", "ValueError: first"),
        (
            "from supervisor import handler\n@handler('x')\ndef run(): ...",
            "TypeError: handler 'x': run must take (payload) or (payload, job)",
        ),
    ],
)
def test_a_module_that_fails_is_reported_and_the_others_load(modules, source, reason):
    modules(broken_module=source, good_module=GOOD.format(name="good-one"))
    (failure,) = import_modules(["broken_module", "good_module"])
    assert (failure.module, failure.reason) == ("broken_module", reason)
    assert failure.traceback.startswith("Traceback (most recent call last)")
    assert "good-one" in REGISTRY.handlers
    assert "broken_module" not in sys.modules


@pytest.mark.parametrize("name", ["no_such_module", "no_such_package.sub", "", ".relative", "handlers/ocr.py"])
def test_a_module_that_is_not_there_is_reported(name):
    (failure,) = import_modules([name])
    assert failure.module == name


def test_a_package_stands_for_its_public_submodules(modules):
    modules(
        some_package____init__="",
        some_package__one=GOOD.format(name="p-one"),
        some_package__two=GOOD.format(name="p-two"),
        some_package___private="raise RuntimeError('is not for handlers')",
    )
    assert import_modules(["some_package"]) == []
    assert {"p-one", "p-two"} <= set(REGISTRY.handlers)


def test_a_failing_submodule_does_not_keep_its_neighbours_from_loading(modules):
    modules(
        some_package____init__="",
        some_package__a_broken="1 / 0",
        some_package__b_good=GOOD.format(name="p-good"),
    )
    (failure,) = import_modules(["some_package"])
    assert (failure.module, failure.reason) == ("some_package.a_broken", "ZeroDivisionError: division by zero")
    assert "p-good" in REGISTRY.handlers


def test_a_single_submodule_may_be_named(modules):
    modules(
        some_package____init__="",
        some_package__one=GOOD.format(name="p-one"),
        some_package__two=GOOD.format(name="p-two"),
    )
    assert import_modules(["some_package.one"]) == []
    assert "p-one" in REGISTRY.handlers
    assert "p-two" not in REGISTRY.handlers


def test_of_two_modules_with_one_name_the_first_has_it_and_the_second_is_reported(modules):
    modules(first_module=GOOD.format(name="shared"), second_module=GOOD.format(name="shared"))
    (failure,) = import_modules(["first_module", "second_module"])
    assert failure.module == "second_module"
    assert failure.reason == "ValueError: handler 'shared' is already registered by first_module.run"
    assert REGISTRY.get("shared").module == "first_module"


def test_a_module_is_imported_once(modules):
    modules(counting_module="import sys\nsys.times_imported = getattr(sys, 'times_imported', 0) + 1")
    try:
        assert import_modules(["counting_module", "counting_module"]) == []
        assert import_modules(["counting_module"]) == []
        assert sys.times_imported == 1
    finally:
        del sys.times_imported


def test_a_package_that_exits_is_reported_when_its_submodule_is_named(modules):
    modules(some_package____init__="import sys; sys.exit(3)", some_package__one=GOOD.format(name="p-one"))
    (failure,) = import_modules(["some_package.one"])
    assert failure.reason == "SystemExit: 3"
