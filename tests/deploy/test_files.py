"""The files of deploy/kubernetes as they are written. These tests need no program besides Python."""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from common.events import TOPICS

from .manifests import FOLDER, ROOT, STORES, Manifest, documents, files, written
from .schemas import OF_OPERATORS, violations


def kustomizations() -> list[Path]:
    return [path for path in files() if path.name == "kustomization.yaml"]


def of_kind(*kinds: str) -> list[Manifest]:
    return [one for _, one in written() if one["kind"] in kinds]


def where(path: Path) -> str:
    return str(path.relative_to(FOLDER))


@pytest.fixture(scope="module")
def contract() -> dict[str, dict[str, set[Any]]]:
    """Service → what it sends (topics) and what it reads (consumer group, topic), by docs/asyncapi.json."""
    document = json.loads((ROOT / "docs/asyncapi.json").read_text())
    services: dict[str, dict[str, set[Any]]] = defaultdict(lambda: {"send": set(), "receive": set()})
    for name, operation in document["operations"].items():
        topic = document["channels"][operation["channel"]["$ref"].rsplit("/", 1)[1]]["address"]
        service = services[name.split(".")[0]]
        if operation["action"] == "send":
            service["send"].add(topic)
        else:
            service["receive"].add((operation["bindings"]["kafka"]["groupId"]["const"], topic))
    return services


@pytest.mark.parametrize("path", kustomizations(), ids=where)
def test_every_file_that_a_kustomization_names_exists(path: Path) -> None:
    (content,) = documents(path)
    named = [*content.get("resources", []), *(patch["path"] for patch in content.get("patches", []) if "path" in patch)]
    assert [name for name in named if not (path.parent / name).exists()] == []
    folders = [path.parent / name for name in named if (path.parent / name).is_dir()]
    assert all((folder / "kustomization.yaml").exists() for folder in folders)


def test_every_file_belongs_to_a_kustomization() -> None:
    named = {
        (path.parent / name).resolve()
        for path in kustomizations()
        for content in documents(path)
        for name in [*content["resources"], *(patch.get("path", ".") for patch in content.get("patches", []))]
    }
    assert {path for path in files() if path.name != "kustomization.yaml"} <= named


def test_every_patch_has_a_target_that_exists() -> None:
    kinds = {one["kind"] for _, one in written()}
    for path in kustomizations():
        for patch in documents(path)[0].get("patches", []):
            assert patch["target"]["kind"] in kinds, path
            if name := patch["target"].get("name"):
                assert name in {one["metadata"]["name"] for one in of_kind(patch["target"]["kind"])}, path


@pytest.mark.parametrize("path", sorted({path for path, _ in written()}), ids=where)
def test_a_file_follows_the_schemas_of_the_api(path: Path) -> None:
    assert [problem for one in documents(path) for problem in violations(one)] == []


def test_a_manifest_with_a_wrong_field_is_found() -> None:
    (service,) = [one for one in of_kind("Service") if one["metadata"]["name"] == "gateway"]
    assert violations(service) == []
    assert violations({**service, "spec": {**service["spec"], "port": 8080}})
    assert violations({**service, "kind": "Servise"})


def test_every_operator_of_which_a_resource_is_used_is_listed_in_the_page() -> None:
    page = (ROOT / "docs/deploy.md").read_text()
    used = {one["apiVersion"] for _, one in written() if one["apiVersion"] in OF_OPERATORS}
    assert used == OF_OPERATORS
    assert [version for version in sorted(used) if f"`{version}`" not in page] == []


def test_the_topics_are_those_of_the_events() -> None:
    topics = of_kind("KafkaTopic")
    assert sorted(one["metadata"]["name"] for one in topics) == sorted(TOPICS)
    for topic in topics:
        spec = topic["spec"]
        assert spec["replicas"] > spec["config"]["min.insync.replicas"] > 1, topic["metadata"]["name"]


@pytest.mark.parametrize("service", STORES)
def test_a_service_has_exactly_the_rights_on_kafka_that_it_needs(
    service: str, contract: dict[str, dict[str, set[Any]]]
) -> None:
    (user,) = [one for one in of_kind("KafkaUser") if one["metadata"]["name"] == service]
    assert user["spec"]["authentication"]["type"] == "tls"
    rights: dict[str, set[str]] = defaultdict(set)
    for rule in user["spec"]["authorization"]["acls"]:
        assert "*" not in rule["resource"]["name"]
        for operation in rule["operations"]:
            kind = f"{rule['resource']['type']} {rule['resource'].get('patternType', 'literal')} {operation}"
            rights[kind].add(rule["resource"]["name"])
    sent = contract[service]["send"]
    read = {topic for _, topic in contract[service]["receive"]}
    assert dict(rights) == {
        "topic literal Write": sent,
        "topic literal Read": read,
        "topic literal Describe": sent | read,
        "group prefix Read": {f"{service}."},
        "group prefix Describe": {f"{service}."},
    }


@pytest.mark.parametrize("service", STORES)
def test_a_worker_is_scaled_by_consumers_that_it_has(service: str, contract: dict[str, dict[str, set[Any]]]) -> None:
    (scaled,) = [one for one in of_kind("ScaledObject") if one["metadata"]["name"] == f"{service}-worker"]
    triggers = [one["metadata"] for one in scaled["spec"]["triggers"] if one["type"] == "kafka"]
    assert triggers
    assert {(one["consumerGroup"], one["topic"]) for one in triggers} <= contract[service]["receive"]


def test_keda_reads_no_record() -> None:
    (user,) = [one for one in of_kind("KafkaUser") if one["metadata"]["name"] == "keda"]
    rules = user["spec"]["authorization"]["acls"]
    assert {operation for rule in rules for operation in rule["operations"]} == {"Describe"}
    names = {(rule["resource"]["type"], rule["resource"]["name"]) for rule in rules}
    assert names == {(kind, f"{service}.") for kind in ("topic", "group") for service in STORES}


def test_delivery_is_scaled_by_the_age_of_its_queue() -> None:
    (scaled,) = [one for one in of_kind("ScaledObject") if one["metadata"]["name"] == "delivery-worker"]
    queries = [one["metadata"]["query"] for one in scaled["spec"]["triggers"] if one["type"] == "prometheus"]
    assert any("cooee_queue_oldest_seconds" in query for query in queries)


def test_every_database_is_backed_up_and_a_drill_restores_one() -> None:
    stores = {one["metadata"]["name"] for one in of_kind("ObjectStore")}
    clusters = {one["metadata"]["name"]: one["spec"] for one in of_kind("Cluster")}
    backups = {one["spec"]["cluster"]["name"] for one in of_kind("ScheduledBackup")}
    drill = clusters.pop("delivery-db-restored")
    assert set(clusters) == backups == {f"{service}-db" for service in STORES}
    for cluster in clusters.values():
        (plugin,) = cluster["plugins"]
        assert plugin["isWALArchiver"]
        assert plugin["parameters"]["barmanObjectName"] in stores
    (source,) = drill["externalClusters"]
    assert drill["bootstrap"]["recovery"]["source"] == source["name"]
    assert source["plugin"]["parameters"]["serverName"] in clusters
    assert drill["imageName"] == clusters["delivery-db"]["imageName"]
    assert drill["storage"] == clusters["delivery-db"]["storage"]
    assert "plugins" not in drill, "a drill must not write to the archive"


def test_no_file_has_a_secret() -> None:
    assert of_kind("Secret") == []
    for secret in of_kind("ExternalSecret"):
        values = secret["spec"]["target"]["template"]["data"]
        fixed = [name for name, value in values.items() if not re.search(r"\{\{ \.\w+ \}\}", value)]
        assert fixed == [], secret["metadata"]["name"]
