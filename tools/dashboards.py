"""Write the Grafana dashboards: `make dashboards`; `--check` changes nothing and ends with 1 where a file is stale.

The dashboards are data; this is where they are typed in. What Grafana reads is deploy/grafana/dashboards/*.json.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deploy/grafana/dashboards"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_STAT, _GRAPH = (6, 4), (12, 8)
Kind = Literal["stat", "timeseries"]
Unit = Literal["short", "s", "percentunit", "reqps", "bytes", "dateTimeFromNow"]
JOB = 'job=~"$job"'
BEHIND = f"time() - min by (topic) (estarsync_finished_until_seconds{{{JOB}}})"


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture: a question, the query that answers it, and how to read the answer.

    Attributes:
        title: in few words.
        description: what it says, and when to worry.
        unit: Grafana's word for it.
        queries: legend and PromQL.
        kind: a number, or lines over time.
        red: from here on it is bad.
    """

    title: str
    description: str
    unit: Unit
    queries: tuple[tuple[str, str], ...]
    kind: Kind = "timeseries"
    red: float | None = None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Panels in the order in which they are read."""

    uid: str
    title: str
    panels: tuple[Panel, ...] = field(default=())


def one(title: str, description: str, unit: Unit, query: str, red: float | None = None) -> Panel:
    """A panel with one number."""
    return Panel(title, description, unit, (("", query),), "stat", red)


def lines(title: str, description: str, unit: Unit, *queries: tuple[str, str]) -> Panel:
    """A panel with lines over time."""
    return Panel(title, description, unit, queries)


def rate(metric: str, by: str, more: str = "") -> str:
    """How many a second, by these labels."""
    return f"sum by ({by}) (rate({metric}{{{JOB}{more}}}[$__rate_interval]))"


def slowest(metric: str, by: str = "") -> str:
    """The 99th percentile of a histogram."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.99, sum by ({labels}) (rate({metric}_bucket{{{JOB}}}[$__rate_interval])))"


_MEMORY = lines(
    "Memory",
    "Resident memory of each process. It should be flat, whatever the backlog.",
    "bytes",
    (
        "{{service}}",
        f"process_resident_memory_bytes{{{JOB}}} * on (instance, job) group_left (service) estarsync_info",
    ),
)
_CPU = lines(
    "CPU",
    "Cores that each process uses.",
    "short",
    (
        "{{service}}",
        f"rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval]) * on (instance, job) group_left (service) estarsync_info",
    ),
)
_TRANSACTIONS = lines(
    "Kafka transactions",
    "99th percentile of the time of a transaction, by its end. Ten seconds is the most that a broker allows.",
    "s",
    ("{{outcome}}", slowest("estarsync_kafka_transaction_seconds", "outcome")),
)

OVERVIEW = Dashboard(
    "estarsync-overview",
    "estarsync: overview",
    (
        one(
            "Services in order",
            "Processes that are ready, working or standing by.",
            "short",
            f"sum(estarsync_ready{{{JOB}}})",
        ),
        one(
            "How late",
            "The oldest record that is not at Dotdigital yet, over all topics. Red from half an hour.",
            "s",
            f"max({BEHIND})",
            1800,
        ),
        one(
            "Not in agreement",
            "Records that differ, are missing or are too many, as the last reconcile found. Nothing: none has run yet.",
            "short",
            'sum(estarsync_reconcile_records{result=~"different|missing|extra"})',
            1,
        ),
        one(
            "Canary",
            "How long the last canary's slowest record took to Dotdigital. Nothing: none has arrived yet.",
            "s",
            'max(estarsync_canary_hop_seconds{hop="end_to_end"})',
            300,
        ),
        one(
            "Quota left",
            "The least share of calls that is left in this minute, over the tiers. Low is normal in a first load.",
            "percentunit",
            f"min(estarsync_dotdigital_quota_remaining{{{JOB}}} / estarsync_dotdigital_quota_limit{{{JOB}}})",
        ),
        one(
            "Dead letters, last hour",
            "Records that could not be used, over all services.",
            "short",
            (
                f"sum(increase(estarsync_dead_letters_total{{{JOB}}}[1h]) or vector(0))"
                f' + sum(increase(estarsync_loader_records_total{{{JOB},outcome="dead_letter"}}[1h]) or vector(0))'
                f" + sum(increase(estarsync_extractor_dead_letters_total{{{JOB}}}[1h]) or vector(0))"
            ),
            1,
        ),
        one(
            "Waiting",
            "Records that wait for Dotdigital or are on their way.",
            "short",
            f"sum(estarsync_loader_pending_records{{{JOB}}})",
        ),
        one(
            "Lanes stopped",
            "Entities that are not sent until a person has looked.",
            "short",
            f"sum(estarsync_loader_lane_stopped{{{JOB}}})",
            1,
        ),
        one(
            "Alerts",
            "Alerts of ours that fire now.",
            "short",
            'count(ALERTS{alertstate="firing"}) or vector(0)',
            1,
        ),
        lines(
            "Time behind",
            "For each topic, the time since which something waits. A straight rise: the reader stands still.",
            "s",
            ("{{topic}}", BEHIND),
        ),
        lines(
            "Lag",
            "Offsets between what is finished and the end, by topic.",
            "short",
            ("{{topic}}", f"sum by (topic) (estarsync_lag_records{{{JOB}}})"),
        ),
        lines(
            "Flow",
            "Records a second through each service. In a first load the loader's line is the lowest: the quota's pace.",
            "reqps",
            ("read from the shop", f"sum(rate(estarsync_extractor_read_total{{{JOB}}}[$__rate_interval]))"),
            ("transformed", f"sum(rate(estarsync_transformer_records_total{{{JOB}}}[$__rate_interval]))"),
            (
                "delivered",
                f'sum(rate(estarsync_loader_records_total{{{JOB},outcome="delivered"}}[$__rate_interval]))',
            ),
        ),
        _MEMORY,
        _CPU,
    ),
)
EXTRACTOR = Dashboard(
    "estarsync-extractor",
    "estarsync: extractor and webhooks",
    (
        one(
            "First loads done",
            "Entities of which everything was read once; three in the end.",
            "short",
            f"sum(estarsync_extractor_first_load_done{{{JOB}}})",
        ),
        one(
            "Oldest cursor",
            "How long ago the feed that is last has been read up to, the fortnightly sweep aside.",
            "s",
            f'time() - min(estarsync_extractor_cursor_seconds{{{JOB},feed!="orders_deep"}})',
        ),
        one(
            "Notifications missing",
            "Numbers that the shop has used and we have not seen.",
            "short",
            f"sum(estarsync_extractor_notifications_missing{{{JOB}}})",
            1,
        ),
        one(
            "Removals held",
            "Products that wait for `estarsync removals approve`.",
            "short",
            f"sum(estarsync_extractor_removals_held_keys{{{JOB}}})",
            1,
        ),
        lines(
            "Calls to the shop",
            "A second, by operation and outcome.",
            "reqps",
            ("{{operation}} {{outcome}}", rate("estarsync_estar_calls_total", "operation, outcome")),
        ),
        lines(
            "The shop's answers",
            "99th percentile of the time of a call.",
            "s",
            ("{{operation}}", slowest("estarsync_estar_call_seconds", "operation")),
        ),
        lines(
            "Read and unchanged",
            "Records read a second, and keys that had not changed.",
            "reqps",
            ("{{entity}} read", rate("estarsync_extractor_read_total", "entity")),
            ("{{entity}} unchanged", rate("estarsync_extractor_unchanged_total", "entity")),
        ),
        lines(
            "Events published",
            "A second, by lane: live ones go before bulk ones.",
            "reqps",
            ("{{entity}} {{lane}}", rate("estarsync_extractor_events_total", "entity, lane")),
        ),
        lines(
            "Age of cursors",
            "How long ago each feed has been read up to. A saw-tooth with the feed's cadence is right.",
            "s",
            ("{{feed}}", f"time() - estarsync_extractor_cursor_seconds{{{JOB}}}"),
        ),
        lines(
            "Webhooks",
            "Notifications posted to us a second, by what became of them.",
            "reqps",
            ("{{outcome}}", rate("estarsync_webhooks_total", "outcome")),
        ),
        lines(
            "Webhook answers",
            "99th percentile from a notification's request to its answer, when it is durable.",
            "s",
            ("", slowest("estarsync_webhook_seconds")),
        ),
        _TRANSACTIONS,
    ),
)
TRANSFORMER = Dashboard(
    "estarsync-transformer",
    "estarsync: transformer",
    (
        one(
            "How late",
            "The oldest raw event that is not transformed. Red from a quarter of an hour.",
            "s",
            f'max(time() - estarsync_finished_until_seconds{{{JOB},topic=~".*estar\\\\.(contacts|products|orders)\\\\.v1"}})',
            900,
        ),
        one(
            "Dead letters, last hour",
            "Raw events that could not be mapped.",
            "short",
            f"sum(increase(estarsync_dead_letters_total{{{JOB}}}[1h])) or vector(0)",
            1,
        ),
        lines(
            "Records",
            "A second, by what became of them.",
            "reqps",
            ("{{entity}} {{outcome}}", rate("estarsync_transformer_records_total", "entity, outcome")),
        ),
        lines(
            "Dead letters",
            "A second, by topic and reason.",
            "reqps",
            ("{{topic}} {{code}}", rate("estarsync_dead_letters_total", "topic, code")),
        ),
        lines(
            "Values dropped",
            "Optional values that did not travel, by field and reason. Many of one field: see the profile.",
            "reqps",
            (
                "{{entity}}.{{field}} {{code}}",
                rate("estarsync_transformer_dropped_fields_total", "entity, field, code"),
            ),
        ),
        lines(
            "Batches",
            "99th percentile of a batch's time, by step.",
            "s",
            ("{{step}}", slowest("estarsync_transformer_batch_seconds", "step")),
        ),
        lines(
            "Lag",
            "Offsets that wait, by topic.",
            "short",
            ("{{topic}}", f'sum by (topic) (estarsync_lag_records{{{JOB},topic=~".*estar\\\\..*"}})'),
        ),
        _TRANSACTIONS,
    ),
)
LOADER = Dashboard(
    "estarsync-loader",
    "estarsync: loader",
    (
        one(
            "How late",
            "The oldest payload that is not at Dotdigital. A first load takes hours by the quota.",
            "s",
            f'max(time() - estarsync_finished_until_seconds{{{JOB},topic=~".*dotdigital\\\\..*"}})',
            1800,
        ),
        one(
            "Imports open",
            "Imports that Dotdigital has accepted and not finished.",
            "short",
            f"sum(estarsync_loader_open_imports{{{JOB}}})",
        ),
        one(
            "Oldest import",
            "Age of the oldest batch that is not over. Red from an hour.",
            "s",
            f"max(estarsync_loader_oldest_import_seconds{{{JOB}}})",
            3600,
        ),
        one(
            "Calls turned away, last hour",
            "Calls over the quota. More than a few: somebody else uses the account's calls.",
            "short",
            f"sum(increase(estarsync_dotdigital_quota_rejected_total{{{JOB}}}[1h])) or vector(0)",
            5,
        ),
        lines(
            "Waiting",
            "Records in the pending table, by lane.",
            "short",
            ("{{entity}} {{lane}}", f"sum by (entity, lane) (estarsync_loader_pending_records{{{JOB}}})"),
        ),
        lines(
            "Fates",
            "Records settled a second, by outcome.",
            "reqps",
            ("{{entity}} {{outcome}}", rate("estarsync_loader_records_total", "entity, outcome")),
        ),
        lines(
            "Quota",
            "Calls that are left in this minute, and the limit, as Dotdigital says.",
            "short",
            ("{{tier}} left", f"min by (tier) (estarsync_dotdigital_quota_remaining{{{JOB}}})"),
            ("{{tier}} limit", f"max by (tier) (estarsync_dotdigital_quota_limit{{{JOB}}})"),
        ),
        lines(
            "Our calls",
            "Calls of ours that were counted, a minute, by tier.",
            "short",
            ("{{tier}}", f"60 * {rate('estarsync_dotdigital_quota_used_total', 'tier')}"),
        ),
        lines(
            "Calls",
            "A second, by operation and HTTP status (0: no answer).",
            "reqps",
            ("{{operation}} {{status}}", rate("estarsync_dotdigital_calls_total", "operation, status")),
        ),
        lines(
            "Dotdigital's answers",
            "99th percentile of the time of a call.",
            "s",
            ("{{operation}}", slowest("estarsync_dotdigital_call_seconds", "operation")),
        ),
        lines(
            "Imports",
            "Open imports, by entity.",
            "short",
            ("{{entity}}", f"sum by (entity) (estarsync_loader_open_imports{{{JOB}}})"),
        ),
        _TRANSACTIONS,
    ),
)
RECONCILE = Dashboard(
    "estarsync-reconcile",
    "estarsync: reconcile and canary",
    (
        one("Last run", "When Dotdigital was last read back as a whole.", "dateTimeFromNow", "1000 * min(estarsync_reconcile_done_seconds)"),
        one("In agreement", "Share of records on which both sides agree.", "percentunit", 'sum(estarsync_reconcile_records{result="agree"}) / sum(estarsync_reconcile_records)'),
        one("Missing", "Records that were sent and are not there.", "short", 'sum(estarsync_reconcile_records{result="missing"})', 1),
        one("Different", "Records that hold something else than what was sent.", "short", 'sum(estarsync_reconcile_records{result="different"})', 1),
        lines("Records", "As each run found them.", "short", ("{{entity}} {{result}}", "sum by (entity, result) (estarsync_reconcile_records)")),
        one("Last canary", "1 where the last canary arrived as it was to.", "short", "min(estarsync_canary_success)"),
        one("Canary was over", "When the last canary was over.", "dateTimeFromNow", "1000 * max(estarsync_canary_done_seconds)"),
        lines("Canary, end to end", "From the word to what Dotdigital shows.", "s", ("{{entity}}", 'max by (entity) (estarsync_canary_hop_seconds{hop="end_to_end"})')),
        lines("Canary, by hop", "The slowest record at each hop.", "s", ("{{hop}}", 'max by (hop) (estarsync_canary_hop_seconds{hop!="end_to_end"})')),
        lines("Canary, taken away", "Until product and order are gone again.", "s", ("removal", "max(estarsync_canary_removal_seconds)")),
        lines("Not in agreement", "Only those on which the sides differ.", "short", ("{{entity}} {{result}}", 'sum by (entity, result) (estarsync_reconcile_records{result!="agree"})')),
    ),
)  # fmt: skip
DASHBOARDS = (OVERVIEW, EXTRACTOR, TRANSFORMER, LOADER, RECONCILE)


def panel(number: int, each: Panel, place: tuple[int, int]) -> dict[str, Any]:
    """A panel as Grafana has it."""
    width, height = _STAT if each.kind == "stat" else _GRAPH
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if each.red is not None:
        steps.append({"color": "red", "value": each.red})
    options: dict[str, Any] = {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}}
    if each.kind == "stat":
        options = {
            "colorMode": "value",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }
    return {
        "id": number,
        "type": each.kind,
        "title": each.title,
        "description": each.description,
        "datasource": _SOURCE,
        "gridPos": {"x": place[0], "y": place[1], "w": width, "h": height},
        "fieldConfig": {
            "defaults": {"unit": each.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": query,
                "legendFormat": legend or each.title,
            }
            for index, (legend, query) in enumerate(each.queries)
        ],
    }


def document(board: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana has it: panels from left to right, in rows."""
    panels = []
    x = y = row = 0
    for number, each in enumerate(board.panels, start=1):
        width, height = _STAT if each.kind == "stat" else _GRAPH
        if x + width > _WIDTH or (row and row != height):
            x, y, row = 0, y + row, 0
        panels.append(panel(number, each, (x, y)))
        x, row = x + width, height
    job = {
        "name": "job",
        "label": "job",
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": "label_values(estarsync_ready, job)", "refId": "job"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    source = {"name": "datasource", "label": "data source", "type": "datasource", "query": "prometheus"}
    return {
        "uid": board.uid,
        "title": board.title,
        "tags": ["estarsync"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [source, job]},
        "links": [
            {
                "title": "estarsync",
                "type": "dashboards",
                "tags": ["estarsync"],
                "asDropdown": False,
                "keepTime": True,
            }
        ],
        "panels": panels,
    }


def rendered() -> dict[Path, str]:
    """Every file with what belongs into it."""
    return {FOLDER / f"{each.uid}.json": json.dumps(document(each), indent=1) + "\n" for each in DASHBOARDS}


def main() -> int:
    """Write the files, or say which are stale."""
    stale = [path for path, text in rendered().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"dashboards: {path.relative_to(ROOT)} is stale: run `make dashboards`", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(rendered()[path])
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
