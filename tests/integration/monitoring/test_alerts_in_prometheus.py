"""Faults are played in the sandbox, and a real Prometheus that scrapes the real services raises the alert."""

import httpx
import pytest

pytestmark = [pytest.mark.kafka, pytest.mark.long]

DONE = "sum(estarsync_extractor_first_load_done) == 3 and sum(estarsync_loader_pending_records) == 0"


@pytest.fixture(scope="module")
def healthy(monitored):
    """Everything is loaded, and nothing fires that says that something is broken."""
    monitored.until(lambda: monitored.query(DONE))
    monitored.until(
        lambda: (
            not monitored.firing() - {"ExtractorDeadLetters", "LoaderDeadLetters", "TransformerDeadLetters"}
        )
    )
    return monitored


def edit(monitored):
    monitored.post(f"{monitored.shop}/sandbox/edit", {"count": 3, "kinds": ["order"]})


def test_a_healthy_path_pages_nobody(healthy):
    critical = {
        each["metric"]["alertname"]
        for each in healthy.query('ALERTS{severity="critical",alertstate="firing"}')
    }
    assert not critical


def test_a_shop_that_fails(healthy):
    healthy.post(f"{healthy.shop}/sandbox/faults", {"error": 1})
    try:
        healthy.until(lambda: "ExtractorSourceErrors" in healthy.firing(), lambda: edit(healthy))
    finally:
        healthy.post(f"{healthy.shop}/sandbox/faults", {})
    healthy.until(lambda: "ExtractorSourceErrors" not in healthy.firing())


def test_a_stranger_who_posts_notifications(healthy):
    port = healthy._receiver

    def knock():
        for _ in range(5):
            assert httpx.post(f"http://127.0.0.1:{port}/", content=b"{}").status_code == 401

    healthy.until(lambda: "WebhooksUnsigned" in healthy.firing(), knock)


def test_a_dotdigital_that_fails(healthy):
    healthy.post(f"{healthy.account}/sandbox/faults", {"probabilities": {"http_503": 1}})
    try:
        healthy.until(lambda: "DotdigitalErrors" in healthy.firing(), lambda: edit(healthy))
    finally:
        healthy.post(f"{healthy.account}/sandbox/faults", {"clear": True})
    healthy.until(lambda: healthy.query(DONE))


def test_a_service_that_is_gone(healthy):
    healthy.kill("transformer")
    healthy.until(lambda: "ServiceMissing" in healthy.firing())
    healthy.start("transformer")
    healthy.until(lambda: "ServiceMissing" not in healthy.firing())


def test_imports_that_are_refused_as_a_whole(healthy):
    healthy.post(f"{healthy.account}/sandbox/faults", {"probabilities": {"import_rejected": 1}})
    healthy.until(lambda: "LoaderLaneStopped" in healthy.firing(), lambda: edit(healthy))
