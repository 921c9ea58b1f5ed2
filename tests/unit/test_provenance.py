"""Who set which key, as others are shown it."""

import pytest

from supervisor.config.loading import Overrides
from supervisor.config.provenance import HIDDEN, Origin, SetKey, origins_in_force, set_keys
from tests.support.config_files import SCHEDULE, load_text


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_key_that_is_not_at_its_default_is_shown_with_what_set_it():
    text = (
        '[mongo]\nuri = "mongodb://me:pw@a"\ndatabase = "supervisor"\n[lease]\nseconds = 45\n'
        f'[handlers.ocr]\nrate = "5/s"\n{SCHEDULE}cron = "0 3 * * *"'
    )
    environ = {"SUPERVISOR_LEASE__REAP_EVERY_S": "2.5", "SUPERVISOR_POOL__CLAIM": '["ocr"]'}
    loaded = load_text(text, environ, Overrides(workers=4))
    assert set_keys(loaded.settings, loaded.origins) == [
        SetKey("mongo.uri", "mongodb://me:***@a", Origin("file")),
        SetKey("pool.workers", 4, Origin("flag", "--workers")),
        SetKey("pool.claim", ["ocr"], Origin("environment", "SUPERVISOR_POOL__CLAIM")),
        SetKey("lease.seconds", 45, Origin("file")),
        SetKey("lease.reap_every_s", 2.5, Origin("environment", "SUPERVISOR_LEASE__REAP_EVERY_S")),
        SetKey("schedules", ["nightly"], Origin("file")),
        SetKey("handlers.ocr.rate", "5/s", Origin("file")),
    ]


def test_no_secret_is_shown():
    loaded = load_text('[http]\ntoken = "s3cret"\n[handlers.ocr.settings]\nkey = "s3cret"')
    assert [(each.key, each.value) for each in set_keys(loaded.settings, loaded.origins)] == [
        ("http.token", HIDDEN), ("handlers.ocr.settings", HIDDEN),
    ]  # fmt: skip
    assert "s3cret" not in repr(set_keys(loaded.settings, loaded.origins))


def test_what_waits_for_a_restart_keeps_what_set_it():
    old = {"mongo.database": Origin("file"), "pool.workers": Origin("flag", "--workers")}
    new = {"mongo.database": Origin(), "pool.workers": Origin("file"), "handlers.pool.rate": Origin("file")}
    assert origins_in_force(old, new) == {
        "mongo.database": Origin("file"), "pool.workers": Origin("file"), "handlers.pool.rate": Origin("file"),
    }  # fmt: skip
