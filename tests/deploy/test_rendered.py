"""The rendered overlays: what must hold for every container, and sizes that depend on each other."""

import inspect
import re
from collections import Counter
from typing import Any

import yaml

from common.database import Database
from delivery.providers.mobile_message import MobileMessage

from .manifests import COMPONENT, FOLDER, NAME, PAGE, ROOT, RUNNING, STORES, Manifests, Pod, render
from .schemas import violations
from .stopping import MARGIN_S, stop_s

DIGEST = re.compile(r"[\w.-]+(?:/[\w.-]+)*@sha256:[0-9a-f]{64}")


def running(manifests: Manifests) -> list[Pod]:
    return [pod for pod in manifests.pods() if pod.role in (*RUNNING, PAGE)]


def test_every_manifest_follows_the_schemas_of_the_api(manifests: Manifests) -> None:
    assert [problem for one in manifests.all for problem in violations(one)] == []


def test_the_drill_follows_the_schemas_and_has_a_cluster() -> None:
    (cluster,) = render(FOLDER / "restore").of("Cluster")
    assert cluster["metadata"]["namespace"] == "cooee"


def test_each_service_has_its_processes(manifests: Manifests) -> None:
    expected = Counter({("gateway", "api"): 1, ("valkey", "valkey"): 1, ("operator", "operator"): 1})
    expected["operator", PAGE] = 1
    for service in STORES:
        expected.update({(service, role): 1 for role in (*RUNNING, "migrate")})
    assert Counter((pod.service, pod.role) for pod in manifests.pods()) == expected


def test_a_container_runs_the_image_and_command_of_its_pod(manifests: Manifests) -> None:
    for pod in manifests.pods():
        for container in pod.containers:
            assert DIGEST.fullmatch(container["image"]), container["image"]
            assert container["image"].split("@")[0].endswith(pod.service), pod.name
            if pod.role in (*RUNNING, "migrate"):
                assert container["args"] == [pod.service, pod.role]
            if pod.role == PAGE:
                assert container["args"] == ["page"]


def test_a_container_has_limits_and_no_rights(manifests: Manifests) -> None:
    for pod in manifests.pods():
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"], pod.name
        assert security["runAsUser"] > 0, pod.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.name
        assert all({"emptyDir", "projected"} & set(volume) for volume in pod.spec["volumes"]), pod.name
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.name
            for part in ("requests", "limits"):
                assert set(container["resources"][part]) == {"cpu", "memory"}, pod.name


def test_every_deployment_has_probes_and_liveness_asks_no_other_service(manifests: Manifests) -> None:
    for pod in [pod for pod in manifests.pods() if pod.owner["kind"] == "Deployment"]:
        for container in pod.containers:
            assert all(container.get(f"{kind}Probe") for kind in ("startup", "liveness", "readiness")), pod.name
            if pod.role in (*RUNNING, PAGE):
                for kind, path in {"startup": "live", "liveness": "live", "readiness": "ready"}.items():
                    asked = container[f"{kind}Probe"]["httpGet"]
                    assert asked == {"path": f"/health/{path}", "port": "http"}, pod.name


def test_kubernetes_and_one_host_drain_equally_long(manifests: Manifests) -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.production.yml").read_text())
    of_host = {
        one["environment"]["DRAIN_S"] for one in compose["services"].values() if "DRAIN_S" in one.get("environment", {})
    }
    assert {manifests.environment(pod)["DRAIN_S"] for pod in running(manifests)} == of_host


def test_a_pod_has_the_time_to_drain_and_to_stop(manifests: Manifests) -> None:
    for pod in running(manifests):
        (pause_s,) = [one["lifecycle"]["preStop"]["sleep"]["seconds"] for one in pod.containers]
        environment = manifests.environment(pod)
        assert pause_s >= 5, "balancers must learn of the end of a pod first"
        assert pod.spec["terminationGracePeriodSeconds"] >= pause_s + stop_s(pod.role, environment) + MARGIN_S, pod.name
        if pod.role == "api":
            assert float(environment["DRAIN_S"] or 0) > 0, "kept connections must be closed after an answer"


def test_pods_are_spread_over_zones_and_nodes(manifests: Manifests) -> None:
    for pod in running(manifests):
        rules = pod.spec["topologySpreadConstraints"]
        assert {rule["topologyKey"] for rule in rules} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        for rule in rules:
            assert rule["labelSelector"]["matchLabels"].items() <= pod.labels.items(), pod.name
            assert {NAME, COMPONENT} <= set(rule["matchLabelKeys"]), pod.name


def test_a_deployment_has_a_disruption_budget_and_a_scaler(manifests: Manifests) -> None:
    budgets = {
        name: one["spec"]["selector"]["matchLabels"] for name, one in manifests.named("PodDisruptionBudget").items()
    }
    scalers = scaler_of(manifests)
    for pod in running(manifests):
        assert budgets[pod.name] == {NAME: pod.service, COMPONENT: pod.role}
        if pod.role == PAGE:
            assert pod.owner["spec"]["replicas"] in (1, 2)
            continue
        assert "replicas" not in pod.owner["spec"], "the scaler decides"
        assert scalers[pod.name]["kind"] == ("HorizontalPodAutoscaler" if pod.role == "api" else "ScaledObject")
    assert len(budgets) == len(running(manifests))
    assert scalers.keys() == budgets.keys() - {"operators-page"}


def test_selectors_choose_the_pods_that_they_mean(manifests: Manifests) -> None:
    pods = manifests.pods()
    for pod in pods:
        if pod.owner["kind"] == "Deployment":
            assert chosen(pods, pod.owner["spec"]["selector"]["matchLabels"]) == [pod.name]
    for service in manifests.of("Service"):
        (found,) = chosen(pods, service["spec"]["selector"])
        (pod,) = [pod for pod in pods if pod.name == found]
        for port in service["spec"]["ports"]:
            assert pod.ports[port["targetPort"]] == port["port"], found


def chosen(pods: list[Pod], labels: dict[str, str]) -> list[str]:
    return [pod.name for pod in pods if labels.items() <= pod.labels.items()]


def scaler_of(manifests: Manifests) -> dict[str, dict[str, Any]]:
    """Return the name of a Deployment → its scaler."""
    scalers = manifests.of("HorizontalPodAutoscaler", "ScaledObject")
    return {one["spec"]["scaleTargetRef"]["name"]: one for one in scalers}


def most_pods(manifests: Manifests, name: str) -> int:
    """Return how many pods a Deployment has at most, also while it is replaced."""
    spec = scaler_of(manifests)[name]["spec"]
    surge = manifests.named("Deployment")[name]["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    return int(spec.get("maxReplicas") or spec["maxReplicaCount"]) + int(surge)


def test_a_database_accepts_all_connections_that_the_pods_can_open(manifests: Manifests) -> None:
    pools = inspect.signature(Database).parameters
    of_process = sum(pools[name].default for name in ("tenant_pool", "all_pool", "statement_pool")) + 2
    for service in STORES:
        accepted = int(
            manifests.named("Cluster")[f"{service}-db"]["spec"]["postgresql"]["parameters"]["max_connections"]
        )
        wanted = of_process * sum(most_pods(manifests, f"{service}-{role}") for role in RUNNING)
        assert wanted + 20 <= accepted, f"{service}: {wanted} of {accepted}; 20 are for the rest"


def test_no_worker_is_without_a_partition(manifests: Manifests) -> None:
    partitions = min(topic["spec"]["partitions"] for topic in manifests.of("KafkaTopic"))
    assert all(most_pods(manifests, f"{service}-worker") <= partitions for service in STORES)


def test_the_workers_together_make_no_more_requests_than_an_account_may(manifests: Manifests) -> None:
    (worker,) = [pod for pod in manifests.pods() if pod.name == "delivery-worker"]
    each = int(manifests.environment(worker)["MOBILE_MESSAGE_CONCURRENCY"] or 0)
    allowed = MobileMessage.settings_class.model_fields["concurrency"].default
    assert 0 < each * most_pods(manifests, "delivery-worker") <= allowed


def test_the_ingress_leads_to_the_gateway_with_tls(manifests: Manifests) -> None:
    ingress = manifests.named("Ingress")["gateway"]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["backend"]["service"] == {"name": "gateway", "port": {"name": "http"}}
    assert [host for tls in ingress["spec"]["tls"] for host in tls["hosts"]] == [rule["host"]]
    public = {manifests.environment(pod).get("PUBLIC_URL") for pod in manifests.pods() if pod.service == "delivery"}
    assert public == {f"https://{rule['host']}"}
    assert {one["spec"].get("type", "ClusterIP") for one in manifests.of("Service")} == {"ClusterIP"}
