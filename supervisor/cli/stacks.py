"""Python stacks and tracebacks without what all jobs have in common: the calls that lead into a handler."""

from __future__ import annotations

import re

_OUR_CODE = re.compile(r"supervisor/(?:worker/main|coroutines/\w+)\.py")
_THREAD = re.compile(r"^(?:Current thread|Thread) 0x.*$", re.MULTILINE)


def of_the_handler(stack: str) -> str:
    """Return faulthandler's stacks of all threads, each down to our own code."""
    kept, ours = [], False
    for line in stack.splitlines():
        is_frame = line.startswith("  File ")
        ours = is_frame and (ours or bool(_OUR_CODE.search(line)))
        if not ours:
            kept.append(line)
    return "\n".join(kept)


def frames(stack: str) -> list[str]:
    """Return the frames of the thread that matters, the latest call first, down to our own code."""
    threads = list(_THREAD.finditer(stack))
    current = [match for match in threads if match[0].startswith("Current")] or threads
    text = stack[current[0].end() :] if current else stack
    text = text[: following.start()] if (following := _THREAD.search(text)) else text
    found = [line.strip() for line in text.splitlines() if line.lstrip().startswith("File ")]
    of_the_job = next((number for number, frame in enumerate(found) if _OUR_CODE.search(frame)), len(found))
    return found[:of_the_job] or found


def traceback_lines(traceback: str) -> list[str]:
    """Return the lines of a traceback, the latest call last, without those of our own code."""
    kept, ours = [], False
    for line in traceback.rstrip().splitlines():
        if not line.startswith("    "):  # else it is a line of the file that was named before
            ours = line.startswith("  File ") and bool(_OUR_CODE.search(line))
        if not ours:
            kept.append(line)
    return kept
