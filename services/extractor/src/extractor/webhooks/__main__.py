"""The `webhooks` command."""

from estarsync_runtime.lifecycle import run
from extractor.webhooks.serve import serve
from extractor.webhooks.settings import WebhookSettings


def main() -> None:
    """Receive the shop's notifications until told to stop."""
    run("webhooks", WebhookSettings, serve)


if __name__ == "__main__":
    main()
