"""Measure us beside the raw limits of this machine, and print one table: medians and spread of figures and ratios.

    python -m bench                                 all of it
    python -m bench --quick                         a short run, to see that nothing has become absurd
    python -m bench --only noop,pick_up --rounds 3
    python -m bench --before v0.1.0                 another revision of the supervisor as one more contender
    python -m bench --json bench/results/latest.json

Every contender of a bench runs in turn in the same run, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pymongo.errors import PyMongoError

from bench import machine, report, systems
from bench.measuring import Bench, BenchError, Surroundings, checked_out
from bench.peers.running import NAMES as PEERS
from supervisor.errors import SupervisorError

NAMES = (
    *("noop", "cpu20", "long_tail", "ocr", "pick_up", "enqueue", "idle", "endurance"),
    *("memory", "recovery", "claim_cost", "fleet"),
)


def main() -> None:
    """Parse, measure, print, keep."""
    benches = {name: importlib.import_module(f"bench.{name}").BENCH for name in NAMES}
    asked = _parser(benches).parse_args()
    chosen = [
        benches[name] for name in asked.only or benches if asked.only or benches[name].in_quick or not asked.quick
    ]
    with systems.database() as (uri, folder):
        found: report.Document = {"machine": machine.describe(uri), "benches": {}}
        before = checked_out(asked.before, folder) if asked.before else None
        for bench in chosen:
            place = folder / bench.name
            place.mkdir()
            surroundings = Surroundings(uri, place, quick=asked.quick, peers=asked.peers or (), before=before)
            found["benches"][bench.name] = _measured(bench, surroundings, asked.rounds, asked.note)
            if asked.json:
                _keep(asked.json, found)  # at once: a later bench may fail, or somebody have no more time
    print(report.table(found["benches"]))


def _keep(path: Path, found: report.Document) -> None:
    """Write the values down; those of benches that did not run stay as they were kept before."""
    kept = _read(path)["benches"] if path.exists() else {}
    both = {**kept, **found["benches"]}
    ordered = {name: both[name] for name in NAMES if name in both}
    path.write_text(json.dumps({**found, "benches": ordered}, indent=1) + "\n")


def _measured(bench: Bench, surroundings: Surroundings, rounds: int | None, note: str) -> report.Document:
    rounds = rounds or (bench.quick_rounds if surroundings.quick else bench.rounds)
    print(f"{bench.name}: {bench.about}, {rounds} rounds …", file=sys.stderr, flush=True)
    load = machine.load_average()
    figures = bench.measure(surroundings, rounds)
    circumstances = {
        "date": machine.today(),
        "revision": machine.revision(),
        "quick": surroundings.quick,
        "load_average": [load, machine.load_average()],
        "note": note,
    }
    return {**report.document(bench, figures, surroundings.peers), **circumstances}


def some_of(allowed: Sequence[str]) -> Callable[[str], list[str]]:
    """Return what reads names separated by commas, and refuses others."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in allowed]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)} (there are: {', '.join(allowed)})")
        return names

    return parse


def positive(text: str) -> int:
    """Read a number of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of at least 1")
    return int(text)


def file_to_keep(text: str) -> Path:
    """Read a path that can be written later: a run takes minutes, and its end is too late to find out."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {path.parent}")
    if path.exists() and "benches" not in _read(path):
        raise argparse.ArgumentTypeError(f"{text} is there, and holds no results of this program")
    return path


def _read(path: Path) -> report.Document:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        return {}


def _parser(benches: dict[str, Bench]) -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<14}{bench.about}" for name, bench in benches.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"{__doc__}\nbenches:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=some_of(NAMES), metavar="NAMES", help="only these, separated by commas")
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds of each; without it, what each needs")
    parser.add_argument("--quick", action="store_true", help="fewer jobs and rounds")
    parser.add_argument("--before", metavar="REVISION", help="measure this revision of the supervisor as well")

    parser.add_argument("--peers", type=some_of(PEERS), metavar="NAMES", help=f"other systems too: {', '.join(PEERS)}")
    parser.add_argument("--note", default="", metavar="TEXT", help="what belongs beside the figures; kept with them")
    parser.add_argument("--json", type=file_to_keep, metavar="PATH", help="keep all values here")
    return parser


if __name__ == "__main__":
    # so that what was started is ended, as after Ctrl-C: a supervisor would go on for ever
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (BenchError, PyMongoError, SupervisorError) as error:
        sys.exit(f"error: {str(error)[:500]}")
