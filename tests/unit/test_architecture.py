"""Which way the imports point, and how large files and functions may grow; each failure says why the rule is there.

Exceptions stand beside their rule with a reason, and one that is no longer needed fails the test as well.
"""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 320
MOST_FUNCTION_LINES = 45


@cache
def sources(package: str) -> dict[str, ast.Module]:
    """Return the syntax tree of every module of `package`, by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text("utf-8")
        )
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """Return what `tree` imports, at the top or inside a function: `a.b` or, of `from a import b`, `a.b` too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def ours(tree: ast.AST) -> set[str]:
    """Return the modules of `supervisor` that `tree` imports; a name out of a module stands for the module."""
    return {module_of(name) for name in imports(tree) if is_in(name, ["supervisor"])}


def module_of(name: str) -> str:
    while name not in sources("supervisor"):
        name = name.rpartition(".")[0]
    return name


ON_REQUEST = {("supervisor", f"supervisor.{name}") for name in ("client.queue", "client.async_queue", "application")}
"""`Queue`, `AsyncQueue` and `Supervisor` are loaded when somebody asks for them, and in workers nobody does."""


def reached_from(start: str) -> dict[str, str]:
    """Return every module of ours that importing `start` can ever load, with the module that imports it."""
    found, waiting = {start: "itself"}, [start]
    while waiting:
        module = waiting.pop()
        parents = {module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)}
        for other in ours(sources("supervisor")[module]) | parents:
            if other not in found and (module, other) not in ON_REQUEST:
                found[other] = module
                waiting.append(other)
    return found


def check(offenders: Iterable[str], exceptions: dict[str, str], why: str) -> None:
    """Fail for offenders that are no exceptions, and for exceptions that offend no more."""
    offenders = set(offenders)
    new = offenders - set(exceptions)
    assert not new, f"{why}\n" + "\n".join(f"  {offender}" for offender in sorted(new))
    over = set(exceptions) - offenders
    assert not over, "exceptions that are no longer needed:\n" + "\n".join(f"  {name}" for name in sorted(over))


# layers


PURE = {"__future__", "collections", "dataclasses", "datetime", "enum", "math", "typing"}


@pytest.mark.parametrize(
    ("modules", "allowed", "why"),
    [
        (["supervisor.core"], ["supervisor.core"], "the core is pure: it knows nothing but itself"),
        (["supervisor.errors"], [], "errors are at the bottom: everybody may import them"),
        (
            ["supervisor.context"],
            ["supervisor.errors", "supervisor.codec"],
            "handlers import the context, and with it only how models become documents",
        ),
        (["supervisor.registry"], ["supervisor.errors"], "producers import the registry, and with it nothing else"),
        (["supervisor.codec"], [], "workers and the store both read with these options"),
        (
            ["supervisor.store"],
            [
                "supervisor.core",
                "supervisor.errors",
                "supervisor.codec",
                "supervisor.config",
                "supervisor.store",
            ],
            "the store knows the core and the database, not who calls it",
        ),
        (
            ["supervisor.client"],
            [
                *("supervisor.client", "supervisor.core", "supervisor.codec", "supervisor.errors"),
                *("supervisor.registry", "supervisor.store", "supervisor.embedded.mongo"),
            ],
            "a producer is no supervisor: it must not load the engine",
        ),
        (
            ["supervisor.web"],
            [
                *("supervisor.web", "supervisor.client", "supervisor.core", "supervisor.errors"),
                *("supervisor.store.patience",),
            ],
            "an application that takes the router in is a producer",
        ),
    ],
    ids=lambda value: value[0].removeprefix("supervisor.") if isinstance(value, list) and value else "",
)
def test_a_layer_imports_only_what_is_below_it(modules, allowed, why):
    offenders = [
        f"{name} imports {other}"
        for name, tree in sources("supervisor").items()
        if is_in(name, modules)
        for other in ours(tree)
        if not is_in(other, allowed)
    ]
    check(offenders, {}, why)


def test_the_core_imports_no_more_of_the_standard_library_than_it_takes_to_think():
    offenders = [
        f"{name} imports {other}"
        for name, tree in sources("supervisor").items()
        if is_in(name, ["supervisor.core"])
        for other in imports(tree)
        if not is_in(other, PURE | {"supervisor"})
    ]
    check(offenders, {}, "the core does no I/O, reads no clock, draws no random number and logs nothing")


# the database


DATABASE = ["pymongo", "gridfs"]
KNOWS_THE_DATABASE = [
    *("supervisor.store", "supervisor.client", "supervisor.cli", "supervisor.app", "supervisor.assembly"),
    "supervisor.testing",
]
AN_ERROR = "PyMongoError is the store's documented way to say that the database did not answer"
DATABASE_EXCEPTIONS = {
    "supervisor.batches imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.controls imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.dispatcher imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.execution imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.heartbeat imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.lease_keeper imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.outage imports pymongo.errors.OperationFailure": "an error reply is an answer all the same",
    "supervisor.outage imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.reaper imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.status_line imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.scheduler imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.engine imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.wakeup imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.wakeup imports pymongo.errors.OperationFailure": "an error reply may say that a token is gone",
    "supervisor.wakeup imports pymongo.asynchronous.database.AsyncDatabase": "a type; it watches the change stream",
    "supervisor.wakeup imports pymongo.timeout": "a deadline for its answers, which may take longer than others",
    "supervisor.side_effects imports pymongo.asynchronous.database.AsyncDatabase": "a type; a queue works on it",
    "supervisor.http_service.service imports pymongo.AsyncMongoClient": "as above",
    "supervisor.web.asking imports pymongo": "a deadline for what a queue asks",
    "supervisor.web.events imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.web.problems imports pymongo.errors.PyMongoError": AN_ERROR,
    "supervisor.web.problems imports pymongo.errors.DocumentTooLarge": "errors become answers",
    "supervisor.web.problems imports pymongo.errors.WriteError": "as above",
    "supervisor.embedded.mongo imports pymongo.MongoClient": "initiates the replica set that it has started",
    "supervisor.embedded.mongo imports pymongo.errors.OperationFailure": "as above",
    "supervisor.embedded.mongo imports pymongo.errors.PyMongoError": "as above",
}


def test_the_database_is_known_in_few_places():
    offenders = [
        f"{name} imports {other}"
        for name, tree in sources("supervisor").items()
        if not is_in(name, KNOWS_THE_DATABASE)
        for other in imports(tree)
        if is_in(other, DATABASE)
    ]
    check(offenders, DATABASE_EXCEPTIONS, "how a job's fields change is known in supervisor.store alone")


# workers


IN_A_WORKER = ["supervisor.worker.main", "supervisor.worker.preload"]


@pytest.mark.parametrize("start", IN_A_WORKER)
def test_what_runs_in_a_worker_never_imports_the_database(start):
    offenders = []
    for name, because in reached_from(start).items():
        if is_in(name, ["supervisor.store"]):
            offenders.append(f"{because} imports {name}")
        offenders += [
            f"{name} imports {other}" for other in imports(sources("supervisor")[name]) if is_in(other, DATABASE)
        ]
    check(offenders, {}, "workers hold no database credentials, and a client of pymongo's does not survive a fork")


@pytest.mark.parametrize("start", [*IN_A_WORKER, "supervisor", "handlers.ocr", "handlers.ner"])
def test_a_process_that_imports_it_has_not_loaded_the_database(start):
    loaded = (
        f"import sys, {start}\n"
        "names = [name for name in sys.modules if name.split('.')[0] in ('pymongo', 'gridfs')]\n"
        "names += [name for name in sys.modules if name.startswith('supervisor.store')]\n"
        "print('loaded:', *sorted(names))"
    )
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("loaded:\n", "")


def test_the_search_from_a_worker_sees_lazy_imports_and_their_imports():
    reached = reached_from("supervisor.worker.main")
    assert {"supervisor", "supervisor.core.outcome", "supervisor.registry", "supervisor.worker.wire"} <= set(reached)
    assert "supervisor.registry" in reached_from("supervisor.worker.preload")
    assert "supervisor.store.claims" in reached_from("supervisor.app")


# processes and clocks


def calls(tree: ast.AST) -> Iterator[str]:
    """Return what `tree` uses of modules by an attribute: `os.kill`, `time.time`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}"


PROCESSES = ["multiprocessing", "psutil", "concurrent.futures.process", "concurrent.futures.ProcessPoolExecutor"]
KILLS = {"os.kill", "os.killpg", "os.fork", "signal.pidfd_send_signal", "os.posix_spawn"}
HANDLES_PROCESSES = {
    "worker.main": "lives in one and watches its parent",
    "embedded.mongo": "starts mongod",
    "embedded.directory": "finds whether a mongod of ours lives",
    "embedded.keeper": "ends mongod",
    "pool.forkserver": "is where workers come from",
    "pool.context": "is how they are made",
    "proc": "asks whether a process that /proc hides is there",
    "host": "tells whether a predecessor is dead",
    "worker.preload": "runs in the fork server",
    "worker.forks": "as above",
    "worker.lifeline": "has the kernel kill its own process group",
    "worker.tickets": "hands a descriptor to a worker at its start",
    "process_tree": "kills a worker with all that it started",
    "pool.slot": "replaces its worker",
    "testing.running": "starts a supervisor for a user's test, and crashes its workers",
    "pool.process": "is one worker, seen from the supervisor",
}


def test_processes_are_handled_in_few_places():
    offenders = [
        f"{name} uses {other}"
        for name, tree in sources("supervisor").items()
        if name.removeprefix("supervisor.") not in HANDLES_PROCESSES
        for other in {*imports(tree), *calls(tree)}
        if is_in(other, PROCESSES) or other in KILLS
    ]
    check(offenders, {}, "a signal to a wrong process id kills a stranger: few places may send one")


WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
READS_CLOCKS = ["assembly", "heartbeat", "cli", "client", "embedded"]


def test_the_wall_clock_and_randomness_come_in_at_the_edge():
    offenders = [
        f"{name} uses {other}"
        for name, tree in sources("supervisor").items()
        if not is_in(name.removeprefix("supervisor."), READS_CLOCKS)
        for other in {*imports(tree), *calls(tree)}
        if other in WALL_CLOCK or is_in(other, ["random"])
    ]
    check(offenders, {}, "leases are in the database's time, durations monotonic, and what is random is handed in")


# the handlers that come with it


def test_our_own_handlers_use_only_what_a_user_s_handler_may_use():
    (exported,) = (
        ast.literal_eval(node.value)
        for node in sources("supervisor")["supervisor"].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    public = {f"supervisor.{name}" for name in exported}
    offenders = [
        f"{name} imports {other}"
        for name, tree in sources("handlers").items()
        for other in imports(tree)
        if is_in(other, ["supervisor"]) and other not in public
    ]
    check(offenders, {}, "what our handlers need and users cannot import is missing from the API")


# size


def test_no_file_is_larger_than_one_can_hold_in_the_head():
    lengths = {
        name: (tree.body[-1].end_lineno or 0) if tree.body else 0
        for package in ("supervisor", "handlers")
        for name, tree in sources(package).items()
    }
    offenders = [name for name, lines in lengths.items() if lines > MOST_LINES]
    shown = ", ".join(f"{name}: {lengths[name]}" for name in offenders)
    check(offenders, {}, f"at {MOST_LINES} lines a second noun has moved in ({shown})")


def test_no_function_is_longer_than_a_screen():
    offenders = [
        f"{name}.{node.name}"
        for package in ("supervisor", "handlers")
        for name, tree in sources(package).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MOST_FUNCTION_LINES
    ]
    check(offenders, {}, f"a function of more than {MOST_FUNCTION_LINES} lines does several things: name them")


# the rules themselves


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import os.path, sys", {"os.path", "sys"}),
        ("from a.b import c, d as e", {"a.b.c", "a.b.d"}),
        ("def f():\n    from supervisor import app\n    return app", {"supervisor.app"}),
        ("if False:\n    import pymongo as p", {"pymongo"}),
        ("class A:\n    import time", {"time"}),
    ],
)
def test_imports_are_seen_wherever_they_stand(source, found):
    assert set(imports(ast.parse(source))) == found


def test_a_name_out_of_a_module_stands_for_that_module():
    assert ours(ast.parse("from supervisor import app, handler")) == {"supervisor.app", "supervisor"}
    assert ours(ast.parse("from supervisor.core.job import Job")) == {"supervisor.core.job"}


def test_calls_are_seen_by_their_module():
    assert set(calls(ast.parse("os.kill(1, 9)\nx = [time.time for _ in y]"))) == {"os.kill", "time.time"}


def test_a_new_offender_and_a_stale_exception_both_fail():
    check(["a"], {"a": "known"}, "why")
    with pytest.raises(AssertionError, match=r"why\n +b"):
        check(["a", "b"], {"a": "known"}, "why")
    with pytest.raises(AssertionError, match=r"no longer needed:\n +a"):
        check([], {"a": "known"}, "why")
