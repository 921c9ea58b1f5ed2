"""`make chaos`: run, print the report, exit with 1 if anything is wrong."""

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.audit import audit
from tests.chaos.plan import Plan
from tests.chaos.recovery import recovery_times
from tests.chaos.report import headline, report
from tests.chaos.run import run


def main() -> int:
    """Parse the arguments and run; the folder with logs and ledger is kept where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1 is 10,000 jobs in about 12 minutes")
    parser.add_argument("--seed", type=int, help="of an earlier run, to have its random choices again")
    parser.add_argument("--folder", type=Path, help="for everything the run writes; a temporary one by default")
    given = parser.parse_args()
    plan = Plan(secrets.randbelow(10**9) if given.seed is None else given.seed, given.scale)
    print(headline(plan), flush=True)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    world, evidence = run(plan, folder)
    violations = audit(evidence)
    print(report(evidence, world.faults, recovery_times(world.faults, evidence.history), violations))
    if violations:
        print(f"           logs and ledger are in {folder}")
    elif given.folder is None:
        shutil.rmtree(folder)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
