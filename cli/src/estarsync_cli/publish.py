"""What a job has found, for Prometheus: a job is over before anybody could scrape it, so it pushes."""

from collections.abc import Callable, Iterable, Mapping
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

    def show(metrics: Metrics) -> None:
        for entity, result in results.items():
            for name in ("agree", "different", "missing", "extra"):
                metrics.reconciled.labels(entity, name).set(getattr(result, name))
            metrics.reconcile_done.labels(entity).set(clock.now().timestamp())

    _push("estarsync-reconcile", ("estarsync_reconcile_records", "estarsync_reconcile_done_seconds"), show)


def publish_canary(
    *, success: bool, seconds: Mapping[Entity, Mapping[str, float]], removal: float | None, clock: Clock
) -> None:
    """Push how a canary has flown, where PUSHGATEWAY_URL is set; blocks for one call.

    Args:
        success: whether everything arrived that was to arrive.
        seconds: by entity and hop, those that were passed.
        removal: seconds until product and order were gone again; None where they are not.
        clock: the time.

    Raises:
        ConfigurationError: the address is none.
        RetryLater: the gateway does not take it.
    """

    def show(metrics: Metrics) -> None:
        metrics.canary_success.set(success)
        metrics.canary_done.set(clock.now().timestamp())
        for entity, hops in seconds.items():
            for hop, value in hops.items():
                metrics.canary_hop.labels(entity, hop).set(value)
        if removal is not None:
            metrics.canary_removal.set(removal)

    names = ["estarsync_canary_success", "estarsync_canary_done_seconds", "estarsync_canary_hop_seconds"]
    if removal is not None:
        names.append("estarsync_canary_removal_seconds")
    _push("estarsync-canary", names, show)


def _push(job: str, names: Iterable[str], show: Callable[[Metrics], None]) -> None:
    url = load(PushSettings).pushgateway_url
    if url is None:
        return
    registry = CollectorRegistry()
    show(Metrics(registry))
    # What a job has not measured must not be pushed as zero.
    only = registry.restricted_registry(names)
    try:
        push_to_gateway(url, job=job, registry=only)
    except OSError as error:
        raise RetryLater(
            f"PUSHGATEWAY_URL: {url} does not take the result ({error}): check the address"
        ) from error
