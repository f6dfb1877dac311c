"""Traces: which page, transaction and import a record went through. Off by default, and then nothing is done.

A service is given a `Tracing`; `OFF` is the one that records nothing. What records, with OpenTelemetry, is in `otel`,
which is imported only where it is wanted. Between two services the context travels in one Kafka header, `traceparent`,
as the W3C has it.

An attribute holds ids, counts, names of entities and codes, as a log line does: never a value of a record or an e-mail.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum

from estarsync_core.clock import Clock
from estarsync_core.errors import ConfigurationError
from estarsync_core.headers import TRACEPARENT, RawHeaders
from estarsync_runtime.settings import ServiceSettings

Attributes = Mapping[str, str | int | float | bool]


class Role(Enum):
    """What a span is to those before and after it."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


class Span:
    """Something that takes time; this one is not recorded."""

    traceparent: bytes | None = None
    """What those that come after it are told, as the W3C writes it."""

    @property
    def header(self) -> RawHeaders:
        """The Kafka header that carries it; none where nothing is recorded."""
        return [] if self.traceparent is None else [(TRACEPARENT, self.traceparent)]

    def tell(self, attributes: Attributes) -> None:
        """Say more of it."""

    def happened(self, name: str, attributes: Attributes | None = None) -> None:
        """Say that something happened in its course, now."""

    def link(self, traceparent: bytes) -> None:
        """Say that it has to do with another span."""

    def end(self, failure: str | None = None) -> None:
        """It is over now; `failure` says why it came to nothing."""

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log lines carry its ids meanwhile."""
        yield


class Tracing:
    """Makes spans; this one makes those that are not recorded."""

    on = False
    """Whether anything is recorded."""

    def begin(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        role: Role = Role.INTERNAL,
        parent: bytes | None = None,
        links: Iterable[bytes] = (),
    ) -> Span:
        """A span that begins now; whoever holds it must end it.

        Args:
            name: what it is, from a small set.
            attributes: more of that.
            role: what it is to others.
            parent: the `traceparent` of the span that it belongs to; without, a trace begins.
            links: others that it has to do with.
        """
        del name, attributes, role, parent, links
        return _NOTHING

    @contextmanager
    def span(
        self,
        name: str,
        attributes: Attributes | None = None,
        *,
        role: Role = Role.INTERNAL,
        parent: bytes | None = None,
        links: Iterable[bytes] = (),
    ) -> Iterator[Span]:
        """A span for what is done inside; log lines carry its ids, and an exception is its failure."""
        del name, attributes, role, parent, links
        yield _NOTHING

    def close(self) -> None:
        """Send what is left; blocks for a few seconds at most. Nothing may follow."""


_NOTHING = Span()
OFF = Tracing()
"""Records nothing."""


def parent_and_links(causes: Iterable[bytes]) -> tuple[bytes | None, Sequence[bytes]]:
    """How a span belongs to what caused it: to one as its child, to several by links."""
    distinct = list(dict.fromkeys(causes))
    return (distinct[0], ()) if len(distinct) == 1 else (None, distinct)


@contextmanager
def tracing(service: str, settings: ServiceSettings, clock: Clock) -> Iterator[Tracing]:
    """What a service is to trace with: `OFF`, unless the settings name a collector. At the end it is closed.

    Raises:
        ConfigurationError: the collector is named, but OpenTelemetry is not installed.
    """
    if not settings.traced:
        yield OFF
        return
    try:
        from estarsync_runtime.otel import OtelTracing, exporting  # noqa: PLC0415 - only where it is wanted
    except ModuleNotFoundError as error:
        problem = "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed: install estarsync-runtime[otel], or unset it"
        raise ConfigurationError([problem]) from error
    found = OtelTracing(service, settings.instance_id, clock, exporting())
    try:
        yield found
    finally:
        found.close()
