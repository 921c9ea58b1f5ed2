"""What an operator allows the `ocr` handler: the table `[handlers.ocr.settings]` of config.toml."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from supervisor import PermanentError, describe_validation_error


def _check_root(root: Path) -> Path:
    if not root.is_absolute():
        raise ValueError("a root must be an absolute path")
    return root


class OcrSettings(BaseModel):
    """Every limit of the handler; each is checked before the step that would cost.

    `roots` are the directories under which `source.path` may point: none by default. `max_pages` counts the pages
    that one job reads, `max_megapixels` bounds one page and every picture on it, `page_timeout_s` (seconds) bounds
    the recognition of one page, `min_dpi` is the lowest resolution at which a large PDF page is still read.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: list[Annotated[Path, AfterValidator(_check_root)]] = Field(default_factory=list)
    max_file_mb: Annotated[float, Field(gt=0, le=2048)] = 50
    max_pages: Annotated[int, Field(ge=1)] = 200
    max_megapixels: Annotated[float, Field(gt=0, le=1000)] = 40
    page_timeout_s: Annotated[float, Field(gt=0, le=86_400)] = 60
    min_dpi: Annotated[int, Field(ge=30, le=600)] = 70

    @property
    def max_bytes(self) -> int:
        """The largest file, in bytes."""
        return int(self.max_file_mb * 1_000_000)

    @property
    def max_pixels(self) -> int:
        """The largest page, in pixels."""
        return int(self.max_megapixels * 1_000_000)


def read_settings(table: Mapping[str, Any]) -> OcrSettings:
    """Validate the table; raises PermanentError `settings` that names the key: no retry mends a configuration."""
    try:
        return OcrSettings.model_validate(dict(table))
    except ValidationError as error:
        reason = describe_validation_error(error)
        raise PermanentError(f"[handlers.ocr.settings] of config.toml: {reason}", code="settings") from None
