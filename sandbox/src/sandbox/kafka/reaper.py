"""Remove a container when the process that holds our standard input ends: `python reaper.py NAME`."""

import sys
from contextlib import closing, suppress

import docker  # type: ignore[import-untyped]  # it ships no types


def main() -> None:
    """Wait for the end of the input, however it comes, and remove the container."""
    sys.stdin.read()
    with closing(docker.from_env()) as client, suppress(docker.errors.NotFound):
        client.containers.get(sys.argv[1]).remove(force=True, v=True)


if __name__ == "__main__":
    main()
