"""`python -m supervisor`. Workers may import this module again, so it loads nothing by itself."""

import sys


def run() -> None:
    """Run the command line and leave with its exit code."""
    from supervisor.cli.main import main  # noqa: PLC0415 - see above

    sys.exit(main())


if __name__ == "__main__":
    run()
