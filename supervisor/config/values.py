"""The kinds of values that config.toml holds: numbers with their units and bounds, names, and tables of them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

# Upper bounds only keep absurd values out of timers, dates and array sizes.
YEAR_S = 31_536_000
CENTURY_DAYS = 36_500
MOST_KB = 16_000  # a MongoDB document holds 16 MB
MOST = 1_000_000_000

RESTART: JsonDict = {"restart": True}
"""Marks a key whose change waits for the next start."""

NO_CAP: JsonDict = {"unset": "no cap"}
"""What it means when a handler's table and its code are both silent."""

Seconds = Annotated[float, Field(gt=0, le=YEAR_S)]
SecondsOrZero = Annotated[float, Field(ge=0, le=YEAR_S)]
Days = Annotated[float, Field(ge=0, le=CENTURY_DAYS)]
Megabytes = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
CountFromOne = Annotated[int, Field(ge=1, le=MOST)]
Text = Annotated[str, Field(min_length=1)]
ModuleName = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]
# A TOML array arrives as a list, which a strict tuple would refuse; its items stay strict.
Modules = Annotated[tuple[ModuleName, ...], Field(strict=False)]
Names = Annotated[tuple[Text, ...], Field(strict=False)]


class Table(BaseModel):
    """A table of config.toml: frozen, strict, and closed to unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True, validate_default=True
    )
