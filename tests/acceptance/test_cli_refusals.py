"""How the command line refuses: one readable line on stderr and the right code, and never a password."""

import pytest

from tests.support.command_line import NOWHERE
from tests.support.mongo import start_standalone


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["jbos"], "No such command 'jbos'. Did you mean 'jobs'? (see: python -m supervisor --help)"),
        (["jobs", "--statsu", "x"], "No such option '--statsu'. Did you mean '--status'? (see: "),
        (["job"], "Missing argument 'ID' (see: python -m supervisor job --help)"),
        (["jobs", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range 1<=x<=100000"),
        (["jobs", "--limit", "x"], "Invalid value for '--limit': 'x' is not a valid integer (see: "),
        (["jobs", "--config"], "Option '--config' requires an argument (see: python -m supervisor jobs --help)"),
        (["resize", "-1"], "-1: must not be a negative number (see: python -m supervisor resize --help)"),
        (["--workers", "four"], "Invalid value for '--workers': 'four' is not a valid integer"),
        (["--workers", "-1"], "--workers: [pool] workers = -1: must be"),
        (["jobs", "--mongo", "http://x"], "--mongo: [mongo] uri ="),
        (["jobs", "--config", "nix.toml"], "nix.toml: there is no such file"),
        (["enqueue", "oky"], "unknown handler 'oky'; registered: aborts, awkward, "),
        (["enqueue", "double"], "payload of 'double': n: Field required"),
        (["enqueue", "double", "--payload", '{"n": "x"}'], "payload of 'double': n: Input should be a valid integer"),
        (["enqueue", "ok", "--payload", '{"a": 1,}'], "--payload: is not JSON: "),
        (["enqueue", "ok", "--payload", '{"a": {"$oid": "x"}}'], "--payload: is not Extended JSON: "),
        (["enqueue", "ok", "--payload", "[1]"], "--payload: is list, must be an object: {…}"),
        (["enqueue", "ok", "--payload", "@nix.json"], "--payload: nix.json cannot be read: No such file or directory"),
        (["enqueue", "ok", "--file", "nix.pdf"], "--file: nix.pdf cannot be read: No such file or directory"),
        (["enqueue", "ok", "--file", "."], "--file: . is a directory"),
        (["enqueue", "ok", "--file", "config.toml", "--payload", '{"file_id": 1}'], "--file: the payload has a 'file"),
        (["enqueue", "ok", "--run-at", "tomorrow"], "--run-at: 'tomorrow' is not a time such as 2026-03-01T18:30"),
        (["enqueue", "ok", "--max-attempts", "0"], "max_attempts: is 0, must be an integer from 1"),
        (["enqueue", "ok", "--then", "oky"], "then[0]: unknown handler 'oky'; registered: "),
        (["enqueue"], "Missing argument 'HANDLER' (see: python -m supervisor enqueue --help)"),
        (["enqueue", "ok", "--on-end", "ok"], "--on-end goes with --batch"),
        (["enqueue", "ok", "--batch", "nix.jsonl"], "--batch: nix.jsonl cannot be read: No such file or directory"),
        (["enqueue", "ok", "--batch", "config.toml"], "--batch: line 1 is not JSON: "),
        (["enqueue", "ok", "--batch", "-"], "--batch: - has no line with a job"),
        (["enqueue", "ok", "--batch", "-", "--priority", "3"], "--priority: not with --batch; put it into each line"),
        (["retry"], "give either ids, or --status and perhaps --handler"),
        (["retry", "--handler", "ok"], "give either ids, or --status and perhaps --handler"),
        (["retry", "x", "--status", "failed"], "give either ids, or --status and perhaps --handler"),
        (["retry", "x", "--error", "crash"], "give either ids, or --status and perhaps --handler"),
        (["cancel"], "give either ids, or at least one of --status, --handler, --group and --batch"),
        (["cancel", "x", "--batch", "7"], "give either ids, or at least one of --status, --handler, --group and"),
        (["cancel", "x", "--dry-run"], "give either ids, or at least one of --status, --handler, --group and --batch"),
        (["jobs", "--since", "yesterday"], "--since: 'yesterday' is not a time such as 2026-03-01T18:30 or "),
        (["jobs", "--since", "2h", "--status", "pending"], "since and until are about when a job ended, and pending"),
        (["jobs", "--since", "2h", "--after", "x"], "--after goes on by id, but --since and --until list by end; give"),
        (["jobs", "--error", "tiemout"], "Invalid value for '--error': 'tiemout' is not one of 'exception',"),
        (["demo", "nix.pdf"], "nix.pdf: there is no such file"),
    ],
)  # fmt: skip
def test_a_wrong_call_is_one_line_and_code_2(command, arguments, error):
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.error.startswith(error)


def test_a_wrong_configuration_is_a_line_per_problem(command):
    command.configure(pool={"workers": "four"}, lease={"secnods": 5})
    done = command("jobs")
    assert done.code == 2
    assert [line.split(":")[0:2] for line in done.err.splitlines()] == [["error", " config.toml"]] * 2
    assert "[pool] workers" in done.err
    assert "secnods: unknown key, did you mean seconds?" in done.err


@pytest.mark.parametrize("arguments", [["jobs"], ["enqueue", "ok"], ["status"], ["init"], ["check"]])
def test_a_database_that_does_not_answer_is_code_3(command, arguments):
    done = command("--mongo", NOWHERE, *arguments)
    assert done.code == 3
    assert f"MongoDB at {NOWHERE} did not answer within 5 s" in done.error


def test_a_standalone_is_refused_with_code_2(command, tmp_path):
    mongod = start_standalone(tmp_path)
    try:
        for name in ("jobs", "check", "run"):
            done = command(name, "--mongo", mongod.uri)
            assert done.code == 2
            assert "this mongod is a standalone" in done.err.splitlines()[-1]
    finally:
        mongod.stop()


@pytest.mark.parametrize("option", ["w=1", "retryWrites=false"])
def test_a_uri_that_gives_up_the_promises_is_refused(command, mongo_uri, option):
    for name in ("jobs", "check", "run"):
        done = command(name, "--mongo", f"{mongo_uri}&{option}")
        assert done.code == 2
        assert f"{option} is not safe" in done.err.splitlines()[-1]


def test_a_password_is_never_shown(command):
    done = command("jobs", "--mongo", "mongodb://me:pa55word@127.0.0.1:1/?directConnection=true")
    assert done.code == 3
    assert "me:***@127.0.0.1:1" in done.error
    assert "pa55word" not in done.err


def test_run_without_a_database_is_code_3_after_wait_s(command):
    command.configure(mongo={"uri": NOWHERE, "wait_s": 0.5})
    done = command("run")
    assert done.code == 3
    assert done.err.splitlines()[-1].startswith(f"error: MongoDB at {NOWHERE} did not answer within 0.5 s")
