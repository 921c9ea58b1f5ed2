"""A handler whose payload takes its time to be checked: until a file is there."""

import time
from pathlib import Path

from pydantic import BaseModel, field_validator

from supervisor import handler


class Slow(BaseModel):
    folder: str

    @field_validator("folder")
    @classmethod
    def wait(cls, folder: str) -> str:
        (Path(folder) / "begun").touch()
        while not (Path(folder) / "released").exists():
            time.sleep(0.01)
        return folder


@handler("checked_slowly")
def checked_slowly(payload: Slow) -> None:
    pass
