"""One entity per character: when candidates overlap, the more certain kind wins."""

from __future__ import annotations

from collections.abc import Iterable

from handlers._ner.spans import RULE_LABELS, Span

_RANK = {label: rank for rank, label in enumerate(RULE_LABELS)}
_MODEL_RANK = len(_RANK)
_HEURISTIC_RANK = _MODEL_RANK + 1


def merge(candidates: Iterable[Span], length: int) -> list[Span]:
    """Return the winners among `candidates` for a text of `length` code points, in order of their start.

    The order of winning is that of RULE_LABELS, then a model's entities, then heuristics; within a kind the longer
    span, then the earlier. A loser is dropped whole: half an entity is a wrong entity.
    """
    taken = bytearray(length)
    winners = []
    for span in sorted(candidates, key=_preference):
        if span.end > span.start and taken.find(1, span.start, span.end) < 0:
            taken[span.start : span.end] = b"\x01" * (span.end - span.start)
            winners.append(span)
    return sorted(winners, key=lambda span: span.start)


def _preference(span: Span) -> tuple[int, int, int]:
    if span.source.startswith("rule:"):
        rank = _RANK[span.label]
    else:
        rank = _HEURISTIC_RANK if span.source.startswith("heuristic:") else _MODEL_RANK
    return rank, span.start - span.end, span.start
