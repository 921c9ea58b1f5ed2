"""What an `ocr` job may ask: the payload's model, with messages that name the field and never show a password."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, model_validator

_LANGUAGE = re.compile(r"[A-Za-z][A-Za-z0-9_]{1,31}")
_PAGE_RANGE = re.compile(r"(?P<first>[1-9]\d{0,8})(?P<dash>-(?P<last>[1-9]\d{0,8})?)?")
_NOT_LANGUAGES = frozenset({"osd", "equ"})
"""Data files that lie beside the languages; recognising text with one of them aborts the process."""


class _Hidden:
    """Stands for a value that must not appear in an error message."""

    def __repr__(self) -> str:
        return "a hidden value"


def _hide_unless_text(value: Any) -> Any:
    """A password of a wrong type is replaced before pydantic quotes it in its message."""
    return value if value is None or isinstance(value, str | SecretStr) else _Hidden()


def _check_language(language: str) -> str:
    if not _LANGUAGE.fullmatch(language) or language in _NOT_LANGUAGES:
        raise ValueError(f"{language!r} is not a language; use tesseract's names, such as eng, deu or chi_sim")
    return language


def _check_pages(pages: str) -> str:
    for part in pages.split(","):
        match = _PAGE_RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{part.strip()!r} is not a page or a range; write pages as 3, 1-10, 5- or 1,4-6")
        if match["last"] and int(match["last"]) < int(match["first"]):
            raise ValueError(f"the range {part.strip()!r} runs backwards")
    return pages


def _check_file_id(file_id: Any) -> Any:
    """An id is one value: an ObjectId, a string, a number; a document could be taken for a query."""
    if isinstance(file_id, bool | float | Mapping | list | tuple | set):
        raise ValueError(f"a stored file's id is one value, not a {type(file_id).__name__}")  # noqa: TRY004 - pydantic reports only ValueError
    return file_id


class Source(BaseModel):
    """Where the document is: exactly one of a stored file's id and a path under a configured root."""

    model_config = ConfigDict(extra="forbid")

    file_id: Annotated[Any, AfterValidator(_check_file_id)] = None
    path: Annotated[str, Field(min_length=1, max_length=4096)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "Source":
        if (self.file_id is None) == (self.path is None):
            raise ValueError("give exactly one of file_id and path")
        return self


class OcrPayload(BaseModel):
    """The payload of an `ocr` job.

    `pages` selects by number, from 1 (`"1-10"`, `"1,4-6"`, `"5-"`; all when missing); numbers past the end are left
    out. `dpi` is the resolution at which PDF pages are drawn. `mode`: `auto` takes a page's text layer where that
    is worth more than reading the picture, `force` always reads, `text_layer_only` never does. `password` opens an
    encrypted PDF. `words` asks for the box of every word, in a stored file.
    """

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    source: Source
    engine: Literal["auto", "tesserocr", "tesseract", "rapidocr"] = "auto"
    languages: Annotated[list[Annotated[str, AfterValidator(_check_language)]], Field(min_length=1, max_length=8)] = (
        Field(default_factory=lambda: ["eng"])
    )
    pages: Annotated[str, Field(max_length=1000), AfterValidator(_check_pages)] | None = None
    mode: Literal["auto", "force", "text_layer_only"] = "auto"
    dpi: Annotated[int, Field(ge=70, le=600)] = 300
    password: Annotated[SecretStr | None, BeforeValidator(_hide_unless_text)] = None
    words: bool = False

    @model_validator(mode="before")
    @classmethod
    def _hide_unknown(cls, data: Any) -> Any:
        """A misspelt `pasword` is refused like any unknown field, but its value is not quoted."""
        if not isinstance(data, Mapping):
            return data
        return {key: value if key in cls.model_fields else _Hidden() for key, value in data.items()}

    def select(self, pages_total: int) -> list[int]:
        """Return the page numbers asked for that a document of `pages_total` pages has, ascending, each once."""
        if self.pages is None:
            return list(range(1, pages_total + 1))
        return sorted({number for part in self.pages.split(",") for number in _numbers(part.strip(), pages_total)})


def _numbers(part: str, pages_total: int) -> Iterable[int]:
    match = _PAGE_RANGE.fullmatch(part)
    if match is None:  # the validator has let through only what matches
        raise AssertionError(part)
    first = int(match["first"])
    last = int(match["last"] or pages_total) if match["dash"] else first
    return range(first, min(last, pages_total) + 1)
