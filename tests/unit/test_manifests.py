"""The manifests for Kubernetes, as far as they can be held to our own code without a cluster."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from estarsync_core.topics import declared_topics
from estarsync_runtime.kafka import producer
from estarsync_runtime.settings import ServiceSettings
from extractor.settings import Settings as ExtractorSettings
from extractor.webhooks.settings import WebhookSettings
from loader import loop as loader_loop
from loader.settings import Settings as LoaderSettings
from transformer.settings import Settings as TransformerSettings

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy/k8s"
SETTINGS: dict[str, type[ServiceSettings]] = {
    "extractor": ExtractorSettings,
    "webhooks": WebhookSettings,
    "transformer": TransformerSettings,
    "loader": LoaderSettings,
}
CLI_ONLY = {"PUSHGATEWAY_URL"}
MARGIN = 10
FILES = sorted(path for path in K8S.rglob("*.yaml") if path.name != "tenant-profile.yaml")


def tool(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / f"tools/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def objects() -> list[dict[str, Any]]:
    return [each for path in FILES for each in yaml.safe_load_all(path.read_text()) if each]


def pods() -> dict[str, dict[str, Any]]:
    """Every pod's specification, by its owner's name."""
    found = {}
    for each in objects():
        spec = each.get("spec", {})
        if each["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if each["kind"] in {"Deployment", "Job", "CronJob"}:
            found[each["metadata"]["name"]] = spec["template"]["spec"]
    return found


PODS = pods()


def test_what_is_rendered_is_not_stale():
    for path, text in tool("manifests").rendered().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is stale: run `make manifests`"


@pytest.mark.parametrize("name", PODS)
def test_pods_are_restricted(name):
    pod = PODS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]["memory"]
        assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_service_is_given_longer_to_end_than_it_needs(name):
    drain = loader_loop._DRAIN_SECONDS + producer._INIT_TIMEOUT
    webhook = WebhookSettings.model_fields["webhook_write_seconds"].default + 1
    assert PODS[name]["terminationGracePeriodSeconds"] >= max(drain, webhook) + MARGIN


@pytest.mark.parametrize("name", SETTINGS)
def test_liveness_is_only_about_the_process(name):
    [container] = PODS[name]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["args"] == [name]


@pytest.mark.parametrize("overlay", ["dev", "staging", "prod"])
def test_an_overlay_sets_everything_that_a_service_needs(overlay):
    document = yaml.safe_load((K8S / f"overlays/{overlay}/kustomization.yaml").read_text())
    literals = [text for each in document["configMapGenerator"] for text in each.get("literals", [])]
    given = {text.partition("=")[0] for text in literals}
    secrets = {
        "ESTAR_USERNAME",
        "ESTAR_PASSWORD",
        "ESTAR_WEBHOOK_SECRET",
        "DOTDIGITAL_USERNAME",
        "DOTDIGITAL_PASSWORD",
    }
    known = {name.upper() for settings in SETTINGS.values() for name in settings.model_fields}
    assert given <= known | CLI_ONLY, "a name that nothing reads"
    needed = {
        name.upper()
        for settings in SETTINGS.values()
        for name, field in settings.model_fields.items()
        if field.is_required()
    }
    assert needed <= given | secrets | {"TENANT_PROFILE"}


def test_topics_and_users_are_the_declared_ones():
    specs = declared_topics()
    found = tool("manifests")
    assert [each["metadata"]["name"] for each in found.topics(specs)] == [spec.name for spec in specs]
    users = {each["metadata"]["name"]: each["spec"]["authorization"]["acls"] for each in found.users(specs)}
    writes = {
        (name, acl["resource"]["name"])
        for name, acls in users.items()
        for acl in acls
        if acl["resource"]["type"] == "topic" and "Write" in acl["operations"]
    }
    assert writes == {(writer, spec.name) for spec in specs for writer in spec.writers}
