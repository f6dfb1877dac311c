"""The `transformer` command."""

from estarsync_runtime.lifecycle import run
from transformer.app import serve
from transformer.settings import Settings


def main() -> None:
    """Transform until told to stop."""
    run("transformer", Settings, serve)


if __name__ == "__main__":
    main()
