"""`ner` with a spaCy pipeline: a tiny one, trained here on made-up sentences, for there is none to download."""

import itertools

import pytest

from handlers._ner import models
from handlers.ner import ner
from supervisor.errors import PermanentError
from supervisor.registry import REGISTRY
from tests.support.context import LocalLink, make_context

spacy = pytest.importorskip("spacy", reason="spaCy is optional: pip install spacy==3.8.18")

PEOPLE = ("Amelia Johansson", "David Okonkwo", "Maria Rossi", "John Miller", "Priya Nair")
PLACES = ("Berlin", "Rotterdam", "Munich", "Lisbon", "Oslo")
DATE = "14 March 2024"
TEXT = f"Amelia Johansson travelled to Rotterdam on {DATE} ."


@pytest.fixture(scope="session")
def pipeline_path(tmp_path_factory):
    """A saved pipeline that knows five people (as PER), five places (as GPE), and a date."""
    nlp = spacy.blank("en", meta={"name": "tiny", "version": "0.1.2"})
    recognizer = nlp.add_pipe("ner")
    for label in ("PER", "GPE", "DATE"):
        recognizer.add_label(label)
    examples = [_example(nlp, person, place) for person, place in itertools.product(PEOPLE, PLACES)]
    spacy.util.fix_random_seed(7)
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(12):
        for batch in spacy.util.minibatch(examples, size=4):
            nlp.update(batch, sgd=optimizer)
    path = tmp_path_factory.mktemp("pipelines") / "tiny"
    nlp.to_disk(path)
    return path


def _example(nlp, person, place):
    from spacy.training import Example  # noqa: PLC0415 - spaCy is optional

    text = f"{person} travelled to {place} on {DATE} ."
    spans = [(text.index(words), text.index(words) + len(words), label) for words, label in _marked(person, place)]
    return Example.from_dict(nlp.make_doc(text), {"entities": spans})


def _marked(person, place):
    return ((person, "PER"), (place, "GPE"), (DATE, "DATE"))


@pytest.fixture
def run(tmp_path):
    def call(payload, **settings):
        link = LocalLink(tmp_path)
        result = ner(REGISTRY.get("ner").parse_payload(payload), make_context(link, "ner", settings=settings))
        call.progress = link.progress
        return result

    return call


def found(result):
    return [(entity["label"], entity["text"], entity["source"]) for entity in result["entities"]]


EXPECTED = [
    ("PERSON", "Amelia Johansson", "model:en_tiny"),
    ("GPE", "Rotterdam", "model:en_tiny"),
    ("DATE", DATE, "rule:date"),
]


def test_auto_uses_the_configured_pipeline_and_names_it_as_it_names_itself(run, pipeline_path):
    result = run({"text": TEXT}, model=str(pipeline_path))
    assert found(result) == EXPECTED
    assert result["models"][-1] == {
        "kind": "spacy",
        "name": "en_tiny",
        "version": "0.1.2",
        "labels_supported": ["DATE", "GPE", "PERSON"],
    }
    assert result["warnings"] == []


def test_names_of_a_model_carry_no_score(run, pipeline_path):
    result = run({"text": TEXT}, model=str(pipeline_path))
    assert [entity["score"] for entity in result["entities"]] == [None, None, 1.0]
    assert [entity["validated"] for entity in result["entities"]] == [False, False, True]


def test_payload_may_name_a_path_under_a_root(run, pipeline_path):
    assert found(run({"text": TEXT, "model": str(pipeline_path)}, model_roots=[str(pipeline_path.parent)])) == EXPECTED


def test_payload_may_name_no_other_path(run, pipeline_path):
    outside = pipeline_path.parent / "elsewhere"
    for roots in ([], [str(outside)]):
        with pytest.raises(PermanentError, match="model_roots") as refused:
            run({"text": TEXT, "model": f"{outside}/../{pipeline_path.name}"}, model_roots=roots)
        assert refused.value.code == "model_missing"


def test_payload_may_name_an_installed_pipeline(run, pipeline_path, tmp_path, monkeypatch):
    package = tmp_path / "en_tiny"
    package.mkdir()
    loader = f"import spacy\n\ndef load(**options):\n    return spacy.load({str(pipeline_path)!r}, **options)\n"
    (package / "__init__.py").write_text(loader)
    metadata = tmp_path / "en_tiny-0.1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: en_tiny\nVersion: 0.1.2\n")
    (metadata / "entry_points.txt").write_text("[spacy_models]\nen_tiny = en_tiny\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert found(run({"text": TEXT, "model": "en_tiny"})) == EXPECTED


def test_rules_leave_the_configured_pipeline_out(run, pipeline_path):
    result = run({"text": TEXT, "model": "rules"}, model=str(pipeline_path))
    assert found(result) == EXPECTED[2:]
    assert result["warnings"][0].startswith("no_statistical_model")


def test_pipeline_is_loaded_once_per_process(pipeline_path):
    assert models.load(str(pipeline_path)) is models.load(str(pipeline_path))


def test_damaged_pipeline_is_refused_for_good(run, tmp_path):
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = en\n")
    with pytest.raises(PermanentError) as refused:
        run({"text": TEXT}, model=str(tmp_path))
    assert refused.value.code == "model_missing"


def test_pipeline_that_finds_no_entities_is_refused(run, tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    with pytest.raises(PermanentError, match="no component that finds entities"):
        run({"text": TEXT}, model=str(tmp_path / "blank"))


def test_long_texts_are_read_in_pieces_with_offsets_into_the_whole(run, pipeline_path, monkeypatch):
    monkeypatch.setattr(models, "PIECE_CHARS", 200)
    text = "\n".join([TEXT] * 20)
    result = run({"text": text}, model=str(pipeline_path))
    people = [entity for entity in result["entities"] if entity["label"] == "PERSON"]
    assert len(people) == 20
    assert all(text[entity["start"] : entity["end"]] == entity["text"] for entity in result["entities"])
    done = [report[0] for report in run.progress]
    assert done == sorted(done)
    assert run.progress[-1][0] == run.progress[-1][1]


@pytest.mark.parametrize("text", ["", "a" * 95, "ab " * 40, "line\n" * 30, "page\f" * 30, "\n" * 50])
def test_pieces_cover_the_text_and_end_at_lines_or_words_where_there_are_any(text):
    pieces = list(models.split(text, 20))
    assert "".join(text[start:end] for start, end in pieces) == text
    assert all(0 < end - start <= 20 for start, end in pieces)
    for _start, end in pieces[:-1]:
        assert text[end - 1] in " \n\f" or not set(text) & set(" \n\f")
