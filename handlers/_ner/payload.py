"""What a `ner` job asks for, and what the operator sets."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from handlers._ner.spans import DateOrder

Region = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class NerPayload(BaseModel):
    """The text, or the job whose result holds it, and how to read it. Exactly one of `text` and `parent_job_id`.

    `model`       "auto", "rules" (none), the name of an installed spaCy pipeline, or the path of one
    `labels`      the labels to report; default: all
    `regions`     ISO 3166 codes of the countries whose national phone numbers occur; default: the operator's
    `date_order`  how 03/04/2024 is meant; default: unknown, and its `norm` stays null
    `heuristics`  also guess PERSON, ORG and GPE by titles, legal forms and a list of places
    """

    model_config = ConfigDict(extra="forbid")

    text: str | None = None
    parent_job_id: Any = None
    model: str = Field(default="auto", min_length=1, max_length=1024)
    labels: list[Label] | None = Field(default=None, min_length=1, max_length=100)
    regions: list[Region] | None = Field(default=None, max_length=20)
    date_order: DateOrder | None = None
    heuristics: bool = False

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        if (self.text is None) == (self.parent_job_id is None):
            raise ValueError("give exactly one of text and parent_job_id")
        return self


class NerSettings(BaseModel):
    """The table `[handlers.ner.settings]`.

    `max_chars`    longest text, in code points
    `model`        what "auto" means: a spaCy pipeline's name or path, or "rules"; default: en_core_web_sm if installed
    `model_roots`  directories from which a payload may name a pipeline by path; default: none
    `regions`      used by payloads that name none
    """

    model_config = ConfigDict(extra="forbid")

    max_chars: int = Field(default=2_000_000, ge=1)
    model: str | None = Field(default=None, min_length=1)
    model_roots: list[str] = []
    regions: list[Region] = []
