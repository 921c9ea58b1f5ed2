"""`python -m supervisor.reference [FOLDER]`: write all reference pages into FOLDER (docs/reference)."""

from __future__ import annotations

import sys
from pathlib import Path

from supervisor.reference import command_line, configuration, fleet_documents, job_document, log_events

PAGES = {
    "cli.md": command_line.reference,
    "configuration.md": configuration.reference,
    "fleet-documents.md": fleet_documents.reference,
    "job-document.md": job_document.reference,
    "log-events.md": log_events.reference,
}


def main() -> None:
    """Write the pages."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference")
    folder.mkdir(parents=True, exist_ok=True)
    for name, write in PAGES.items():
        (folder / name).write_text(write(), encoding="utf-8")


if __name__ == "__main__":
    main()
