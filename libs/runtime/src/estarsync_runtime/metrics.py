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
        self.leader = Gauge(
            "estarsync_leader",
            "1 where this process works, 0 where it stands by for another one with the same role.",
            ["service"],
            registry=registry,
        )
        self.lag = Gauge(
            "estarsync_lag_records",
            "Offsets between what is finished and the end of the partition.",
            ["topic", "partition"],
            registry=registry,
        )
        self.finished_until = Gauge(
            "estarsync_finished_until_seconds",
            "Unix time up to which everything published to the partition is finished.",
            ["topic", "partition"],
            registry=registry,
        )
        # Every service
        self.info = Gauge(
            "estarsync_info",
            "1; says which service and version this is.",
            ["service", "version"],
            registry=registry,
        )
        self.ready = Gauge(
            "estarsync_ready",
            "1 where the service is in order and works or stands by, else 0.",
            ["service"],
            registry=registry,
        )
        self.loop_age = Gauge(
            "estarsync_loop_age_seconds",
            "Seconds since the main loop has turned; at 300 the service says that it is not alive.",
            ["service"],
            registry=registry,
        )
        self.transactions = Histogram(
            "estarsync_kafka_transaction_seconds",
            "From the begin of a Kafka transaction to its end (committed, failed).",
            ["outcome"],
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        # Extractor
        self.estar_calls = Counter(
            "estarsync_estar_calls_total",
            "Calls to the shop by operation and outcome (answered, refused, failed).",
            ["operation", "outcome"],
            registry=registry,
        )
        self.estar_seconds = Histogram(
            "estarsync_estar_call_seconds",
            "How long the shop took to answer.",
            ["operation"],
            registry=registry,
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
        )
        self.read = Counter(
            "estarsync_extractor_read_total",
            "Records read from the shop.",
            ["entity"],
            registry=registry,
        )
        self.unchanged = Counter(
            "estarsync_extractor_unchanged_total",
            "Keys that were read and had not changed.",
            ["entity"],
            registry=registry,
        )
        self.withheld = Counter(
            "estarsync_extractor_withheld_records_total",
            "Records read and not published, since their shopper was erased.",
            ["entity"],
            registry=registry,
        )
        self.extract_dead = Counter(
            "estarsync_extractor_dead_letters_total",
            "Records that could not be read or have no key.",
            ["entity", "code"],
            registry=registry,
        )
        self.keys = Gauge(
            "estarsync_extractor_keys",
            "Keys published so far and still in the shop, as far as is known.",
            ["entity"],
            registry=registry,
        )
        self.sequence = Gauge(
            "estarsync_extractor_sequence",
            "The number of the last event published.",
            ["entity"],
            registry=registry,
        )
        self.cursor = Gauge(
            "estarsync_extractor_cursor_seconds",
            "Unix time up to which a feed has been read.",
            ["feed"],
            registry=registry,
        )
        self.cadence = Gauge(
            "estarsync_extractor_cadence_seconds",
            "How long a feed waits between two runs, as the profile says.",
            ["feed"],
            registry=registry,
        )
        self.first_load_done = Gauge(
            "estarsync_extractor_first_load_done",
            "1 where everything that the shop had has been read once, else 0.",
            ["entity"],
            registry=registry,
        )
        self.first_load_records = Gauge(
            "estarsync_extractor_first_load_records",
            "Records that the first load has read so far, before restarts too.",
            ["entity"],
            registry=registry,
        )
        self.first_load_total = Gauge(
            "estarsync_extractor_first_load_total_records",
            "Records that the first load will read, where the shop says so.",
            ["entity"],
            registry=registry,
        )
        self.first_load_ratio = Gauge(
            "estarsync_extractor_first_load_ratio",
            "How much of the first load is done: of the records where their number is known, else of the shop's history.",
            ["entity"],
            registry=registry,
        )
        self.first_load_left = Gauge(
            "estarsync_extractor_first_load_left_seconds",
            "Within what time the first load will be done: at the pace so far, at the last minute's; low and high of both.",
            ["entity", "bound"],
            registry=registry,
        )
        self.listed = Gauge(
            "estarsync_extractor_listed_records",
            "Records that the shop has listed so far in the first load.",
            ["entity"],
            registry=registry,
        )
        self.events = Counter(
            "estarsync_extractor_events_total",
            "Raw events published.",
            ["entity", "lane"],
            registry=registry,
        )
        self.notifications = Counter(
            "estarsync_extractor_notifications_total",
            "Notifications read, by what they were (received, duplicate, recovered, lost, unreadable).",
            ["outcome"],
            registry=registry,
        )
        self.notifications_missing = Gauge(
            "estarsync_extractor_notifications_missing",
            "Notifications that their numbers show to be missing, and that the shop is asked for.",
            registry=registry,
        )
        self.removals_held = Gauge(
            "estarsync_extractor_removals_held_keys",
            "Keys that vanished from the last snapshot and wait for `estarsync removals approve`.",
            ["entity"],
            registry=registry,
        )
        # Webhook receiver
        self.webhooks = Counter(
            "estarsync_webhooks_total",
            "Notifications that the shop posted, by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.webhook_seconds = Histogram(
            "estarsync_webhook_seconds",
            "From a notification's request to its answer.",
            registry=registry,
            buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        # Transformer
        self.transformed = Counter(
            "estarsync_transformer_records_total",
            "Raw events finished, by what became of them (payload, tombstone, dead_letter).",
            ["entity", "outcome"],
            registry=registry,
        )
        self.dead_letters = Counter(
            "estarsync_dead_letters_total",
            "Records that could not be used, by the topic that they were read from and the reason's code.",
            ["topic", "code"],
            registry=registry,
        )
        self.dropped_fields = Counter(
            "estarsync_transformer_dropped_fields_total",
            "Optional values that did not travel as the shop wrote them, by field and the reason's code.",
            ["entity", "field", "code"],
            registry=registry,
        )
        self.batch_seconds = Histogram(
            "estarsync_transformer_batch_seconds",
            "How long a batch took: mapping and producing (map), then the end of its transaction (commit).",
            ["step"],
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        # Loader
        self.pending = Gauge(
            "estarsync_loader_pending_records",
            "Records in the pending table, waiting or in flight.",
            ["entity", "lane"],
            registry=registry,
        )
        self.reading_paused = Gauge(
            "estarsync_loader_reading_paused",
            "1 where records stay unread in Kafka since the disk is nearly full, else 0.",
            registry=registry,
        )
        self.delivered = Counter(
            "estarsync_loader_records_total",
            "Records whose fate is settled, by outcome.",
            ["entity", "outcome"],
            registry=registry,
        )
        self.lane_stopped = Gauge(
            "estarsync_loader_lane_stopped",
            "1 where nothing of the entity is sent until `estarsync lanes resume`, else 0.",
            ["entity"],
            registry=registry,
        )
        self.resync_left = Gauge(
            "estarsync_loader_resync_left_records",
            "Records that a resync has marked pending and that are not settled yet.",
            ["entity"],
            registry=registry,
        )
        self.open_imports = Gauge(
            "estarsync_loader_open_imports",
            "Imports that Dotdigital has accepted and not finished.",
            ["entity"],
            registry=registry,
        )
        self.oldest_import = Gauge(
            "estarsync_loader_oldest_import_seconds",
            "Age of the oldest batch that is not over; 0 where there is none.",
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
        self.quota_limit = Gauge(
            "estarsync_dotdigital_quota_limit",
            "Calls that the account may make in a minute, as Dotdigital says.",
            ["tier"],
            registry=registry,
        )
        self.quota_used = Counter(
            "estarsync_dotdigital_quota_used_total",
            "Calls of ours that Dotdigital has counted.",
            ["tier"],
            registry=registry,
        )
        self.quota_rejected = Counter(
            "estarsync_dotdigital_quota_rejected_total",
            "Calls of ours that Dotdigital turned away because the quota was used up.",
            ["tier"],
            registry=registry,
        )
        self._of_jobs(registry)

    def _of_jobs(self, registry: CollectorRegistry) -> None:
        """Those of jobs, which are over before anybody could scrape them: pushed where PUSHGATEWAY_URL says."""
        # Reconcile
        self.reconciled = Gauge(
            "estarsync_reconcile_records",
            "Records on either side, as the last read-back found them (agree, different, missing, extra).",
            ["entity", "result"],
            registry=registry,
        )
        self.reconcile_done = Gauge(
            "estarsync_reconcile_done_seconds",
            "Unix time at which the last read-back ended.",
            ["entity"],
            registry=registry,
        )
        # Canary
        self.canary_success = Gauge(
            "estarsync_canary_success",
            "1 where the last canary arrived at Dotdigital as it was to, else 0.",
            registry=registry,
        )
        self.canary_hop = Gauge(
            "estarsync_canary_hop_seconds",
            "How long the last canary's record took (extract, transform, deliver, read_back), and in all (end_to_end).",
            ["entity", "hop"],
            registry=registry,
        )
        self.canary_removal = Gauge(
            "estarsync_canary_removal_seconds",
            "How long it took until the last canary's product and order were gone from Dotdigital again.",
            registry=registry,
        )
        self.canary_done = Gauge(
            "estarsync_canary_done_seconds",
            "Unix time at which the last canary was over.",
            registry=registry,
        )
