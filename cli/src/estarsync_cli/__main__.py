"""The `estarsync` command."""

import sys

from estarsync_cli.app import app
from estarsync_core.errors import ConfigurationError, EstarsyncError
from estarsync_runtime import logs


def main() -> None:
    """Run a command; problems are printed a line each, without a traceback.

    Exit codes: 0 all is well, 1 the command found something or failed, 2 wrong settings or arguments.
    """
    logs.configure("estarsync", "WARNING")
    try:
        app()
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"estarsync: {problem}", file=sys.stderr)  # noqa: T201 - for people
        sys.exit(2)
    except EstarsyncError as error:
        print(f"estarsync: {error}", file=sys.stderr)  # noqa: T201 - for people
        sys.exit(1)


if __name__ == "__main__":
    main()
