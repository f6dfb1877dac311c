"""Render what Kubernetes needs of things that are declared elsewhere: `make manifests`.

| file in deploy/k8s/components | from |
|---|---|
| `strimzi/topics.yaml`, `strimzi/users.yaml` | schemas/topics: names, partitions, settings; who writes and reads what |
| `monitoring/rules.yaml` | deploy/prometheus/rules |

`--check` changes nothing and ends with 1 where a file is stale.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from estarsync_core.topics import TopicSpec, declared_topics

ROOT = Path(__file__).resolve().parent.parent
COMPONENTS = ROOT / "deploy/k8s/components"
CLUSTER = "kafka"
_HEAD = "# Rendered by `make manifests`: change {}, not this.\n"
_PART = {"app.kubernetes.io/part-of": "estarsync"}


def topics(specs: Iterable[TopicSpec]) -> list[dict[str, Any]]:
    """A KafkaTopic of each; three copies, of which two must have a record before it counts."""
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1beta2",
            "kind": "KafkaTopic",
            "metadata": {"name": spec.name, "labels": {"strimzi.io/cluster": CLUSTER, **_PART}},
            "spec": {
                "partitions": spec.partitions,
                "replicas": 3,
                "config": {**spec.config, "min.insync.replicas": 2},
            },
        }
        for spec in specs
    ]


def users(specs: list[TopicSpec]) -> list[dict[str, Any]]:
    """A KafkaUser of each writer and reader, who may do what the declarations say and nothing else."""
    names = sorted({name for spec in specs for name in (*spec.writers, *spec.readers)})
    return [
        {
            "apiVersion": "kafka.strimzi.io/v1beta2",
            "kind": "KafkaUser",
            "metadata": {"name": name, "labels": {"strimzi.io/cluster": CLUSTER, **_PART}},
            "spec": {
                "authentication": {"type": "tls"},
                "authorization": {"type": "simple", "acls": acls(name, specs)},
            },
        }
        for name in names
    ]


def acls(name: str, specs: list[TopicSpec]) -> list[dict[str, Any]]:
    """What one user may do."""
    rules: list[dict[str, Any]] = []
    for spec in specs:
        may = ["Describe"]
        if name in spec.readers:
            may.append("Read")
        if name in spec.writers:
            may.append("Write")
        if len(may) > 1:
            resource = {"type": "topic", "name": spec.name, "patternType": "literal"}
            rules.append({"resource": resource, "operations": may})
    if any(name in spec.readers for spec in specs) or name == "webhooks":
        rules.append(_prefixed("group", ["Describe", "Read"]))
    rules.append(_prefixed("transactionalId", ["Describe", "Write"]))
    return rules


def _prefixed(kind: str, operations: list[str]) -> dict[str, Any]:
    return {
        "resource": {"type": kind, "name": "estarsync-", "patternType": "prefix"},
        "operations": operations,
    }


def rules(folder: Path) -> dict[str, Any]:
    """The plain rule files as one resource of the Prometheus Operator's."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yaml"))]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "estarsync", "labels": _PART},
        "spec": {"groups": [group for document in documents for group in document["groups"]]},
    }


def rendered() -> dict[Path, str]:
    """Every file with what belongs into it."""
    specs = declared_topics()
    found: dict[str, tuple[str, list[dict[str, Any]]]] = {
        "strimzi/topics.yaml": ("schemas/topics", topics(specs)),
        "strimzi/users.yaml": ("schemas/topics", users(specs)),
        "monitoring/rules.yaml": ("deploy/prometheus/rules", [rules(ROOT / "deploy/prometheus/rules")]),
    }
    return {
        COMPONENTS / name: _HEAD.format(origin) + yaml.safe_dump_all(documents, sort_keys=False, width=200)
        for name, (origin, documents) in found.items()
    }


def main() -> int:
    """Write the files, or say which are stale."""
    stale = [
        path
        for path, text in rendered().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"manifests: {path.relative_to(ROOT)} is stale: run `make manifests`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rendered()[path], encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
