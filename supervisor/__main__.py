"""`python -m supervisor`. Workers may import this module again, so it loads nothing by itself."""

import sys


def run() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from supervisor.cli.main import main  # noqa: PLC0415 - see above

        code = main()
    except KeyboardInterrupt:  # while this was loading
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    run()
