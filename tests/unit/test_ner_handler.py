"""The `ner` handler as a worker calls it: payload, result, warnings, refusals."""

import subprocess
import sys
from pathlib import Path

import pytest

from handlers.ner import ner, preload
from supervisor.errors import PayloadError, PermanentError
from supervisor.registry import REGISTRY
from tests.support.context import LocalLink, make_context

ROOT = Path(__file__).parents[2]
LETTER = "Ms. Amelia Johansson of Contoso GmbH, Berlin, paid EUR 38.50 on 14 March 2024."
PARENT = {
    "schema": "ocr/1",
    "text": "Due 14 March 2024\f\nVAT at 19%",
    "pages": [{"number": 3, "offset": 0, "length": 17}, {"number": 4, "offset": 19, "length": 10}],
}


@pytest.fixture
def run(tmp_path):
    """Validate a payload as a worker does, and run the handler on it."""

    def call(payload, *, parent=None, settings=None):
        link = LocalLink(tmp_path, parent)
        result = ner(REGISTRY.get("ner").parse_payload(payload), make_context(link, "ner", settings=settings))
        call.progress = link.progress
        return result

    return call


def labels(result):
    return [entity["label"] for entity in result["entities"]]


def test_result_has_the_documented_shape(run):
    result = run({"text": "paid EUR 38.50"})
    assert result.pop("seconds") >= 0
    (warning,) = result.pop("warnings")
    assert warning.startswith("no_statistical_model: ")
    assert result == {
        "schema": "ner/1",
        "models": [
            {
                "kind": "rules",
                "name": "handlers.ner",
                "version": "1",
                "labels_supported": ["EMAIL", "URL", "IBAN", "MONEY", "DATE", "TIME", "PERCENT", "PHONE", "ID"],
            }
        ],
        "entities": [
            {
                "label": "MONEY",
                "start": 5,
                "end": 14,
                "text": "EUR 38.50",
                "norm": {"amount": "38.50", "currency": "EUR"},
                "score": 1.0,
                "validated": True,
                "source": "rule:money",
                "page": None,
            }
        ],
        "counts": {"MONEY": 1},
    }


def test_offsets_count_code_points_not_bytes_or_utf16_units(run):
    text = "𝒜é😀 on 14 March 2024"
    (entity,) = run({"text": text})["entities"]
    assert text[entity["start"] : entity["end"]] == entity["text"] == "14 March 2024"


def test_parents_text_is_read_and_each_entity_knows_its_page(run):
    result = run({"parent_job_id": "job-0"}, parent=PARENT)
    assert [(entity["text"], entity["page"]) for entity in result["entities"]] == [("14 March 2024", 3), ("19%", 4)]


def test_parent_without_pages_gives_entities_without_page(run):
    (entity,) = run({"parent_job_id": "job-0"}, parent={"text": "VAT at 19%"})["entities"]
    assert entity["page"] is None


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "exactly one of text and parent_job_id"),
        ({"text": "a", "parent_job_id": 1}, "exactly one of text and parent_job_id"),
        ({"text": 5}, "text"),
        ({"text": "a", "modle": "rules"}, "modle"),
        ({"text": "a", "date_order": "YMD"}, "date_order"),
        ({"text": "a", "regions": ["de"]}, "regions"),
        ({"text": "a", "labels": []}, "labels"),
    ],
)
def test_wrong_payload_is_refused_with_the_field_named(payload, reason):
    with pytest.raises(PayloadError, match=reason):
        REGISTRY.get("ner").parse_payload(payload)


@pytest.mark.parametrize(
    ("payload", "parent", "settings", "code"),
    [
        ({"text": "abcdef"}, None, {"max_chars": 5}, "text_too_long"),
        ({"parent_job_id": 1}, None, {}, "not_found"),
        ({"parent_job_id": 1}, {"schema": "count/1", "words": 3}, {}, "parent_without_text"),
        ({"text": "a", "model": "xx_no_such_pipeline"}, None, {}, "model_missing"),
        ({"text": "a", "model": "os"}, None, {}, "model_missing"),  # a module, but no pipeline: never imported
        ({"text": "a", "model": "/no/such/path"}, None, {"model_roots": ["/no"]}, "model_missing"),
        ({"text": "a"}, None, {"model": "xx_no_such_pipeline"}, "model_missing"),
        ({"text": "a", "regions": ["UK"]}, None, {}, "unknown_region"),
        ({"text": "a"}, None, {"max_char": 5}, "settings"),
    ],
)
def test_what_cannot_succeed_fails_for_good_with_a_code(run, payload, parent, settings, code):
    with pytest.raises(PermanentError) as refused:
        run(payload, parent=parent, settings=settings)
    assert refused.value.code == code


def test_missing_model_says_how_to_get_one(run):
    with pytest.raises(PermanentError, match="pip install spacy"):
        run({"text": "a", "model": "xx_no_such_pipeline"})


def test_longest_allowed_text_is_read(run):
    assert labels(run({"text": "on 5 May"}, settings={"max_chars": 8})) == ["DATE"]


def test_names_are_not_looked_for_unless_asked_and_the_result_says_so(run):
    result = run({"text": LETTER})
    assert labels(result) == ["MONEY", "DATE"]
    assert any("no_statistical_model" in warning and "pip install" in warning for warning in result["warnings"])


def test_heuristics_guess_names_without_a_score(run):
    result = run({"text": LETTER, "heuristics": True})
    guesses = [entity for entity in result["entities"] if entity["source"].startswith("heuristic:")]
    assert [(entity["label"], entity["text"]) for entity in guesses] == [
        ("PERSON", "Amelia Johansson"),
        ("ORG", "Contoso GmbH"),
        ("GPE", "Berlin"),
    ]
    assert all(entity["score"] is None and not entity["validated"] for entity in guesses)
    assert [warning.split(":")[0] for warning in result["warnings"]] == ["heuristic_names"]
    assert [model["kind"] for model in result["models"]] == ["rules", "heuristics"]


def test_labels_choose_what_is_reported_not_what_wins(run):
    text = "write to 14-mar-2024@x.example"
    assert labels(run({"text": text})) == ["EMAIL"]
    only_dates = run({"text": text, "labels": ["DATE"]})
    assert only_dates["entities"] == []
    assert only_dates["warnings"] == []


def test_label_that_nothing_finds_is_named(run):
    warnings = run({"text": "a", "labels": ["DATE", "VEHICLE"]})["warnings"]
    assert "unsupported_label: nothing here finds VEHICLE" in warnings


def test_empty_text_is_a_warning(run):
    assert "empty_text: there was nothing to read" in run({"text": " \f\n"})["warnings"]


def test_regions_come_from_the_payload_or_else_the_settings(run):
    text = "Tel. 030 901820"
    settings = {"regions": ["DE"]}
    assert run({"text": text}, settings=settings)["entities"][0]["norm"]["e164"] == "+4930901820"
    assert run({"text": text, "regions": []}, settings=settings)["entities"][0]["norm"] is None


def test_date_order_reaches_the_rules(run):
    (entity,) = run({"text": "03/04/2024", "date_order": "DMY"})["entities"]
    assert entity["norm"] == {"date": "2024-04-03"}


def test_progress_ends_complete(run):
    run({"text": LETTER})
    done, total, _message = run.progress[-1]
    assert done == total == 9
    assert [report[0] for report in run.progress] == sorted(report[0] for report in run.progress)


def test_preload_prepares_and_is_registered_fork_safe():
    preload()
    assert [setup.fork_safe for setup in REGISTRY.setups if setup.module == "handlers.ner"] == [True]


def test_import_loads_nothing_heavy():
    heavy = "{'phonenumbers', 'dateparser', 'price_parser', 'spacy', 'handlers._ner.recipe'}"
    code = f"import sys, handlers.ner; print(sorted({heavy} & set(sys.modules)))"
    assert _python(code) == "[]"


@pytest.mark.parametrize("module", ["phonenumbers", "dateparser"])
def test_missing_extra_is_named_when_a_job_runs_and_stops_neither_import_nor_setup(module):
    code = f"""
import sys
sys.modules[{module!r}] = None  # what an import finds when the distribution is not installed
from pathlib import Path
from handlers.ner import ner, preload
from handlers._ner.payload import NerPayload
from supervisor import PermanentError
from tests.support.context import LocalLink, make_context
preload()
try:
    ner(NerPayload(text="19%"), make_context(LocalLink(Path("/nowhere")), "ner"))
except PermanentError as error:
    print(error.code, "mongo-job-supervisor[ner]" in str(error))
"""
    assert _python(code).splitlines()[-1] == "missing_extra True"


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
