"""Reads config.toml: the text with what the file system says about it, and the TOML in it.

Every fault is a ConfigError of one line that begins with the file's name.
"""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.errors import ConfigError

LARGEST_BYTES = 262_144
"""A configuration is a few kilobytes; more is the wrong file, and would hold up the event loop on a reload."""

_POSITION = re.compile(r"(?s)(.*) \(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(frozen=True)
class Identity:
    """What tells one state of a file from another; all zero when there is no file."""

    inode: int = 0
    device: int = 0
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0  # a chmod that makes the file safe again is a change too

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        return cls(status.st_ino, status.st_dev, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


MISSING = Identity()


@dataclass(frozen=True)
class ConfigText:
    """The content of one state of a file; `unsafe` says who else could have written it, or is empty."""

    text: str = ""
    identity: Identity = MISSING
    unsafe: str = ""


def identify(path: Path) -> Identity:
    """Look at the file behind `path`, through symlinks; one that cannot be looked at counts as missing."""
    try:
        return Identity.of(path.stat())
    except (OSError, ValueError):
        return MISSING


def read_text(path: Path) -> ConfigText:
    """Read the file; raises ConfigError when there is none, or nothing that is text."""
    try:
        status, content = _read_regular(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ConfigError(f"{path}: {_cannot_open(error)}") from None
    if content is None:
        raise ConfigError(f"{path}: is not a file but {_kind(status.st_mode)}")
    if len(content) > LARGEST_BYTES:
        raise ConfigError(f"{path}: is larger than {LARGEST_BYTES} bytes, which no configuration is")
    return ConfigText(_decode(path, content), Identity.of(status), unsafe_reason(status, os.geteuid()))


def _read_regular(path: Path) -> tuple[os.stat_result, bytes | None]:
    """Return the status and content of one and the same file; None for what is no regular file."""
    # Without O_NONBLOCK, opening a named pipe would wait for its writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return status, None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return status, file.read(LARGEST_BYTES + 1)
    finally:
        os.close(descriptor)


def unsafe_reason(status: os.stat_result, uid: int) -> str:
    """Say why a file may hold another user's words: writable by all, or owned by neither `uid` nor root."""
    if status.st_mode & stat.S_IWOTH:
        return f"is writable by everyone (mode {stat.S_IMODE(status.st_mode):04o})"
    if status.st_uid not in (0, uid):
        return f"is owned by user {status.st_uid}, who is neither root nor the user of this supervisor ({uid})"
    return ""


def parse_toml(path: Path, text: str) -> dict[str, Any]:
    """Parse TOML; raises ConfigError with the file, line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_error(path, text, str(error))) from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    except ValueError:  # an integer of thousands of digits; tomllib lets Python's own limit through
        raise ConfigError(f"{path}: has a number that is too long to read") from None


def _syntax_error(path: Path, text: str, message: str) -> str:
    found = _POSITION.fullmatch(message)
    reason = found[1] if found else message
    lines = text.split("\n")
    line, column = (found[2], found[3]) if found and found[2] else (len(lines), len(lines[-1]) + 1)
    return f"{path}, line {line}, column {column}: {reason.splitlines()[0]}"


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # editors on Windows put a byte order mark in front
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: is not UTF-8 (byte 0x{content[error.start]:02x})") from None


def _cannot_open(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be read: {reason}"


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
