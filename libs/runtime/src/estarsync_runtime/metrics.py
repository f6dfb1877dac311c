"""Every metric of the project, declared once. Labels come from closed sets and never hold personal data."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """The metrics of one process, in the registry that it is given."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.position = Gauge(
            "estarsync_position_offset",
            "The offset up to which everything of the partition is finished.",
            ["topic", "partition"],
            registry=registry,
        )
        # Loader
        self.pending = Gauge(
            "estarsync_loader_pending_records",
            "Records in the pending table, waiting or in flight.",
            ["entity", "lane"],
            registry=registry,
        )
        self.delivered = Counter(
            "estarsync_loader_records_total",
            "Records whose fate is settled, by outcome.",
            ["entity", "outcome"],
            registry=registry,
        )
        self.open_imports = Gauge(
            "estarsync_loader_open_imports",
            "Imports that Dotdigital has accepted and not finished.",
            ["entity"],
            registry=registry,
        )
        self.api_calls = Counter(
            "estarsync_dotdigital_calls_total",
            "Calls to Dotdigital by operation and HTTP status (0: no answer).",
            ["operation", "status"],
            registry=registry,
        )
        self.api_seconds = Histogram(
            "estarsync_dotdigital_call_seconds",
            "How long Dotdigital took to answer.",
            ["operation"],
            registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
        )
        self.quota_remaining = Gauge(
            "estarsync_dotdigital_quota_remaining",
            "Calls left in this minute, as Dotdigital says.",
            ["tier"],
            registry=registry,
        )
