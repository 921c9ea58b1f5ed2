"""What a run prints."""

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.audit import Evidence
from tests.chaos.plan import Plan
from tests.chaos.world import Fault

MOST_VIOLATIONS = 50


def headline(plan: Plan) -> str:
    """Return what is said first, so that a run can be repeated whatever becomes of it."""
    return f"chaos: seed {plan.seed}, scale {plan.scale:g}: {plan.jobs} jobs, faults over {plan.seconds:.0f} s"


def report(
    evidence: Evidence, faults: Sequence[Fault], times: Mapping[str, Sequence[float]], violations: Sequence[str]
) -> str:
    """Return the whole report."""
    return "\n".join([*_jobs(evidence), *_faults(faults), *_times(times), *_verdict(evidence, violations)])


def _jobs(evidence: Evidence) -> Iterator[str]:
    kinds = Counter(evidence.kind(job).name for job in evidence.documents)
    starts = sum(entry.event == "start" for entry in evidence.ledger)
    refused = sum(entry.event == "refused" for entry in evidence.ledger)
    claims = sum(change.claim is not None for change in evidence.history)
    statuses = Counter(document["status"] for document in evidence.documents.values())
    yield f"jobs       {len(evidence.documents)}: " + _counts(kinds)
    yield f"ended      {_counts(statuses)}"
    yield f"attempts   {claims} claims, {starts} starts, {refused} stale effects refused by the outside store"


def _faults(faults: Sequence[Fault]) -> Iterator[str]:
    counts = Counter(f"{fault.kind} ({fault.how})" if fault.how else fault.kind for fault in faults)
    yield f"faults     {_counts(counts)}"


def _times(times: Mapping[str, Sequence[float]]) -> Iterator[str]:
    for what, seconds in times.items():
        if seconds:
            median, worst = statistics.median(seconds), max(seconds)
            yield f"recovery   {what}: median {median:.2f} s, worst {worst:.2f} s ({len(seconds)} measured)"


def _verdict(evidence: Evidence, violations: Sequence[str]) -> Iterator[str]:
    for violation in violations[:MOST_VIOLATIONS]:
        yield f"VIOLATION  {violation}"
    if len(violations) > MOST_VIOLATIONS:
        yield f"           and {len(violations) - MOST_VIOLATIONS} more"
    if violations:
        yield f"FAILED     {len(violations)} violations"
    else:
        yield "passed     0 lost, 0 ended twice, 0 left processing, 0 left running"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda each: -each[1]))
