"""The `loader` command."""

from estarsync_runtime.lifecycle import run
from loader.app import serve
from loader.settings import Settings


def main() -> None:
    """Deliver until told to stop."""
    run("loader", Settings, serve)


if __name__ == "__main__":
    main()
