"""What a job has found, for Prometheus: a job is over before anybody could scrape it, so it pushes."""

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, push_to_gateway
from pydantic import AfterValidator
from pydantic_settings import BaseSettings

from estarsync_core.clock import Clock
from estarsync_core.entities import Entity
from estarsync_core.errors import RetryLater
from estarsync_runtime.metrics import Metrics
from estarsync_runtime.reconcile import Comparison
from estarsync_runtime.settings import load


def _web_address(value: str) -> str:
    if urlsplit(value).scheme not in {"http", "https"}:
        raise ValueError("give a Pushgateway's URL, such as http://pushgateway:9091, or unset it")
    return value


class PushSettings(BaseSettings):
    """Where results go; nowhere where it is not set."""

    pushgateway_url: Annotated[str, AfterValidator(_web_address)] | None = None


def publish_reconcile(results: Mapping[Entity, Comparison], clock: Clock) -> None:
    """Push what a reconcile found, where PUSHGATEWAY_URL is set; blocks for one call.

    Raises:
        ConfigurationError: the address is none.
        RetryLater: the gateway does not take it.
    """
    url = load(PushSettings).pushgateway_url
    if url is None:
        return
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for entity, result in results.items():
        for name in ("agree", "different", "missing", "extra"):
            metrics.reconciled.labels(entity, name).set(getattr(result, name))
        metrics.reconcile_done.labels(entity).set(clock.now().timestamp())
    # What a job has not measured must not be pushed as zero.
    only = registry.restricted_registry(("estarsync_reconcile_records", "estarsync_reconcile_done_seconds"))
    try:
        push_to_gateway(url, job="estarsync-reconcile", registry=only)
    except OSError as error:
        raise RetryLater(
            f"PUSHGATEWAY_URL: {url} does not take the result ({error}): check the address"
        ) from error
