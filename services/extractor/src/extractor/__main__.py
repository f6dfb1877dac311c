"""The `extractor` command."""

from estarsync_runtime.lifecycle import run
from extractor.app import serve
from extractor.settings import Settings


def main() -> None:
    """Read the shop until told to stop."""
    run("extractor", Settings, serve)


if __name__ == "__main__":
    main()
