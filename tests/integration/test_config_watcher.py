# ruff: noqa: ASYNC240 - small files in a temporary directory are what these tests are about
"""The watcher over real files: what it takes over, what it refuses, and that it says so once."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from structlog.testing import capture_logs

from supervisor.config.file import Identity, identify
from supervisor.config.loading import LoadedConfig, Overrides, load
from supervisor.config.watcher import LOOKS_AT_HALF, ConfigWatcher
from tests.support.config_files import write
from tests.support.until import until_async

POLL_S = 0.01
ENVIRON = {"SUPERVISOR_POOL__CLAIM": '["mine"]'}


class Watched:
    """A running watcher with what it handed over and what it logged."""

    def __init__(
        self, on_change: Callable[[LoadedConfig], None] | None = None, loaded: LoadedConfig | None = None
    ) -> None:
        self.changes: list[LoadedConfig] = []
        self.watcher = ConfigWatcher(
            loaded or load(None, ENVIRON, Overrides()),
            on_change or self.changes.append,
            ENVIRON,
            Overrides(),
            poll_s=POLL_S,
        )
        self.logs: list[Any] = []

    async def __aenter__(self) -> Self:
        self._capture = capture_logs()
        self.logs = self._capture.__enter__()
        self.task = asyncio.create_task(self.watcher.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._capture.__exit__(None, None, None)
        alive = not self.task.done()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        assert alive, "the watcher ended"

    @property
    def workers(self) -> list[int | str]:
        return [loaded.settings.pool.workers for loaded in self.changes]

    @property
    def events(self) -> list[str]:
        return [entry["event"] for entry in self.logs]

    async def sees(self, count: int) -> None:
        await until_async(lambda: len(self.changes) >= count, 5, f"{count} changes")

    async def tells(self, count: int) -> None:
        await until_async(lambda: len(self.logs) >= count, 5, f"{count} log lines")


@pytest.fixture(autouse=True)
def _start(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workers(1)


def workers(number: int) -> None:
    """Write in place; the sizes differ, since two writes in one tick of the kernel's clock have the same time."""
    write(f"[pool]\nworkers = {number}\n#{'#' * number}\n")


def replace(text: str) -> None:
    """Save as many editors do: write a new file beside the old one and rename it over."""
    Path("new").write_text(text)
    Path("new").rename("config.toml")


async def test_a_saved_edit_is_handed_over_whole():
    async with Watched() as watched:
        workers(2)
        await watched.sees(1)
        replace("[pool]\nworkers = 3\n")
        await watched.sees(2)
    assert watched.workers == [2, 3]
    assert watched.changes[0].settings.pool.claim == ("mine",), "the environment keeps its precedence"
    assert watched.logs == []


async def test_an_edit_between_loading_and_watching_is_not_missed():
    loaded = load(None, ENVIRON, Overrides())
    workers(2)
    async with Watched(loaded=loaded) as watched:
        await watched.sees(1)
    assert watched.workers == [2]


async def test_a_file_that_appears_later_is_taken_up():
    Path("config.toml").unlink()
    async with Watched() as watched:
        workers(5)
        await watched.sees(1)
    assert watched.workers == [5]


async def test_a_mistake_keeps_the_last_good_and_is_told_once_per_content():
    async with Watched() as watched:
        write("[pool]\nworkers = -1\n")
        await watched.tells(1)
        os.utime("config.toml")  # saved again, unchanged
        replace("[pool]\nworkers = -1\n")
        await until_async(lambda: watched.watcher._handled == identify(Path("config.toml")), 5)
        write("[pool]\nworkers = -2\n")
        await watched.tells(2)
        workers(4)
        await watched.sees(1)
    path = Path("config.toml").absolute()
    assert watched.workers == [4]
    assert watched.logs == [
        {
            "event": "config.invalid",
            "log_level": "warning",
            "path": str(path),
            "kept": "the last good configuration",
            "reason": f'{path}: [pool] workers = -{number}: must be "auto" or an integer from 0 to 1024',
        }
        for number in (1, 2)
    ]


@pytest.mark.parametrize("content", [b"", b" \n", b"[pool", b"\xff\xfe", b"[nope]\n", b"a = " + b"[" * 9999])
async def test_no_content_ends_the_watch(content):
    async with Watched() as watched:
        write(content)
        await watched.tells(1)
        workers(6)
        await watched.sees(1)
    assert (watched.events, watched.workers) == (["config.invalid"], [6])


async def test_a_deleted_file_is_told_once_and_may_come_back():
    async with Watched() as watched:
        Path("config.toml").unlink()
        await watched.tells(1)
        workers(7)
        await watched.sees(1)
    assert (watched.events, watched.workers) == (["config.missing"], [7])


async def test_a_directory_in_its_place_is_a_mistake_like_others():
    async with Watched() as watched:
        Path("config.toml").unlink()
        Path("config.toml").mkdir()
        await until_async(lambda: "config.invalid" in watched.events, 5)
        Path("config.toml").rmdir()
        workers(8)
        await watched.sees(1)
    assert watched.workers == [8]


async def test_a_swapped_symlink_is_followed():
    """Kubernetes: config.toml -> ..data/config.toml, and ..data is renamed over."""
    for name, number in (("one", 1), ("two", 2)):
        Path(name).mkdir()
        Path(name, "config.toml").write_text(f"[pool]\nworkers = {number}\n")
    Path("..data").symlink_to("one")
    Path("config.toml").unlink()
    Path("config.toml").symlink_to("..data/config.toml")
    async with Watched() as watched:
        Path("..new").symlink_to("two")
        Path("..new").rename("..data")
        await watched.sees(1)
    assert watched.workers == [2]


async def test_a_file_that_others_may_write_is_not_taken_over_until_it_is_safe():
    async with Watched() as watched:
        Path("new").touch(mode=0o600)
        Path("new").chmod(0o602)
        replace("[pool]\nworkers = 9\n")
        await watched.tells(1)
        assert watched.changes == []
        Path("config.toml").chmod(0o600)
        await watched.sees(1)
    assert watched.workers == [9]
    assert watched.events == ["config.unsafe_permissions"]
    assert watched.logs[0]["reason"] == "is writable by everyone (mode 0602)"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_a_file_of_another_user_is_not_taken_over():
    async with Watched() as watched:
        Path("new").touch()
        os.chown("new", 12345, -1)
        replace("[pool]\nworkers = 9\n")
        await watched.tells(1)
        assert watched.changes == []
    assert watched.logs[0]["reason"] == (
        "is owned by user 12345, who is neither root nor the user of this supervisor (0)"
    )


def test_what_still_changes_is_waited_out():
    """The looks are made by hand here, so that each falls between two writes."""
    watched = Watched()
    with Path("config.toml").open("w") as file:
        for piece in ("[pool]\n", "workers = 1", "2\n", "kill_grace_s = 3\n"):
            file.write(piece)
            file.flush()
            watched.watcher.poll()
            assert watched.changes == []
    watched.watcher.poll()
    watched.watcher.poll()
    watched.watcher.poll()
    assert watched.workers == [12]


def test_half_a_file_that_is_valid_is_not_taken_for_the_whole():
    watched = Watched()
    path = Path("config.toml")
    path.write_text("[pool]\nworkers = 1")
    for _ in range(LOOKS_AT_HALF):
        watched.watcher.poll()
    assert watched.changes == []
    path.write_text("[pool]\nworkers = 12\n")
    watched.watcher.poll()
    watched.watcher.poll()
    assert watched.workers == [12]
    path.write_text("[pool]\nworkers = 3")
    for _ in range(LOOKS_AT_HALF + 1):
        watched.watcher.poll()
    assert watched.workers == [12, 3], "some editors end no line"
    path.write_text("[pool]\nworkers = 14")
    watched.watcher.reload_now()
    assert watched.workers == [12, 3, 14], "somebody has asked"


def test_what_changes_between_the_look_and_the_reading_waits_for_the_next_look():
    watched = Watched()
    workers(2)
    watched.watcher._handle(Identity(inode=1), finished=False)
    assert watched.changes == []
    watched.watcher.poll()
    watched.watcher.poll()
    assert watched.workers == [2]


async def test_a_hundred_saves_a_second_end_in_the_last_one():
    async with Watched() as watched:
        for number in range(100):
            replace(f"[pool]\nworkers = {number}\n" if number % 2 else "[pool\n")
            await asyncio.sleep(0)
        await until_async(lambda: 99 in watched.workers, 5)
    assert watched.workers[-1] == 99


def test_a_reload_on_demand_loads_at_once_and_tells_again():
    watched = Watched()
    with capture_logs() as logs:
        watched.watcher.reload_now()
        workers(2)
        watched.watcher.reload_now()
        assert watched.workers == [1, 2]
        write("[pool")
        watched.watcher.reload_now()
        watched.watcher.reload_now()
    assert [entry["event"] for entry in logs] == ["config.invalid", "config.invalid"]


async def test_a_fault_in_what_follows_a_change_ends_the_watch_loudly():
    def on_change(_: LoadedConfig) -> None:
        raise RuntimeError("cannot apply")

    watcher = Watched(on_change).watcher
    workers(2)
    with pytest.raises(RuntimeError, match="cannot apply"):
        await asyncio.wait_for(watcher.run(), 5)
