"""The exact words for what is refused, and that they show no secret."""

import os
from pathlib import Path

import pytest

from supervisor.config.checks import redact_uri
from supervisor.config.diff import diff
from supervisor.config.loading import Overrides, load
from supervisor.config.settings import Settings
from supervisor.errors import ConfigError
from tests.support.config_files import SCHEDULE, load_text, refusal

TABLES = (
    "[mongo], [pool], [lease], [shutdown], [retry], [retention], [limits], [handlers.NAME], [[schedules]], "
    "[http], [log]"
)
POOL_KEYS = (
    "The keys of [pool] are workers, modules, claim, threads_per_worker, pin, nice, spares, "
    "load_timeout_s, max_jobs_per_worker, max_growth_mb, memory_limit_mb, kill_grace_s"
)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# What is refused, in full


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[pool]\nworkers = "four"', '[pool] workers = "four": must be "auto" or an integer from 0 to 1024'),
        ('[pool]\nworkers = "4"', '[pool] workers = "4": must be "auto" or an integer from 0 to 1024'),
        ("[pool]\nworkers = -1", '[pool] workers = -1: must be "auto" or an integer from 0 to 1024'),
        ("[pool]\nworkers = 1025", '[pool] workers = 1025: must be "auto" or an integer from 0 to 1024'),
        ("[pool]\nworkers = true", '[pool] workers = true: must be "auto" or an integer from 0 to 1024'),
        ("[pool]\nworkers = 2.0", '[pool] workers = 2.0: must be "auto" or an integer from 0 to 1024'),
        ("[pool]\nworkers = {}", '[pool] workers = …: must be "auto" or an integer from 0 to 1024'),
        ('[pool]\nmodules = ["a-b"]', '[pool] modules = ["a-b"]: must be a list of module names'),
        ('[pool]\nmodules = "handlers"', '[pool] modules = "handlers": must be a list of module names'),
        ('[pool]\nclaim = ["a", 1]', '[pool] claim = ["a", 1]: must be a list of handler names'),
        ("[pool]\nkill_grace_s = 0", "[pool] kill_grace_s = 0: must be a number above 0, at most 31536000"),
        ("[pool]\nthreads_per_worker = 0", "[pool] threads_per_worker = 0: must be an integer from 1 to 1024"),
        ("[lease]\nseconds = 2.9", "[lease] seconds = 2.9: must be a number from 3 to 31536000"),
        ("[lease]\nreap_every_s = nan", "[lease] reap_every_s = NaN: must be a number above 0, at most 31536000"),
        ("[shutdown]\ndrain_s = -1", "[shutdown] drain_s = -1: must be a number from 0 to 31536000"),
        ("[retry]\nbackoff_max_s = inf", "[retry] backoff_max_s = Infinity: must be a number from 0 to 31536000"),
        ("[retry]\nmax_attempts = 0", "[retry] max_attempts = 0: must be an integer from 1 to 1000000000"),
        ("[retention]\nfailed_days = -1", "[retention] failed_days = -1: must be a number from 0 to 36500"),
        ("[limits]\npayload_kb = 0", "[limits] payload_kb = 0: must be an integer from 1 to 16000"),
        ("[mongo]\ngive_up_s = -1", "[mongo] give_up_s = -1: must be a number from 0 to 31536000"),
        (
            '[mongo]\ndatabase = "a b"',
            '[mongo] database = "a b": must be a database name: 1 to 63 characters without / \\ . " $ or spaces',
        ),
        (
            '[mongo]\ncollection = ""',
            '[mongo] collection = "": must be a collection name: 1 to 120 characters without $',
        ),
        (
            '[handlers.ocr]\nrate = "5/day"',
            '[handlers.ocr] rate = "5/day": must be "N/s", "N/min" or "N/hour" with N from 1, or "" for no cap',
        ),
        (
            '[handlers.ocr]\ntimeout_s = "5"',
            '[handlers.ocr] timeout_s = "5": must be a number above 0, at most 31536000',
        ),
        (
            "[handlers.ocr.settings]\na = [1, {b = nan}]",
            "[handlers.ocr] settings = …: must be a table of plain values, and a[1].b is nan, which is no number",
        ),
        ('[handlers.ocr]\nsettings = "x"', '[handlers.ocr] settings = "x": must be a table'),
        ("[handlers]\ntimeout_s = 5", "[handlers.timeout_s]: must be a table"),
        ("handlers = 5", "[handlers.NAME]: must be a table"),
        ("pool = 5", "[pool]: must be a table"),
        ("[schedules]\nname = 1", "[[schedules]]: must be an array of tables"),
        (
            f'{SCHEDULE}cron = "99 3 * * *"',
            (
                '[[schedules]] #1 ("nightly") cron = "99 3 * * *": must be a cron line, and its minute is "99": '
                "allowed are 0-59, *, lists, ranges and steps"
            ),
        ),
        (
            f'{SCHEDULE}cron = "@daily"',
            (
                '[[schedules]] #1 ("nightly") cron = "@daily": must be five fields: minute, hour, day of month, month, '
                "day of week"
            ),
        ),
        (
            SCHEDULE,
            '[[schedules]] #1 ("nightly") cron: is missing, must be a cron line of five fields, such as "0 3 * * *"',
        ),
        (
            f'{SCHEDULE}cron = "0 3 * * *"\ntimezone = "Mars"',
            '[[schedules]] #1 ("nightly") timezone = "Mars": must be a time zone such as "UTC" or "Europe/Berlin"',
        ),
        (
            f'{SCHEDULE}cron = "0 3 * * *"\npayload = {{day = 2024-01-01}}',
            (
                '[[schedules]] #1 ("nightly") payload = …: must be a table of plain values, and day is a date: '
                "write a date with a time, or a string"
            ),
        ),
        (
            f'{SCHEDULE}cron = "0 3 * * *"\npayload = {{day = 0001-01-01T00:00:00+14:00}}',
            (
                '[[schedules]] #1 ("nightly") payload = …: must be a table of plain values, and day is '
                "0001-01-01 00:00:00+14:00, which lies outside the years 1 to 9999 in UTC"
            ),
        ),
        (
            f'{SCHEDULE}cron = "0 0 30 2 *"',
            (
                '[[schedules]] #1 ("nightly") cron = "0 0 30 2 *": must be a cron line that comes due some day, '
                "and this one never does"
            ),
        ),
        (
            f'{SCHEDULE}cron = "0 3 * * *"\ncatch_up = "all"',
            '[[schedules]] #1 ("nightly") catch_up = "all": must be "skip" or "latest"',
        ),
        (f'{SCHEDULE}cron = "0 3 * * *"\n' * 2, '[[schedules]]: two schedules are named "nightly"'),
        (
            '[http]\nenabled = true\nhost = "0.0.0.0"',
            "[http]: token is required when host is not loopback (host is '0.0.0.0')",
        ),
        ('[http]\nhost = ""', '[http] host = "": must be a string that is not empty'),
        (
            '[http]\ntoken = "geheimn\u00e4chtig"',
            '[http] token = "***": must be a string of ASCII characters without spaces',
        ),
        ('[http]\ntoken = "two words"', '[http] token = "***": must be a string of ASCII characters without spaces'),
        ("[http]\nmax_upload_mb = 0", "[http] max_upload_mb = 0: must be an integer from 1 to 1000000000"),
        ("[http]\nport = 70000", "[http] port = 70000: must be an integer from 0 to 65535"),
        ('[http]\nenabled = "yes"', '[http] enabled = "yes": must be true or false'),
        ('[log]\nlevel = "INFO"', '[log] level = "INFO": must be "debug", "info", "warning" or "error"'),
        ("[pool]\nworkerz = 4", f"[pool] workerz: unknown key, did you mean workers? {POOL_KEYS}"),
        ("[pool]\nseconds = 4", f"[pool] seconds: unknown key, did you mean it in [lease]? {POOL_KEYS}"),
        ("[pool]\nzzz = 4", f"[pool] zzz: unknown key. {POOL_KEYS}"),
        ("[poll]\nworkers = 4", f"[poll]: unknown table, did you mean [pool]? The tables are {TABLES}"),
        ("workers = 4", f"[workers]: unknown table, did you mean workers in [pool]? The tables are {TABLES}"),
        (
            '[pool]\n"work\\ners\\u001b[2J" = 4',
            rf"[pool] work\ners\x1b[2J: unknown key, did you mean workers? {POOL_KEYS}",
        ),
        ("[zzz]", f"[zzz]: unknown table. The tables are {TABLES}"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(text, message):
    assert refusal(text) == f"config.toml: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[pool\n", "config.toml, line 1, column 6: Expected ']' at the end of a table declaration"),
        ("[pool]\nworkers =\n", "config.toml, line 2, column 10: Invalid value"),
        ("[pool]\nworkers = [1,", "config.toml, line 2, column 14: Invalid value"),
        ("a = " + "[" * 5000, "config.toml: is nested too deeply"),
        ("a = " + "9" * 5000, "config.toml: has a number that is too long to read"),
        ("#" * 262_145, "config.toml: is larger than 262144 bytes, which no configuration is"),
        (b"[pool]\n# caf\xe9\n", "config.toml, line 2: is not UTF-8 (byte 0xe9)"),
    ],
)
def test_a_file_that_is_no_toml_says_where(text, message):
    assert refusal(text) == message


def test_a_named_file_must_exist():
    with pytest.raises(ConfigError, match=r"^nowhere\.toml: there is no such file$"):
        load(Path("nowhere.toml"), {}, Overrides())


def test_a_directory_is_no_file():
    Path("config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^config\.toml: is not a file but a directory$"):
        load(None, {}, Overrides())


def test_a_named_pipe_is_refused_and_not_waited_for():
    os.mkfifo("config.toml")
    with pytest.raises(ConfigError, match=r"^config\.toml: is not a file but a named pipe$"):
        load(None, {}, Overrides())


def test_a_file_that_cannot_be_opened_says_why():
    Path("config.toml").symlink_to("config.toml")
    with pytest.raises(ConfigError, match=r"^config\.toml: cannot be read: Too many levels of symbolic links$"):
        load(Path("config.toml"), {}, Overrides())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("POOL__WORKERS", "x", '[pool] workers = "x": must be "auto" or an integer from 0 to 1024'),
        ("POOL__CLAIM", "ocr", '[pool] claim = "ocr": must be a list of handler names'),
        ("HTTP__ENABLED", "", '[http] enabled = "": must be true or false'),
        ("LEASE__SECONDS", "nan", "[lease] seconds = NaN: must be a number from 3 to 31536000"),
        ("POOL__WORKER", "1", f"[pool] worker: unknown key, did you mean workers? {POOL_KEYS}"),
        ("POLL__WORKERS", "1", f"[poll]: unknown table, did you mean [pool]? The tables are {TABLES}"),
        ("POOL__", "1", "names no key of [pool]"),
        ("HANDLERS__OCR", "{}", "names no key of [handlers.ocr]"),
        ("POOL__WORKERS__X", "1", "[pool] workers: holds one value and has no keys of its own"),
        ("SCHEDULES__0__CRON", "* * * * *", "[[schedules]] can be set in the file only"),
        ("HANDLERS__OCR__SETTINGS", "[1]", "[handlers.ocr] settings = [1]: must be a table"),
    ],
)
def test_a_wrong_variable_is_named(name, text, message):
    assert refusal("", {f"SUPERVISOR_{name}": text}) == f"SUPERVISOR_{name}: {message}"


def test_a_wrong_flag_is_named_and_not_the_variable_it_overrides():
    told = refusal("", {"SUPERVISOR_POOL__WORKERS": "3"}, Overrides(workers=-1))
    assert told == '--workers: [pool] workers = -1: must be "auto" or an integer from 0 to 1024'


def test_all_problems_are_told_at_once_each_on_its_line():
    told = refusal('[pool]\nworkers = "x"\n[lease]\nseconds = 1', {"SUPERVISOR_A__B": "1"})
    assert told.splitlines() == [
        'config.toml: [pool] workers = "x": must be "auto" or an integer from 0 to 1024',
        "config.toml: [lease] seconds = 1: must be a number from 3 to 31536000",
        f"SUPERVISOR_A__B: [a]: unknown table. The tables are {TABLES}",
    ]


def test_a_long_value_is_shortened():
    told = refusal(f'[log]\nlevel = "{"x" * 200}"')
    assert told == f'config.toml: [log] level = "{"x" * 78}…: must be "debug", "info", "warning" or "error"'


# Secrets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[mongo]\nuri = "postgres://me:hunter2@db"',
            (
                '[mongo] uri = "***": must be "embedded", or a connection string that begins with mongodb:// or '
                "mongodb+srv://"
            ),
        ),
        ('[http]\ntoken = ["hunter2"]', '[http] token = "***": must be a string of ASCII characters without spaces'),
        ('mongo = "mongodb://me:hunter2@db"', "[mongo]: must be a table"),
    ],
)
def test_a_refused_secret_is_not_shown(text, message):
    assert refusal(text) == f"config.toml: {message}"


def test_no_representation_shows_a_secret():
    text = '[mongo]\nuri = "mongodb://me:hunter2@db"\n[http]\ntoken = "hunter2"\n[handlers.x.settings]\nkey = "hunter2"'
    loaded = load_text(text)
    sections = loaded.settings.mongo, loaded.settings.http
    assert "hunter2" not in f"{sections!r} {sections!s}"
    assert loaded.settings.mongo.redacted_uri == "mongodb://me:***@db"
    changes = diff(Settings(), loaded.settings)
    assert len(changes) == 3
    assert "hunter2" not in " ".join(f"{change} {change!r}" for change in changes)


@pytest.mark.parametrize(
    ("uri", "redacted"),
    [
        ("embedded", "embedded"),
        ("mongodb://db:27017/?replicaSet=rs0", "mongodb://db:27017/?replicaSet=rs0"),
        ("mongodb://me:p@ss/w:rd@db/x", "mongodb://me:***@db/x"),
        ("mongodb+srv://me:pw@db", "mongodb+srv://me:***@db"),
        ("mongodb://db/?tlsCertificateKeyFilePassword=pw&w=1", "mongodb://db/?tlsCertificateKeyFilePassword=***&w=1"),
    ],
)
def test_the_password_is_cut_out_of_a_uri(uri, redacted):
    assert redact_uri(uri) == redacted
