"""The audit: what must hold after a run, asked of witnesses outside of the program; it believes none of its counters.

Every check takes the evidence and returns one line per violation. None of them looks at how the run went.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.handlers import STEPS
from tests.chaos.history import Change
from tests.chaos.kinds import FOLLOWER, Document, Kind
from tests.chaos.ledger import Entry

ENDED = ("completed", "failed", "cancelled")


@dataclass
class Evidence:
    """All that is known after a run. Jobs are named by their id as a string."""

    ordered: dict[str, Kind]
    """What the producer was told is stored."""
    documents: dict[str, Document]
    history: list[Change]
    ledger: list[Entry]
    effects: dict[str, int]
    files: dict[Any, int] = field(default_factory=dict)
    """The length of each stored file by its id."""
    processes: list[str] = field(default_factory=list)
    """What was still running after the last supervisor had ended."""
    troubles: list[str] = field(default_factory=list)

    def kind(self, job: str) -> Kind:
        """Return the kind of a job; what nobody ordered was enqueued for another."""
        return self.ordered.get(job, FOLLOWER)


def audit(evidence: Evidence) -> list[str]:
    """Return everything that is wrong, in words."""
    return [violation for check in CHECKS for violation in check(evidence)]


def jobs_are_there(evidence: Evidence) -> Iterable[str]:
    for job in evidence.ordered.keys() - evidence.documents.keys():
        yield f"{job} is lost: its insert was acknowledged and there is no such document"
    known = evidence.ordered.keys() | {str(child) for each in evidence.documents.values() for child in _children(each)}
    for job in evidence.documents.keys() - known:
        yield f"{job} is nobody's: neither ordered nor a follower of an ordered job"


def jobs_have_ended(evidence: Evidence) -> Iterable[str]:
    for job, document in evidence.documents.items():
        if document["status"] not in ENDED:
            yield f"{job} ({evidence.kind(job).name}) is left {document['status']}"


def histories_are_whole(evidence: Evidence) -> Iterable[str]:
    """The oplog forgets its oldest entries when it is full; an audit of half a history proves nothing."""
    inserted = {change.job for change in evidence.history if change.inserted}
    for job in evidence.documents.keys() - inserted:
        yield f"{job} has no insert in the oplog, which is too small for this run"


def each_job_ended_once(evidence: Evidence) -> Iterable[str]:
    ends = Counter(change.job for change in evidence.history if change.status in ENDED)
    for job, document in evidence.documents.items():
        if document["status"] in ENDED and ends[job] != 1:
            yield f"{job} ({evidence.kind(job).name}) ended {ends[job]} times"


def nothing_changes_after_the_end(evidence: Evidence) -> Iterable[str]:
    ended: dict[str, str] = {}
    for change in evidence.history:
        if change.job in ended:
            yield f"{change.job} was {ended[change.job]} and then changed (to {change.status or 'the same status'})"
        if change.status in ENDED:
            ended[change.job] = str(change.status)


def tokens_only_grow(evidence: Evidence) -> Iterable[str]:
    latest: dict[str, int] = {}
    for change in evidence.history:
        if change.claim and change.claim.token <= latest.get(change.job, 0):
            yield f"{change.job} was claimed with token {change.claim.token} after {latest[change.job]}"
        if change.claim:
            latest[change.job] = change.claim.token


def only_the_holder_writes_the_end(evidence: Evidence) -> Iterable[str]:
    holders: dict[str, int] = {}
    for change in evidence.history:
        if change.claim:
            holders[change.job] = change.claim.token
        holder = holders.get(change.job)
        if change.ended_token is not None and change.ended_token != holder:
            yield f"{change.job}: token {change.ended_token} wrote an end while {holder} held the lease"


def no_token_starts_twice(evidence: Evidence) -> Iterable[str]:
    starts = Counter((entry.job, entry.token) for entry in evidence.ledger if entry.event == "start")
    for (job, token), count in starts.items():
        if count > 1:
            yield f"{job} was started {count} times with token {token}"


def only_claims_start(evidence: Evidence) -> Iterable[str]:
    claims = {(change.job, change.claim.token) for change in evidence.history if change.claim}
    for entry in evidence.ledger:
        if entry.event == "start" and (entry.job, entry.token) not in claims:
            yield f"{entry.job} was started with token {entry.token}, which no claim in the oplog has"


def effects_are_those_of_the_completion(evidence: Evidence) -> Iterable[str]:
    ends = {(entry.job, entry.token) for entry in evidence.ledger if entry.event == "end"}
    for job, document in evidence.documents.items():
        if document["status"] != "completed":
            continue
        token = document["attempts"][-1]["token"]
        if evidence.effects.get(job) != token:
            yield f"{job} was completed by token {token}, and its effect is of {evidence.effects.get(job)}"
        if (job, token) not in ends:
            yield f"{job} was completed by token {token}, which never came to its end"


def results_are_those_of_the_completion(evidence: Evidence) -> Iterable[str]:
    for job, document in evidence.documents.items():
        if document["status"] == "completed" and evidence.kind(job).name != "large":
            expected = {"job": job, "token": document["attempts"][-1]["token"]}
            if document.get("result") != expected:
                yield f"{job} has the result {document.get('result')!r:.200}, not {expected}"


def large_results_are_stored_whole(evidence: Evidence) -> Iterable[str]:
    for job, document in evidence.documents.items():
        if document["status"] == "completed" and evidence.kind(job).name == "large":
            length = evidence.files.get(document.get("result_file"), 0)
            if length <= document["payload"]["bytes"]:
                yield f"{job} has a result file of {length} bytes for {document['payload']['bytes']}"


def progress_is_the_last_report(evidence: Evidence) -> Iterable[str]:
    for job, document in evidence.documents.items():
        if document["status"] == "completed" and evidence.kind(job).name == "progress":
            done = (document.get("progress") or {}).get("done")
            if done != STEPS:
                yield f"{job} completed with progress {done} of {STEPS}"


def endings_are_allowed(evidence: Evidence) -> Iterable[str]:
    for job, document in evidence.documents.items():
        kind, ending = evidence.kind(job), _ending(document)
        if document["status"] in ENDED and ending not in kind.ends:
            reason = (document.get("error") or {}).get("message")
            yield f"{job} ({kind.name}) ended as {ending}, allowed is {sorted(kind.ends)}: {reason}"


def what_must_not_run_never_started(evidence: Evidence) -> Iterable[str]:
    for entry in evidence.ledger:
        if entry.event == "start" and not evidence.kind(entry.job).runs:
            yield f"{entry.job} ({evidence.kind(entry.job).name}) was started"


def followers_are_enqueued_once(evidence: Evidence) -> Iterable[str]:
    made: dict[str, set[str]] = {}
    for job, document in evidence.documents.items():
        payload = document.get("payload")
        if isinstance(payload, dict) and "parent_job_id" in payload:
            made.setdefault(str(payload["parent_job_id"]), set()).add(job)
    for job, document in evidence.documents.items():
        wanted = len(document["then"]) if document["status"] == "completed" and "then" in document else 0
        children = {str(child) for child in _children(document)}
        if len(children) != wanted or made.get(job, set()) != children:
            yield f"{job} names {len(children)} followers of {wanted}, and {len(made.get(job, ()))} exist"


def nothing_is_left_running(evidence: Evidence) -> Iterable[str]:
    for process in evidence.processes:
        yield f"left running: {process}"


def nothing_else_went_wrong(evidence: Evidence) -> Iterable[str]:
    yield from evidence.troubles


CHECKS: list[Callable[[Evidence], Iterable[str]]] = [
    jobs_are_there,
    jobs_have_ended,
    histories_are_whole,
    each_job_ended_once,
    nothing_changes_after_the_end,
    tokens_only_grow,
    only_the_holder_writes_the_end,
    no_token_starts_twice,
    only_claims_start,
    effects_are_those_of_the_completion,
    results_are_those_of_the_completion,
    large_results_are_stored_whole,
    progress_is_the_last_report,
    endings_are_allowed,
    what_must_not_run_never_started,
    followers_are_enqueued_once,
    nothing_is_left_running,
    nothing_else_went_wrong,
]


def _children(document: Document) -> list[Any]:
    return document.get("children") or []


def _ending(document: Document) -> str:
    return "completed" if document["status"] == "completed" else (document.get("error") or {}).get("kind", "nothing")
