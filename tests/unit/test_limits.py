"""What applies to one handler: config.toml over its own code over the general defaults."""

import pytest

from supervisor.config.settings import Settings
from supervisor.core.retry import RetryPolicy
from supervisor.limits import COROUTINES_AT_ONCE, NO_CAP, claimed, limits_of, timeout_of, without_effect
from supervisor.registry import DEFAULT_TIMEOUT_S, HandlerSpec
from tests.support.jobs import job


def run(payload): ...


def spec(name="ocr", **own):
    return HandlerSpec(name=name, function=run, payload_type=dict, takes_context=False, module=__name__, **own)


def settings(**tables):
    return Settings.model_validate(tables)


@pytest.mark.parametrize(
    ("in_code", "in_file", "timeout_s"),
    [
        ({}, {}, DEFAULT_TIMEOUT_S),
        ({"timeout_s": 5.0}, {}, 5.0),
        ({}, {"timeout_s": 7}, 7.0),
        ({"timeout_s": 5.0}, {"timeout_s": 7}, 7.0),
        ({"timeout_s": 5.0}, {"max_attempts": 9}, 5.0),
    ],
)
def test_the_time_limit_of_the_file_wins_over_that_of_the_code(in_code, in_file, timeout_s):
    assert limits_of(spec(**in_code), settings(handlers={"ocr": in_file})).timeout_s == timeout_s


@pytest.mark.parametrize(
    ("in_code", "in_file", "general", "attempts"),
    [
        ({}, {}, {}, 3),
        ({}, {}, {"max_attempts": 8}, 8),
        ({"max_attempts": 5}, {}, {"max_attempts": 8}, 5),
        ({"max_attempts": 5}, {"max_attempts": 2}, {"max_attempts": 8}, 2),
        ({}, {"max_attempts": 2}, {"max_attempts": 8}, 2),
    ],
)
def test_attempts_go_from_the_file_to_the_code_to_the_general_table(in_code, in_file, general, attempts):
    found = limits_of(spec(**in_code), settings(handlers={"ocr": in_file}, retry=general))
    assert found.policy.max_attempts == attempts


@pytest.mark.parametrize(
    ("in_code", "in_file", "max_running"),
    [
        ({}, {}, NO_CAP),
        ({"max_running": 2}, {}, 2),
        ({}, {"max_running": 4}, 4),
        ({"max_running": 2}, {"max_running": 4}, 4),
        ({"max_running": 2}, {"max_running": 0}, NO_CAP),
    ],
)
def test_zero_in_the_file_lifts_the_cap_of_the_code(in_code, in_file, max_running):
    assert limits_of(spec(**in_code), settings(handlers={"ocr": in_file})).max_running == max_running


def test_the_retry_table_makes_the_policy():
    retry = {"max_attempts": 4, "max_crashes": 5, "backoff_s": 0.5, "backoff_max_s": 60}
    assert limits_of(spec(), settings(retry=retry)).policy == RetryPolicy(4, 5, 0.5, 60)


def test_the_tables_of_other_handlers_do_not_matter():
    other = {"ner": {"timeout_s": 1, "max_attempts": 1, "max_running": 1, "settings": {"a": 1}}}
    assert limits_of(spec(), settings(handlers=other)) == limits_of(spec(), settings())


def test_a_handler_gets_its_own_settings():
    tables = {"ocr": {"settings": {"roots": ["/data"]}}}
    assert limits_of(spec(), settings(handlers=tables)).settings == {"roots": ["/data"]}
    assert limits_of(spec("ner"), settings(handlers=tables)).settings == {}


@pytest.mark.parametrize(("own", "timeout_s"), [(None, 600.0), (0.5, 0.5), (30, 30.0), (10_000, 10_000.0)])
def test_the_time_limit_of_the_job_wins_over_all(own, timeout_s):
    found = timeout_of(job(timeout_s=own), limits_of(spec(), settings()))
    assert (found, type(found)) == (timeout_s, float)


@pytest.mark.parametrize(
    ("claim", "names"),
    [
        (["*"], ["ner", "ocr"]),
        (["ocr"], ["ocr"]),
        (["ocr", "ner"], ["ner", "ocr"]),
        (["ocr", "*"], ["ner", "ocr"]),
        (["other"], []),
        ([], []),
    ],
)
def test_a_machine_claims_what_it_is_told_to_of_what_it_has(claim, names):
    known = {"ocr": spec("ocr"), "ner": spec("ner")}
    assert sorted(each.name for each in claimed(known, settings(pool={"claim": claim}))) == names


def test_a_coroutine_handler_that_names_no_cap_has_one():
    ask = spec("ask", is_coroutine=True)
    assert limits_of(ask, settings()).max_running == COROUTINES_AT_ONCE
    assert limits_of(spec("ask", is_coroutine=True, max_running=7), settings()).max_running == 7
    assert limits_of(ask, settings(handlers={"ask": {"max_running": 0}})).max_running == NO_CAP


def test_a_memory_limit_on_a_coroutine_is_told_to_be_of_no_effect():
    known = {"ask": spec("ask", is_coroutine=True), "ocr": spec("ocr")}
    (line,) = without_effect(known, settings(handlers={name: {"memory_limit_mb": 9} for name in ("ask", "ocr", "x")}))
    assert line.startswith("[handlers.ask] memory_limit_mb: of no effect")
