"""The supervisor's private folder: who may read it, and which ones of the dead are removed."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import psutil
import pytest

from supervisor.proc import start_ticks
from supervisor.workspace import LONGEST_PATH, open_workspace

PREFIX = f"mongo-job-supervisor-{Path('/proc/self/ns/pid').stat().st_ino}-"


@pytest.fixture
def root(monkeypatch, tmp_path_factory):
    """Stand for the machine's folder for temporary files."""
    tmp_path_factory.getbasetemp()  # pytest's own stays where it is
    folder = Path(tempfile.mkdtemp(prefix="w-", dir="/tmp"))  # a short path, as the real one is
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def dead_pid():
    """Return the id of a process that has just ended."""
    process = psutil.Popen(["true"])
    process.wait()
    return process.pid


def folder(root: Path, name: str) -> Path:
    path = root / f"{PREFIX}{name}"
    path.mkdir()
    (path / "result.json").write_text("{}")
    return path


def test_the_folder_is_named_after_this_process_and_only_its_user_can_read_it(root):
    ticks = start_ticks()
    with open_workspace() as opened:
        assert opened.parent == root
        assert opened.name.startswith(f"{PREFIX}{os.getpid()}-{ticks}-")
        assert stat.S_IMODE(opened.stat().st_mode) == 0o700
    assert not opened.exists()


def test_two_supervisors_in_one_process_have_their_own(root):
    with open_workspace() as first, open_workspace() as second:
        assert first != second
        assert first.is_dir()
        assert second.is_dir()


def test_the_folder_of_a_process_that_has_ended_is_removed_with_all_in_it(root, dead_pid):
    left = folder(root, f"{dead_pid}-1000-abc")
    with open_workspace():
        pass
    assert not left.exists()


def test_the_folder_of_an_earlier_process_with_this_pid_is_removed(root):
    earlier = start_ticks() - 3600
    left = folder(root, f"{os.getpid()}-{earlier}-abc")
    with open_workspace():
        pass
    assert not left.exists()


def test_the_folder_of_a_living_process_is_kept(root):
    parent = psutil.Process().parent()
    living = folder(root, f"{parent.pid}-{start_ticks(parent.pid)}-abc")
    with open_workspace():
        pass
    assert (living / "result.json").exists()


@pytest.mark.parametrize(
    "name", ["", "notes", "abc-1.0-x", "-1-1.0-x", "12", "12-", "12-x-y", "12-now-x", "1.5-1.0-x", "12-1,5-x"]
)
def test_a_folder_that_does_not_say_whose_it_is_is_kept(root, name):
    kept = folder(root, name)
    with open_workspace():
        pass
    assert kept.exists()


def test_other_things_in_the_temporary_folder_are_left_alone(root, dead_pid):
    other = root / f"somebody-else-{dead_pid}-1000-abc"
    other.mkdir()
    file = root / f"{PREFIX}{dead_pid}-1000-file"
    file.write_text("x")
    with open_workspace():
        pass
    assert other.exists()
    assert file.exists()


def test_a_symlink_is_not_followed_to_what_it_names(root, dead_pid, tmp_path_factory):
    precious = tmp_path_factory.mktemp("precious")
    (precious / "thesis.txt").write_text("x")
    (root / f"{PREFIX}{dead_pid}-1000-link").symlink_to(precious)
    with open_workspace():
        pass
    assert (precious / "thesis.txt").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_the_folder_of_another_user_is_left_to_that_user(root, dead_pid):
    theirs = folder(root, f"{dead_pid}-1000-abc")
    os.chown(theirs, 12345, 12345)
    with open_workspace():
        pass
    assert theirs.exists()


def test_a_number_that_no_process_can_have_is_nobody_s(root):
    left = folder(root, f"{10**20}-1000-abc")
    with open_workspace():
        pass
    assert not left.exists()


def test_a_folder_with_no_room_for_a_socket_s_path_is_passed_over(root, monkeypatch):
    deep = root / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with open_workspace() as opened:
        assert opened.parent == Path("/tmp")
        assert len(str(opened / "listener-abcdefgh")) <= LONGEST_PATH


def test_the_folder_of_another_container_s_process_is_left_alone(root, dead_pid):
    other = root / f"mongo-job-supervisor-1-{dead_pid}-1000-abc"
    other.mkdir()
    with open_workspace():
        assert other.exists()
