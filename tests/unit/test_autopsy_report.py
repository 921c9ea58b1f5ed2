"""The story of how a job died, and what is printed of its output."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.autopsy_report import (
    COLUMNS,
    NEVER_AGAIN,
    SIGNALS,
    VERBS,
    death,
    headline,
    last_bad,
    output_section,
    rows,
    stack_section,
    what_next,
)
from supervisor.cli.main import main
from supervisor.cli.output import rest_of
from supervisor.cli.printing import printable
from supervisor.cli.stacks import of_the_handler
from supervisor.client.reasons import Code, Reason

NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
STACK = """Fatal Python error: Segmentation fault

Thread 0x00007f784ca7cb81 (most recent call first):
  File "threading.py", line 9 in wait

Current thread 0x00007f784ca7cb80 (most recent call first):
  File "ctypes.py", line 519 in string_at
  File "mine.py", line 7 in burn
  File "supervisor/worker/main.py", line 177 in _call_handler
  File "supervisor/worker/main.py", line 147 in _run
"""


def record(outcome="crash", evidence=None, **error):
    return {"n": 2, "outcome": outcome, "error": error, "evidence": evidence, "usage": {"run_s": 1.5}}


def job(status="failed", **fields):
    return {"_id": 7, "handler": "ocr", "status": status, **fields}


@pytest.mark.parametrize(
    ("died", "sentence"),
    [
        (record(signal="SIGSEGV"), "killed by SIGSEGV: an invalid memory access in native code"),
        (record(signal="SIG34"), "killed by SIG34: a signal from outside or from native code"),
        (record(signal="SIGKILL", evidence={"oom_killed": True}),
         "killed by SIGKILL: the kernel's OOM killer did it, since memory ran out"),
        (record(signal="SIGKILL", evidence={"oom_killed": False}),
         "killed by SIGKILL, not by the kernel's OOM killer: somebody sent it, or the job itself"),
        (record(signal="SIGKILL"), "killed by SIGKILL; whether the kernel's OOM killer did it is not known"),
        (record(exit_code=0), "exit code 0: the process ended itself (os._exit, or exit() in native code)"),
        (record("permanent", type="Permanent", code="empty", message="no\npage"), "Permanent: empty: no page"),
    ],
)  # fmt: skip
def test_each_death_is_told_in_a_sentence(died, sentence):
    assert death(died, 0).lines == [sentence, "it ran 1.5s"]


def test_how_long_a_lost_attempt_ran_nobody_can_tell():
    assert death(record("lost"), 0).lines == ["nothing is known of it"]


def test_memory_and_machine_are_told_in_figures():
    others = [{"slot": n, "handler": "ner", "job_id": n, "rss_mb": 30.0} for n in range(5)]
    machine = {"load_1m": 3.14, "cores": 2, "memory_available_mb": 5120, "others": others}
    died = {**record("memory", {"machine": machine}, message="too much"), "usage": {"run_s": 2, "cpu_s": 1.5}}
    died["usage"]["peak_rss_mb"] = 312.4
    assert death(died, 300).lines[1:] == [
        "it ran 2.0s, 1.5s of it on a CPU, peak memory 312 MB, limit 300 MB",
        "the machine then: load 3.1 on 2 cores, 5120 MB of memory free",
        "beside it ran ner 0 (30 MB), ner 1 (30 MB), ner 2 (30 MB), 2 more",
    ]


def test_of_a_stack_the_calls_of_the_handler_are_shown():
    found = stack_section(record(evidence={"stack": STACK}), 10)
    assert found.lines == ['File "ctypes.py", line 519 in string_at', 'File "mine.py", line 7 in burn']
    assert stack_section(record(evidence={"stack": STACK}), 1).title == "python stack, latest call first (1 of 2 lines)"
    ours = 'Current thread 0x1 (most recent call first):\n  File "supervisor/worker/main.py", line 1 in _run\n'
    assert len(stack_section(record(evidence={"stack": ours}), 10).lines) == 1


def test_of_a_live_stack_each_thread_is_shown_down_to_our_own_code():
    assert of_the_handler(STACK).splitlines() == STACK.splitlines()[:-2]


def test_of_a_traceback_the_way_through_our_code_is_left_out():
    traceback = (
        'Traceback (most recent call last):\n  File "supervisor/worker/main.py", line 147, in _run\n    value = x()\n'
        '            ^^^\n  File "mine.py", line 7, in burn\n    raise ValueError\nValueError\n'
    )
    assert stack_section(record(traceback=traceback), 10).lines == [
        "Traceback (most recent call last):", '  File "mine.py", line 7, in burn', "    raise ValueError", "ValueError",
    ]  # fmt: skip
    assert stack_section(record(), 10) is None


def test_the_last_bad_attempt_is_the_one_that_is_told():
    good, bad = {"n": 3, "outcome": "completed"}, {"n": 2, "outcome": "timeout"}
    stopped = [{"n": 4, "outcome": "interrupted"}, {"n": 5, "outcome": "cancelled"}]
    assert last_bad(job(attempts=[{"n": 1, "outcome": "crash"}, bad, good, *stopped])) == bad
    assert last_bad(job(attempts=[good])) is last_bad(job()) is None


PAUSED = Reason(Code.PAUSED, "ocr is paused by breaker: 3 crashes", "resume ocr")


@pytest.mark.parametrize(
    ("document", "waits_for", "text", "command"),
    [
        (job("pending", attempt=1, run_at=NOW + timedelta(seconds=12)), None, "attempt 2 is due in 12s", None),
        (job("pending"), None, "attempt 1 is due and waits for its turn", None),
        (job("pending"), PAUSED, "attempt 1 is due, but ocr is paused by breaker: 3 crashes", "resume ocr"),
        (job("pending", attempt=1, run_at=NOW + timedelta(seconds=12)), Reason(Code.BUSY, "all 8 slots are\n busy"),
         "attempt 2 is due in 12s, but all 8 slots are busy", None),
        (job("processing", attempt=2), None, "attempt 2 is running", "stack 7"),
        (job(error={"kind": "poison"}), None,
         "nothing by itself: it is quarantined, since it killed too many workers", "retry 7"),
        (job(error={"kind": "timeout"}), None, "nothing by itself: its attempts are used up", "retry 7"),
        (job("cancelled"), None, "nothing by itself: it was cancelled", "retry 7"),
        (job("completed"), None, "nothing: it is completed", None),
    ],
)  # fmt: skip
def test_what_happens_next_comes_with_what_to_type(document, waits_for, text, command):
    assert what_next(document, NOW, waits_for) == {
        "next": text, "command": command and f"python -m supervisor {command}",
    }  # fmt: skip


def test_the_headline_says_what_the_job_is_and_cuts_a_long_payload():
    made = NOW - timedelta(minutes=5)
    lines = headline(job(crashes=3, error={"kind": "poison"}, created_at=made, payload={"a": "x" * 999}), NOW)
    assert lines[:2] == ["ocr job 7: failed, quarantined after 3 crashes", "made 5m ago"]
    assert len(lines[2]) < 220


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NOW),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_RECORD_FIELDS = ("n", "outcome", "error", "evidence", "usage", "logs", "started_at", "host")
nonsense_record = st.fixed_dictionaries({}, optional=dict.fromkeys(_RECORD_FIELDS, anything)) | st.fixed_dictionaries(
    {
        "outcome": st.just("crash"),
        "error": st.dictionaries(st.sampled_from(["signal", "exit_code", "type", "message", "traceback"]), anything),
        "evidence": st.fixed_dictionaries(
            {"stack": anything, "oom_killed": anything},
            optional={"machine": st.dictionaries(st.sampled_from(["load_1m", "cores", "others"]), anything)},
        ),
        "usage": st.dictionaries(st.sampled_from(["run_s", "cpu_s", "peak_rss_mb"]), anything),
    }
)
_JOB_FIELDS = ("handler", "status", "payload", "error", "attempt", "crashes", "created_at", "run_at", "unique_key")


@given(
    fields=st.fixed_dictionaries({"_id": anything}, optional=dict.fromkeys(_JOB_FIELDS, anything)),
    records=st.lists(nonsense_record, max_size=2) | anything,
)
def test_a_document_that_makes_no_sense_is_told_all_the_same(fields, records):
    document = {**fields, "attempts": records}
    told = [*headline(document, NOW), what_next(document, NOW, None)["next"]]
    if bad := last_bad(document):
        sections = [death(bad, 0), stack_section(bad, 3), output_section(bad, 3)]
        told += [line for section in sections if section for line in [section.title, *section.lines]]
    rows(document)
    assert all(line.isprintable() or line.replace("\t", "").isprintable() for line in told)


def test_the_guide_shows_what_the_command_says():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "find-out-why-a-job-died.md").read_text(encoding="utf-8")
    assert re.search(" +".join(map(re.escape, COLUMNS)), page)
    for part in (SIGNALS["SIGSEGV"], VERBS["poison"], NEVER_AGAIN["poison"], "python stack, latest call first"):
        assert part in page


# what is printed of an attempt's output


@given(output=st.text(max_size=50), seen=st.integers(0, 50), kept=st.integers(0, 50))
def test_output_that_was_printed_is_not_printed_again_and_nothing_that_is_kept_is_missed(output, seen, kept):
    printed, logs = output[:seen], output[max(0, len(output) - kept) :]
    rest = rest_of(logs, printed)
    assert logs.endswith(rest)
    if kept >= len(output):
        assert printed + rest == output


def test_the_rest_is_found_in_a_record_that_has_lost_its_beginning():
    lines = [f"line {n}\n" for n in range(2000)]
    printed, logs = "".join(lines[:1500]), "".join(lines[600:])
    assert printed + rest_of(logs, printed) == "".join(lines)
    far = "".join(lines[1900:])
    assert rest_of(far, printed) == far, "more came in between than is kept"


def test_what_a_job_prints_keeps_its_shape_and_loses_its_power():
    assert printable("a  b\tc\n  \x1b[31md\r50%\r\ne\x07") == "a  b\tc\n  \\x1b[31md\n50%\ne\\x07"


@pytest.mark.parametrize(
    "arguments", [["pause"], ["resume"], ["pause", "ok", "--all"], ["resume", "ok", "--all"], ["pause", "*"]]
)
def test_a_pause_is_for_one_handler_or_all(arguments, capsys):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert f"--all (see: python -m supervisor {arguments[0]} --help)" in line


def test_following_goes_with_no_attempt_and_no_json(capsys):
    assert main(["logs", "7", "--follow", "--json"]) == 2
    assert "--follow goes neither with --attempt nor with --json" in capsys.readouterr().err
