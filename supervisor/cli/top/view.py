"""Drawing: from sections and a state to the lines of a screen, none wider and not more than there is room for. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from supervisor.cli.top.rows import ALARM, Row, Section
from supervisor.cli.top.state import KEYS, Page, State, selected_index

LEAST_WIDTH, LEAST_HEIGHT = 60, 14
TOO_SMALL = f"top needs {LEAST_WIDTH} x {LEAST_HEIGHT} characters"
_GAP = "  "
_NARROWEST = 8
_FRAME = 3
"""Lines that are always there: the summary at the top, the message and the keys at the bottom."""


@dataclass(frozen=True)
class Bar:
    """The top line: what it is about, and the time of what is shown."""

    title: str
    clock: str = ""
    is_alarm: bool = False


def frame(bar: Bar, sections: Sequence[Section], state: State, size: tuple[int, int]) -> list[Text]:
    """Return the lines of the screen; `size` is its width and height."""
    width, height = size
    if width < LEAST_WIDTH or height < LEAST_HEIGHT:
        return [Text(TOO_SMALL[:width])]
    room = height - _FRAME
    body = _page(state.page, width, room) if state.page else _tables(sections, state, width, room)
    return [
        _bar(bar, width),
        *body,
        *[Text()] * (room - len(body)),
        Text(set_cell_size(state.message, width).rstrip(), "bold yellow"),
        Text(set_cell_size(KEYS, width).rstrip(), "dim"),
    ]


def _bar(bar: Bar, width: int) -> Text:
    room = width - cell_len(bar.clock) - len(_GAP)
    return Text(f"{set_cell_size(bar.title, room)}{_GAP}{bar.clock}", ALARM if bar.is_alarm else "bold")


def _page(page: Page, width: int, room: int) -> list[Text]:
    shown = page.lines[page.first : page.first + room - 2]
    more = len(page.lines) - page.first - len(shown)
    heading = f"{page.title}{f' ({more} more lines: arrow down)' if more else ''}   q closes"
    lines = [Text(set_cell_size(line, width).rstrip()) for line in shown]
    return [Text(), Text(set_cell_size(heading, width).rstrip(), "bold"), *lines]


def _tables(sections: Sequence[Section], state: State, width: int, room: int) -> list[Text]:
    rows = [row for section in sections for row in section.rows]
    starts = [0, *accumulate(len(section.rows) for section in sections)]
    selected = selected_index(state, rows)
    shares = share(room - 2 * len(sections), [max(1, len(section.rows)) for section in sections])
    lines: list[Text] = []
    for section, start, most in zip(sections, starts, shares, strict=False):
        lines += [Text(), *_table(section, selected - start, width, most)]
    return lines


def _table(section: Section, selected: int, width: int, most: int) -> Iterator[Text]:
    """Yield the heading and at most so many rows, among them the one that is selected (if it is in this table)."""
    number = len(section.rows)
    first = max(0, min(selected, number - 1) - most + 1) if 0 <= selected < number else 0
    rows = section.rows[first : first + most]
    shown = [index for index, column in enumerate(section.columns) if width >= column.from_width]
    titles = [column.title for column in section.columns]
    if len(rows) < number:
        titles[0] += f" {first + 1}-{first + len(rows)} of {number}"
    widths = _widths(section, shown, [titles, *(row.cells for row in rows)], width - len(_GAP))

    def line(cells: Sequence[str]) -> str:
        placed = (
            _place(cells[index], wide, right=section.columns[index].right)
            for index, wide in zip(shown, widths, strict=True)
        )
        return set_cell_size(_GAP.join(placed), width - len(_GAP))

    yield Text(f"{_GAP}{line(titles)}".rstrip(), "bold cyan")
    for position, row in enumerate(rows, first):
        yield _row(row, line(row.cells), is_selected=position == selected)
    if not rows:
        yield Text(set_cell_size(f"{_GAP}{section.empty}", width).rstrip(), "dim")


def _row(row: Row, line: str, *, is_selected: bool) -> Text:
    return Text(f"> {line}", f"reverse {row.style}") if is_selected else Text(f"{_GAP}{line}".rstrip(), row.style)


def _widths(section: Section, shown: Sequence[int], lines: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the widths of the columns shown; the flexible one gives way where they do not fit."""
    widths = [max(section.columns[index].least, *(cell_len(cells[index]) for cells in lines)) for index in shown]
    flexible = shown.index(section.flexible)
    others = sum(widths) - widths[flexible] + len(_GAP) * (len(widths) - 1)
    widths[flexible] = max(_NARROWEST, min(widths[flexible], width - others))
    return widths


def _place(cell: str, width: int, *, right: bool) -> str:
    if cell_len(cell) > width:
        return set_cell_size(cell, width - 1) + "…"
    return " " * (width - cell_len(cell)) + cell if right else set_cell_size(cell, width)


def share(room: int, wanted: Sequence[int]) -> list[int]:
    """Divide `room` lines: everybody gets what it wants, or an equal part of what the more modest leave."""
    shares = [0] * len(wanted)
    for _ in range(max(0, room)):
        poorest = min((index for index, want in enumerate(wanted) if shares[index] < want),
                      key=lambda index: shares[index], default=None)  # fmt: skip
        if poorest is None:
            break
        shares[poorest] += 1
    return shares
