"""What `health` makes of the files that supervisors leave, and where it looks for them."""

import json
import os
import time

import psutil
import pytest

from supervisor import health
from supervisor.health import NAME, RUN, answer, own_folder
from supervisor.health_file import HealthFile, open_health_file
from supervisor.proc import boot_id, start_ticks


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    return tmp_path


def save(folder, name="1", **fields):
    state = {
        "pid": os.getpid(),
        "start_ticks": start_ticks(),
        "boot_id": boot_id(),
        "phase": "running",
        "beat_at": time.monotonic(),
        **fields,
    }
    (folder / f"{name}.health").write_text(json.dumps(state))


def asked(capsys, *, live=False):
    """Return the exit code and all that was said."""
    code = answer(os.environ, json_=False, live=live)
    said = capsys.readouterr()
    return code, said.out + said.err


def test_one_that_turns_is_fine(folder, capsys):
    save(folder)
    code, said = asked(capsys)
    assert (code, said) == (0, f"ok: supervisor {os.getpid()} is running; its claim loop turned 0.0 s ago\n")


def test_without_any_file_no_supervisor_runs(folder, capsys):
    assert asked(capsys) == (1, f"error: no supervisor runs here (nothing in {folder})\n")


@pytest.mark.parametrize("phase", ["starting", "draining"])
def test_one_that_takes_no_jobs_is_alive_and_not_fine(phase, folder, capsys):
    save(folder, phase=phase)
    assert asked(capsys) == (1, f"error: supervisor {os.getpid()} is {phase}\n")
    assert asked(capsys, live=True)[0] == 0


def test_one_that_has_not_turned_for_long_is_not_fine(folder, capsys):
    save(folder, beat_at=time.monotonic() - 45)
    for live in (False, True):
        code, said = asked(capsys, live=live)
        assert (code, said) == (
            1,
            f"error: supervisor {os.getpid()} has made no progress for 45 s (it was running)\n",
        )


@pytest.mark.parametrize(
    "other",
    [{"start_ticks": 1}, {"boot_id": "of the boot before"}, {"pid": 2**22 - 1}],
    ids=["the id is another process's now", "before a reboot", "no such process"],
)
def test_what_a_dead_one_has_left_is_not_alive(other, folder, capsys):
    save(folder, **other)
    code, said = asked(capsys)
    assert code == 1
    assert "is dead: it was killed, or has crashed" in said


def test_a_zombie_is_dead(folder, capsys):
    process = psutil.Popen(["sleep", "60"])
    save(folder, pid=process.pid, start_ticks=start_ticks(process.pid))
    assert asked(capsys)[0] == 0
    psutil.Process(process.pid).kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert asked(capsys)[0] == 1
    process.wait()


def test_one_that_drains_is_fine_only_for_who_asks_whether_it_lives(folder, capsys):
    save(folder, phase="draining")
    assert asked(capsys) == (1, f"error: supervisor {os.getpid()} is draining\n")
    assert asked(capsys, live=True)[0] == 0


def test_to_enter_a_phase_is_no_progress(folder):
    with open_health_file(os.environ) as file:
        (path,) = folder.iterdir()
        file.beat("running")
        before = json.loads(path.read_text())
        file.enter("draining")
        assert json.loads(path.read_text()) == {**before, "phase": "draining"}


def test_all_have_to_be_fine(folder, capsys):
    save(folder, "1")
    save(folder, "2", phase="draining")
    code, said = asked(capsys)
    assert code == 1
    assert ("ok: " in said, "is draining" in said) == (True, True)


def test_a_file_that_makes_no_sense_is_nobody(folder, capsys):
    for name, text in enumerate(["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x"}', "\xff"]):
        (folder / f"{name}.health").write_text(text, "latin-1")
    assert asked(capsys)[0] == 1


def test_the_file_is_as_long_in_every_phase_and_gone_in_the_end(folder):
    with open_health_file(os.environ) as file:
        (path,) = folder.iterdir()
        sizes = set()
        for phase in ("starting", "running", "draining"):
            file.beat(phase)
            sizes.add(path.stat().st_size)
            assert json.loads(path.read_text())["phase"] == phase
        assert len(sizes) == 1
    assert list(folder.iterdir()) == []


def test_a_new_one_takes_away_what_dead_ones_have_left(folder):
    save(folder, "dead", start_ticks=1)
    save(folder, "living")
    (folder / "nonsense.health").touch()
    (folder / "somebody else's").touch()
    with open_health_file(os.environ):
        names = {path.name for path in folder.iterdir()}
    assert names == {"living.health", "somebody else's", f"{os.getpid()}.health"}


def test_a_directory_that_was_tidied_up_is_made_again(tmp_path):
    HealthFile(tmp_path / "gone").beat("running")
    assert len(list((tmp_path / "gone").iterdir())) == 1


@pytest.mark.parametrize(
    ("uid", "environ", "expected"),
    [
        (0, {}, RUN),
        (0, {"RUNTIME_DIRECTORY": "/run/a:/run/b"}, "/run/a"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, f"/run/user/1000/{NAME}"),
        (1000, {"TMPDIR": "/scratch"}, f"/scratch/{NAME}-1000"),
        (1000, {}, f"/tmp/{NAME}-1000"),
    ],
)
def test_it_is_in_a_directory_for_what_runs(uid, environ, expected, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    assert str(own_folder(environ)) == str(expected)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_what_somebody_else_could_have_written_is_not_believed(folder, capsys):
    save(folder)
    os.chown(folder, 65534, 65534)
    assert asked(capsys)[0] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_services_have_directories_of_their_own_users_below_root_s(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setattr(health, "RUN", tmp_path)
    for name in ("ocr", "ner"):
        service = tmp_path / name
        service.mkdir()
        save(service)
        os.chown(service, 65534, 65534)
    code, said = asked(capsys)
    assert (code, said.count("ok: ")) == (0, 2)
