"""What differs between two configurations, and what of it is live."""

import pytest

from supervisor.config.diff import diff, merge_live
from supervisor.config.fields import SECTIONS
from supervisor.config.settings import Settings
from tests.support.config_files import SCHEDULE, load_text


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_difference_says_whether_it_is_live():
    old = load_text('[pool]\nworkers = 2\n[handlers.ocr]\nmax_running = 1\n[mongo]\nuri = "mongodb://me:pw@a"').settings
    new = load_text(
        f'[pool]\nworkers = 4\nmodules = ["mine"]\nkill_grace_s = 3\n[handlers.ner]\ntimeout_s = 5\n'
        f'[mongo]\nuri = "mongodb://me:pw@b"\n{SCHEDULE}cron = "0 3 * * *"'
    ).settings
    assert [str(change) for change in diff(old, new)] == [
        "mongo.uri: *** -> *** (needs a restart)",
        "pool.workers: 2 -> 4",
        "pool.modules: ['handlers'] -> ['mine'] (needs a restart)",
        "pool.kill_grace_s: 2 -> 3",
        "handlers.ocr.max_running: 1 -> -",
        "schedules: [] -> ['nightly 0 3 * * *']",
        "handlers.ner.timeout_s: - -> 5",
    ]


def test_nothing_differs_from_itself():
    assert diff(Settings(), Settings()) == []


def test_what_needs_a_restart_is_exactly_what_the_contract_says():
    waiting = {
        f"{section}.{key}"
        for section, model in SECTIONS.items()
        for key, field in model.model_fields.items()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("restart")
    }
    whole = {f"{section}.{key}" for section in ("mongo", "http") for key in SECTIONS[section].model_fields}
    assert waiting == whole | {"pool.modules", "pool.threads_per_worker", "pool.load_timeout_s"}


def test_only_live_keys_are_taken_over():
    old = Settings()
    new = load_text(
        '[pool]\nworkers = 4\nmodules = ["mine"]\n[http]\nport = 1\n[lease]\nseconds = 40\n[handlers.a]\nrate = ""'
    ).settings
    merged = merge_live(old, new)
    assert [change.key for change in diff(old, merged)] == ["pool.workers", "lease.seconds", "handlers.a.rate"]
    assert [change.key for change in diff(merged, new)] == ["pool.modules", "http.port"]
