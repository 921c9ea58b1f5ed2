"""`systemd-unit`: what it prints is judged by systemd's own programs, what is in its way is said."""

import os
import pwd
import re
import stat
import sys
from pathlib import Path

import pytest

from tests.support.command_line import CommandLine
from tests.support.supervising import ROOT
from tests.support.systemd import complaints, exposure

NOBODY = "nobody"
ME = pwd.getpwuid(os.geteuid()).pw_name
ELSEWHERE = "mongodb://db.example/?replicaSet=rs0"


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    """Commands in a folder whose name has to be quoted."""
    folder = tmp_path / "50% of $HOME; 'a' \"b\""
    folder.mkdir()
    made = CommandLine(folder, ELSEWHERE, "supervisor")
    made.configure()
    return made


def values(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def value(text: str, key: str) -> str:
    (found,) = values(text, key)
    return found


@pytest.mark.parametrize("uri", [ELSEWHERE, "embedded"])
def test_systemd_accepts_the_unit_and_rates_it_as_good(uri: str, command: CommandLine, tmp_path: Path) -> None:
    command.configure(mongo={"uri": uri})
    done = command("systemd-unit", "--user", ME)  # of the type that this machine's systemd knows
    assert done.code == 0, done.err
    unit = tmp_path / "jobs.service"
    unit.write_text(done.out)
    assert complaints(unit) == ""
    assert exposure(unit) <= 2.5


def test_the_unit_is_for_this_installation(command: CommandLine) -> None:
    command.configure(
        mongo={"uri": ELSEWHERE, "wait_s": 100}, shutdown={"drain_s": 300}, pool={"workers": 1, "kill_grace_s": 7}
    )
    done = command("systemd-unit", "--user", ME, "--workers", "3", "--writable", ".", "--type", "notify")
    unit = done.out
    name = str(command.folder).replace("%", "%%")
    quoted = name.replace('"', '\\"')
    config = quoted.replace("$", "$$")
    assert value(unit, "ExecStart") == f'{sys.executable} -m supervisor run --config "{config}/config.toml" --workers 3'
    assert value(unit, "WorkingDirectory") == name
    assert value(unit, "ReadWritePaths") == f'"{quoted}"'
    assert value(unit, "Environment") == f"PYTHONPATH={ROOT}"
    assert value(unit, "User") == ME
    assert (value(unit, "Type"), value(unit, "ExecReload")) == ("notify", "/bin/kill -HUP $MAINPID")
    assert float(value(unit, "TimeoutStartSec")) > 100
    assert float(value(unit, "TimeoutStopSec")) > 300 + 7
    assert value(unit, "RestartPreventExitStatus") == "2"
    assert values(unit, "ExecStopPost") == [], "no embedded database"
    reload = command("systemd-unit", "--type", "notify-reload", "--user", ME).out
    assert (value(reload, "Type"), values(reload, "ExecReload")) == ("notify-reload", [])


def test_the_embedded_database_has_a_directory_that_can_be_written_to(command: CommandLine, tmp_path: Path) -> None:
    command.configure(mongo={"uri": "embedded"})
    own = command("systemd-unit", "--user", ME, "--name", "jobs").out
    assert value(own, "ExecStart").endswith(" --data-dir /var/lib/jobs/mongodb")
    assert value(own, "StateDirectory") == "jobs"
    assert value(own, "RuntimeDirectory") == "mongo-job-supervisor/jobs"

    data = tmp_path / "data"
    missing = command("systemd-unit", "--user", ME, "--data-dir", str(data))
    assert (missing.code, missing.error) == (2, f"--data-dir {data}: is no directory; make it first, as {ME}")
    data.mkdir()
    given = command("systemd-unit", "--user", ME, "--data-dir", str(data)).out
    assert value(given, "ReadWritePaths") == str(data)
    assert f"{data}/keeper.lock" in value(given, "ExecStopPost")


def test_a_file_of_variables_counts_and_those_of_the_shell_do_not(command: CommandLine) -> None:
    command.configure(mongo={"uri": "embedded"})
    file = command.folder / "env"
    file.write_text(f'# where the jobs are\nSUPERVISOR_MONGO__URI="{ELSEWHERE}"\n')
    done = command(
        "systemd-unit", "--environment-file", "env", "--user", ME, environ={"SUPERVISOR_LOG__LEVEL": "debug"}
    )
    assert values(done.out, "ExecStopPost") == [], "no embedded database"
    assert value(done.out, "EnvironmentFile") == str(file).replace("%", "%%")
    assert "the service does not see SUPERVISOR_LOG__LEVEL" in done.err


def test_what_the_service_could_not_read_is_said(command: CommandLine) -> None:
    config = command.folder / "config.toml"
    config.chmod(0o600)
    done = command("systemd-unit", "--user", NOBODY)
    assert done.code == 0
    assert f"{config}: {NOBODY} may not read it, so the service would not start" in done.err
    assert ("edits would not be applied live" in done.err) == (os.geteuid() != 0), "what root owns is safe"
    mine = command("systemd-unit", "--user", ME).err
    assert "may not read" not in mine
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="a user of systemd's making is the default for root alone")
def test_for_root_a_user_is_made_up(command: CommandLine) -> None:
    unit = command("systemd-unit").out
    assert (value(unit, "DynamicUser"), values(unit, "User")) == ("yes", [])
    command.configure(mongo={"uri": "embedded"})
    refused = command("systemd-unit")
    assert refused.code == 2
    assert "name the user with --user" in refused.error


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--user", "nobody-of-this-name"], "--user nobody-of-this-name: there is no such user on this machine"),
        (["--name", "a/b"], "--name 'a/b': may hold letters"),
        (["--mongo", ELSEWHERE], "--mongo does not go into a unit"),
        (["--type", "simple"], "'simple' is not one of 'notify', 'notify-reload'"),
        (["--writable", "nowhere"], "'nowhere' does not exist"),
        (["--environment-file", "nowhere"], "'nowhere' does not exist"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], error: str, command: CommandLine) -> None:
    done = command("systemd-unit", *arguments)
    assert (done.code, done.out) == (2, "")
    assert re.search(re.escape(error), done.error)
