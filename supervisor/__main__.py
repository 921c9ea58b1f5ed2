"""`python -m supervisor`. Workers may import this module again, so it loads nothing by itself."""

import sys


def run() -> None:
    """Run the command line and leave with its exit code."""
    try:
        code = _health() if _asks_for_health(sys.argv[1:]) else _command()
    except KeyboardInterrupt:  # while this was loading
        code = 130
    sys.exit(code)


def _asks_for_health(arguments: list[str]) -> bool:
    """Whether this is `health` as probes call it, every second: then the command line need not be loaded."""
    return arguments[:1] == ["health"] and {"--json", "--live"} >= set(arguments[1:])


def _health() -> int:
    import os  # noqa: PLC0415 - see above

    from supervisor.health import answer  # noqa: PLC0415

    return answer(os.environ, json_="--json" in sys.argv, live="--live" in sys.argv)


def _command() -> int:
    from supervisor.cli.main import main  # noqa: PLC0415 - see above

    return main()


if __name__ == "__main__":
    run()
