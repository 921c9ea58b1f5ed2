"""The last words of a coroutine's log, in memory: what a worker's output file is for a process."""

from __future__ import annotations


class Tail:
    """Keeps the last `kept` characters of a text that only grows. Offsets are into the whole of it.

    Its text is ASCII, as JSON is written here: a character is a byte.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._text = ""
        self._forgotten = 0

    def add(self, line: str) -> None:
        """Add a line."""
        self._text += f"{line}\n"
        if len(self._text) > 2 * self._kept + 1024:  # not at every line
            self._forgotten += len(self._text) - self._kept
            self._text = self.text()

    def text(self) -> str:
        """Return the end of it, `kept` characters at most."""
        return self._text[-self._kept :] if self._kept else ""

    def part(self, offset: int, limit: int) -> tuple[str, int]:
        """Return at most `limit` characters from `offset` on, and where to go on; below 0 counts from the end."""
        end = self._forgotten + len(self._text)
        start = min(max(self._forgotten, end + offset if offset < 0 else offset), end)
        found = self._text[start - self._forgotten :][:limit]
        return found, start + len(found)
