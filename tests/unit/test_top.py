"""The live screen without a terminal: what is drawn of a look, at which size, and what each key does."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from supervisor.cli.top.look import Look
from supervisor.cli.top.rows import HANDLERS, SLOTS, SUPERVISORS, sections, summary
from supervisor.cli.top.state import HELP, KEYS, Action, Page, State, Verb, press, seen, selected_index
from supervisor.cli.top.terminal import keys_in
from supervisor.cli.top.view import LEAST_HEIGHT, LEAST_WIDTH, TOO_SMALL, Bar, frame, share
from supervisor.client.backlog import Backlog, to_backlogs
from supervisor.store.controls import Pause

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 3, 0, tzinfo=UTC)
JOB = ObjectId("65f2a1c0e4b0a1b2c3d4e5f6")


def ago(seconds):
    return NOW - timedelta(seconds=seconds)


def slot(number, handler=None, state=None, **fields):
    job_id = JOB if handler else None
    found = state or ("busy" if handler else "idle")
    return {"slot": number, "state": found, "job_id": job_id, "handler": handler, "since": ago(12), "rss_mb": 120.4,
            "cpu": 97.6 if handler else None, **fields}  # fmt: skip


def figures(handler="ocr", minutes=1, wait=(0.5, 2.0), run=(1.0, 4.0), **ended):
    spreads = {name: {"mean": mean, "max": most} for name, (mean, most) in (("wait_s", wait), ("run_s", run))}
    return {"handler": handler, "minutes": minutes, "ended": ended or {"completed": 60}, **spreads}


def supervisor(host="scan-1", *slots, **fields):
    return {"_id": f"{host}-1", "host": host, "pid": 7, "phase": "running", "workers": len(slots), "slots": list(slots),
            "heartbeat_age_s": 1.2, "started_at": ago(3600), "recent": [figures(), figures(minutes=5)],
            "machine": {"load_1m": 3.62, "cores": 4, "memory_available_mb": 20_480}, **fields}  # fmt: skip


LOOK = Look(
    NOW,
    [supervisor("scan-1", slot(0, "ocr"), slot(1)), supervisor("scan-2", slot(0, "ner"), heartbeat_age_s=190)],
    [Pause("ner", "why not")],
    {"ocr": Backlog("ocr", 132, 7, 1, 3, ago(45)), "ner": Backlog("ner", 2)},
    {str(JOB): {"_id": JOB, "attempt": 2, "progress": {"done": 3, "total": 17, "message": "page 3"}}},
)


def drawn(look=LOOK, state=State(), size=(100, 30)):  # noqa: B008 - a state is never changed
    return [line.plain for line in frame(Bar("title", "03:00:00"), sections(look), state, size)]


def rows(look=LOOK):
    return [row for section in sections(look) for row in section.rows]


def at(look, *key):
    """The state in which the row whose key begins like that is selected."""
    return State(selected=next(row.key for row in rows(look) if row.key[: len(key)] == key))


# what is shown


def test_the_screen_shows_supervisors_queue_and_slots():
    lines = [" ".join(line.split()) for line in drawn()]
    assert summary(LOOK) == "1 supervisor, 1 of 2 slots busy, 134 pending"
    for line in (
        "SUPERVISORS phase workers busy load mem free ended/min heartbeat",
        "> scan-1 running 2 1 3.6/4 20.0 GB 60 1.2s",
        "scan-2 gone? 1 1 3.6/4 20.0 GB 60 3m",
        "HANDLERS pending later running failed oldest per min bad wait/max run/max",
        "ner (paused) 2 0 0 0/0",
        "ocr 132 7 1 3 45s 60/12 500ms/2.0s 1.0s/4.0s",
        "SLOTS handler job try for cpu memory progress",
        f"slot 0 ocr {JOB} 2 12s 98% 120 MB 3/17 page 3",
        "slot 1 (idle) 12s 120 MB",
    ):
        assert line in lines, line
    assert lines[-1] == " ".join(KEYS.split())


def test_a_job_in_an_event_loop_has_a_row_of_its_own():
    loop = {"slot": -2, "state": "busy", "job_id": JOB, "handler": "crawl", "since": ago(3)}
    alone = Look(NOW, [supervisor("a", slot(0), coroutines=[loop])], jobs=LOOK.jobs)
    row = rows(alone)[-1]
    assert (row.cells[:5], row.handler) == (("loop 2", "crawl", str(JOB), "2", "3.0s"), "crawl")
    several = Look(NOW, [supervisor("a", slot(0), coroutines=[loop]), supervisor("b", slot(0))])
    assert [row.cells[0] for row in rows(several) if row.key[0] == "slot"] == ["a 0", "a loop 2", "b 0"]


def test_the_same_host_twice_is_told_apart_by_process_id():
    twice = Look(NOW, [supervisor("a", slot(0)), {**supervisor("a", slot(0)), "_id": "b", "pid": 8}])
    assert [row.cells[0] for row in rows(twice)] == ["a/7", "a/8", "ocr", "a/7 0", "a/8 0"]


def test_figures_of_several_supervisors_are_added_up():
    busy = figures(minutes=5, wait=(1.0, 2.0), completed=30, timeout=10)
    calm = figures(minutes=5, wait=(5.0, 9.0), completed=10, interrupted=10)
    look = Look(NOW, [supervisor("a", recent=[busy]), supervisor("b", recent=[calm])], backlogs={})
    (row,) = [row for row in rows(look) if row.key[0] == "handler"]
    assert row.cells[6:9] == ("0/12", "10", "2.3s/9.0s")


def test_the_rate_of_a_young_supervisor_is_over_its_life():
    look = Look(NOW, [supervisor("a", started_at=ago(120), recent=[figures(minutes=5, completed=60)])], backlogs={})
    assert [row.cells[6] for row in rows(look) if row.key[0] == "handler"] == ["0/30"]


def test_nothing_there_is_said():
    text = "\n".join(drawn(Look(NOW)))
    assert "none is running; to start one: python -m supervisor" in text
    assert "nothing waits, runs or has failed" in text
    assert summary(Look(NOW)) == "no supervisor, 0 of 0 slots busy, too many to count pending"


def test_backlogs_are_read_from_the_groups_of_the_database():
    groups = [
        {"_id": {"handler": "ocr", "status": "pending"}, "jobs": 5, "later": 2, "oldest": NOW},
        {"_id": {"handler": "ocr", "status": "failed"}, "jobs": 1, "later": 0, "oldest": None},
        {"_id": {"status": "processing"}, "jobs": 1, "later": 0, "oldest": None},
    ]
    assert to_backlogs(groups) == {"ocr": Backlog("ocr", 3, 2, 0, 1, NOW), "None": Backlog("None", running=1)}


MANY = Look(
    NOW,
    [supervisor(f"machine-{n}", *(slot(m, "a-handler-with-a-long-name") for m in range(16))) for n in range(9)],
    backlogs={f"handler-{n}": Backlog(f"handler-{n}", 10**n) for n in range(12)},
)


@pytest.mark.parametrize("look", [LOOK, MANY, Look(NOW)], ids=["usual", "many", "nothing"])
@pytest.mark.parametrize("size", [(LEAST_WIDTH, LEAST_HEIGHT), (80, 24), (100, 30), (101, 31), (240, 70)])
def test_no_line_is_wider_and_none_is_more_than_there_is_room_for(look, size):
    for state in (State(message="m" * 300), State(page=Page("t" * 300, ["x" * 300] * 90)), at(LOOK, "slot")):
        lines = drawn(look, state, size)
        assert len(lines) == size[1]
        assert max(map(cell_len, lines)) <= size[0]


def test_a_screen_that_has_become_too_small_says_so():
    assert drawn(size=(LEAST_WIDTH - 1, 30)) == [TOO_SMALL]
    assert drawn(size=(100, LEAST_HEIGHT - 1)) == [TOO_SMALL]


def test_what_is_selected_is_in_sight_and_the_heading_says_where_one_is():
    for row in rows(MANY):
        (line,) = [line for line in drawn(MANY, State(selected=row.key)) if line.startswith(">")]
        assert line.split()[1] == row.cells[0].split()[0]
    titles = [
        line for line in drawn(MANY, at(MANY, "slot", "machine-8-1", "slot 15")) if line.strip().startswith("SLOTS")
    ]
    assert "of 144" in titles[0]
    assert "-144 of 144" in titles[0]


@pytest.mark.parametrize(
    ("room", "wanted", "shares"),
    [(10, [1, 2, 3], [1, 2, 3]), (9, [1, 20, 30], [1, 4, 4]), (5, [9, 9, 9], [2, 2, 1]), (0, [1, 1], [0, 0])],
)
def test_lines_are_shared_fairly(room, wanted, shares):
    assert share(room, wanted) == shares


def test_control_sequences_of_others_are_not_drawn():
    look = Look(NOW, [supervisor("a\x1b[2J", slot(0, "x\x1b]0;y\x07"))], backlogs={"b\nc": Backlog("b\nc", 1)})
    assert not any(char < " " for line in drawn(look) for char in line)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just([]) | st.just({})
entry = st.dictionaries(
    st.sampled_from(["handler", "minutes", "ended", "wait_s", "run_s", "slot", "state", "job_id", "since", "cpu"]),
    anything | st.dictionaries(st.sampled_from(["mean", "max", "completed"]), anything),
)
odd_supervisor = st.fixed_dictionaries(
    {"_id": anything, "heartbeat_age_s": st.none() | st.floats(0, 20)},
    optional={
        **dict.fromkeys(("host", "pid", "phase", "workers", "drained", "started_at"), anything),
        **dict.fromkeys(("slots", "recent"), anything | st.lists(entry, max_size=3)),
        "machine": anything | st.dictionaries(st.sampled_from(["load_1m", "memory_available_mb"]), anything),
    },
)


@given(st.lists(odd_supervisor, max_size=3))
def test_heartbeats_that_somebody_else_has_written_are_drawn_too(supervisors):
    look = Look(NOW, supervisors, backlogs={})
    assert len(drawn(look)) == 30
    assert summary(look)


# what the keys do


def test_arrows_go_through_all_tables_and_stop_at_the_ends():
    state, keys = State(), []
    for _ in range(20):
        keys.append(rows()[selected_index(state, rows())].key)
        state, action = press(state, "down", rows())
        assert action is None
    assert list(dict.fromkeys(keys)) == [row.key for row in rows()]
    state, _ = press(state, "up", rows())
    assert state.selected == rows()[-2].key
    for _ in range(9):
        state, _ = press(state, "k", rows())
    assert state.selected == rows()[0].key


def test_tab_goes_from_table_to_table():
    state, tables = State(), []
    for _ in range(4):
        state, _ = press(state, "tab", rows())
        tables.append(state.selected[0])
    assert tables == ["handler", "slot", "supervisor", "handler"]


def test_the_selection_stays_with_its_row_when_others_come_and_go():
    state = at(LOOK, "handler", "ocr")
    more = Look(NOW, LOOK.supervisors, [], {**LOOK.backlogs, "a": Backlog("a", 1)})
    assert rows(more)[selected_index(state, rows(more))].handler == "ocr"
    assert selected_index(state, rows(Look(NOW))) == 0


def test_p_pauses_the_handler_of_the_row():
    assert press(at(LOOK, "handler", "ocr"), "p", rows())[1] == Action(Verb.PAUSE, "ocr")
    assert press(at(LOOK, "slot"), "p", rows())[1] == Action(Verb.PAUSE, "ocr")


def test_c_cancels_only_after_y():
    asking, action = press(at(LOOK, "slot"), "c", rows())
    assert (action, asking.message) == (None, f"cancel ocr {JOB}? y/n")
    state, action = press(asking, "n", rows())
    assert (action, state.asks, state.message) == (None, None, "nothing was cancelled")
    state, action = press(asking, "y", rows())
    assert (action.verb, action.job["_id"], state.asks) == (Verb.CANCEL, JOB, None)


def test_plus_and_minus_count_on_before_a_heartbeat_has_them():
    state, action = press(at(LOOK, "supervisor"), "+", rows())
    assert action == Action(Verb.RESIZE, host="scan-1", workers=3)
    state, action = press(state, "+", rows())
    assert action.workers == 4
    assert seen(state, rows()).wanted == {"scan-1": 4}
    grown = Look(NOW, [{**LOOK.supervisors[0], "workers": 4}])
    assert seen(state, rows(grown)).wanted == {}
    for _ in range(9):
        state, action = press(state, "-", rows())
    assert action.workers == 0


@pytest.mark.parametrize(
    ("where", "key", "message"),
    [
        (("supervisor",), "p", "select a handler, or a slot that runs a job"),
        (("handler",), "c", "select a slot that runs a job"),
        (("slot", "scan-1-1", "slot 1"), "s", "select a slot that runs a job"),
        (("handler",), "+", "select a supervisor or a slot"),
        (("handler",), "z", ""),
    ],
)
def test_a_key_that_means_nothing_here_says_what_to_select(where, key, message):
    state, action = press(at(LOOK, *where), key, rows())
    assert (state.message, action) == (message, None)


def test_without_rows_only_help_and_quitting_do_something():
    for key in ("p", "c", "s", "+", "down", "tab", "y"):
        assert press(State(), key, [])[1] is None
    assert press(State(), "?", [])[0].page == Page("Help", HELP)
    assert press(State(), "q", [])[0].is_over


def test_a_page_is_scrolled_and_closed():
    state = State(page=Page("Stack", [f"line {number}" for number in range(90)]))
    for key, first in (("down", 1), ("page down", 11), ("up", 10), ("page up", 0), ("up", 0), ("tab", 0), ("p", 0)):
        state, action = press(state, key, rows())
        assert (state.page.first, action) == (first, None)
    assert "(65 more lines: arrow down)" in drawn(state=state)[2]
    for key in ("q", "escape", "?", "enter"):
        closed = press(state, key, rows())[0]
        assert (closed.page, closed.is_over) == (None, False)


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"\x1b[A", ["up"]),
        (b"\x1bOB", ["down"]),
        (b"jk", ["j", "k"]),
        (b"\x1b[Bq", ["down", "q"]),
        (b"\x1b[5~\x1b[6~", ["page up", "page down"]),
        (b"\x1b[15~", ["\x1b[15~"]),
        (b"\x1b", ["escape"]),
        (b"\t\r", ["tab", "enter"]),
        ("é".encode(), ["é"]),
        (b"\xff", ["\ufffd"]),
        (b"", ["q"]),
    ],
)
def test_keys_are_told_apart(sent, keys):
    assert list(keys_in(sent)) == keys


def test_other_commands_do_not_pay_for_it():
    loaded = "import sys, supervisor.cli.main; print(*[name for name in sys.modules if 'cli.top' in name])"
    done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["supervisor.cli.top", "supervisor.cli.top.command"]


def test_the_guide_shows_the_screen_that_there_is():
    page = (ROOT / "docs" / "how-to" / "see-what-is-going-on.md").read_text(encoding="utf-8")
    (screen,) = [part for part in page.split("```") if "SUPERVISORS" in part]
    shown = [line.split() for line in screen.splitlines()]
    for columns in (SUPERVISORS, HANDLERS, SLOTS):
        assert " ".join(column.title for column in columns).split() in shown
    assert KEYS.split() in shown
