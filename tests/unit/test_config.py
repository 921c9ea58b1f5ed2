"""Loading the configuration: what is accepted, which source wins, what warns."""

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from supervisor.config.checks import Rate, parse_rate
from supervisor.config.fields import SECTIONS
from supervisor.config.loading import Overrides, load
from supervisor.config.provenance import Origin
from supervisor.config.settings import HttpSettings, LeaseSettings, Settings
from supervisor.errors import ConfigError
from supervisor.reference import configuration
from tests.support.config_files import SCHEDULE, load_text, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What is accepted, and which source wins


def test_without_a_file_everything_is_the_default():
    loaded = load(None, {}, Overrides())
    assert (loaded.settings, loaded.path, loaded.warnings) == (Settings(), None, [])
    assert set(loaded.origins.values()) == {Origin()}


def test_the_file_in_the_working_directory_is_found():
    path = write("[pool]\nworkers = 2")
    loaded = load(None, {}, Overrides())
    assert (loaded.path, loaded.settings.pool.workers) == (path, 2)


def test_an_empty_file_is_the_defaults():
    assert load_text("").settings == Settings()


def test_a_byte_order_mark_is_no_mistake():
    assert load(write(b"\xef\xbb\xbf[pool]\nworkers = 2"), {}, Overrides()).settings.pool.workers == 2


def test_flag_wins_over_environment_over_file_over_default():
    text = '[pool]\nworkers = 2\nclaim = ["a"]\nkill_grace_s = 9\n[mongo]\ndatabase = "mine"'
    environ = {"SUPERVISOR_POOL__WORKERS": "3", "SUPERVISOR_POOL__CLAIM": '["b", "c"]'}
    loaded = load_text(text, environ, Overrides(workers=4, mongo_uri="mongodb://db"))
    pool = loaded.settings.pool
    assert (pool.workers, pool.claim, pool.kill_grace_s) == (4, ("b", "c"), 9.0)
    assert (loaded.settings.mongo.uri, loaded.settings.mongo.database) == ("mongodb://db", "mine")
    assert {key: origin for key, origin in loaded.origins.items() if origin != Origin()} == {
        "mongo.uri": Origin("flag", "--mongo"),
        "mongo.database": Origin("file"),
        "pool.workers": Origin("flag", "--workers"),
        "pool.claim": Origin("environment", "SUPERVISOR_POOL__CLAIM"),
        "pool.kill_grace_s": Origin("file"),
    }


def test_the_environment_is_text_and_becomes_the_type_of_its_key():
    environ = {
        "SUPERVISOR_POOL__WORKERS": "auto",
        "SUPERVISOR_POOL__MAX_JOBS_PER_WORKER": "7",
        "SUPERVISOR_LEASE__SECONDS": "45.5",
        "SUPERVISOR_HTTP__ENABLED": "true",
        "SUPERVISOR_HTTP__TOKEN": "123",
        "SUPERVISOR_MONGO__DATABASE": "1",
        "SUPERVISOR_HANDLERS__OCR__RATE": "100/min",
        "SUPERVISOR_HANDLERS__OCR__TIMEOUT_S": "5",
        "SUPERVISOR_HANDLERS__OCR__SETTINGS": '{"roots": ["/a"], "mode": "fast"}',
        "SUPERVISOR_HANDLERS__OCR__SETTINGS__ROOTS": '["/b"]',
        "SUPERVISOR_HANDLERS__OCR__SETTINGS__DEEP__NAME": "plain words",
    }
    loaded = load_text("[handlers.ocr]\nmax_running = 4", environ)
    found, ocr = loaded.settings, loaded.settings.handler("ocr")
    assert (found.pool.workers, found.pool.max_jobs_per_worker, found.lease.seconds) == ("auto", 7, 45.5)
    assert (found.http.enabled, found.http.token.get_secret_value(), found.mongo.database) == (True, "123", "1")
    assert (ocr.rate, ocr.timeout_s, ocr.max_running) == ("100/min", 5.0, 4)
    assert ocr.settings == {"roots": ["/b"], "mode": "fast", "deep": {"name": "plain words"}}
    assert loaded.origins["handlers.ocr.settings"].kind == "environment"
    assert loaded.origins["handlers.ocr.max_running"].kind == "file"


def test_other_variables_are_somebody_elses():
    environ = {"SUPERVISOR_HOME": "/x", "SUPERVISOR_SERVICE_PORT": "1", "POOL__WORKERS": "9", "SUPERVISOR_POOL": "{}"}
    assert load_text("", environ).settings == Settings()


def test_a_value_is_judged_together_with_what_another_source_says():
    text = '[http]\nenabled = true\nhost = "0.0.0.0"'
    assert load_text(text, {"SUPERVISOR_HTTP__TOKEN": "s3cret"}).settings.http.host == "0.0.0.0"


def test_a_handler_without_a_table_has_nothing_set():
    assert Settings().handler("ocr").model_fields_set == set()


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValidationError, match="frozen"):
        Settings().pool.workers = 3


@pytest.mark.parametrize(
    "line",
    ["0 3 * * *", "*/5 0-6,22 1 jan-mar mon", "59 23 31 12 7", "0 0 1-15/2 * SUN", "5/10 * * * *"],
)
def test_cron_lines_that_are_fine(line):
    assert load_text(f'{SCHEDULE}cron = "{line}"').settings.schedules[0].cron == line


@pytest.mark.parametrize(
    ("text", "rate"),
    [("", None), ("5/s", Rate(5, 1)), ("100/min", Rate(100, 60)), ("7/hour", Rate(7, 3600))],
)
def test_rates(text, rate):
    assert parse_rate(text) == rate


# Warnings


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "[lease]\nseconds = 29.5",
            "[lease] seconds = 29.5: under 30, a pause of the database loses running jobs",
        ),
        ("[retry]\nbackoff_s = 10\nbackoff_max_s = 5", "[retry] backoff_max_s = 5 is less than backoff_s = 10"),
        (
            "[limits]\nlog_kb = 1000",
            (
                "[limits] a job could grow to 21280 KB (payload_kb + result_inline_kb + 20 attempts of log_kb); "
                "MongoDB stores at most 16 MB"
            ),
        ),
    ],
)
def test_what_is_allowed_and_unwise_warns(text, warning):
    assert load_text(text).warnings == [warning]


def test_a_file_that_everyone_may_write_warns():
    write("[lease]\nseconds = 60").chmod(0o666)
    assert load(None, {}, Overrides()).warnings == [
        "config.toml: is writable by everyone (mode 0666); edits will not be applied live"
    ]


# The files in the repository


def test_the_checked_in_file_is_the_defaults():
    loaded = load(ROOT / "config.toml", {}, Overrides())
    assert loaded.settings == Settings()
    assert [warning for warning in loaded.warnings if "applied live" not in warning] == []


def test_the_checked_in_file_mentions_every_key_with_its_default():
    text = (ROOT / "config.toml").read_text()
    given = tomllib.loads(text)
    missing = {
        f"{section}.{key}"
        for section, model in SECTIONS.items()
        for key in model.model_fields
        if key not in given[section]
    }
    examples = re.sub(r"(?m)^# (\[|\w+ = )", r"\1", text)
    table = tomllib.loads(examples)
    for key in Settings(handlers={"ocr": {}}).handlers["ocr"].model_fields_set | set(_keys("handlers")):
        missing |= set() if key in table["handlers"]["ocr"] else {f"handlers.ocr.{key}"}
    for key in _keys("schedules"):
        missing |= set() if key in table["schedules"][0] else {f"schedules.{key}"}
    assert missing == set()
    Settings.model_validate(table)  # the commented examples are valid too


def _keys(section: str) -> list[str]:
    model, _ = configuration._model_and_title(section)
    return list(model.model_fields)


# Whatever is written there


def test_models_refuse_what_the_file_refuses():
    with pytest.raises(ValidationError):
        LeaseSettings(seconds=1)
    with pytest.raises(ValidationError):
        HttpSettings(enabled=True, host="192.0.2.1")


UNCOMMENTED = re.sub(r"(?m)^# (\[|\w+ = )", r"\1", (ROOT / "config.toml").read_text())
PIECES = st.text(max_size=6) | st.sampled_from(
    ["nan", "-1", '""', "[]", "{}", "[", "]]", "inf", "1e999", "2024-01-01", "true", '"\\u0000"', "\n", "9" * 30]
)
EDITS = st.lists(st.tuples(st.integers(0, len(UNCOMMENTED)), st.integers(0, 40), PIECES), max_size=4)
KEYS = st.sampled_from([f"{table}__{key}".upper() for table in SECTIONS for key in SECTIONS[table].model_fields])
ODD_KEYS = st.sampled_from(["__", "X__", "HANDLERS__A__RATE"] + ["HANDLERS__A__SETTINGS" + "__B" * n for n in range(3)])
TEXTS = PIECES | st.sampled_from(['{"a": [1]}', "[" * 9999, "\udcff"])


def complaints(path: Path | None, environ: dict[str, str]) -> list[str]:
    """Return the lines of the ConfigError, if there is one; any other error comes out."""
    try:
        loaded = load(path, environ, Overrides())
    except ConfigError as error:
        return str(error).splitlines()
    assert Settings.model_validate(loaded.settings.model_dump()) == loaded.settings
    return []


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(EDITS)
def test_no_edit_raises_anything_but_a_config_error(edits):
    text = UNCOMMENTED
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    assert all(line.startswith("config.toml") for line in complaints(write(text), {})), "one line per problem"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS | ODD_KEYS, TEXTS, min_size=1, max_size=4))
def test_no_variable_raises_anything_but_a_config_error(variables):
    environ = {f"SUPERVISOR_{name}": text for name, text in variables.items()}
    assert all(line.startswith("SUPERVISOR_") for line in complaints(None, environ)), "one line per problem"
